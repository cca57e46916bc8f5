"""What callers that wait in vain are told, and where numbers are counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from allocsvr import raising
from allocsvr.answering import Answering, Batch
from allocsvr.ledger import Answers
from allocsvr.peers import Peers
from cluster_in_a_box import Box, Member, eventually, open_box
from cluster_in_a_box.serving import Served, served
from seqsvr.errors import reason_name
from seqsvr.v1 import alloc_pb2 as pb

STEP = 10


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path) as made:
        yield made


@pytest.fixture
async def two(box: Box) -> AsyncIterator[tuple[Served, Served]]:
    """Sections 0 and 1 at the first, 2 and 3 at the second."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(box))
        second = await stack.enter_async_context(served(box))
        await box.own(first.member, 0, 1)
        await box.own(second.member, 2, 3)
        version = (await box.document()).version
        for one in (first, second):
            await eventually(lambda o=one: o.member.node.router.version == version)  # type: ignore[misc]
        yield first, second


def use_up(member: Member, uid: int) -> None:
    """Take what the window of a uid holds."""
    node = member.node
    while node.ledger.next_batch([uid], [], node.clock.now_ns()).seqs[0]:
        pass


async def everything(member: Member, uids: list[int], timeout_s: float) -> Answers:
    answering, batch = Answering(member.node, Peers()), Batch(False, uids)
    return await answering.rest(batch, answering.now(batch), timeout_s)


# -- waiting in vain ---------------------------------------------------------------------------


async def test_an_entry_that_starves_beside_a_growing_window_is_told_overloaded(box: Box) -> None:
    """The store did its part; it is the others that were there first."""
    async with box.node(step=STEP, lease_ttl_s=30.0) as node:
        await box.own(node, 0, 0)
        use_up(node, 5)
        grown = node.node.waiting.grown
        rounds: list[str | None] = []

        async def outrun(section: int, timeout_s: float) -> str | None:
            reason = await grown(section, 0.05 if rounds else timeout_s)
            rounds.append(reason)
            if len(rounds) == 1:
                node.links[0].hang("raise_max")
            use_up(node, 5)
            return reason

        node.node.waiting.grown = outrun  # type: ignore[method-assign]
        answers = await everything(node, [5], 20)
        assert rounds[0] is None and rounds[-1] == "STORE_UNAVAILABLE"
        assert answers.failures == [(0, "OVERLOADED")]


async def test_an_entry_whose_window_never_grew_is_told_store_unavailable(box: Box) -> None:
    async with box.node(step=STEP, lease_ttl_s=30.0) as node:
        await box.own(node, 0, 0)
        node.links[0].hang("raise_max")
        await asyncio.sleep(0)
        use_up(node, 5)
        answers = await everything(node, [5, 6], 0.1)
        assert answers.failures == [(0, "STORE_UNAVAILABLE")]
        assert answers.seqs[1] == 1


# -- counting ----------------------------------------------------------------------------------


def counted(*nodes: Served) -> list[float]:
    """seqsvr_numbers_total of each."""
    return [node.member.node.metrics.numbers.total for node in nodes]


async def test_forwarded_numbers_are_counted_once_and_at_their_owner(
    two: tuple[Served, Served],
) -> None:
    first, second = two
    mine, theirs = 5, 205
    await first.stub.GetSeq(pb.GetSeqRequest(uid=theirs, count=7), timeout=20)
    assert counted(*two) == [0, 7]
    request = pb.BatchGetSeqRequest(uids=[theirs, mine, theirs], counts=[2, 30, 5])
    await first.stub.BatchGetSeq(request, timeout=20)
    assert counted(*two) == [30, 14]
    await second.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[mine, theirs]), timeout=20)
    assert counted(*two) == [31, 15]
    session = first.stub.Session()
    await session.write(pb.SessionRequest(id=1, next=request))
    left = 3
    while left:
        answer = await asyncio.wait_for(session.read(), 20)
        left -= len(answer.next.seqs)
        assert not answer.next.errors
    session.cancel()
    assert counted(*two) == [61, 22]


async def test_only_numbers_that_were_handed_out_are_counted(two: tuple[Served, Served]) -> None:
    first, second = two
    request = pb.BatchGetSeqRequest(uids=[5, 10**6, 105, 205], counts=[3, 1, 20_000, 4])
    answer = await first.stub.BatchGetSeq(request, timeout=20)
    assert [reason_name(error.reason) for error in answer.errors] == [
        "UID_OUT_OF_RANGE",
        "COUNT_OUT_OF_RANGE",
    ]
    assert counted(*two) == [3, 4]
    await second.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=[5, 205]), timeout=20)
    assert counted(*two) == [3, 4]


async def test_numbers_that_had_to_wait_for_a_raise_are_counted_once(box: Box) -> None:
    async with served(box, step=STEP, lease_ttl_s=30.0) as one:
        await box.own(one.member, 0, 0)
        request = pb.BatchGetSeqRequest(uids=[5, 6], counts=[95, 1], route_version=1)
        answer = await one.stub.BatchGetSeq(request, timeout=20)
        assert not answer.errors
        assert counted(one) == [96]
        session = one.stub.Session()
        await session.write(pb.SessionRequest(id=1, next=request))
        left = 2
        while left:
            left -= len((await asyncio.wait_for(session.read(), 20)).next.seqs)
        session.cancel()
        assert counted(one) == [192]


async def test_a_caller_that_waits_for_a_window_does_not_wait_for_other_raises(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The section had said that it is hungry while half of its window was left."""
    async with box.node(step=STEP, lease_ttl_s=30.0) as node:
        await box.own(node, 0, 0)
        monkeypatch.setattr(raising, "PACE_S", 3600.0)
        answers = await everything(node, [5], 20)
        use_up(node, 5)
        answers = await everything(node, [5], 20)
        assert not answers.failures and answers.seqs[0] > STEP
