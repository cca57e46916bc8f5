"""The Alloc service on the wire: every rpc, every bound, and callers that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from allocsvr.limits import Limits
from allocsvr.service import SERVICE
from cluster_in_a_box import Box, eventually, open_box
from cluster_in_a_box.serving import Served, explained, refusal, served
from clustermap.placement import raise_floor
from seqsvr.errors import TABLE, reason_name
from seqsvr.v1 import alloc_pb2 as pb

UID_LIMIT = 2**32
FULL = 42_950
UNARY = ("GetSeq", "GetCurSeq", "BatchGetSeq", "BatchGetCurSeq", "AdvanceSeq", "GetRoute")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(
        tmp_path, sections=FULL, section_size=100_000, uid_limit=UID_LIMIT, seq_limit=1000
    ) as made:
        yield made


@pytest.fixture
async def one(box: Box) -> AsyncIterator[Served]:
    """Serves sections 0 and 1, and the last one."""
    async with served(box, limits=Limits(wait_s=1.0, late_batches=4)) as made:
        await box.own(made.member, 0, 1)
        await box.change(lambda d: raise_floor(d, FULL - 1, FULL - 1, 8))
        await box.own(made.member, FULL - 1, FULL - 1)  # under another epoch than the others
        yield made


@pytest.fixture
async def two(box: Box) -> AsyncIterator[tuple[Served, Served]]:
    """Sections 0..9 at the first, 10..19 at the second."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(box))
        second = await stack.enter_async_context(served(box))
        await box.own(first.member, 0, 9)
        await box.change(lambda d: raise_floor(d, 10, 19, 8))
        await box.own(second.member, 10, 19)  # under another epoch than the first
        version = (await box.document()).version
        await eventually(lambda: first.member.node.router.version == version)
        yield first, second


def reasons(response: Any) -> list[tuple[int, str]]:
    return [(error.index, reason_name(error.reason)) for error in response.errors]


async def read(call: Any) -> Any:
    """The next answer of a Session; one that never comes fails the test."""
    return await asyncio.wait_for(call.read(), 20)


async def alive(served_: Served) -> None:
    answer = await served_.stub.GetSeq(pb.GetSeqRequest(uid=7), timeout=10)
    assert answer.seq > 0


# -- each rpc ----------------------------------------------------------------------------------


async def test_get_seq_hands_out_ranges_and_get_cur_seq_says_the_last(one: Served) -> None:
    epoch = one.member.node.ledger.sections[0].epoch
    assert await one.stub.GetCurSeq(pb.GetCurSeqRequest(uid=5)) == pb.GetCurSeqResponse(
        exact=True, epoch=epoch
    )
    first = await one.stub.GetSeq(pb.GetSeqRequest(uid=5))
    assert first == pb.GetSeqResponse(seq=1, epoch=epoch)
    assert (await one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=10))).seq == 2
    assert (await one.stub.GetSeq(pb.GetSeqRequest(uid=5))).seq == 12
    current = await one.stub.GetCurSeq(pb.GetCurSeqRequest(uid=5))
    assert (current.seq, current.exact) == (12, True)


async def test_a_batch_gives_rising_numbers_to_a_uid_that_occurs_twice(one: Served) -> None:
    request = pb.BatchGetSeqRequest(uids=[5, 6, 5, 5], counts=[1, 1, 10, 2])
    assert list((await one.stub.BatchGetSeq(request)).seqs) == [1, 1, 2, 12]
    answer = await one.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=[5, 6, 7]))
    assert (list(answer.seqs), list(answer.exact)) == ([13, 1, 0], [True, True, True])


async def test_an_advance_says_where_each_uid_stands_and_numbers_go_on_above(one: Served) -> None:
    assert (await one.stub.GetSeq(pb.GetSeqRequest(uid=6, count=50))).seq == 1
    request = pb.AdvanceSeqRequest(uids=[5, 6, 7], at_least=[900, 40, 0])
    for _ in range(2):  # twice is once
        answer = await one.stub.AdvanceSeq(request)
        assert (list(answer.seqs), list(answer.errors)) == ([900, 50, 0], [])
        assert list(answer.epochs) == [one.member.node.ledger.sections[0].epoch]
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[5, 6, 7]))
    assert list(answer.seqs) == [901, 51, 1]


