"""When a program is to stop.

The handlers are the process's own, not the loop's: a loop that closes puts back, for each signal
that it handles, what the signal does by default, and a signal that is repeated just then would kill
a program that has stopped well. `deafen` ends the hearing in one step instead, for good.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from svrprocess.failures import SIGNALLED

T = TypeVar("T")
_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def deafen() -> None:
    """From here on the signals that a Stop hears change nothing, as long as the process lives."""
    for number in _NUMBERS:
        stop = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(stop, Stop):
            stop.over = True
            signal.signal(number, signal.SIG_IGN)


class Stop:
    """`event` is set by the first SIGTERM or SIGINT; the second ends the process at once.

    To be made on the running loop. `ask` sets it too, and counts as no signal: both may come for
    one and the same reason.
    """

    def __init__(self, at_once: Callable[[], None] | None = None) -> None:
        self.event = asyncio.Event()
        self.over = False  # no signal counts any more
        self._loop = asyncio.get_running_loop()
        self._at_once = at_once
        self._signalled = False

    @classmethod
    def on_signals(cls, at_once: Callable[[], None] | None = None) -> "Stop":
        """One that signals set; `at_once` is called before the second one ends the process."""
        stop = cls(at_once)
        # Every signal wakes a loop that handles one, and asyncio's only such a loop; this one is
        # ignored by default.
        stop._loop.add_signal_handler(signal.SIGURG, int)
        for number in _NUMBERS:
            signal.signal(number, stop._caught)
            signal.siginterrupt(number, False)
        return stop

    @property
    def asked(self) -> bool:
        return self.event.is_set()

    def ask(self) -> None:
        """As the first signal does. May be called again."""
        self.event.set()

    async def wait(self) -> None:
        """Return once the program is to stop."""
        await self.event.wait()

    async def unless(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None, and `work` cancelled, where the program is to stop first.

        Raises what `work` raises.
        """
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self.event.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)
        return None if task.cancelled() else task.result()

    def _caught(self, number: int, _: object) -> None:
        """Between any two steps of the program; what it means is for the loop."""
        if not self.over:
            self._loop.call_soon_threadsafe(self._received, number)

    def _received(self, number: int) -> None:
        if self.over:
            return
        if self._signalled:
            try:
                if self._at_once is not None:
                    self._at_once()
            finally:
                os._exit(SIGNALLED + number)
        self._signalled = True
        self.event.set()
