"""Callers that wait for a window to grow."""

import asyncio
from collections.abc import Iterable


class Waiting:
    """At most `limit` waiters, by section; what they wait for they look up again themselves."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiters: dict[int, dict[asyncio.Future[None], None]] = {}
        self.count = 0

    async def grown(self, section: int, timeout_s: float) -> str | None:
        """Wait until a section's window has grown or the section is gone: look again then.

        None, or the reason for which it is no use to wait longer.
        """
        if self.count >= self._limit:
            return "OVERLOADED"
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(section, {})[future] = None
        self.count += 1
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return "STORE_UNAVAILABLE"
        finally:
            self.count -= 1
            waiters = self._waiters.get(section, {})
            waiters.pop(future, None)
            if not waiters:
                self._waiters.pop(section, None)
        return None

    def wake(self, sections: Iterable[int]) -> None:
        """Let those go that wait for these sections."""
        for section in sections:
            for future in self._waiters.pop(section, ()):
                if not future.done():
                    future.set_result(None)

    def wake_all(self) -> None:
        """Let everybody go."""
        self.wake(list(self._waiters))