async def test_an_advance_is_durable_at_w_before_it_is_answered_seq_3(
    one: Served, box: Box
) -> None:
    step = one.member.node.options.step
    assert step < 990
    await one.stub.AdvanceSeq(pb.AdvanceSeqRequest(uids=[5, 100_005], at_least=[990, 3]))
    held = one.member.node.ledger.sections
    assert held[0].max_seq >= 990
    assert held[1].max_seq < 990, "another section's ceiling is its own"


async def test_an_advance_out_of_bounds_is_refused_with_the_bound(one: Served) -> None:
    def advance(*floors: int, **more: Any) -> Any:
        return one.stub.AdvanceSeq(
            pb.AdvanceSeqRequest(uids=range(len(floors)), at_least=floors, **more)
        )

    answer = await advance(11, 1001, 2**64 - 1, max_jump=10)  # the limit is 1000
    assert reasons(answer) == [(i, "JUMP_TOO_LARGE") for i in range(3)]
    assert [(error.field, error.bound) for error in answer.errors] == [("at_least", 10)] * 3
    answer = await advance(1001, max_jump=2**64 - 1)
    assert [error.bound for error in answer.errors] == [1000]
    assert list((await advance(1000)).seqs) == [1000]
    assert reasons(await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[0]))) == [
        (0, "SEQUENCE_EXHAUSTED")
    ]
    for request, reason in (
        (pb.AdvanceSeqRequest(), "BATCH_TOO_LARGE"),
        (pb.AdvanceSeqRequest(uids=range(4097), at_least=[1] * 4097), "BATCH_TOO_LARGE"),
        (pb.AdvanceSeqRequest(uids=[1, 2], at_least=[1]), "MALFORMED"),
    ):
        refused = await refusal(one.stub.AdvanceSeq(request))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", reason)


async def test_the_full_batch_is_served_and_its_epochs_are_compact(one: Served) -> None:
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=range(4096)))
    assert list(answer.seqs) == [1] * 4096
    assert list(answer.epochs) == [one.member.node.ledger.sections[0].epoch]
    assert not answer.errors


async def test_entries_of_several_epochs_list_one_for_each_and_0_for_a_failed_one(
    one: Served,
) -> None:
    held = one.member.node.ledger.sections
    uids = [5, UID_LIMIT - 1, UID_LIMIT, 6]
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=uids))
    assert list(answer.seqs) == [1, 1, 0, 1]
    assert list(answer.epochs) == [held[0].epoch, held[FULL - 1].epoch, 0, held[0].epoch]
    assert reasons(answer) == [(2, "UID_OUT_OF_RANGE")]
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[5, UID_LIMIT]))
    assert list(answer.epochs) == [held[0].epoch]
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[UID_LIMIT]))
    assert list(answer.epochs) == []


async def test_get_route_gives_the_table_unless_it_is_known(one: Served) -> None:
    table = (await one.stub.GetRoute(pb.GetRouteRequest())).table
    assert table.version == one.member.node.router.version
    assert [(r.first_section, r.last_section) for r in table.routes] == [(0, 1), (FULL - 1,) * 2]
    assert list(table.addresses) == [one.member.node.address]
    assert (table.section_size, table.uid_limit) == (100_000, UID_LIMIT)
    same = await one.stub.GetRoute(pb.GetRouteRequest(known_version=table.version))
    assert not same.HasField("table")
    other = await one.stub.GetRoute(pb.GetRouteRequest(known_version=table.version + 5))
    assert other.HasField("table")


async def test_the_table_comes_with_answers_to_callers_whose_own_is_old(one: Served) -> None:
    version = one.member.node.router.version
    for known, attached in ((0, False), (version - 1, True), (version, False)):
        answers = [
            await one.stub.GetSeq(pb.GetSeqRequest(uid=5, route_version=known)),
            await one.stub.GetCurSeq(pb.GetCurSeqRequest(uid=5, route_version=known)),
            await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[5], route_version=known)),
            await one.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=[5], route_version=known)),
        ]
        assert [answer.HasField("table") for answer in answers] == [attached] * 4


