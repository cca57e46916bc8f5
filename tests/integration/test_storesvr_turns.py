"""Renew goes on while a node takes a whole Set over. LEASE-2."""

import asyncio

from prometheus_client import CollectorRegistry

from storesvr.commits import LARGE, GroupCommit
from storesvr.memory import Disk, MemoryEngine
from storesvr.metrics import StoreMetrics
from storesvr.port import Identity
from storesvr.replica import Replica

S = 10**9


async def test_a_lease_is_renewed_between_large_requests_that_share_a_commit() -> None:
    engine = MemoryEngine(Disk(Identity("c1", "set-0", "store-0", 10, 10_000, 1, 7)))
    replica = Replica(engine, now_ns=0)
    commits = GroupCommit(replica, engine, StoreMetrics(CollectorRegistry()))
    told: list[list[int]] = []

    async def renew_all_the_time() -> None:
        while True:
            _, promises = replica.renew(9, S, 0, 7, 0)
            told.append([last for _, last, _ in promises])
            await asyncio.sleep(0)

    def fence(first: int) -> "asyncio.Task[object]":
        ranges = [(first, first + LARGE - 1, 1)]
        stage = commits.submit(lambda: replica.fence(ranges, 0), sections=LARGE, size=100)
        return asyncio.create_task(stage)

    tasks = [fence(0), fence(LARGE), fence(2 * LARGE)]
    renewing = asyncio.create_task(renew_all_the_time())
    await asyncio.gather(*tasks)
    renewing.cancel()
    await commits.aclose()
    heard = [last for last in told if last]
    assert heard[0] == [LARGE - 1], "the first fence alone, and not yet what came with it"
    assert [2 * LARGE - 1] in heard
