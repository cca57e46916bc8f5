"""Sections that change hands: the interleavings that made numbers repeat elsewhere.

Every number passes through a Caller, which checks SEQ-1..SEQ-4 against all nodes at once.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from allocsvr.section import Section, State
from cluster_in_a_box import Box, Caller, Link, Member, NotServed, eventually, open_box
from clustermap import placement
from clustermap.model import assignments_key
from seqsvr.v1 import store_pb2 as pb

TTL_S = 0.4
KEY = assignments_key("set-0")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


def cut_off(member: Member) -> None:
    """As a paused process: nothing it sends arrives, its clock runs on."""
    for link in member.links:
        link.fail()


def heal(member: Member) -> None:
    for link in member.links:
        link.heal()


async def test_a_to_b_to_a_in_one_process_never_goes_back(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        for _ in range(3):
            for owner, other in ((a, b), (b, a)):
                await box.assign(owner, 1, 1)
                await eventually(lambda m=owner: m.serves(1))  # type: ignore[misc]
                for _ in range(30):
                    await caller.next(owner, 107, 7)
                with pytest.raises(NotServed):
                    await caller.next(other, 107)


async def test_a_paused_owner_that_comes_back_serves_nothing_and_drops_its_sections(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a, 0, 1)
        await caller.next_many(a, [5, 105])
        held = a.node.ledger.sections[0]
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        cut_off(a)
        await box.assign(b, 0, 0)
        await eventually(lambda: b.serves(0))
        assert not a.holds_lease()
        await caller.next(b, 5)
        with pytest.raises(NotServed):
            await caller.next(a, 5)
        heal(a)
        await eventually(a.holds_lease)
        assert held.state is State.LOST
        with pytest.raises(NotServed):
            await caller.next(a, 5)
        await caller.next(a, 105)  # what was not taken away is served again
        await caller.next(b, 5)


def _deaf(document: object) -> None:
    """A node whose map says nothing new."""


async def test_the_new_owner_serves_only_after_the_lease_of_the_old_one_lease_1(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=1.0, step=10**6) as a, box.node(lease_ttl_s=1.0) as b:
        await box.own(a, 0, 0)
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        cut_off(a)
        await box.assign(b, 0, 0)
        served_together = 0
        while not b.serves(0):
            try:
                await caller.next(a, 5)
                served_together += 1
            except NotServed:
                pass
            await asyncio.sleep(0.002)
        assert not a.holds_lease()
        assert served_together > 10
        await caller.next(b, 5)


async def test_the_lease_of_the_last_owner_is_asked_of_every_answer_also_of_a_stale_record(
    box: Box,
) -> None:
    """LEASE-1. Replica 0 missed the raises of A, so it does not know A as an owner. It granted A
    its lease all the same, and is the only one of B's answers that knows how long A may go on."""
    caller = Caller(box)
    async with (
        box.node(lease_ttl_s=1.5, faults=lambda links: links[0].fail("raise_max")) as a,
        box.node(lease_ttl_s=1.5, faults=lambda links: links[1].fail()) as b,
    ):
        a.links[2].fail("renew", reason="OVERLOADED")  # an answer: it is asked on
        await box.own(a, 0, 0)
        await eventually(lambda: not box.lease_left_ns(2, a))
        assert a.holds_lease()  # by replicas 0 and 1
        assert box.record(0, 0).owner == 0
        await caller.next(a, 5)
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        cut_off(a)
        await box.assign(b, 0, 0)
        await eventually(lambda: b.serves(0))
        overlap = a.holds_lease() and a.serves(0)
        await caller.next(b, 5, 50)
        assert not overlap, "two incarnations serve one section"
        with pytest.raises(NotServed):
            await caller.next(a, 5)


async def test_a_deposed_owner_that_drains_writes_nothing_that_counts(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 50)
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        a.node.promise = lambda first, last, epoch: None  # type: ignore[method-assign]
        a.node.membership.renewal._on_promise = lambda first, last, epoch: None
        cut_off(a)
        await box.own(b, 0, 0)
        await caller.next(b, 5, 250)
        await eventually(lambda: len({box.record(i, 0).max_seq for i in range(3)}) == 1)
        before = [box.record(i, 0) for i in range(3)]
        before_healing = [link.done["renew"] for link in a.links]
        heal(a)
        await eventually(
            lambda: all(a.links[i].done["renew"] > before_healing[i] for i in range(3))
        )
        await a.node.drain()
        assert a.links[0].done["release"] == 1
        assert [box.record(i, 0) for i in range(3)] == before
        assert not any(disk.snapshots for disk in box.disks)
        await caller.next(b, 5)
        assert (await caller.current(b, 5))[1]


