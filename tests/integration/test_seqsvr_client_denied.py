"""AsyncClient and Client where nodes do not know the caller, or deny it a call."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

import seqsvr
from fake_alloc import FakeAlloc, table_of
from seqsvr.credentials import Credentials
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import refusal

CODES = [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED]
CALLS: dict[str, Callable[[seqsvr.AsyncClient], Awaitable[Any]]] = {
    "next": lambda seq: seq.next(7, timeout=60),
    "next_many": lambda seq: seq.next_many(range(100), timeout=60),
    "current": lambda seq: seq.current(7, timeout=60),
    "advance": lambda seq: seq.advance(7, 9, timeout=60),
    "route": lambda seq: seq.route(timeout=60),
}


async def denied(call: Awaitable[Any], reason: str) -> seqsvr.NotAllowed:
    """Long before the call's time is over."""
    with pytest.raises(seqsvr.NotAllowed) as caught:
        await asyncio.wait_for(asyncio.ensure_future(call), 20)
    assert (caught.value.reason, caught.value.retryable) == (reason, False)
    return caught.value


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("code", CODES)
async def test_a_caller_whom_nobody_knows_is_told_so_at_once(
    name: str, code: grpc.StatusCode
) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.denies = code
        await denied(CALLS[name](seq), code.name)
        assert node.route_calls == 1


@pytest.mark.parametrize("name", ["next", "next_many", "current", "advance"])
@pytest.mark.parametrize("code", CODES)
async def test_a_stream_or_call_that_is_refused_is_refused_at_once(
    name: str, code: grpc.StatusCode
) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.refresh()
        node.denies = code
        await denied(CALLS[name](seq), code.name)
        assert node.streams <= 1
        node.denies = None
        await CALLS[name](seq)


@pytest.mark.parametrize("code", CODES)
async def test_a_stream_that_ends_so_takes_its_calls_along(code: grpc.StatusCode) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(7)
        node.script = node.never
        calls = [asyncio.ensure_future(seq.next(uid, timeout=60)) for uid in range(5)]
        while len(node.requests) < 2:
            await asyncio.sleep(0.01)
        await node.break_streams(code)
        for call in calls:
            await denied(call, code.name)


@pytest.mark.parametrize("reason", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
@pytest.mark.parametrize("route", [True, False], ids=["route", "entries"])
async def test_so_does_a_refusal_with_details_or_of_an_entry(reason: str, route: bool) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        if route:
            node.route = reason
        else:
            node.script = node.refusing(reason)
        await denied(seq.next(7, timeout=60), reason)
        if not route:
            assert (await denied(seq.current(7, timeout=60), reason)).uid == 7


async def test_one_uid_out_of_bounds_leaves_the_others_their_numbers() -> None:
    async def script(request: Any, reply: Any) -> None:
        answer = node.answered(request)
        answer.next.seqs[1] = 0
        answer.next.errors.add(index=1, reason=alloc_pb2.REASON_PERMISSION_DENIED, text="not yours")
        await reply(answer)

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = script
        error = await denied(seq.next_many([7, 8, 9]), "PERMISSION_DENIED")
        assert (error.uid, node.numbers[9]) == (8, 1)


@pytest.mark.parametrize("code", CODES)
async def test_a_node_that_refuses_to_say_the_routes_is_not_the_only_one(
    code: grpc.StatusCode,
) -> None:
    for _ in range(5):  # they are asked in any order
        async with FakeAlloc() as one, FakeAlloc() as other:
            one.denies = code
            async with seqsvr.AsyncClient([one.address, other.address]) as seq:
                assert await seq.next(7, timeout=30) == 1


async def test_a_refusal_weighs_more_than_nodes_that_are_away() -> None:
    away = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
    for _ in range(5):  # they are asked in any order
        async with FakeAlloc() as node, seqsvr.AsyncClient([*away, node.address]) as seq:
            node.denies = grpc.StatusCode.UNAUTHENTICATED
            await denied(seq.next(7, timeout=60), "UNAUTHENTICATED")
            assert node.route_calls == 1


def test_the_blocking_twin_raises_the_same() -> None:
    async def use() -> None:
        async with FakeAlloc() as node:

            def work() -> None:
                with seqsvr.Client(node.address) as seq:
                    seq.next(7)
                    node.script = node.refusing("PERMISSION_DENIED")
                    with pytest.raises(seqsvr.NotAllowed):
                        seq.next(7, timeout=60)

            await asyncio.wait_for(asyncio.to_thread(work), 30)

    asyncio.run(use())


async def test_files_are_looked_at_once_for_all_that_an_answer_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they do not fit one another yet, each look is a reading, and the loop waits for it."""
    monkeypatch.setattr("seqsvr.renewal.POLL_S", 1e6)
    looks, look = 0, Credentials.look

    def counted(self: Credentials) -> bool:
        nonlocal looks
        looks += 1
        return look(self)

    token = tmp_path / "token"
    token.write_text("first")
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, token_file=token) as seq:
        await seq.next(7)
        node.script = node.refusing("PERMISSION_DENIED")
        monkeypatch.setattr(Credentials, "look", counted)
        await denied(seq.next_many(range(1_000)), "PERMISSION_DENIED")
    assert 1 <= looks < 20


@pytest.mark.parametrize("refusal", ["stream", "entry", "route"])
async def test_a_token_that_was_replaced_is_replaced_before_its_call_fails(
    refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers may hear of it before this client has looked at its file."""
    monkeypatch.setattr("seqsvr.renewal.POLL_S", 0.3)
    token = tmp_path / "token"
    token.write_text("first")

    async def script(request: Any, reply: Any) -> None:
        if node.tokens[-1] == "Bearer first":
            await reply(node.failed(request, "UNAUTHENTICATED"))
        else:
            await node.answer(request, reply)

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, token_file=token) as seq:
        assert await seq.next(7) == 1
        token.write_text("second")
        if refusal == "entry":
            node.script = script
        elif refusal == "stream":
            await node.break_streams(grpc.StatusCode.UNAUTHENTICATED)
        else:
            await seq.refresh()
        assert await seq.next(7, timeout=30) == 2
        assert node.tokens[-1] == "Bearer second"


