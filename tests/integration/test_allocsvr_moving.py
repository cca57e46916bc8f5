"""Planned moves from owner to owner: dense, chunk by chunk, whatever becomes of map and owner.

Every number passes through a Caller, which checks SEQ-1..SEQ-4 against all nodes at once.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from allocsvr import answering
from allocsvr.answering import Answering, Batch
from allocsvr.moving import AIM_S, FIRST_SECTIONS, MAX_SECTIONS, MIN_SECTIONS
from allocsvr.peers import Peers
from allocsvr.section import State
from cluster_in_a_box import Box, Caller, FaultyMap, Member, NotServed, eventually, open_box
from cluster_in_a_box.box import KEY
from cluster_in_a_box.serving import served
from clustermap import placement
from clustermap.model import Assignment, Assignments
from clustermap.ranges import Range
from seqsvr import AsyncClient
from seqsvr.v1 import alloc_pb2 as pb

TTL_S = 30.0  # longer than any test has patience: a move that waits for a lease fails


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers wait out any pause, however slow this machine is."""
    monkeypatch.setattr(answering, "PAUSE_S", 20.0)


def entry(document: Assignments, section: int) -> Assignment:
    found = document.owner(section)
    assert found is not None
    return found


def events(member: Member, event: str) -> float:
    return sum(
        sample.value
        for metric in member.node.metrics.epoch_changes.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["event"] == event
    )


def heal(member: Member) -> None:
    for link in member.links:
        link.heal()


# -- the way it is meant to be -----------------------------------------------------------------


async def test_moves_under_load_are_dense_and_lose_no_call(box: Box) -> None:
    uids = [5, 105, 205, 305]
    taken: dict[int, list[int]] = {uid: [] for uid in uids}
    async with served(box, lease_ttl_s=TTL_S) as a, served(box, lease_ttl_s=TTL_S) as b:
        await box.own(a.member)
        async with AsyncClient([a.member.node.address, b.member.node.address]) as client:
            running = True

            async def call(uid: int) -> None:
                while running:
                    taken[uid].append(await client.next(uid))

            calls = [asyncio.create_task(call(uid)) for uid in uids for _ in range(4)]
            for _ in range(3):
                for source, target in ((a, b), (b, a)):
                    for first, last in ((0, 0), (1, 3)):
                        await asyncio.sleep(0.05)
                        await box.leave(first, last, target.member)
                    await eventually(
                        lambda m=target.member: all(m.serves(s) for s in range(4)),  # type: ignore[misc]
                        "to be moved",
                    )
                    assert not source.member.node.ledger.sections
            running = False
            await asyncio.gather(*calls)
    for uid in uids:
        assert sorted(taken[uid]) == list(range(1, len(taken[uid]) + 1))
        assert len(taken[uid]) > 50


async def test_a_to_b_to_a_to_b_keeps_what_was_handed_out_exact_and_the_rest_dense(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a, 0, 1)
        expected = 1
        for owner in (a, b, a, b, a):
            if owner is not a or expected > 1:
                await box.move(0, 1, owner)
            assert await caller.next(owner, 5, 7) == expected
            assert await caller.current(owner, 5) == (expected + 6, True)
            assert await caller.current(owner, 6) == (0, True)
            expected += 7
        assert entry(await box.document(), 0).epoch == 5
        assert events(a, "abandoned") == events(b, "abandoned") == 0


async def test_sections_leave_chunk_by_chunk_and_serve_until_their_turn_has_come(
    tmp_path: Path,
) -> None:
    sections = 2 * MAX_SECTIONS + 88
    async with open_box(tmp_path, 3, 2, 2, sections=sections) as box:
        caller = Caller(box)
        async with (
            box.node(lease_ttl_s=TTL_S, replica_timeout_s=30.0) as a,
            box.node(lease_ttl_s=TTL_S, replica_timeout_s=30.0) as b,
        ):
            await box.own(a)
            for link in a.links:
                link.hang("release")
            await box.leave(0, sections - 1, b)
            await eventually(lambda: a.links[0].calls["release"] == 1)
            serving = [s for s in range(sections) if a.serves(s)]
            assert serving == list(range(FIRST_SECTIONS, sections))
            await caller.next_many(a, [100 * s for s in serving])
            heal(a)
            await eventually(lambda: not a.node.ledger.sections, "all to have left")
            await eventually(lambda: all(b.serves(s) for s in range(sections)))
            sizes = [len(r.entries) for m, r in a.links[0].requests if m == "release"]
            assert sum(sizes) == sections and max(sizes) <= MAX_SECTIONS
            assert await caller.next_many(b, [100 * s for s in serving]) == [2] * len(serving)