# -- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [2**32, 2**63, 2**64 - 1])
async def test_a_uid_out_of_range_is_refused_with_field_and_bound(one: Served, uid: int) -> None:
    for call in (
        one.stub.GetSeq(pb.GetSeqRequest(uid=uid)),
        one.stub.GetCurSeq(pb.GetCurSeqRequest(uid=uid)),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "UID_OUT_OF_RANGE")
        assert refused.metadata == {"field": "uid", "bound": str(UID_LIMIT)}
        assert (refused.field, refused.domain, refused.retry_ms) == ("uid", "seqsvr", 0)
    for answer in (
        await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[uid, 5])),
        await one.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=[uid, 5])),
    ):
        (error,) = answer.errors
        assert (error.index, error.field, error.bound) == (0, "uid", UID_LIMIT)
        assert reason_name(error.reason) == "UID_OUT_OF_RANGE"
    await alive(one)


@pytest.mark.parametrize("count", [0, 10_001, 2**32 - 1])
async def test_a_count_out_of_range_is_refused_with_field_and_bound(
    one: Served, count: int
) -> None:
    refused = await refusal(one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=count)))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "COUNT_OUT_OF_RANGE")
    assert refused.metadata == {"field": "count", "bound": "10000"}
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[5, 5], counts=[count, 1]))
    assert reasons(answer) == [(0, "COUNT_OUT_OF_RANGE")]
    assert (answer.errors[0].field, answer.errors[0].bound) == ("count", 10_000)
    assert list(answer.seqs) == [0, 1]  # nothing was taken by the refused entry


@pytest.mark.parametrize("size", [0, 4097])
async def test_a_batch_of_a_wrong_size_is_refused_with_field_and_bound(
    one: Served, size: int
) -> None:
    for call in (
        one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=range(size))),
        one.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=range(size))),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "BATCH_TOO_LARGE")
        assert refused.metadata == {"field": "uids", "bound": "4096"}
    await alive(one)


async def test_counts_of_another_length_than_uids_are_refused(one: Served) -> None:
    for counts in ([1], [1, 1, 1]):
        request = pb.BatchGetSeqRequest(uids=[5, 6], counts=counts)
        refused = await refusal(one.stub.BatchGetSeq(request))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "COUNT_OUT_OF_RANGE")
        assert refused.field == "counts"
    assert (await one.stub.GetSeq(pb.GetSeqRequest(uid=5))).seq == 1


async def test_an_exhausted_uid_is_refused_and_its_neighbours_go_on(one: Served) -> None:
    assert (await one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=1000))).seq == 1
    refused = await refusal(one.stub.GetSeq(pb.GetSeqRequest(uid=5)))
    assert (refused.code, refused.reason) == ("OUT_OF_RANGE", "SEQUENCE_EXHAUSTED")
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[5, 6]))
    assert (list(answer.seqs), reasons(answer)) == ([0, 1], [(0, "SEQUENCE_EXHAUSTED")])
    current = await one.stub.GetCurSeq(pb.GetCurSeqRequest(uid=5))
    assert (current.seq, current.exact) == (1000, True)


async def test_unavailable_tells_when_to_come_back(one: Served) -> None:
    link = one.member.links[0]
    link.fail("raise_max")
    await one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=100))
    refused = await refusal(one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=100), timeout=10))
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert refused.retry_ms > 0
    answer = await one.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[5], counts=[200]))
    assert reasons(answer) == [(0, "STORE_UNAVAILABLE")]
    assert answer.errors[0].retry_after_ms > 0
    link.heal()
    await one.member.node.drain()
    refused = await refusal(one.stub.GetSeq(pb.GetSeqRequest(uid=5)))
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "DRAINING")
    assert refused.retry_ms > 0


async def test_a_call_with_a_short_deadline_is_answered_within_it(one: Served) -> None:
    one.member.links[0].hang("raise_max")
    await one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=100))
    began = asyncio.get_running_loop().time()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await one.stub.GetSeq(pb.GetSeqRequest(uid=5, count=100), timeout=0.2)
    assert asyncio.get_running_loop().time() - began < 5
    assert failed.value.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    await eventually(lambda: one.member.node.waiting.count == 0)


