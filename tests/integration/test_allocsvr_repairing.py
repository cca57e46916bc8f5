"""Replicas that have missed something are brought level in the background. NRW-1, NRW-2."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from allocsvr import repairing
from allocsvr.repairing import CALM_ROUNDS, Repairing
from cluster_in_a_box import Box, Caller, Member, eventually, open_box
from cluster_in_a_box.box import opened
from clustermap.clock import BootClock
from seqsvr.v1 import store_pb2 as pb
from storesvr.memory import Disk
from storesvr.records import Record

READING = ("digest", "scan")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2, sections=40) as made:
        yield made


def repairs(member: Member) -> Repairing:
    """Rounds at a test's word, over the node's own replicas."""
    node = member.node
    return Repairing(BootClock(), lambda: node.membership.current, node.ledger, node.metrics, 0.1)


def level(box: Box, *sections: int) -> bool:
    return all(
        len({facts(box.record(replica, section)) for replica in range(3)}) == 1
        for section in sections or range(40)
    )


def facts(record: Record) -> tuple[int, int, int, bool]:
    return record.max_seq, record.owner_epoch, record.owner, record.released


def counted(member: Member, *methods: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for link in member.links:
        total.update({method: link.calls[method] for method in methods})
    return total


def repaired(member: Member, outcome: str) -> float:
    return float(member.node.metrics.repairs.labels(outcome)._value.get())


def behind(member: Member) -> float:
    return float(member.node.metrics.replicas_behind._value.get())


async def put(box: Box, replica: int, record: pb.StoredRecord) -> None:
    header = pb.StoreHeader(cluster=box.cluster.id, set="set-0", membership=1)
    request = pb.PutAtLeastRequest(header=header, records=[record])
    assert (await box.stores[replica].put_at_least(request)).raised == 1


async def test_a_replica_that_was_down_is_brought_level_without_any_traffic(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=1.0, repair_period_s=0.2) as node:
        node.links[2].fail()
        await box.own(node)
        await caller.next_many(node, [100 * s for s in range(0, 40, 3)], [180] * 14)
        await eventually(lambda: node.ejected() == [2])
        assert box.record(2, 7) == Record(7)
        asked = node.links[2].calls["digest"]
        await asyncio.sleep(0.5)
        assert node.links[2].calls["digest"] == asked, "an ejected replica was asked"
        raised = node.links[0].calls["raise_max"]
        node.links[2].heal()
        await eventually(lambda: level(box), "the replica to be level")
        assert node.links[0].calls["raise_max"] == raised
        await eventually(lambda: repaired(node, "raised") >= 40)
        await eventually(lambda: behind(node) == 0)
        assert all(box.record(2, s).promised == 0 for s in range(40)), "a promise was copied"


async def test_equal_digests_cost_no_scan(box: Box) -> None:
    async with box.node() as node:
        await box.own(node)
        await eventually(lambda: level(box))
        before = counted(node, "scan", "put_at_least")
        asked = counted(node, "digest")["digest"]
        assert await repairs(node).round() == 0
        assert counted(node, "scan", "put_at_least") == before
        assert counted(node, "digest")["digest"] == asked + 3


async def test_a_value_that_only_a_minority_holds_is_spread_and_nothing_is_lowered(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node() as node:
        await box.own(node)
        await eventually(lambda: level(box))
        await put(box, 1, pb.StoredRecord(section=3, max_seq=7777))
        assert await repairs(node).round() == 2
        assert [box.record(i, 3).max_seq for i in range(3)] == [7777] * 3
        assert level(box)
        assert await caller.next(node, 300) == 1  # the window has not moved
        assert await repairs(node).round() == 0


@pytest.mark.parametrize("why", ["corrupt", "foreign", "hidden"])
async def test_a_replica_that_is_not_counted_is_neither_read_nor_written(
    box: Box, why: str
) -> None:
    """hidden: corrupt at Renew, though it still reads out what seems sound."""
    async with box.node(lease_ttl_s=0.4) as node:
        node.links[1].fail("raise_max", "fence", reason="OVERLOADED")  # it has missed everything
        await box.own(node)
        if why == "corrupt":
            node.links[1].fail(reason="CORRUPT")
        elif why == "hidden":
            await put(box, 1, pb.StoredRecord(section=3, max_seq=7777))
            node.links[1].fail("renew", reason="CORRUPT")
        else:
            blank = opened(Disk(box.disks[1].identity._replace(store_id=77)))
            await box.stores[1].aclose()
            box.stores[1] = node.links[1].target = blank
        await eventually(lambda: node.node.membership.current.replicas.granting == [0, 2])
        asked = [node.links[1].calls[method] for method in (*READING, "put_at_least")]
        assert await repairs(node).round() == 0
        assert [node.links[1].calls[m] for m in (*READING, "put_at_least")] == asked
        assert box.record(0, 3).max_seq < 7777


async def test_a_raise_that_is_only_on_its_way_is_not_copied(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the looks it arrives; a second one may be on its way by then."""
    monkeypatch.setattr(repairing, "SECOND_LOOK_S", 60.0)
    caller = Caller(box)
    async with box.node() as node:
        await box.own(node)
        await eventually(lambda: level(box))
        late = node.links[2]
        late.delay(0.3, "raise_max")
        await caller.next(node, 500, 60)
        await eventually(lambda: box.durable(5) > 100)
        busy = repairs(node)
        busy._second_look_s = 2.0
        round_ = asyncio.create_task(busy.round())
        await eventually(lambda: late.done["raise_max"] > 1)
        late.delay(5.0, "raise_max")
        await caller.next(node, 500, 150)
        await eventually(lambda: box.durable(5) > box.record(2, 5).max_seq)
        assert await round_ == 0
        assert not counted(node, "put_at_least")["put_at_least"]
        assert late.calls["scan"] >= 2