async def test_a_raise_of_a_deposed_owner_that_arrives_late_gives_it_no_window(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a, 0, 0)
        for link in a.links:
            link.hang("raise_max")
        await caller.next(a, 5, 100)  # the whole window
        waiting = asyncio.create_task(caller.next(a, 5, timeout_s=10))
        await eventually(lambda: a.links[0].calls["raise_max"] >= 2)
        await box.own(b, 0, 0)
        await caller.next(b, 5, 30)
        heal(a)
        with pytest.raises(NotServed):
            await waiting
        await caller.next(b, 5, 30)


async def test_a_promise_made_elsewhere_drops_the_section_at_once_and_becomes_a_floor(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a, 0, 1)
        await caller.next(a, 5)
        epoch = a.node.ledger.sections[0].epoch
        await box.promise(0, epoch + 6, 2)  # a single replica
        await eventually(lambda: not a.serves(0))
        with pytest.raises(NotServed):
            await caller.next(a, 5)
        assert a.serves(1)
        async with asyncio.timeout(10):
            while (await box.document()).highest_epoch(0, 0) < epoch + 6:
                await asyncio.sleep(0.01)
        await box.own(a, 0, 0)
        assert a.node.ledger.sections[0].epoch > epoch + 6
        await caller.next(a, 5)


