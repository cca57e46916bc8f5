"""One event loop for all targets that need one; it lives as long as the process."""

import asyncio
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. What leaves tasks behind is a bug of a target."""
    return _loop().run_until_complete(work)