async def test_a_replica_that_fails_in_the_middle_costs_the_round_and_nothing_else(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=1.0, replica_timeout_s=0.2) as node:
        node.links[2].fail("raise_max", "fence", reason="OVERLOADED")
        await box.own(node)
        rounds = repairs(node)
        for method in ("digest", "scan", "put_at_least"):
            node.links[2].fail(method, reason="OVERLOADED")
            assert await rounds.round() == 0
            node.links[2].heal(method)
            node.links[2].hang(method)
            assert await rounds.round() == 0
            node.links[2].heal(method)
        assert repaired(node, "failed") == 80
        assert behind(node) == 1
        assert await rounds.round() == 40
        assert level(box)


async def test_only_what_is_served_here_is_repaired(box: Box) -> None:
    async with box.node() as node, box.node() as other:
        for member in (node, other):
            member.links[2].fail("raise_max", "fence", reason="OVERLOADED")
        await box.own(node, 0, 9)
        await box.own(other, 10, 39)
        assert await repairs(node).round() == 10
        assert level(box, *range(10))
        assert not level(box, 10)
        assert await repairs(other).round() == 30
        assert level(box)


async def test_a_round_is_bounded_and_the_next_one_goes_on_where_it_stopped(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SPAN", 8), ("CHUNK", 4), ("MAX_CHUNKS", 4)):
        monkeypatch.setattr(repairing, name, value)
    async with box.node() as node:
        node.links[2].fail("raise_max", "fence", reason="OVERLOADED")
        await box.own(node)
        rounds = repairs(node)
        assert [await rounds.round() for _ in range(4)] == [16, 16, 8, 0]
        assert level(box)


async def test_replicas_that_are_level_are_compared_rarely_until_one_fails_to_answer(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with box.node() as node:
        await box.own(node)
        await eventually(lambda: level(box))
        rounds, periods, held = repairs(node), Periods(), list[int]()
        real = rounds.round

        async def counted_round() -> int:
            held.append(periods.passed)
            return await real()

        monkeypatch.setattr(rounds, "_clock", periods)
        monkeypatch.setattr(rounds, "round", counted_round)
        running = asyncio.create_task(rounds.run())
        await eventually(lambda: len(held) > 3)
        assert held[:4] == [1, 2, 2 + CALM_ROUNDS, 2 + 2 * CALM_ROUNDS]
        monkeypatch.setattr(repairing, "CALM_ROUNDS", 2000)
        begun = len(held)
        await eventually(lambda: len(held) > begun)  # the last one for a long time
        node.links[2].fail("raise_max", reason="OVERLOADED")
        await Caller(box).next(node, 300, 180)
        await eventually(lambda: box.record(0, 3).max_seq > 100)
        await eventually(lambda: level(box))
        await eventually(lambda: len(held) > begun + 2)
        waits = [after - before for before, after in pairwise(held[begun : begun + 3])]
        assert max(waits) < 2000, "two rounds follow a failure"
        running.cancel()


class Periods:
    """A clock that only counts the pauses between rounds."""

    def __init__(self) -> None:
        self.passed = 0

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds > repairing.PAUSE_S
        await asyncio.sleep(0.001)


async def test_many_released_sections_are_copied_with_their_counters(tmp_path: Path) -> None:
    """A section that is served is not released; what a replica holds of one may be."""
    async with open_box(tmp_path, 3, 2, 2, sections=3) as box, box.node() as node:
        await box.own(node)
        await eventually(lambda: level(box, 0, 1, 2))
        record = pb.StoredRecord(
            section=1,
            max_seq=9000,
            owner_epoch=50,
            owner=0xB,
            released=True,
            snapshot_epoch=50,
            snapshot=b"counters",
        )
        await put(box, 0, record)
        assert await repairs(node).round() == 2
        for replica in range(3):
            assert box.record(replica, 1).has_snapshot
            assert box.disks[replica].snapshots[1] == box.disks[0].snapshots[1]
        assert node.serves(1), "no promise was broken, so nothing was lost by it"