async def test_chunks_shrink_while_replicas_are_slow_and_grow_again(tmp_path: Path) -> None:
    async with (
        open_box(tmp_path, 3, 2, 2, sections=800) as box,
        box.node(lease_ttl_s=TTL_S) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a)

        def sizes() -> list[int]:
            return [len(r.entries) for m, r in a.links[0].requests if m == "release"]

        for link in a.links:
            link.delay(0.1, "release")
        await box.leave(0, 799, b)
        await eventually(lambda: MIN_SECTIONS in sizes())
        heal(a)
        await eventually(lambda: not a.node.ledger.sections)
        await eventually(lambda: all(b.serves(s) for s in range(800)))
        assert sizes()[0] == FIRST_SECTIONS
        # How long a chunk takes once they are not is the machine's affair.
        moving = a.node.moving
        moving._size = MIN_SECTIONS
        grown = []
        while moving._size < MAX_SECTIONS:
            moving._learn(AIM_S / 4, moving._size)
            grown.append(moving._size)
        assert grown == [128, 256]
        moving._learn(AIM_S / 4, MAX_SECTIONS)
        assert moving._size == MAX_SECTIONS


async def test_a_chunk_is_smaller_where_there_are_many_counters(tmp_path: Path) -> None:
    """Packing a full section takes many milliseconds, in which the whole chunk stands still."""
    async with (
        open_box(tmp_path, sections=8, section_size=256 * 100) as box,
        box.node(lease_ttl_s=TTL_S) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a)
        uids = [256 * page for page in range(8 * 100)]
        await Caller(box).next_many(a, uids)
        await box.leave(0, 7, b)
        await eventually(lambda: all(b.serves(s) for s in range(8)))
        sizes = [len(r.entries) for m, r in a.links[0].requests if m == "release"]
        assert sizes == [2, 2, 2, 2]


async def test_without_a_successor_sections_are_left_to_nobody_and_their_counters_stay(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a)
        await caller.next(a, 105, 42)
        await box.leave(1, 2)
        await eventually(lambda: sorted(a.node.ledger.sections) == [0, 3])
        document = await box.document()
        assert document.owner(1) is None
        assert [(f.first, f.last, f.epoch) for f in document.floors] == [(1, 2, 1)]
        with pytest.raises(NotServed) as refused:
            await caller.next(a, 105)
        assert refused.value.reason == "NOT_OWNER"
        await box.own(b, 1, 2)
        assert await caller.next(b, 105) == 43


async def test_what_was_never_won_is_handed_over_too(box: Box) -> None:
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        for link in a.links:
            link.fail("fence")
        await box.assign(a, 0, 1)
        await eventually(lambda: a.links[0].calls["fence"])
        await box.move(0, 1, b)
        assert a.node.unserved == 0


# -- callers -----------------------------------------------------------------------------------


async def test_callers_at_the_old_owner_wait_until_it_is_known_who_has_the_section(
    box: Box, patient: None
) -> None:
    async with served(box, lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a.member, 0, 0)
        node = a.member.node
        version = node.router.version
        for link in a.member.links:
            link.hang("release")
        await box.leave(0, 0, b)
        await eventually(lambda: node.ledger.sections[0].state is State.LEAVING)
        request = pb.BatchGetSeqRequest(uids=[5], route_version=version)
        asked = asyncio.create_task(_batch(a, request))
        await eventually(lambda: node.waiting.count == 1)
        heal(a.member)
        answer = await asked
        assert [error.reason for error in answer.errors] == [pb.REASON_NOT_OWNER]
        assert answer.table.version > version, "sent away without knowing where to"


@pytest.mark.parametrize("current", [False, True])
async def test_callers_at_the_new_owner_wait_until_it_serves(
    box: Box, patient: None, current: bool
) -> None:
    """Also one who comes before the new owner has heard of it."""
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S) as a,
        served(box, lease_ttl_s=TTL_S, coordinator=flaky) as b,
    ):
        await box.own(a, 0, 0)
        await eventually(lambda: b.member.node.router.version == 1)
        flaky.silence()
        await box.leave(0, 0, b.member)
        await eventually(lambda: 0 not in a.node.ledger.sections)
        asked = asyncio.create_task(_ask(b, current, (await box.document()).version))
        await eventually(lambda: b.member.node.waiting.count == 1)
        assert not b.member.node.assigned
        flaky.heal()
        answer = await asked
        assert (list(answer.seqs), len(answer.errors)) == ([0 if current else 1], 0)


