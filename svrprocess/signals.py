"""When a program is to stop."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from svrprocess.failures import SIGNALLED

T = TypeVar("T")


class Stop:
    """`event` is set by the first SIGTERM or SIGINT; the second ends the process at once.

    To be made on the running loop. `ask` sets it too, and counts as no signal: both may come for
    one and the same reason.
    """

    def __init__(self, at_once: Callable[[], None] | None = None) -> None:
        self.event = asyncio.Event()
        self._at_once = at_once
        self._signalled = False

    @classmethod
    def on_signals(cls, at_once: Callable[[], None] | None = None) -> "Stop":
        """One that signals set; `at_once` is called before the second one ends the process."""
        stop = cls(at_once)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop._received, number)
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

    def _received(self, number: int) -> None:
        if self._signalled:
            if self._at_once is not None:
                self._at_once()
            os._exit(SIGNALLED + number)
        self._signalled = True
        self.event.set()
