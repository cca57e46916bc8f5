"""Heavy work in short stretches, so that callers are answered meanwhile.

An answer to a caller takes several turns of the loop, so it is not enough to let the loop have one
turn between two stretches: after each there is a rest as long as the stretch was. On a core that
others need too, both get longer by themselves.
"""

import asyncio

from clustermap.clock import Clock

MAX_REST_NS = 20_000_000  # a process that was stopped in the middle has rested enough


class Pace:
    """`async with pace:` around each stretch, which must not await; one at a time, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._began_ns = 0

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._began_ns = self._clock.now_ns()

    async def __aexit__(self, *_: object) -> None:
        try:
            took_ns = self._clock.now_ns() - self._began_ns
            await self._clock.sleep(min(max(took_ns, 0), MAX_REST_NS) / 1e9)
        finally:
            self._lock.release()