async def _ask(node: Any, current: bool, version: int) -> Any:
    if current:
        request = pb.BatchGetCurSeqRequest(uids=[5], route_version=version)
        return await node.stub.BatchGetCurSeq(request, timeout=20)
    return await _batch(node, pb.BatchGetSeqRequest(uids=[5], route_version=version))


async def _batch(node: Any, request: pb.BatchGetSeqRequest) -> pb.BatchGetSeqResponse:
    answer: pb.BatchGetSeqResponse = await node.stub.BatchGetSeq(request, timeout=20)
    return answer


async def test_a_caller_without_a_table_is_forwarded_to_the_new_owner_after_the_pause(
    box: Box, patient: None
) -> None:
    async with served(box, lease_ttl_s=TTL_S) as a, served(box, lease_ttl_s=TTL_S) as b:
        await box.own(a.member, 0, 0)
        for link in b.member.links:
            link.delay(0.02, "fence", "raise_max")
        assert (await a.stub.GetSeq(pb.GetSeqRequest(uid=5), timeout=20)).seq == 1
        await box.leave(0, 0, b.member)
        await eventually(lambda: not a.member.serves(0))
        answers = await asyncio.gather(
            *(a.stub.GetSeq(pb.GetSeqRequest(uid=5), timeout=20) for _ in range(10))
        )
        assert sorted(answer.seq for answer in answers) == list(range(2, 12))
        answer = await a.stub.GetCurSeq(pb.GetCurSeqRequest(uid=5), timeout=20)
        assert (answer.seq, answer.exact) == (11, True)


async def test_nobody_waits_longer_than_a_pause_for_a_section_that_does_not_come(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=TTL_S, max_waiting=3) as a:
        for link in a.links:
            link.hang("fence")
        await box.assign(a, 0, 0)
        await eventually(lambda: a.links[0].calls["fence"])
        behind = Answering(a.node, Peers())
        batches = [Batch(False, [uid]) for uid in range(5)]
        calls = [behind.rest(batch, behind.now(batch), 20.0) for batch in batches]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*calls)
        assert [answer.failures for answer in answers] == [[(0, "ACQUIRING")]] * 5
        assert a.node.waiting.count == 0


# -- the map fails -----------------------------------------------------------------------------


async def test_nothing_is_stopped_while_the_map_cannot_be_read(box: Box) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a)
        flaky.fail("get")
        before = flaky.calls["get"]
        await box.leave(0, 3, b)
        await eventually(lambda: flaky.calls["get"] >= before + 2)
        for _ in range(20):
            await caller.next_many(a, [5, 105, 205, 305])
        flaky.heal()
        await eventually(lambda: all(b.serves(s) for s in range(4)))
        assert await caller.next(b, 5) == 21


async def test_a_map_that_fails_between_release_and_hand_over_delays_the_move_and_breaks_nothing(
    box: Box,
) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a, 0, 1)
        await caller.next(a, 5, 42)
        flaky.fail("transact")
        await box.leave(0, 0, b)
        await eventually(lambda: flaky.calls["transact"] >= 2)
        assert box.record(0, 0).released
        with pytest.raises(NotServed) as refused:
            await caller.next(a, 5)
        assert refused.value.reason == "DRAINING"
        await caller.next(a, 105)
        flaky.heal()
        await eventually(lambda: b.serves(0))
        assert await caller.next(b, 5) == 43
        await eventually(lambda: 0 not in a.node.ledger.sections)


async def test_a_hand_over_whose_answer_was_lost_is_done_once(box: Box) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    lost = 0

    async def lose_the_first(method: str) -> None:
        nonlocal lost
        if method == "transact" and not lost:
            lost = 1
            await box.change(lambda d: placement.hand_over(d, SPAN, a.node.incarnation))
            raise OSError("connection reset")

    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        flaky.before = lose_the_first
        await box.move(0, 0, b)
        await eventually(lambda: not a.node.moving.leaving)
        assert lost and entry(await box.document(), 0).epoch == 2
        assert await caller.next(b, 5) == 43


SPAN = [Range(0, 3)]


async def test_an_owner_whose_watch_is_silent_gives_sections_up_all_the_same(box: Box) -> None:
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a)

        async def silent(method: str) -> None:
            if method == "transact":
                flaky.silence()

        flaky.before = silent
        await box.leave(0, 3, b)
        await eventually(lambda: all(b.serves(s) for s in range(4)))
        await eventually(lambda: not a.node.ledger.sections)
        flaky.heal()


