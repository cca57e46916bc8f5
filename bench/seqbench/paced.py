"""An open loop: calls fall due at a steady rate, whether or not those before are answered.

A latency counts from the instant at which the call was due, so what waits because all callers are
busy is counted, too. A timer of the kernel sets the pace: those of event loops have milliseconds.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from seqbench.drivers import Call
from seqbench.window import Window

TICK_NS = 200_000
_CLOCK_MONOTONIC, _NONBLOCK = 1, os.O_NONBLOCK


class Pace:
    """Hands instants at which a call is due (ns of perf_counter) to callers that have time."""

    def __init__(self, per_s: float) -> None:
        self._each = per_s * TICK_NS / 1e9
        self._owed, self._tick_ns = 0.0, 0
        self._due: deque[int] = deque()
        self._idle: list[asyncio.Future[int]] = []
        self._timer = -1

    def start(self) -> None:
        self._tick_ns = time.perf_counter_ns()
        self._timer = kernel_timer()
        asyncio.get_running_loop().add_reader(self._timer, self._on_tick)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._timer)
        os.close(self._timer)
        for waiter in self._idle:
            waiter.cancel()

    async def due(self) -> int:
        """Wait for the next call that nobody has taken."""
        if self._due:
            return self._due.popleft()
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        return await waiter

    def _on_tick(self) -> None:
        for _ in range(int.from_bytes(os.read(self._timer, 8), sys.byteorder)):
            self._tick_ns += TICK_NS
            self._owed += self._each
            while self._owed >= 1:
                self._owed -= 1
                if self._idle:
                    self._idle.pop().set_result(self._tick_ns)
                else:
                    self._due.append(self._tick_ns)


async def paced(
    call: Call,
    shares: Sequence[Sequence[int]],
    window: Window,
    warm_s: float,
    seconds: float,
    per_s: float,
) -> dict[str, Any]:
    """The figures of callers that together call `per_s` times a second."""
    pace = Pace(per_s)
    async with asyncio.TaskGroup() as callers:
        for share in shares:
            callers.create_task(_caller(call, share, window, pace))
        pace.start()
        try:
            await asyncio.sleep(warm_s)
            window.open()
            await window.lasts(seconds)
            return window.close()
        finally:
            pace.stop()


async def _caller(call: Call, share: Sequence[int], window: Window, pace: Pace) -> None:
    now, done = time.perf_counter_ns, window.samples.append
    while True:
        for uid in share:
            try:
                due = await pace.due()
            except asyncio.CancelledError:
                return
            await call(uid)
            done(now() - due)
            if window.over:
                return


def kernel_timer() -> int:
    """A descriptor that gets readable at each tick; 8 bytes of it say how many have passed."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK))
    each = (ctypes.c_long * 4)(0, TICK_NS, 0, TICK_NS)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, each, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor
