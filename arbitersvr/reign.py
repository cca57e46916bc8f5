"""From an election to its loss: follows the map, and has each Set tended by a task of its own.

What is wrong with one Set (a document that cannot be read, a fault of ours) so keeps no other from
being cared for. Jobs have tasks of their own, too (jobs.py).
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing

from arbitersvr.jobs import Jobs, Work
from arbitersvr.tending import Office, Tending
from clustermap.coordinator import Versioned, follow
from clustermap.model import SETS_PREFIX


async def reign(office: Office, kinds: Mapping[str, Work]) -> None:
    """Return as soon as the election is lost; nothing of ours goes on after that.

    kinds: of jobs, as Jobs wants them.
    """
    ruling = asyncio.create_task(_rule(office, kinds))
    ends = [
        asyncio.create_task(office.leadership.lost.wait()),
        asyncio.create_task(office.deposed.wait()),
    ]
    try:
        await asyncio.wait((ruling, *ends), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ruling, *ends):
            task.cancel()
        await asyncio.gather(ruling, *ends, return_exceptions=True)
    if not ruling.cancelled():
        ruling.result()


async def _rule(office: Office, kinds: Mapping[str, Work]) -> None:
    tended: dict[str, Tending] = {}
    async with (
        asyncio.TaskGroup() as group,
        aclosing(follow(office.coordinator, "")) as pictures,
    ):
        jobs = Jobs(office, group, kinds)
        async for picture in pictures:
            office.metrics.map.see(picture)
            for name in _sets(picture) - tended.keys():
                tended[name] = Tending(name, office, group)
                group.create_task(tended[name].run())
            for one in tended.values():
                one.see(picture)
            jobs.see(picture)


def _sets(picture: Mapping[str, Versioned]) -> set[str]:
    return {key.removeprefix(SETS_PREFIX) for key in picture if key.startswith(SETS_PREFIX)}
