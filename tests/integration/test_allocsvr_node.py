"""One node over N replicas in process: winning, serving, raising and failing, for any N/R/W."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from allocsvr.section import State
from cluster_in_a_box import Box, Caller, Link, NotServed, eventually, open_box
from cluster_in_a_box.box import opened
from clustermap import placement
from clustermap.errors import MapUnavailable
from storesvr.memory import Disk

QUORUMS = {"1-1-1": (1, 1, 1), "3-2-2": (3, 2, 2), "5-3-3": (5, 3, 3), "3-1-3": (3, 1, 3)}
TTL_S = 0.4


@pytest.fixture(params=QUORUMS)
async def any_box(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, *QUORUMS[request.param]) as made:
        yield made


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


async def test_the_first_call_after_a_start_succeeds(any_box: Box) -> None:
    caller = Caller(any_box)
    async with any_box.node() as node:
        await any_box.assign(node)
        await asyncio.wait_for(node.node.settled.wait(), 20)
        for uid in (0, 99, 100, 399):
            assert await caller.next(node, uid) == 1
            assert await caller.current(node, uid) == (1, True)


async def test_a_crash_and_a_start_never_hand_out_a_number_again(any_box: Box) -> None:
    caller = Caller(any_box)
    for _ in range(3):
        async with any_box.node(lease_ttl_s=TTL_S) as node:
            await any_box.own(node)
            for uid in (0, 99, 100, 399) * 3:
                await caller.next(node, uid, 37)


async def test_a_graceful_restart_is_dense_in_every_section(any_box: Box) -> None:
    caller = Caller(any_box)
    uids = [0, 99, 100, 250, 399]
    for round_ in range(4):
        async with any_box.node(lease_ttl_s=30.0) as node:
            await any_box.own(node)
            assert await caller.next_many(node, uids) == [round_ + 1] * len(uids)
            await node.node.drain()


async def test_concurrent_callers_of_one_uid_never_share_a_number(any_box: Box) -> None:
    caller = Caller(any_box)
    async with any_box.node(step=7) as node:
        await any_box.own(node)

        async def call() -> None:
            for _ in range(20):
                await caller.next(node, 5, 2)
                await caller.current(node, 5)

        await asyncio.gather(*(call() for _ in range(16)))
        assert (await caller.current(node, 5))[0] == 16 * 20 * 2


async def test_allocation_goes_on_while_a_raise_is_in_flight(any_box: Box) -> None:
    caller = Caller(any_box)
    async with any_box.node() as node:
        await any_box.own(node)
        for link in node.links:
            link.hang("raise_max")
        for seq in range(1, 101):
            assert await caller.next(node, 5) == seq
        await eventually(lambda: all(link.calls["raise_max"] == 2 for link in node.links))
        with pytest.raises(NotServed) as refused:
            await caller.next(node, 5, timeout_s=0.05)
        assert refused.value.reason == "STORE_UNAVAILABLE"
        for link in node.links:
            link.heal()
        assert await caller.next(node, 5) == 101


@pytest.mark.parametrize("fault", ["fail", "hang", "lose", "corrupt"])
async def test_of_one_replica_of_three_nothing_is_noticed(box: Box, fault: str) -> None:
    caller = Caller(box)

    def break_one(links: list[Link]) -> None:
        if fault == "corrupt":
            links[1].fail(reason="CORRUPT")
        else:
            getattr(links[1], fault)()

    async with box.node(lease_ttl_s=1.0, replica_timeout_s=0.2, faults=break_one) as node:
        await box.own(node)
        until = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < until:
            await caller.next_many(node, [5, 105, 305], [30, 1, 70])
            assert node.holds_lease()
            await asyncio.sleep(0.01)


async def test_two_of_three_failing_serve_from_memory_until_the_lease_ends_then_come_back(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=1.0, step=10**6) as node:
        await box.own(node, 0, 0)
        held = node.node.ledger.sections[0]
        node.links[0].fail()
        node.links[2].fail()
        served = 0
        with pytest.raises(NotServed) as refused:
            while True:
                await caller.next(node, 5)
                served += 1
                await asyncio.sleep(0.005)
        assert refused.value.reason == "STORE_UNAVAILABLE"
        assert served > 10
        assert not node.holds_lease()
        with pytest.raises(NotServed):
            await caller.current(node, 5)
        node.links[2].heal()
        await eventually(node.holds_lease)
        assert await caller.next(node, 5) == served + 1  # no new epoch, nothing skipped
        assert node.node.ledger.sections[0] is held


async def test_blank_and_corrupt_replicas_never_win_a_section(box: Box) -> None:
    def break_two(links: list[Link]) -> None:
        links[0].fail(reason="BLANK")
        links[2].fail(reason="CORRUPT")

    async with box.node(lease_ttl_s=TTL_S, faults=break_two) as node:
        await box.assign(node, 0, 0)
        await eventually(lambda: node.links[1].done["renew"] > 3)
        assert not node.links[1].calls["fence"]  # it could not succeed, and would spend the epoch
        assert not node.node.ledger.sections
        with pytest.raises(NotServed):
            await Caller(box).next(node, 5)
        node.links[0].heal()
        await box.own(node, 0, 0)


async def test_a_replica_with_another_store_id_than_the_map_names_is_not_counted_nrw_2(
    box: Box,
) -> None:
    """Somebody wiped a data directory and started it anew: it knows nothing, and says so only by
    its store id."""
    caller = Caller(box)

    def two_of_three(links: list[Link]) -> None:
        links[2].fail()

    async with box.node(lease_ttl_s=TTL_S, faults=two_of_three) as node:
        await box.own(node, 0, 0)
        await caller.next(node, 5, 50)
    blank = Disk(box.disks[0].identity._replace(store_id=77))
    await box.stores[0].aclose()
    box.stores[0] = opened(blank)
    async with box.node(
        lease_ttl_s=TTL_S, faults=lambda links: links[1].fail("fence", "raise_max")
    ) as node:
        await box.assign(node, 0, 0)
        await eventually(lambda: node.links[2].done["fence"])
        await asyncio.sleep(0.1)
        assert not node.serves(0), "a blank store was counted: its 0 was read as a max_seq"


async def test_a_lost_answer_of_a_raise_is_harmless(any_box: Box) -> None:
    caller = Caller(any_box)
    async with any_box.node(replica_timeout_s=0.1) as node:
        await any_box.own(node, 0, 0)
        for link in node.links:
            link.lose("raise_max")
        assert await caller.next(node, 5, 90) == 1
        await eventually(lambda: any_box.durable(0) > 100)
        with pytest.raises(NotServed):  # it is on disk, but the node was not told
            await caller.next(node, 5, 60, timeout_s=0.05)
        for link in node.links:
            link.heal()
        assert await caller.next(node, 5, 60) == 91


async def test_a_store_that_fails_at_each_raise_in_turn_hands_out_nothing_undurable_seq_3(
    any_box: Box,
) -> None:
    caller = Caller(any_box)  # checks each number against what is on the disks
    async with any_box.node(step=10) as node:
        await any_box.own(node, 0, 0)
        refused = 0
        for turn in range(6):
            for link in node.links:
                link.fail("raise_max")
            with pytest.raises(NotServed):
                while True:
                    await caller.next(node, turn % 2, 3, timeout_s=0.02)
            refused += 1
            for link in node.links:
                link.heal()
            await caller.next(node, turn % 2, 3)
        assert refused == 6


async def test_a_store_that_keeps_failing_does_not_make_a_section_look_hot(box: Box) -> None:
    """Retries are not demand: they must not lift the step, or a crash would cost millions."""
    caller = Caller(box)
    async with box.node(step=10) as node:
        await box.own(node, 0, 0)
        for link in node.links:
            link.fail("raise_max")
        with pytest.raises(NotServed):
            await caller.next(node, 5, 11, timeout_s=1.0)
        assert node.links[0].calls["raise_max"] > 3
        for link in node.links:
            link.heal()
        await caller.next(node, 5, 11)
        await eventually(lambda: box.durable(0) >= 11)
        assert box.durable(0) <= 11 + 4 * 10


async def test_one_raise_in_flight_per_section_and_many_sections_in_one_request(
    tmp_path: Path,
) -> None:
    async with open_box(tmp_path, sections=200) as box:
        caller = Caller(box)
        async with box.node() as node:
            await box.own(node)
            link = node.links[0]
            before = link.calls["raise_max"]
            link.hang("raise_max")
            await caller.next_many(node, [100 * s for s in range(200)], [60] * 200)
            for _ in range(5):
                await asyncio.sleep(0.005)
                await caller.next_many(node, [100 * s for s in range(200)], [1] * 200)
            assert link.calls["raise_max"] == before + 1
            link.heal()
            await eventually(lambda: all(box.durable(s) > 100 for s in range(200)))
            assert link.calls["raise_max"] == before + 1


async def test_two_raises_answered_out_of_order_never_make_a_window_fall(box: Box) -> None:
    caller = Caller(box)
    async with box.node(step=10) as node:
        await box.own(node, 0, 0)
        held = node.node.ledger.sections[0]
        node.links[0].hang("raise_max")  # its answers come late, all at once
        seen = held.max_seq
        for _ in range(30):
            await caller.next(node, 5, 4)
            assert held.max_seq >= seen
            seen = held.max_seq
        late = node.links[0].calls["raise_max"]
        node.links[0].heal()
        await eventually(lambda: node.links[0].done["raise_max"] >= late)
        assert late > 2
        assert held.max_seq >= seen
        await caller.next(node, 5)


async def test_a_section_that_waits_for_a_raise_does_not_hold_up_another(box: Box) -> None:
    caller = Caller(box)
    async with box.node() as node:
        await box.own(node, 0, 1)
        for link in node.links:
            link.hang("raise_max")
        await caller.next(node, 5, 100)
        waiting = asyncio.create_task(caller.next(node, 5))
        for _ in range(20):
            await asyncio.sleep(0)
            await caller.next(node, 105)
        assert not waiting.done()
        for link in node.links:
            link.heal()
        assert await waiting == 101


async def test_callers_that_give_up_waiting_take_nothing_and_leave_nothing_behind(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(max_waiting=10) as node:
        await box.own(node, 0, 0)
        for link in node.links:
            link.hang("raise_max")
        await caller.next(node, 5, 100)
        calls = [asyncio.create_task(caller.next(node, 5, timeout_s=10)) for _ in range(10)]
        await eventually(lambda: node.node.waiting.count == 10)
        with pytest.raises(NotServed) as refused:
            await caller.next(node, 5)
        assert refused.value.reason == "OVERLOADED"
        for call in calls[::2]:
            call.cancel()
        await eventually(lambda: node.node.waiting.count == 5)
        for link in node.links:
            link.heal()
        assert sorted(await asyncio.gather(*calls[1::2])) == [101, 102, 103, 104, 105]
        assert node.node.waiting.count == 0


async def test_42950_sections_are_won_in_batches(tmp_path: Path) -> None:
    async with open_box(tmp_path, sections=42_950, section_size=100_000, uid_limit=2**32) as box:
        caller = Caller(box)
        async with box.node(lease_ttl_s=20.0, replica_timeout_s=20.0) as node:
            await box.assign(node)
            await asyncio.wait_for(node.node.settled.wait(), 60)
            link = node.links[0]
            assert len(node.node.ledger.sections) == 42_950
            assert link.calls["fence"] <= 42
            assert link.calls["raise_max"] <= 84
            assert await caller.next_many(node, [0, 2**32 - 1, 2**31]) == [1, 1, 1]


async def test_2500_sections_are_released_and_won_back_in_batches_with_their_counters(
    tmp_path: Path,
) -> None:
    async with open_box(tmp_path, sections=2500) as box:
        caller = Caller(box)
        uids = [100 * section + section % 100 for section in range(2500)]
        async with box.node(lease_ttl_s=30.0, replica_timeout_s=10.0) as node:
            await box.own(node)
            assert await caller.next_many(node, uids, [7] * 2500) == [1] * 2500
            await node.node.drain()
            assert node.links[0].calls["release"] == 3  # 1024 sections each
            assert not node.node.ledger.sections
        async with box.node(lease_ttl_s=30.0, replica_timeout_s=10.0) as node:
            await box.own(node)
            assert node.links[0].calls["scan"] <= 9
            assert await caller.next_many(node, uids) == [8] * 2500


async def test_an_owner_serves_on_while_the_map_is_away_lease_2(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=1.0) as node:
        await box.own(node)
        await box.coordinator.aclose()
        with pytest.raises(MapUnavailable):
            await box.document()
        until = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < until:
            await caller.next_many(node, [5, 105, 305], [30, 1, 70])
            await asyncio.sleep(0.01)


async def test_sections_taken_away_by_the_map_are_dropped_and_refused(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as node:
        await box.own(node)
        held = node.node.ledger.sections[1]
        await box.change(lambda document: placement.unassign(document, 1, 1))
        await eventually(lambda: held.state is State.LOST)
        with pytest.raises(NotServed) as refused:
            await caller.next(node, 105)
        assert refused.value.reason == "NOT_OWNER"
        await caller.next(node, 5)


async def test_one_exhausted_uid_does_not_stop_its_neighbours_after_a_graceful_restart(
    tmp_path: Path,
) -> None:
    async with open_box(tmp_path, seq_limit=150) as box:
        caller = Caller(box)
        async with box.node() as node:
            await box.own(node)
            assert await caller.next(node, 5, 150) == 1
            assert await caller.next(node, 6, 10) == 1
            await node.node.drain()
        async with box.node() as node:
            await box.own(node)
            with pytest.raises(NotServed) as refused:
                await caller.next(node, 5)
            assert refused.value.reason == "SEQUENCE_EXHAUSTED"
            assert await caller.next(node, 6, timeout_s=0.5) == 11
