"""A coordinator between an arbiter and its map that does as it is told."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from clustermap.coordinator import Change, Coordinator, Leadership, Listing, Registration
from clustermap.errors import MapUnavailable


class Deaf:
    """A leadership whose loss is never told."""

    def __init__(self, real: Leadership) -> None:
        self.real = real
        self.lost = asyncio.Event()

    @property
    def key(self) -> str:
        return self.real.key

    @property
    def revision(self) -> int:
        return self.real.revision

    async def resign(self) -> None:
        await self.real.resign()


class Meddler:
    """Passes everything on, except as these say.

    down: everything fails; writes_pass: transactions wait until it is set; lose_answers: they are
    done, and their outcome is not told; blind: watches show nothing more; deaf: the loss of an
    election is not told.
    """

    def __init__(self, real: Coordinator, *, deaf: bool = False) -> None:
        self._real = real
        self.down = False
        self.blind = False
        self.deaf = deaf
        self.lose_answers = 0
        self.writes_pass = asyncio.Event()
        self.writes_pass.set()
        self.begun = 0
        self.refused = 0
        self.leaderships: list[Leadership] = []
        self._broken = asyncio.Event()

    def break_down(self) -> None:
        self.down = True
        self._broken.set()

    def recover(self) -> None:
        self.down = False
        self._broken = asyncio.Event()

    async def get(self, prefix: str) -> Listing:
        self._check()
        return await self._real.get(prefix)

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        self._check()
        self.begun += 1
        await self.writes_pass.wait()
        self._check()
        revision = await self._real.transact(expected, puts)
        if revision is None:
            self.refused += 1
        if self.lose_answers:
            self.lose_answers -= 1
            raise MapUnavailable("the answer is lost")
        return revision

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        self._check()
        broken = asyncio.create_task(self._broken.wait())
        changes = self._real.watch(prefix, after_revision)
        change = None
        try:
            while True:
                change = asyncio.ensure_future(anext(changes))
                await asyncio.wait({broken, change}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise MapUnavailable("the map is down")
                if not self.blind:
                    yield change.result()
        finally:
            for task in (broken, change):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            await changes.aclose()

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:
        self._check()
        return await self._real.register(key, value, ttl_s)

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        self._check()
        won = await self._real.elect(name, candidate)
        self.leaderships.append(won)
        return Deaf(won) if self.deaf else won

    async def aclose(self) -> None:
        await self._real.aclose()

    def _check(self) -> None:
        if self.down:
            raise MapUnavailable("the map is down")
