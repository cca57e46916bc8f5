"""Closed loops: each caller calls again as soon as it is answered."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from seqbench.drivers import Call
from seqbench.window import Window


async def closed(
    call: Call, items: Sequence[Sequence[object]], window: Window, warm_s: float, seconds: float
) -> dict[str, Any]:
    """The figures. items: for each caller what it asks for, again and again."""
    async with asyncio.TaskGroup() as callers:
        for share in items:
            callers.create_task(_caller(call, share, window))
        await asyncio.sleep(warm_s)
        window.open()
        await window.lasts(seconds)
        return window.close()


async def _caller(call: Call, share: Sequence[object], window: Window) -> None:
    now, done = time.perf_counter_ns, window.samples.append
    while True:
        for item in share:
            began = now()
            await call(item)
            done(now() - began)
            if window.over:
                return