async def test_a_move_that_the_map_takes_back_after_the_release_costs_a_new_epoch(
    box: Box,
) -> None:
    """It may not: but a map restored from a copy does. Once released, never served again."""
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        before = await box.document()
        flaky.fail("transact")
        await box.leave(0, 0, b)
        await eventually(lambda: flaky.calls["transact"] >= 1)
        await box.change(lambda _: before)
        await eventually(lambda: 0 not in a.node.ledger.sections)
        flaky.heal()
        async with asyncio.timeout(20):
            while not (await box.document()).floors:
                await asyncio.sleep(0.01)
        assert not a.serves(0) and a.node.unserved == 1
        await box.change(lambda d: placement.sole_owner(d, box.spec, a.at) or d)
        await eventually(lambda: a.serves(0))
        assert await caller.next(a, 5) == 43


async def test_a_map_restored_from_before_a_hand_over_wedges_nothing(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        await box.leave(0, 0, b)
        marked = await box.document()
        await eventually(lambda: b.serves(0) and not a.node.moving.leaving)
        assert entry(marked, 0).leaving
        await box.change(lambda _: marked)
        await eventually(lambda: b.serves(0))
        async with asyncio.timeout(20):
            while entry(await box.document(), 0).incarnation != b.node.incarnation:
                await asyncio.sleep(0.01)
        await eventually(lambda: b.serves(0))
        await caller.next(b, 5)


# -- others decide otherwise -------------------------------------------------------------------


async def test_an_owner_that_is_deposed_while_it_leaves_changes_nothing_any_more(box: Box) -> None:
    caller = Caller(box)
    async with (
        box.node(lease_ttl_s=0.5) as a,
        box.node(lease_ttl_s=0.5) as b,
        box.node(lease_ttl_s=0.5) as c,
    ):
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        for link in a.links:
            link.hang("release")
        await box.leave(0, 0, b)
        await eventually(lambda: a.links[0].calls["release"])
        await box.own(c, 0, 0)  # the arbiter has lost patience
        before = await box.document()
        await caller.next(c, 5, 150)
        heal(a)
        await eventually(lambda: a.links[0].done["release"] and not a.node.ledger.sections)
        await asyncio.sleep(0.1)
        assert await box.document() == before
        assert not box.record(0, 0).released
        assert c.serves(0) and not b.serves(0)
        await caller.next(c, 5)


async def test_the_successor_named_last_gets_the_section(box: Box) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        box.node(lease_ttl_s=TTL_S) as c,
    ):
        await box.own(a)
        await caller.next(a, 5, 42)
        renamed = False

        async def rename(method: str) -> None:
            nonlocal renamed
            if method == "transact" and not renamed:
                renamed = True
                await box.leave(0, 1, c)

        flaky.before = rename
        await box.leave(0, 3, b)
        await eventually(lambda: c.serves(0) and c.serves(1) and b.serves(2) and b.serves(3))
        assert not b.serves(0)
        assert await caller.next(c, 5) == 43


async def test_promises_heard_while_leaving_are_outbid_by_the_hand_over(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=0.5) as a, box.node(lease_ttl_s=0.5) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5)
        a.node.reporting.report = lambda promised: None  # type: ignore[method-assign]
        for link in a.links:
            link.hang("release")
        await box.leave(0, 0, b)
        await eventually(lambda: a.links[0].calls["release"])
        await box.promise(0, 9)
        await eventually(lambda: a.node.ledger.promises.highest(0) == 9)
        heal(a)
        await eventually(lambda: b.serves(0))
        assert entry(await box.document(), 0).epoch == 10
        assert b.links[0].calls["fence"] == 1, "an epoch was spent in vain"
        await caller.next(b, 5)


async def test_a_live_section_given_to_its_own_owner_again_starts_above_and_never_repeats(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a, 0, 1)
        for round_ in range(4):
            await caller.next_many(a, [5, 105], [30, 70])
            for link in a.links:
                link.hang("raise_max")  # one of the old epoch is on its way
            await caller.next(a, 105, 20)
            await box.assign(a, 0, 1)
            await eventually(lambda r=round_: a.node._desired[0] == r + 2)  # type: ignore[misc]
            heal(a)
            await eventually(lambda: a.serves(0) and a.serves(1))
            assert a.node.ledger.sections[0].epoch == round_ + 2
        await caller.next_many(a, [5, 105], [30, 70])


async def test_a_hand_over_that_reaches_too_few_replicas_is_made_all_the_same(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=0.5) as a, box.node(lease_ttl_s=0.5) as b:
        await box.own(a, 0, 0)
        await caller.next(a, 5, 42)
        for link in a.links:
            link.fail("release")
        await box.move(0, 0, b)
        assert events(a, "abandoned") == 1
        assert await caller.next(b, 5) > 42
        assert KEY in (await box.coordinator.get("")).entries
