"""What the etcd adapter counts of a real etcd that answers, dies and comes back."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from clustermap.coordinator import follow
from clustermap.errors import MapUnavailable
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import EtcdServers

PATIENCE_S = 60.0


class Counted:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __call__(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(f"seqsvr_etcd_{name}", labels) or 0.0

    def total(self, name: str) -> float:
        families = self._registry.collect()
        samples = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == f"seqsvr_etcd_{name}")


async def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"in vain: {what}"
        await asyncio.sleep(0.02)


async def test_requests_are_counted_by_kind_and_outcome(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    count = Counted(registry)
    with EtcdServers(tmp_path, fsync=False) as etcd:
        coordinator = await EtcdCoordinator.open(EtcdOptions(etcd.endpoints), registry)
        assert count("last_answer_timestamp_seconds") == 0
        for i in range(3):
            assert await coordinator.transact({}, {"k": b"%d" % i}) is not None
        assert await coordinator.transact({"k": 1}, {"k": b"x"}) is None
        await coordinator.get("k")
        held = await coordinator.register("node", b"n", 2.0)
        await held.update(b"m")
        assert count("requests_total", kind="txn", outcome="ok") == 4 + 2
        assert count("requests_total", kind="lease_grant", outcome="ok") == 1
        assert count("lists_total") == 1
        await eventually(lambda: count("keepalives_total", outcome="ok") >= 1, "a keep-alive")
        await held.aclose()
        assert count("requests_total", kind="lease_revoke", outcome="ok") == 1
        assert count("request_seconds_count", kind="txn") == 6
        assert 0 < count("request_seconds_sum", kind="txn") < PATIENCE_S
        assert abs(count("last_answer_timestamp_seconds") - time.time()) < PATIENCE_S
        assert count("keys_lost_total") == 0
        await coordinator.aclose()


async def test_an_etcd_that_dies_and_comes_back_shows_in_every_counter(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    count = Counted(registry)
    with EtcdServers(tmp_path, fsync=False) as etcd:
        options = EtcdOptions(etcd.endpoints, timeout_s=1.0, attempt_s=0.5)
        coordinator = await EtcdCoordinator.open(options, registry)
        (member,) = etcd.endpoints
        held = await coordinator.register("node", b"n", 2.0)
        async with aclosing(follow(coordinator, "k", relist_s=1.0)) as pictures:
            await anext(pictures)
            waiting = asyncio.create_task(anext(pictures))
            await eventually(lambda: count("watches_total") >= 1, "a watch")
            etcd.kill()
            with pytest.raises(MapUnavailable):
                await coordinator.get("k")
            assert count("member_up", member=member) == 0
            assert count("member_switches_total", member=member) >= 1
            failed = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
            counts = [count("requests_total", kind="range", outcome=code) for code in failed]
            assert sum(counts) >= 1
            await asyncio.wait_for(held.lost.wait(), PATIENCE_S)
            assert count("keepalives_total", outcome="missed") >= 1
            assert count("keys_lost_total") == 1
            await eventually(lambda: count.total("watch_restarts_total") >= 1, "a restart")
            etcd.start()
            await eventually(lambda: count("member_up", member=member) == 1, "its return")
            await coordinator.transact({}, {"k": b"1"})
            await asyncio.wait_for(waiting, PATIENCE_S)
        await coordinator.aclose()
