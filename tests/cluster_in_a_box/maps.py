"""The cluster map as one node sees it, with faults that a test switches on and off."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from clustermap.coordinator import Change, Coordinator, Leadership, Listing, Registration
from clustermap.errors import MapUnavailable

METHODS = ("get", "transact", "watch", "register", "update")


class FaultyMap:
    """clustermap.coordinator.Coordinator over another one.

    `fail` and `heal` take names of methods, none meaning all; a watch that fails ends. `silence`
    keeps what watches say until `heal`. `before` is awaited before each call goes on to the map.
    """

    def __init__(self, target: Coordinator) -> None:
        self._target = target
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self._failing: set[str] = set()
        self._heard = asyncio.Event()
        self._heard.set()
        self._registrations: list[_Faulty] = []

    def fail(self, *methods: str) -> None:
        self._failing.update(methods or METHODS)

    def silence(self) -> None:
        self._heard.clear()

    def heal(self, *methods: str) -> None:
        self._failing.difference_update(methods or METHODS)
        self._heard.set()

    def lose_registrations(self) -> None:
        """The map counts them as gone, as after a lease that ran out."""
        for held in self._registrations:
            held.lost.set()

    async def get(self, prefix: str) -> Listing:
        await self._pass("get")
        return await self._target.get(prefix)

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        await self._pass("transact")
        return await self._target.transact(expected, puts)

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        await self._pass("watch")
        async for change in self._target.watch(prefix, after_revision):
            await self._heard.wait()
            await self._pass("watch")
            yield change

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:
        await self._pass("register")
        held = _Faulty(self, await self._target.register(key, value, ttl_s))
        self._registrations.append(held)
        return held

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        return await self._target.elect(name, candidate)

    async def aclose(self) -> None:
        """The test's own business."""

    async def _pass(self, method: str) -> None:
        self.calls[method] += 1
        await self.before(method)
        if method in self._failing:
            raise MapUnavailable(f"a test lets {method} fail")


class _Faulty:
    def __init__(self, seen_by: FaultyMap, target: Registration) -> None:
        self._map = seen_by
        self._target = target
        self.lost = target.lost

    async def update(self, value: bytes) -> None:
        await self._map._pass("update")
        await self._target.update(value)

    async def aclose(self) -> None:
        await self._target.aclose()


async def _nothing(method: str) -> None:
    pass
