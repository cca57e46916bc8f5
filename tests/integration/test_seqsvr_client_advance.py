"""AsyncClient.advance against scripted nodes: batches, retries, refusals, doubt, history."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

import seqsvr
from fake_alloc import SECTION_SIZE, FakeAlloc, table_of
from seqsvr.errors import reason_value
from seqsvr.sections import MAX_BATCH, MAX_JUMP
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import refusal


def failing(reason: str, *places: int) -> alloc_pb2.AdvanceSeqResponse:
    answer = alloc_pb2.AdvanceSeqResponse(seqs=[0] * len(places))
    for place in places:
        answer.errors.add(index=place, reason=reason_value(reason), text=reason)
    return answer


async def test_a_uid_goes_on_above_its_floor() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        assert await seq.advance(7, 100) == 100
        assert await seq.next(7) == 101
        assert await seq.advance(7, 50) == 101
        assert node.advances[0].max_jump == MAX_JUMP
        assert node.advances[0].route_version == node.table.version
        await seq.advance(7, 200, max_jump=5)
        assert node.advances[-1].max_jump == 5
        assert await seq.advance_many([]) == []


def test_the_blocking_twin_does_the_same() -> None:
    async def use() -> None:
        async with FakeAlloc() as node:

            def work() -> None:
                with seqsvr.Client(node.address) as seq:
                    assert seq.advance(7, 100) == 100
                    assert seq.advance_many([(8, 3), (7, 9)], max_jump=9) == [3, 100]
                    assert seq.next(8) == 4

            await asyncio.to_thread(work)

    asyncio.run(use())


async def test_many_go_to_their_owners_in_batches_and_come_back_in_order() -> None:
    async with FakeAlloc() as one, FakeAlloc() as other:
        owners = {(0, 49): one.address, (50, 99): other.address}
        one.table = other.table = table_of(owners)
        async with seqsvr.AsyncClient(one.address) as seq:
            floors = [((31 * i) % 10_000, i + 1) for i in range(10_000)]
            assert await seq.advance_many(floors, timeout=20) == [i + 1 for i in range(10_000)]
            for node, sections in ((one, range(50)), (other, range(50, 100))):
                assert all(u // SECTION_SIZE in sections for r in node.advances for u in r.uids)
                assert max(len(request.uids) for request in node.advances) <= MAX_BATCH


@pytest.mark.parametrize(
    ("at_least", "max_jump"), [(-1, 1), (2**63, 1), (1.5, 1), (1, -1), (1, 2**63), (True, 1)]
)
async def test_what_is_no_floor_is_refused_before_anybody_is_asked(
    at_least: Any, max_jump: Any
) -> None:
    async with seqsvr.AsyncClient("127.0.0.1:1") as seq:
        with pytest.raises(seqsvr.InvalidArgument) as caught:
            await seq.advance(7, at_least, max_jump=max_jump)
        assert caught.value.reason == "JUMP_TOO_LARGE"


async def test_a_jump_that_is_too_large_is_not_tried_again_and_names_its_uid() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:

        async def refuse(request: Any, _: Any) -> Any:
            answer = failing("JUMP_TOO_LARGE", *range(len(request.uids)))
            del answer.errors[0]
            answer.seqs[0] = 5
            answer.epochs.append(1)
            return answer

        node.advancing = refuse
        with pytest.raises(seqsvr.InvalidArgument) as caught:
            await seq.advance_many([(7, 5), (8, 5)])
        assert (caught.value.reason, caught.value.uid) == ("JUMP_TOO_LARGE", 8)
        assert len(node.advances) == 1


async def test_what_may_pass_is_asked_for_again_and_only_that() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:

        async def first_refuse(request: Any, context: Any) -> Any:
            if len(node.advances) == 1:
                answer = node.advanced(request)
                answer.seqs[1] = 0
                answer.errors.add(index=1, reason=reason_value("ACQUIRING"), text="wait")
                return answer
            if len(node.advances) == 2:
                status = rpc_status.to_status(refusal("LEASE_EXPIRED", "by script"))
                await context.abort_with_status(status)
            if len(node.advances) == 3:
                await context.abort(grpc.StatusCode.CANCELLED, "by script")
            if len(node.advances) == 4:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "an older node")
            return node.advanced(request)

        node.advancing = first_refuse
        assert await seq.advance_many([(7, 5), (8, 6)], timeout=20) == [5, 6]
        assert [list(request.uids) for request in node.advances] == [[7, 8]] + [[8]] * 4


async def test_where_only_the_table_of_ports_names_no_owner_there_are_pauses_between_attempts() -> (
    None
):
    """The other table named one, so the section was taken to have moved: and again, and again, in
    one turn of the loop, in which nobody else had a turn. Seed 1781 of the simulator.
    """
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.admin_table = table_of({(50, 99): node.address}, version=node.table.version + 1)
        await seq.next(7)
        advance = asyncio.create_task(seq.advance(7, 100, timeout=20))
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert not advance.done()
        assert not node.advances
        node.table = node.admin_table = table_of(
            {(0, 99): node.address}, version=node.admin_table.version + 1
        )
        assert await advance == 100


async def test_an_answer_under_a_superseded_epoch_counts_as_none_route_1() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.epoch = 5
        await seq.next(7)
        node.epoch = 4
        with pytest.raises(seqsvr.OutcomeUnknown):
            await seq.advance(7, 100, timeout=0.3)
        node.epoch = 5
        assert await seq.advance(7, 100) == 100


async def test_a_node_that_says_nothing_leaves_the_outcome_unknown() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(7)

        async def hang(_request: Any, _context: Any) -> Any:
            await asyncio.Event().wait()

        node.advancing = hang
        with pytest.raises(seqsvr.OutcomeUnknown) as caught:
            await seq.advance(7, 100, timeout=0.3)
        assert caught.value.retryable


async def test_closing_the_client_ends_an_advance_that_is_outstanding(tmp_path: Path) -> None:
    async with FakeAlloc() as node:
        seq = seqsvr.AsyncClient(node.address, history=tmp_path / "h")
        await seq.next(7)

        async def hang(_request: Any, _context: Any) -> Any:
            await asyncio.Event().wait()

        node.advancing = hang
        call = asyncio.create_task(seq.advance(7, 100, timeout=60))
        while not node.advances:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(seq.aclose(), 10)
        with pytest.raises(seqsvr.OutcomeUnknown):
            await call
        last = json.loads((tmp_path / "h").read_text().splitlines()[-1])
        assert (last["op"], last["error"]) == ("advance", "OUTCOME_UNKNOWN")


@pytest.mark.parametrize("wrong", [{"seqs": [5, 6]}, {"seqs": [5], "epochs": [1, 1]}])
async def test_an_answer_that_does_not_fit_is_never_believed(wrong: Any) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:

        async def answer(_request: Any, _context: Any) -> Any:
            return alloc_pb2.AdvanceSeqResponse(**wrong)

        node.advancing = answer
        with pytest.raises(seqsvr.DataLoss, match="does not fit"):
            await seq.advance(7, 5)


async def test_a_history_has_the_floor_and_where_the_uid_stood(tmp_path: Path) -> None:
    path = tmp_path / "h"
    async with FakeAlloc() as node:
        node.numbers[8] = 70
        async with seqsvr.AsyncClient(node.address, history=path) as seq:
            await seq.advance_many([(7, 5), (8, 6)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    fields = ("op", "uid", "at_least", "seq", "exact", "epoch", "error")
    assert [[line[name] for name in fields] for line in lines] == [
        ["advance", 7, 5, 5, None, 1, None],
        ["advance", 8, 6, 70, None, 1, None],
    ]
