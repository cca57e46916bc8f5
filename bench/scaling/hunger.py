"""Sections that get hungry at a known rate, and what their raises take."""

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from processes.metrics import scrape
from scaling import traffic
from scaling.servers import Cluster, written_b
from seqsvr.sections import MAX_COUNT, SECTION_SIZE, STEP

GROUPS, PERIOD_S, STAGGER_S = 50, 0.1, 2.5


@dataclass(frozen=True, slots=True)
class Raised:
    """Of one load that makes sections hungry: per second, and seconds per commit."""

    raises: float
    requests: float
    commits: float
    disk_b: float
    commit_s: float


async def hot(cluster: Cluster, first: int, sections: int, per_s: float, seconds: float) -> Raised:
    """One uid in each section takes `per_s` numbers a second, out of step with the others."""
    uids = [(first + 7 * index) * SECTION_SIZE + 5 for index in range(sections)]
    async with traffic.stream(cluster.address) as one:
        draw = random.Random(8)
        await one.ask(uids, [draw.randrange(1, STEP) for _ in uids])
        await one.answer()
        taking = asyncio.create_task(_taking(one, uids, per_s))
        await asyncio.sleep(STAGGER_S + max(4.0, seconds))
        before, began_s = await asyncio.to_thread(_state, cluster), time.monotonic()
        await asyncio.sleep(max(5.0, 3 * seconds))
        after, spent_s = await asyncio.to_thread(_state, cluster), time.monotonic() - began_s
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
    raises, asked, commits, disk_b, commit_s = (b - a for a, b in zip(before, after, strict=True))
    return Raised(
        raises / spent_s,
        asked / spent_s,
        commits / spent_s,
        disk_b / spent_s,
        commit_s / commits if commits else 0.0,
    )


async def _taking(one: traffic.Stream, uids: Sequence[int], per_s: float) -> None:
    """Numbers as they fall due, until cancelled: a group of the uids at a time, each begun later
    than the one before.
    """
    parts = [uids[index::GROUPS] for index in range(min(GROUPS, len(uids)))]
    taken = [0] * len(parts)
    began_s = time.monotonic()
    for turn in count():
        part = turn % len(parts)
        since_s = time.monotonic() - began_s - part * STAGGER_S / len(parts)
        due = min(int(per_s * since_s) - taken[part], MAX_COUNT)
        if due > 0:
            taken[part] += due
            await one.ask(parts[part], [due] * len(parts[part]))
            await one.answer()
        ahead_s = (turn + 1) * PERIOD_S / len(parts) - (time.monotonic() - began_s)
        await asyncio.sleep(max(0.0, ahead_s))


def _state(cluster: Cluster) -> tuple[float, float, float, float, float]:
    """Raises won, raise requests; commits, bytes and seconds of commits of the mean replica."""
    node = cluster.scrape()
    stores = [scrape(address) for address in cluster.store_metrics]
    among, mean = len(stores), "seqsvr_store_commit_seconds"
    return (
        node.value("seqsvr_raises_total", outcome="won"),
        node.value("seqsvr_raise_seconds_count"),
        sum(store.value(f"{mean}_count") for store in stores) / among,
        sum(written_b(store.pid) for store in cluster.stores) / among,
        sum(store.value(f"{mean}_sum") for store in stores) / among,
    )