# -- what is no request ------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"\xff" * 40, b"\x08", b"\x0a\xff\xff\xff\xff\x0f"])
async def test_bytes_that_are_no_message_are_refused_and_the_service_lives(
    one: Served, garbage: bytes
) -> None:
    for rpc in UNARY:
        refused = await refusal(one.raw(rpc)(garbage))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "MALFORMED"), rpc
        assert refused.domain == "seqsvr"
    call: Any = one.channel.stream_stream(f"/{SERVICE}/Session")()
    await call.write(garbage)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        while await read(call) is not grpc.aio.EOF:
            pass
        raise AssertionError("the stream ended well")
    assert explained(failed.value).reason == "MALFORMED"
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await alive(one)


@pytest.mark.parametrize("rpc", [*UNARY, "Session"])
async def test_a_message_of_10_mb_is_refused_and_the_service_lives(one: Served, rpc: str) -> None:
    big = bytes(10 << 20)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        if rpc == "Session":
            call: Any = one.channel.stream_stream(f"/{SERVICE}/Session")()
            await call.write(big)
            while await read(call) is not grpc.aio.EOF:
                pass
            raise AssertionError(await call.code())
        await one.raw(rpc)(big)
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await alive(one)


# -- forwarding --------------------------------------------------------------------------------


async def test_a_caller_without_a_table_is_forwarded_to_the_owner(
    two: tuple[Served, Served],
) -> None:
    first, second = two
    mine, theirs = 5, 10 * 100_000 + 5
    assert (await first.stub.GetSeq(pb.GetSeqRequest(uid=theirs, count=3))).seq == 1
    assert (await second.stub.GetSeq(pb.GetSeqRequest(uid=theirs))).seq == 4
    current = await first.stub.GetCurSeq(pb.GetCurSeqRequest(uid=theirs))
    assert (current.seq, current.exact) == (4, True)
    epochs = [first.member.node.ledger.sections[0].epoch] * 2
    epochs[1] = second.member.node.ledger.sections[10].epoch
    assert current.epoch == epochs[1]
    answer = await first.stub.BatchGetSeq(
        pb.BatchGetSeqRequest(uids=[theirs, mine, theirs], counts=[2, 1, 5])
    )
    assert list(answer.seqs) == [5, 1, 7]
    assert list(answer.epochs) == [epochs[1], epochs[0], epochs[1]]
    current = await first.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=[mine, theirs]))
    assert (list(current.seqs), list(current.exact)) == ([1, 11], [True, True])
    assert not first.member.serves(10)


async def test_an_advance_is_forwarded_with_its_bounds(two: tuple[Served, Served]) -> None:
    first, _ = two
    mine, theirs = 5, 10 * 100_000 + 5
    request = pb.AdvanceSeqRequest(
        uids=[theirs, mine, theirs + 1], at_least=[70, 80, 101], max_jump=100
    )
    answer = await first.stub.AdvanceSeq(request)
    assert list(answer.seqs) == [70, 80, 0]
    assert reasons(answer) == [(2, "JUMP_TOO_LARGE")]
    assert (answer.errors[0].field, answer.errors[0].bound) == ("at_least", 100)
    assert (await first.stub.GetSeq(pb.GetSeqRequest(uid=theirs))).seq == 71
    forwarded = pb.AdvanceSeqRequest(uids=[theirs], at_least=[1], forwarded=True)
    assert reasons(await first.stub.AdvanceSeq(forwarded)) == [(0, "NOT_OWNER")]


async def test_a_forwarded_call_is_never_forwarded_again(two: tuple[Served, Served]) -> None:
    first, _ = two
    theirs = 10 * 100_000 + 5
    refused = await refusal(first.stub.GetSeq(pb.GetSeqRequest(uid=theirs, forwarded=True)))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "NOT_OWNER")
    answer = await first.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[theirs, 5], forwarded=True))
    assert reasons(answer) == [(0, "NOT_OWNER")]
    assert list(answer.seqs) == [0, 1]


async def test_a_caller_with_a_table_is_sent_away_with_the_newer_one(
    two: tuple[Served, Served],
) -> None:
    first, second = two
    theirs, version = 10 * 100_000 + 5, first.member.node.router.version
    for known in (1, version, version + 10):
        refused = await refusal(
            first.stub.GetSeq(pb.GetSeqRequest(uid=theirs, route_version=known))
        )
        assert refused.reason == "NOT_OWNER"
        assert refused.table is not None
        assert second.member.node.address in refused.table.addresses
        batch = pb.BatchGetSeqRequest(uids=[theirs], route_version=known)
        answer = await first.stub.BatchGetSeq(batch)
        assert reasons(answer) == [(0, "NOT_OWNER")]
        assert answer.table.version == version


