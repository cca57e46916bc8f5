"""How far a long command has come, on standard error: a bar on a terminal, else a line at times."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from seqctl.output import say

_REDRAW_S = 0.2
_PLAIN_S = 10.0


@asynccontextmanager
async def progress(what: str, total: int | None, done: Callable[[], int]) -> AsyncIterator[None]:
    """Show `done()` of `total` (None: unknown) while the body runs, which is not slowed to draw."""
    show = _bar if sys.stderr.isatty() else _plain
    drawing = asyncio.create_task(show(what, total, done))
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.wait([drawing])


async def _bar(what: str, total: int | None, done: Callable[[], int]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task(what, total=total)
        try:
            while True:
                bar.update(task, completed=done(), refresh=True)
                await asyncio.sleep(_REDRAW_S)
        finally:
            bar.update(task, completed=done(), refresh=True)


async def _plain(what: str, total: int | None, done: Callable[[], int]) -> None:
    while True:
        await asyncio.sleep(_PLAIN_S)
        of = f" of {total:,}" if total is not None else ""
        say(f"{done():,}{of} {what}", file=sys.stderr)
