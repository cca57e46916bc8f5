"""Replicas that freeze and come back, under one node: what is asked of them, and who notices."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from allocsvr.replicas import MAX_IN_FLIGHT, Replicas
from cluster_in_a_box import Box, Caller, Link, Member, NotServed, eventually, open_box
from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb

TTL_S = 1.0
BACK_S = 5.0  # 1 s is the aim; this machine may be busy


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


def on_the_way(link: Link) -> int:
    """Calls that have not ended, as the replica sees them."""
    return sum(link.calls.values()) - sum(link.ended.values())


async def until_refused(caller: Caller, member: Member, uid: int) -> tuple[int, str]:
    """How many numbers were handed out until none were, and why."""
    served = 0
    try:
        while True:
            await caller.next(member, uid, timeout_s=0.1)
            served += 1
            await asyncio.sleep(0.005)
    except NotServed as refused:
        return served, refused.reason


async def seconds_until_served(caller: Caller, member: Member, uid: int) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            await caller.next(member, uid, timeout_s=BACK_S)
        except NotServed:
            assert loop.time() - began < 4 * BACK_S, "never served again"
            await asyncio.sleep(0.005)
        else:
            return loop.time() - began


async def raise_often(member: Member, times: int) -> None:
    """As many raises as hot sections would cause; their step adapts, so calls alone cause few."""
    raising = member.node._raising
    for _ in range(times):
        for section in member.node.ledger.sections.values():
            raising.want(section)
        await eventually(lambda: not raising._pending and not raising._flying)


async def test_a_frozen_replica_is_ejected_and_costs_neither_time_nor_tasks(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S, replica_timeout_s=60.0) as node:
        await box.own(node)
        frozen = node.links[1]
        duties = len(node.node._tasks)
        frozen.hang()
        await raise_often(node, 2 * MAX_IN_FLIGHT)
        assert len(node.node._tasks) <= duties + 2 * MAX_IN_FLIGHT
        assert on_the_way(frozen) <= MAX_IN_FLIGHT + 1
        await eventually(lambda: node.ejected() == [1], "the frozen replica to be ejected")
        await eventually(lambda: on_the_way(frozen) <= 1, "what was on its way to end")
        asked = frozen.calls["raise_max"]
        await raise_often(node, 50)
        assert await caller.next_many(node, [5, 105, 205], [170] * 3) == [1, 1, 1]
        assert node.holds_lease()
        assert len(node.node._tasks) <= duties + 10
        assert frozen.calls["raise_max"] == asked, "it was asked all the same"
        assert on_the_way(frozen) <= 1, "only the probe tries it"
        frozen.heal()
        await eventually(lambda: node.ejected() == [], "the replica to be back")
        await raise_often(node, 1)
        await eventually(lambda: frozen.done["raise_max"] > 1)


async def test_a_slow_disk_ejects_nobody_and_is_not_swamped(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S, replica_timeout_s=60.0) as node:
        await box.own(node)
        slow = node.links[1]
        slow.delay(3.0, "raise_max", "fence", "release", "put_at_least")
        granted = slow.done["renew"]
        await raise_often(node, 2 * MAX_IN_FLIGHT)
        assert MAX_IN_FLIGHT <= on_the_way(slow) <= MAX_IN_FLIGHT + 1
        assert await caller.next(node, 5, 170) == 1
        await eventually(lambda: slow.done["renew"] > granted + 4)
        assert node.ejected() == []
        await eventually(lambda: slow.done["raise_max"] > MAX_IN_FLIGHT)


async def test_two_frozen_of_three_serve_from_memory_until_the_lease_ends_then_come_back(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S, step=10**6, replica_timeout_s=10.0) as node:
        await box.own(node, 0, 0)
        held = node.node.ledger.sections[0]
        for index in (0, 2):
            node.links[index].hang()
        served, reason = await until_refused(caller, node, 5)
        assert served > 10
        assert reason == "STORE_UNAVAILABLE"
        assert not node.holds_lease()
        await eventually(lambda: node.ejected() == [0, 2])
        await asyncio.sleep(TTL_S)
        node.links[2].heal()
        back_s = await seconds_until_served(caller, node, 5)
        print(f"numbers flow {back_s:.3f} s after the second replica's return")
        assert back_s < BACK_S
        assert await caller.next(node, 5) == served + 2  # nothing skipped
        assert node.node.ledger.sections[0] is held


@pytest.mark.parametrize("fault", ["hang", "fail"])
async def test_a_used_up_window_is_raised_soon_after_the_second_replica_is_back(
    box: Box, fault: str
) -> None:
    """Raises are tried again all the time meanwhile, at no more than a few per second."""
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S, step=10, replica_timeout_s=10.0) as node:
        await box.own(node, 0, 0)
        for index in (0, 2):
            getattr(node.links[index], fault)()
        with pytest.raises(NotServed):
            while True:
                await caller.next(node, 5, timeout_s=0.1)
        await eventually(lambda: node.ejected() == [0, 2])
        asked = node.links[1].calls["raise_max"]
        await asyncio.sleep(2.0)
        assert node.links[1].calls["raise_max"] - asked < 30, "raises are retried in a busy loop"
        node.links[2].heal()
        back_s = await seconds_until_served(caller, node, 5)
        print(f"numbers flow {back_s:.3f} s after the second replica's return, after a raise")
        assert back_s < BACK_S


async def test_less_than_r_replicas_yield_no_value_and_spend_no_epoch(box: Box) -> None:
    """R-1 answers decide nothing; a fence that cannot succeed is not even sent."""
    caller = Caller(box)

    def two_of_three(links: list[Link]) -> None:
        links[0].hang()
        links[2].fail()

    async with box.node(lease_ttl_s=TTL_S, faults=two_of_three) as node:
        await box.assign(node, 0, 0)
        await asyncio.sleep(2 * TTL_S)
        with pytest.raises(NotServed) as refused:
            await caller.next(node, 5)
        assert refused.value.reason == "STORE_UNAVAILABLE"
        assert not node.links[1].calls["fence"]
        before = (await box.document()).highest_epoch(0, 0)
        node.links[2].heal()
        back_s = await seconds_until_served(caller, node, 5)
        print(f"won {back_s:.3f} s after the second replica's return")
        assert back_s < BACK_S
        assert (await box.document()).highest_epoch(0, 0) == before


async def test_what_is_on_its_way_when_a_replica_is_ejected_has_an_unknown_outcome(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=TTL_S, replica_timeout_s=30.0) as node:
        await box.own(node, 0, 0)
        frozen = node.links[1]
        frozen.hang()
        request = pb.ScanRequest(first=0, last=0)
        replicas = node.node.membership.current.replicas
        answer = await replicas.ask_one(1, lambda _, replica: replica.scan(request))
        assert isinstance(answer, ReplicaFailed)
        assert answer.reason == "UNREACHABLE"
        assert "ejected" in answer.text
        assert on_the_way(frozen) <= 1


async def test_a_timer_that_this_process_itself_ran_late_ejects_nobody(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(box.stores[0])
    link.hang()
    replicas = Replicas([link], lambda work: None, 1.0, 0.05)

    async def probe() -> ReplicaFailed | pb.RenewResponse:
        return await replicas.probe(0, lambda _, replica: replica.renew(pb.RenewRequest()))

    probing = asyncio.create_task(probe())
    await asyncio.sleep(0)
    time.sleep(0.3)  # the loop stands still
    answer = await probing
    assert isinstance(answer, ReplicaFailed)
    assert answer.reason == "TIMEOUT"
    assert replicas.ejected == 0
    assert "event=renewal_late replica=0" in caplog.text


async def test_failures_are_logged_but_not_each_of_thousands(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    async with box.node(lease_ttl_s=TTL_S) as node:
        await box.own(node)
        node.links[1].fail("raise_max", reason="OVERLOADED")
        await raise_often(node, 50)
        lines = [r for r in caplog.records if "event=raise_failed" in r.getMessage()]
        assert 1 <= len(lines) <= 10