async def test_an_owner_that_refuses_every_forwarded_entry_is_passed_on(
    two: tuple[Served, Served],
) -> None:
    first, second = two
    theirs = 10 * 100_000 + 5
    await second.member.node.drain()
    refused = await refusal(first.stub.GetSeq(pb.GetSeqRequest(uid=theirs), timeout=10))
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "DRAINING")
    answer = await first.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[theirs, 5, theirs + 1]))
    assert (list(answer.seqs), list(answer.epochs)) == (
        [0, 1, 0],
        [first.member.node.ledger.sections[0].epoch],
    )
    assert sorted(reasons(answer)) == [(0, "DRAINING"), (2, "DRAINING")]
    call = first.stub.Session()
    batch = pb.BatchGetCurSeqRequest(uids=[theirs])
    await call.write(pb.SessionRequest(id=1, current=batch))
    answer = await read(call)
    assert (answer.id, reasons(answer.current)) == (1, [(0, "DRAINING")])
    call.cancel()


async def test_a_forwarded_entry_that_failed_has_no_epoch(two: tuple[Served, Served]) -> None:
    first, second = two
    theirs = 10 * 100_000
    await second.stub.GetSeq(pb.GetSeqRequest(uid=theirs, count=1000))
    answer = await first.stub.BatchGetSeq(
        pb.BatchGetSeqRequest(uids=[5, theirs, theirs + 1], counts=[1, 1, 1])
    )
    held = (first.member.node.ledger.sections[0], second.member.node.ledger.sections[10])
    assert reasons(answer) == [(1, "SEQUENCE_EXHAUSTED")]
    assert list(answer.epochs) == [held[0].epoch, 0, held[1].epoch]


async def test_an_owner_that_cannot_be_reached_fails_only_its_own_entries(
    two: tuple[Served, Served], box: Box
) -> None:
    first, _ = two
    async with served(box) as gone:
        await box.own(gone.member, 20, 20)
        version = (await box.document()).version
        await eventually(lambda: first.member.node.router.version == version)
    request = pb.BatchGetSeqRequest(uids=[20 * 100_000, 5])
    answer = await first.stub.BatchGetSeq(request, timeout=10)
    assert (list(answer.seqs), reasons(answer)) == ([0, 1], [(0, "ACQUIRING")])
    assert TABLE["ACQUIRING"].retry


# -- sessions ----------------------------------------------------------------------------------


def nexts(id_: int, uids: list[int], counts: list[int] | None = None) -> pb.SessionRequest:
    return pb.SessionRequest(id=id_, next=pb.BatchGetSeqRequest(uids=uids, counts=counts or []))


async def test_a_session_answers_both_kinds_by_id(one: Served) -> None:
    call = one.stub.Session()
    for id_ in (7, 7000, 2**64 - 1):
        await call.write(nexts(id_, [5, 6, 5]))
    got = [await read(call) for _ in range(3)]
    assert [(a.id, list(a.next.seqs), a.more, list(a.indexes)) for a in got] == [
        (7, [1, 1, 2], False, []),
        (7000, [3, 2, 4], False, []),
        (2**64 - 1, [5, 3, 6], False, []),
    ]
    await call.write(pb.SessionRequest(id=8, current=pb.BatchGetCurSeqRequest(uids=[5, 9])))
    answer = await read(call)
    assert (answer.id, list(answer.current.seqs)) == (8, [6, 0])
    await call.done_writing()
    assert await read(call) is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_refused_request_of_a_session_does_not_end_it(one: Served) -> None:
    call = one.stub.Session()
    await call.write(pb.SessionRequest(id=1))
    await call.write(nexts(2, []))
    await call.write(nexts(3, list(range(4097))))
    await call.write(nexts(4, [5, 6], [1]))
    await call.write(nexts(5, [2**64 - 1, 5]))
    got = [await read(call) for _ in range(5)]
    assert [reason_name(answer.refused.reason) for answer in got[:4]] == [
        "MALFORMED",
        "BATCH_TOO_LARGE",
        "BATCH_TOO_LARGE",
        "COUNT_OUT_OF_RANGE",
    ]
    assert [answer.id for answer in got] == [1, 2, 3, 4, 5]
    assert (list(got[4].next.seqs), reasons(got[4].next)) == ([0, 1], [(0, "UID_OUT_OF_RANGE")])
    call.cancel()


