"""Time that passes only when somebody sleeps; the clock port's second implementation."""

import asyncio
import heapq

_TURNS = 5


class JumpingClock:
    """Starts at `now_ns`; when everybody has had a few turns, it jumps to the next wake-up."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self._now_ns = now_ns
        self._alarms: list[tuple[int, int]] = []
        self._count = 0

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._now_ns += int(seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        alarm = (self._now_ns + int(max(seconds, 0) * 1e9), self._count)
        heapq.heappush(self._alarms, alarm)
        try:
            while self._now_ns < alarm[0]:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if self._alarms[0] == alarm:
                    self._now_ns = max(self._now_ns, alarm[0])
            await asyncio.sleep(0)
        finally:
            self._alarms.remove(alarm)
            heapq.heapify(self._alarms)
