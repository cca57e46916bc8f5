"""A host: what runs on it, its clock, and the ways in which it stops.

Every task and callback of the product runs in the context of a host (HOST). That is all the
simulator needs to know whose turn it is: a paused host's turns wait, a crashed host's never come,
and `loop.time()` inside of it is that host's own clock.

Two clocks, as Linux has them: `mono_ns` (what the event loop's timers count with) stands still
while the machine is suspended, `boot_ns` (what leases are counted with) goes on. Both run at the
host's own rate. A process that is merely stopped (SIGSTOP) sees both go on.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simsvr.loop import SimLoop, Turn

HOST: ContextVar["Host | None"] = ContextVar("host", default=None)


class Life(Enum):
    """What becomes of a host's turns: they are run, kept, or never come."""

    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"


class Host:
    """One process on a machine of its own. A restart is a new Host of the same name.

    rate: seconds of its clock per true second, near 1; offset_ns: what its clock says at true 0.
    """

    def __init__(
        self, loop: "SimLoop", name: str, *, rate: float = 1.0, offset_ns: int = 10**9
    ) -> None:
        self.loop = loop
        self.name = name
        self.life = Life.RUNNING
        self.rate = rate
        self.waiting: list[Turn] = []  # turns that came while it was paused
        self.on_crash: list[Callable[[bool], None]] = []
        self._true_ns = loop.now_ns  # when mono and boot were last anchored
        self._mono_ns = self._boot_ns = float(offset_ns + loop.now_ns)
        self._suspended = False
        self.context = copy_context()
        self.context.run(HOST.set, self)

    def __repr__(self) -> str:
        return f"<{self.name} {self.life.value}>"

    # -- its clock

    @property
    def mono_ns(self) -> float:
        passed = 0 if self._suspended else self.loop.now_ns - self._true_ns
        return self._mono_ns + passed * self.rate

    @property
    def boot_ns(self) -> int:
        return int(self._boot_ns + (self.loop.now_ns - self._true_ns) * self.rate)

    def true_ns(self, mono_ns: float) -> int:
        """When its timers' clock will say so; rounded up, so that no timer fires early."""
        return self._true_ns + int((mono_ns - self._mono_ns) / self.rate) + 1

    def set_rate(self, rate: float) -> None:
        self._anchor()
        self.rate = rate
        self.loop.reschedule(self)

    def jump(self, seconds: float) -> None:
        """Both clocks are suddenly off: what no quartz does, and a broken host may."""
        self._anchor()
        self._mono_ns += seconds * 1e9
        self._boot_ns += seconds * 1e9
        self.loop.reschedule(self)

    def _anchor(self) -> None:
        self._mono_ns, self._boot_ns = self.mono_ns, float(self.boot_ns)
        self._true_ns = self.loop.now_ns

    # -- its life

    @property
    def running(self) -> bool:
        return self.life is Life.RUNNING

    @property
    def crashed(self) -> bool:
        return self.life is Life.CRASHED

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """A task of this host's."""
        return self.loop.create_task(work, context=self.context.copy())

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """In one of this host's next turns."""
        self.loop.call_soon(function, *args, context=self.context)

    def pause(self, *, suspend: bool = False) -> None:
        """Stop, with everything kept. suspend: the machine sleeps, not the process."""
        if self.running:
            self.life = Life.PAUSED
            if suspend:
                self._anchor()
                self._suspended = True

    def resume(self) -> None:
        """All that came meanwhile is there at once."""
        if self.life is not Life.PAUSED:
            return
        self.life = Life.RUNNING
        if self._suspended:
            boot_ns = float(self.boot_ns)
            self._boot_ns, self._true_ns = boot_ns, self.loop.now_ns
            self._suspended = False
            self.loop.reschedule(self)
        waiting, self.waiting = self.waiting, []
        self.loop.requeue(waiting)

    def crash(self, *, silent: bool = False) -> None:
        """Nothing of it ever runs again. silent: nobody is told (power, not a kill)."""
        if self.crashed:
            return
        self.life = Life.CRASHED  # what waits is kept: a task that never began hangs on its turn
        self.loop.keep_tasks_of(self)
        for told in self.on_crash:
            told(silent)


def here() -> "Host":
    """The host whose turn it is."""
    host = HOST.get()
    if host is None:
        raise RuntimeError("no host's turn")
    return host


class HostClock:
    """clustermap.clock.Clock of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def now_ns(self) -> int:
        return self._host.boot_ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
