"""Lets requests in, as many per turn of the event loop as keep the turn short.

A loop that answers all that has come before it looks at anything else may not look for seconds: the
lease's renewals, raises and health checks each need some turns. So a turn gets `TURN_S` of work,
and what is beyond that waits, in a Line. As long as turns stay short nothing waits, and all this
costs an addition per request.

Whoever is let in answers at once, without awaiting anything.
"""

import asyncio
import random
import time
from collections.abc import Hashable

from allocsvr.line import Line, work_s

TURN_S = 0.002
"""Work that is let in per turn of the loop."""

RESTS = 8
"""Turns without any of this after one with it, while there are single calls: each of those takes
several turns to be begun and answered, whereas a message of a stream takes one."""

SHORTEST_S, LONGEST_S = 0.02, 2.0
"""Of the times after which those that are refused are told to come again."""

MAX_STRETCH = 50.0


class Shed(Exception):
    """Not let in: there is too much to do. again_s: when to come again."""

    def __init__(self, again_s: float) -> None:
        super().__init__(again_s)
        self.again_s = again_s


class Turnstile:
    """Of one loop, which is running. longest_s: of any wait; turn_s: see TURN_S."""

    def __init__(self, longest_s: float, turn_s: float = TURN_S) -> None:
        self.closed = False
        """Whether `enter` is to be awaited before anything is done."""
        self._loop = asyncio.get_running_loop()
        self._line: Line[asyncio.Future[None]] = Line(longest_s)
        self._turn_s = turn_s
        self._used_s = 0.0
        self._called, self._rests = False, 0
        self._stretch = 1.0
        self._turned_s = 0.0

    @property
    def waiting(self) -> int:
        """How many requests."""
        return self._line.length

    def passed(self, entries: int) -> None:
        """Somebody went through without waiting, to answer so many entries."""
        self._used_s += work_s(entries)
        if self._used_s > self._turn_s and not self.closed:
            self._close()

    def called(self, entries: int) -> None:
        """The same for a single call, which is never held up."""
        self._called = True
        self.passed(entries)

    async def enter(self, key: Hashable, entries: int) -> None:
        """Wait for a turn. Raises Shed."""
        work = work_s(entries)
        turn: asyncio.Future[None] = self._loop.create_future()
        again_s = self._line.join(key, work, turn, self._stretch)
        if again_s:
            again_s = min(max(again_s, SHORTEST_S), LONGEST_S) * random.uniform(1.0, 1.25)
            self._loop.call_later(again_s, self._line.back, key, work)
            raise Shed(again_s)
        if not self.closed:
            self._close()
        await turn

    def _close(self) -> None:
        self.closed = True
        self._turned_s = 0.0
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """The next turn of the loop has come: those who are let in run in the one after it."""
        self._measure()
        if self._rests:
            self._rests -= 1
            self._used_s = 0.0
            self._loop.call_soon(self._turn)
            return
        used_s = 0.0
        while used_s < self._turn_s / self._stretch and (found := self._line.next()):
            work, turn = found
            if not turn.done():  # else nobody waits for it any more
                turn.set_result(None)
                used_s += work
        self._used_s = used_s
        self._called, self._rests = False, RESTS if self._called and used_s else 0
        if self._line.length or self._rests:
            self._loop.call_soon(self._turn)
        else:
            self.closed = False

    def _measure(self) -> None:
        """How long work takes by the clock, with all that is done beside it."""
        now_s = time.perf_counter()
        if self._turned_s and self._used_s:
            seen = (now_s - self._turned_s) / self._used_s
            self._stretch += (min(max(seen, 1.0), MAX_STRETCH) - self._stretch) / 16
        self._turned_s = now_s
