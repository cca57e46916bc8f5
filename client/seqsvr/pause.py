"""Waiting for a time or for an event, whichever comes first, by many at once.

A `Pause` costs a future and a timer per waiter and nothing that grows with the others.
"""

import asyncio


class Pause:
    """Where callers wait until a time of the loop's clock, or until all of them are woken."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def until(self, when_s: float) -> None:
        """Return at `when_s`, or earlier if `wake` is called."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        timer = loop.call_at(when_s, _complete, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def wake(self) -> None:
        """Let everybody go who waits now."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            _complete(future)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
