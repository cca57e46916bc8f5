"""The clock port: what leases are counted with."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A host's clock. Only its rate is ever trusted, never what time it is (LEASE-1)."""

    def now_ns(self) -> int:
        """Nanoseconds since some fixed instant; goes on while the machine is suspended."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once that much time has passed."""
        ...


def boottime_ns() -> int:
    """This host's CLOCK_BOOTTIME, in nanoseconds; it runs on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class BootClock:
    """CLOCK_BOOTTIME, which a suspended machine does not stop."""

    def now_ns(self) -> int:
        return boottime_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
