"""Which event loop programs run on that have none yet: uvloop's where it is installed.

SEQSVR_LOOP=asyncio in the environment keeps to the standard library's; =uvloop insists.
"""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop. Raises ImportError where uvloop is insisted on and not installed."""
    wanted = os.environ.get("SEQSVR_LOOP", "")
    if wanted == "asyncio":
        return asyncio.new_event_loop()
    try:
        import uvloop
    except ImportError:
        if wanted == "uvloop":
            raise
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, on such a loop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