async def test_a_refused_raise_drops_the_section_at_once_and_becomes_a_floor(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a:
        await box.own(a, 0, 1)
        for link in a.links:
            link.hang("renew")  # not the way to hear of it
        await asyncio.sleep(0.05)
        epoch = a.node.ledger.sections[0].epoch
        await box.promise(0, epoch + 6, 0)  # not enough to keep the raise from succeeding
        await caller.next(a, 5, 60)
        await eventually(lambda: not a.serves(0))
        with pytest.raises(NotServed):
            await caller.next(a, 5)
        await caller.next(a, 105)
        async with asyncio.timeout(10):
            while (await box.document()).highest_epoch(0, 0) < epoch + 6:
                await asyncio.sleep(0.01)


async def test_a_promise_heard_before_the_assignment_keeps_a_lower_epoch_from_being_begun(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a, 1, 1)
        await box.promise(0, 9, 0)
        await eventually(lambda: a.node.ledger.promises.highest(0) == 9)
        fences = a.links[1].calls["fence"]
        await box.assign(a, 0, 0)
        async with asyncio.timeout(10):
            while (await box.document()).highest_epoch(0, 0) < 9:
                await asyncio.sleep(0.01)
        assert a.links[1].calls["fence"] == fences
        assert not a.serves(0)


async def test_a_promise_named_by_a_refused_fence_is_sticky(box: Box) -> None:
    """Two of three grant, the third has promised a higher epoch: not even begun to serve."""
    await box.promise(0, 9, 0)

    def only_fence_the_first(links: list[Link]) -> None:
        links[0].fail("renew", "raise_max", reason="OVERLOADED")  # an answer: it is asked on
        links[1].delay(0.1, "fence")
        links[2].delay(0.1, "fence")

    async with box.node(lease_ttl_s=TTL_S, faults=only_fence_the_first) as a:
        served: list[int] = []
        raised = a.node.ledger.raised

        def watched(section: Section, max_seq: int) -> None:
            raised(section, max_seq)
            if section.serving:
                served.append(section.epoch)

        a.node.ledger.raised = watched  # type: ignore[method-assign]
        await box.assign(a, 0, 0)
        async with asyncio.timeout(10):
            while not served and (await box.document()).highest_epoch(0, 0) < 9:
                await asyncio.sleep(0.01)
        assert served == [], "served under an epoch below a promise that was seen"


async def test_a_promise_heard_while_a_lease_is_waited_out_ends_the_acquisition(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=0.8) as a, box.node(lease_ttl_s=0.8) as b:
        await box.own(a, 0, 0)
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        cut_off(a)
        await box.assign(b, 0, 0)
        await eventually(lambda: sum(link.done["fence"] for link in b.links) == 3)
        for link in b.links:
            link.fail("raise_max")  # or the refusal of its raise would tell it
        epoch = b.node._desired[0]
        await box.promise(0, epoch + 3, 1)
        await eventually(lambda: b.node.ledger.promises.highest(0) == epoch + 3)
        assert 0 not in b.node.ledger.sections
        async with asyncio.timeout(10):
            while (await box.document()).highest_epoch(0, 0) < epoch + 3:
                await asyncio.sleep(0.01)
        assert 0 not in b.node.ledger.sections
        assert all(link.calls["raise_max"] == 0 for link in b.links)


async def test_a_section_taken_away_while_it_is_won_is_no_longer_said_to_be_on_its_way(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a, 1, 1)
        for link in a.links:
            link.hang("fence")
        await box.assign(a, 0, 0)
        await eventually(lambda: a.links[0].calls["fence"] >= 2)
        await box.change(lambda document: placement.unassign(document, 0, 0))
        await eventually(lambda: 0 not in a.node._desired)
        heal(a)
        await eventually(lambda: all(link.done["fence"] >= 2 for link in a.links))
        await asyncio.sleep(0.05)
        with pytest.raises(NotServed) as refused:
            await caller.next(a, 5)
        assert refused.value.reason == "NOT_OWNER"


async def test_a_planned_move_keeps_numbers_dense_and_exact(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        await box.own(a, 0, 0)
        assert [await caller.next(a, 5, 3), await caller.next(a, 99, 150)] == [1, 1]
        for source, target in ((a, b), (b, a), (a, b)):
            await box.leave(0, 0)
            await eventually(lambda m=source: 0 not in m.node.ledger.sections)  # type: ignore[misc]
            await box.own(target, 0, 0)  # does not wait for the lease of 30 s
        assert await caller.current(b, 5) == (3, True)
        assert await caller.current(b, 99) == (150, True)
        assert await caller.current(b, 7) == (0, True)
        assert await caller.next(b, 5) == 4
        assert await caller.next(b, 99) == 151
        assert await caller.next(b, 7) == 1


async def test_graceful_moves_do_not_lift_max_seq_without_limit_seq_5(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        await box.own(a, 0, 0)
        for _ in range(6):
            for source, target in ((a, b), (b, a)):
                await box.leave(0, 0)
                await eventually(lambda m=source: 0 not in m.node.ledger.sections)  # type: ignore[misc]
                await box.own(target, 0, 0)
                await caller.next(target, 5)
        assert await caller.current(a, 5) == (12, True)
        assert box.durable(0) <= 12 + 2 * 100


async def test_a_section_asked_to_leave_during_its_first_raise_is_released(box: Box) -> None:
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        for link in a.links:
            link.hang("raise_max")
        await box.assign(a, 0, 0)
        await eventually(lambda: 0 in a.node.ledger.sections)
        await box.leave(0, 0)
        await eventually(lambda: 0 not in a.node._desired)
        heal(a)
        await eventually(lambda: 0 not in a.node.ledger.sections, "section to be released")
        await box.own(b, 0, 0)


async def test_a_drain_during_an_acquisition_keeps_numbers_dense(box: Box) -> None:
    caller = Caller(box)
    async with (
        box.node(lease_ttl_s=30.0) as a,
        box.node(lease_ttl_s=30.0) as b,
        box.node(lease_ttl_s=30.0) as c,
        box.node(lease_ttl_s=30.0) as d,
        box.node(lease_ttl_s=30.0) as e,
    ):
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        await a.node.drain()
        for member, method in ((b, "fence"), (c, "scan"), (d, "raise_max")):
            for link in member.links:
                link.hang(method)
            await box.assign(member, 0, 0)
            await eventually(
                lambda m=member, x=method: sum(link.calls[x] for link in m.links) > 0  # type: ignore[misc]
            )
            draining = asyncio.create_task(member.node.drain())
            await asyncio.sleep(0.02)
            heal(member)
            await draining
        await box.own(e, 0, 0)
        assert await caller.current(e, 5) == (42, True)
        assert await caller.next(e, 5) == 43


async def test_a_drain_waits_for_raises_in_flight_and_leaves_exact_counters(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        await box.own(a)
        for link in a.links:
            link.hang("raise_max")
        await caller.next_many(a, [5, 105, 205, 305], [90, 60, 100, 80])
        await eventually(lambda: a.links[0].calls["raise_max"] >= 2)
        draining = asyncio.create_task(a.node.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        with pytest.raises(NotServed) as refused:
            await caller.next(a, 5)
        assert refused.value.reason == "DRAINING"
        heal(a)
        await draining
        await box.own(b)
        uids = [5, 105, 205, 305]
        assert [(await caller.current(b, uid)) for uid in uids] == [
            (90, True),
            (60, True),
            (100, True),
            (80, True),
        ]


async def test_a_drain_also_waits_for_releases_that_the_map_had_asked_for(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        for link in a.links:
            link.hang("release")
        await box.leave(0, 0)
        await eventually(lambda: a.links[0].calls["release"] == 1)
        draining = asyncio.create_task(a.node.drain())
        await asyncio.sleep(0.05)
        ended_early = draining.done()
        heal(a)
        await draining
        await eventually(lambda: 0 not in a.node.ledger.sections)
        await box.own(b, 0, 0)
        assert await caller.current(b, 5) == (42, True)
        assert not ended_early, "drained before the section was released"


async def test_releases_that_reach_too_few_replicas_cost_a_wait_and_break_nothing(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        for link in a.links:
            link.fail("release")
        await a.node.drain()
        await box.own(b, 0, 0)
        assert await caller.next(b, 5) > 42
        assert not (await caller.current(b, 7))[1]


async def test_a_snapshot_that_cannot_be_read_costs_a_jump_and_no_number_twice(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        await a.node.drain()
        for link in b.links:
            link.fail("scan")
        await box.own(b, 0, 0)
        assert await caller.current(b, 5) == (100, False)
        assert await caller.next(b, 5) == 101


async def test_a_snapshot_that_is_no_snapshot_costs_a_jump_and_no_number_twice(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=30.0) as a, box.node(lease_ttl_s=30.0) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)

        def spoil(method: str, request: object) -> None:
            if isinstance(request, pb.ReleaseRequest):
                for entry in request.entries:
                    entry.snapshot = entry.snapshot[:-3]

        for link in a.links:
            link.before = spoil
        await a.node.drain()
        await box.own(b, 0, 0)
        assert await caller.next(b, 5) == 101


async def test_a_crashed_owner_costs_at_most_its_window_and_current_is_a_ceiling(
    box: Box,
) -> None:
    caller = Caller(box)
    for _ in range(3):
        async with box.node(lease_ttl_s=TTL_S) as a:
            await box.own(a, 0, 0)
            ceiling, exact = await caller.current(a, 5)
            assert exact == (ceiling == 0)
            first = await caller.next(a, 5, 10)
            assert first == ceiling + 1
            assert await caller.current(a, 5) == (ceiling + 10, True)
            assert box.durable(0) <= first + 9 + 2 * 100


async def test_a_wiped_map_does_not_stop_an_owner_that_holds_its_quorum(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a, 0, 1)
        await caller.next(a, 5)
        keys = (await box.coordinator.get("")).entries
        await box.coordinator.transact({}, dict.fromkeys(keys))
        await asyncio.sleep(0.2)
        await caller.next(a, 5)


async def test_a_map_that_starts_over_at_epoch_1_delays_and_does_not_wedge(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        for _ in range(3):
            await box.own(a, 0, 0)
        await caller.next(a, 5)
        await eventually(lambda: a.node.ledger.promises.highest(0) == 3)
        empty = placement.unassign((await box.document()).__class__("set-0"), 0, 0)
        keys = (await box.coordinator.get("")).entries
        puts: dict[str, bytes | None] = {key: held.value for key, held in keys.items()}
        await box.coordinator.transact({}, dict.fromkeys(keys))
        await asyncio.sleep(0.1)
        await box.coordinator.transact({}, {**puts, KEY: empty.to_json()})
        async with asyncio.timeout(15):
            while True:  # the arbiter: outbids what is refused
                document = await box.document()
                wanted = placement.sole_owner(document, box.spec, a.at)
                if wanted is not None:
                    await box.change(lambda _, w=wanted: w)  # type: ignore[misc]
                if a.serves(0) and a.serves(2):
                    break
                await asyncio.sleep(0.05)
        await caller.next(a, 5)
