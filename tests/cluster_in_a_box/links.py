"""A replica as one node sees it, with faults that a test switches on and off."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from allocsvr.replicas import ReplicaTransport
from clustermap.errors import ReplicaFailed

METHODS = ("fence", "raise_max", "release", "renew", "scan", "digest", "put_at_least")


class Link:
    """allocsvr.replicas.ReplicaTransport over another one.

    `fail`, `hang` and `lose` take names of methods, none meaning all; `heal` ends every fault.
    Calls that hang go through to the replica once they are healed, unless their caller has gone.
    calls: begun; done: answered by the replica; ended: in whatever way.
    """

    def __init__(self, target: ReplicaTransport) -> None:
        self.target = target
        self.calls: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.requests: list[tuple[str, Any]] = []
        self.before: Callable[[str, Any], None] = lambda method, request: None
        self._failing: dict[str, str] = {}
        self._hanging: dict[str, asyncio.Event] = {}
        self._losing: set[str] = set()
        self._delays: dict[str, float] = {}

    def fail(self, *methods: str, reason: str = "UNREACHABLE") -> None:
        """Fail without an effect."""
        self._failing.update(dict.fromkeys(methods or METHODS, reason))

    def hang(self, *methods: str) -> None:
        """Keep requests on the way until healed."""
        for method in methods or METHODS:
            self._hanging.setdefault(method, asyncio.Event())

    def lose(self, *methods: str) -> None:
        """Let requests take effect, and lose the answers."""
        self._losing.update(methods or METHODS)

    def delay(self, seconds: float, *methods: str) -> None:
        self._delays.update(dict.fromkeys(methods or METHODS, seconds))

    def heal(self, *methods: str) -> None:
        for method in methods or METHODS:
            self._failing.pop(method, None)
            self._losing.discard(method)
            self._delays.pop(method, None)
            if event := self._hanging.pop(method, None):
                event.set()

    async def fence(self, request: Any) -> Any:
        return await self._call("fence", self.target.fence, request)

    async def raise_max(self, request: Any) -> Any:
        return await self._call("raise_max", self.target.raise_max, request)

    async def release(self, request: Any) -> Any:
        return await self._call("release", self.target.release, request)

    async def renew(self, request: Any) -> Any:
        return await self._call("renew", self.target.renew, request)

    async def scan(self, request: Any) -> Any:
        return await self._call("scan", self.target.scan, request)

    async def digest(self, request: Any) -> Any:
        return await self._call("digest", self.target.digest, request)

    async def put_at_least(self, request: Any) -> Any:
        return await self._call("put_at_least", self.target.put_at_least, request)

    async def _call(self, method: str, send: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        self.calls[method] += 1
        try:
            return await self._passed(method, send, request)
        finally:
            self.ended[method] += 1

    async def _passed(
        self, method: str, send: Callable[[Any], Awaitable[Any]], request: Any
    ) -> Any:
        if method != "renew":
            self.requests.append((method, request))
        self.before(method, request)
        if method in self._failing:
            raise ReplicaFailed(self._failing[method], f"a test lets {method} fail")
        if method in self._delays:
            await asyncio.sleep(self._delays[method])
        while method in self._hanging:
            await self._hanging[method].wait()
        lost = method in self._losing
        answer = await send(request)
        self.done[method] += 1
        if lost:
            raise ReplicaFailed("TIMEOUT", f"a test lost the answer of {method}")
        return answer
