"""Changes of the map by a command: decided from what was just read, written by compare-and-swap."""

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from clustermap.coordinator import Coordinator
from clustermap.errors import MapUnavailable
from seqctl.failures import NotDone
from seqctl.map_view import Change, View, view

TRIES = 20
_PAUSE_S = 0.05

T = TypeVar("T")
Decide = Callable[[View], tuple[T, Change]]


async def looked(coordinator: Coordinator) -> View:
    """The map just now. Raises MapUnavailable, MapCorrupt, NotDone."""
    return view(await coordinator.get(""))


async def written(coordinator: Coordinator, decide: Decide[T]) -> T:
    """What `decide` made of the map, once that is written; it is asked again on any conflict.

    Raises what `decide` raises, and MapUnavailable.
    """
    for _ in range(TRIES):
        made, change = decide(await looked(coordinator))
        try:
            if await coordinator.transact(change.expected, change.puts) is not None:
                return made
        except MapUnavailable:
            # It may have been done all the same.
            entries = (await coordinator.get("")).entries
            stands = {key: entries[key].value if key in entries else None for key in change.puts}
            if stands == change.puts:
                return made
            raise
        await asyncio.sleep(random.uniform(0, _PAUSE_S))
    raise NotDone(f"others changed the map {TRIES} times meanwhile, nothing was written: try again")