async def test_administrative_calls_go_to_the_ports_that_take_them() -> None:
    async with FakeAlloc() as front, FakeAlloc() as back:
        front.admin_table = back.table
        async with seqsvr.AsyncClient(front.address) as seq:
            assert await seq.advance(7, 100) == 100
            assert await seq.next(7) == 1
            assert (len(front.advances), len(back.advances)) == (0, 1)
            assert back.streams == 0
            assert seq.table() is not None
            assert seq.table().addresses() == (front.address,)  # type: ignore[union-attr]


async def test_ports_are_asked_for_anew_once_the_table_has_changed() -> None:
    async with FakeAlloc() as front, FakeAlloc() as back, FakeAlloc() as moved:
        front.admin_table = back.table
        async with seqsvr.AsyncClient(front.address) as seq:
            assert await seq.advance(7, 100) == 100
            await back.stop()
            front.table = table_of({(0, 99): front.address}, version=2, epoch=2)
            front.admin_table = table_of({(0, 99): moved.address}, version=2, epoch=2)
            moved.epoch = front.epoch = 2
            assert await seq.advance(7, 200, timeout=30) == 200
            assert len(moved.advances) == 1


@pytest.mark.parametrize("refused", [True, False])
async def test_what_a_second_port_says_of_routes_leads_no_session_there(refused: bool) -> None:
    async with FakeAlloc() as front, FakeAlloc() as back, FakeAlloc() as moved:
        front.admin_table = back.table

        async def tell(request: Any, context: Any) -> Any:
            moved.epoch = front.epoch = 2
            front.admin_table = table_of({(0, 99): moved.address}, version=2, epoch=2)
            if refused:
                status = refusal("NOT_OWNER", "by script", table=front.admin_table)
                await context.abort_with_status(rpc_status.to_status(status))
            answer = back.advanced(request)
            answer.table.CopyFrom(front.admin_table)
            return answer

        back.advancing = tell
        async with seqsvr.AsyncClient(front.address) as seq:
            assert await seq.advance(7, 100, timeout=30) == 100
            assert len(moved.advances) == refused
            assert await seq.advance(7, 100, timeout=30) == 100
            assert len(moved.advances) == refused + 1
            assert await seq.next(7) == 1
            assert front.streams == 1


async def test_a_refusal_at_the_second_port_is_not_repeated_without_a_pause() -> None:
    """Its address is none of the table by which callers are told whether an owner has changed."""
    async with FakeAlloc() as front, FakeAlloc() as back:
        front.admin_table = back.table

        async def refuse(request: Any, _: Any) -> Any:
            answer = alloc_pb2.AdvanceSeqResponse(seqs=[0])
            answer.errors.add(index=0, reason=alloc_pb2.REASON_ACQUIRING)
            return answer

        back.advancing = refuse
        async with seqsvr.AsyncClient(front.address) as seq:
            with pytest.raises(seqsvr.Unavailable):
                await seq.advance(7, 100, timeout=1.0)
        assert len(back.advances) < 25