async def test_entries_that_wait_for_a_raise_hold_up_neither_batch_nor_session(
    one: Served,
) -> None:
    link = one.member.links[0]
    link.hang("raise_max")
    call = one.stub.Session()
    await call.write(nexts(1, [5], [100]))
    assert (await read(call)).id == 1
    await call.write(nexts(2, [5, 100_005, 5], [3, 1, 4]))
    part = await read(call)
    assert (part.id, part.more, list(part.indexes)) == (2, True, [1])
    assert list(part.next.seqs) == [1]
    await call.write(nexts(3, [100_005]))
    other = await read(call)
    assert (other.id, list(other.next.seqs), other.more) == (3, [2], False)
    link.heal()
    rest = await read(call)
    assert (rest.id, rest.more, list(rest.indexes)) == (2, False, [0, 2])
    assert list(rest.next.seqs) == [101, 104]
    call.cancel()


async def test_a_session_forwards_for_a_caller_without_a_table(
    two: tuple[Served, Served],
) -> None:
    first, _ = two
    theirs = 10 * 100_000
    call = first.stub.Session()
    await call.write(nexts(1, [theirs, 5, theirs]))
    parts = [await read(call), await read(call)]
    assert [part.more for part in parts] == [True, False]
    found = {i: s for p in parts for i, s in zip(p.indexes, p.next.seqs, strict=True)}
    assert found == {0: 1, 1: 1, 2: 2}
    call.cancel()


async def test_a_cancelled_session_leaves_nothing_waiting(one: Served) -> None:
    one.member.links[0].hang("raise_max")
    call = one.stub.Session()
    await call.write(nexts(1, [5], [100]))
    await read(call)
    for id_ in range(2, 5):
        await call.write(nexts(id_, [5]))
    await eventually(lambda: one.member.node.waiting.count == 3)
    call.cancel()
    await eventually(lambda: one.member.node.waiting.count == 0)
    await eventually(lambda: one.member.node.metrics.sessions._value.get() == 0)
    one.member.links[0].heal()
    await alive(one)


async def test_a_session_with_too_many_late_batches_is_told_so_and_stays_usable(
    one: Served,
) -> None:
    one.member.links[0].hang("raise_max")
    call = one.stub.Session()
    await call.write(nexts(1, [5], [100]))
    await read(call)
    for id_ in range(2, 12):
        await call.write(nexts(id_, [5, 6]))
    seen = [await read(call) for _ in range(10)]
    refused = [answer for answer in seen if not answer.more]
    assert one.member.node.waiting.count == 4  # late_batches
    assert [answer.id for answer in refused] == list(range(6, 12))
    assert all(answer.next.seqs[1] for answer in refused)  # what was ready is not lost
    assert {e.reason for a in refused for e in a.next.errors} == {pb.REASON_OVERLOADED}
    one.member.links[0].heal()
    got = sorted([(await read(call)).next.seqs[0] for _ in range(4)])
    assert got == list(range(101, 105))
    call.cancel()


async def test_a_session_that_stops_reading_stops_itself(one: Served) -> None:
    """Numbers are taken only for answers that are on their way: about a window of the stream."""
    requests = one.member.node.metrics.requests.labels("Session")
    call = one.stub.Session()
    batch = list(range(1000, 1000 + 4096))
    sent = 0

    async def pour() -> None:
        nonlocal sent
        for id_ in range(20_000):
            await call.write(
                pb.SessionRequest(id=id_, current=pb.BatchGetCurSeqRequest(uids=batch))
            )
            sent += 1

    pouring = asyncio.create_task(pour())
    seen = -1.0
    while seen < requests.total < 5_000:
        seen = requests.total
        await asyncio.sleep(0.5)
    assert 0 < requests.total < 5_000
    assert not pouring.done()
    await alive(one)  # nobody else is held up
    first = await read(call)
    assert first.id == 0
    pouring.cancel()
    call.cancel()
    await eventually(lambda: one.member.node.metrics.sessions._value.get() == 0)
