"""AsyncClient against nodes that refuse, break, freeze, restart or lie."""

import asyncio
import socket
import time
from typing import Any

import grpc
import pytest

import seqsvr
from fake_alloc import FakeAlloc, Reply
from seqsvr.client import BULK_FROM

HOPELESS = "127.0.0.1:1"


@pytest.fixture(autouse=True, params=[1, BULK_FROM], ids=["bulks", "entries"])
def the_way_of_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few uids of one call go as they do here either way."""
    monkeypatch.setattr("seqsvr.client.BULK_FROM", request.param)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ACQUIRING", seqsvr.Unavailable),
        ("LEASE_EXPIRED", seqsvr.LeaseExpired),
        ("STORE_UNAVAILABLE", seqsvr.StoreUnavailable),
        ("DRAINING", seqsvr.Unavailable),
        ("OVERLOADED", seqsvr.Overloaded),
        ("NOT_OWNER", seqsvr.Unavailable),
    ],
)
async def test_a_refusal_that_passes_is_retried_and_one_that_lasts_is_raised(
    reason: str, kind: type[seqsvr.SeqError]
) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = node.refusing(reason, times=3, retry_after_ms=1)
        assert await seq.next(7, timeout=30) == 1
        assert len(node.requests) == 4

        node.script = node.refusing(reason, retry_after_ms=3_600_000)
        for call in (seq.next(7, timeout=30), seq.current(7, timeout=30)):
            with pytest.raises(kind) as caught:
                await call
            assert type(caught.value) is kind
            assert (caught.value.reason, caught.value.uid) == (reason, 7)
            assert caught.value.retryable


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("SEQUENCE_EXHAUSTED", seqsvr.SequenceExhausted),
        ("CORRUPT", seqsvr.DataLoss),
        ("INTERNAL", seqsvr.DataLoss),
        ("UID_OUT_OF_RANGE", seqsvr.InvalidArgument),
    ],
)
async def test_a_final_refusal_is_raised_at_once(reason: str, kind: type[seqsvr.SeqError]) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = node.refusing(reason)
        with pytest.raises(kind) as caught:
            await seq.next(7, timeout=30)
        assert (caught.value.reason, caught.value.retryable) == (reason, False)
        assert len(node.requests) == 1


async def test_next_many_raises_the_error_of_the_first_entry_that_failed() -> None:
    async def script(request: Any, reply: Reply) -> None:
        answer = node.answered(request)
        for index in (1, 2):
            answer.next.seqs[index] = 0
            answer.next.errors.add(index=index, reason=11)
        await reply(answer)

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = script
        with pytest.raises(seqsvr.SequenceExhausted) as caught:
            await seq.next_many([10, 11, 12, 13])
        assert caught.value.uid == 11


async def test_a_delay_that_the_node_asks_for_beyond_the_deadline_is_not_waited_out() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = node.refusing("OVERLOADED", retry_after_ms=3_600_000)
        started = time.monotonic()
        with pytest.raises(seqsvr.Overloaded):
            await seq.next(1, timeout=60)
        assert time.monotonic() - started < 30


async def test_a_frozen_node_costs_its_callers_their_timeout_and_no_more() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(1)
        node.script = node.never
        started = time.monotonic()
        errors = await asyncio.gather(
            *(seq.next(uid, timeout=0.5) for uid in range(100)),
            seq.current(1, timeout=0.5),
            return_exceptions=True,
        )
        assert time.monotonic() - started < 20
        assert all(type(error) is seqsvr.OutcomeUnknown for error in errors[:-1])
        assert type(errors[-1]) is seqsvr.Unavailable, "asking takes no number"
        assert all(isinstance(e, seqsvr.SeqError) and e.retryable for e in errors)
        node.script = node.answer
        assert await seq.next(1, timeout=30) == 2, "the stream is still good"


async def test_a_call_that_was_never_sent_took_no_effect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, and says nothing
        host, port = mute.getsockname()
        async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
            await seq.route()
            node.table.version += 1
            node.table.addresses[0] = f"{host}:{port}"
            await seq.refresh()
            with pytest.raises(seqsvr.Unavailable) as caught:
                await seq.next(1, timeout=0.5)
            assert caught.value.reason == "TIMEOUT"


async def test_a_stream_that_breaks_in_the_middle_of_a_batch_is_opened_again() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, timeout=30) as seq:
        await seq.next(0)
        node.script = node.never
        calls = [asyncio.create_task(seq.next(1)) for _ in range(50)]
        while len(node.requests) < 2:
            await asyncio.sleep(0.001)
        node.script = node.answer
        await node.break_streams()
        assert sorted(await asyncio.gather(*calls)) == list(range(1, 51))
        assert node.streams == 2


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED]
)
async def test_however_a_stream_ends_no_caller_sees_grpc(code: grpc.StatusCode) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(0)
        node.script = node.never
        call = asyncio.create_task(seq.next(1, timeout=1.0))
        while len(node.requests) < 2:
            await asyncio.sleep(0.001)
        await node.break_streams(code)
        with pytest.raises(seqsvr.OutcomeUnknown) as caught:
            await call
        assert caught.value.uid == 1
        node.script = node.answer
        assert await seq.next(1, timeout=30) == 1


async def test_a_node_that_comes_back_on_its_address_is_found_again() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        assert await seq.next(1) == 1
        await node.stop()
        with pytest.raises((seqsvr.Unavailable, seqsvr.OutcomeUnknown)):
            await seq.next(1, timeout=0.3)
        call = asyncio.create_task(seq.next(1, timeout=30))
        await asyncio.sleep(0.05)
        await node.start()
        assert await call == 2


async def test_an_outage_makes_no_storm_of_questions_for_the_table() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(1)
        node.script = node.refusing("NOT_OWNER")
        errors = await asyncio.gather(
            *(seq.next(uid, timeout=1.0) for uid in range(200)), return_exceptions=True
        )
        gave_up = (seqsvr.Unavailable, seqsvr.OutcomeUnknown)
        assert all(isinstance(error, gave_up) for error in errors)
        assert node.route_calls < 50


async def test_nobody_there_is_unavailable_and_unreachable() -> None:
    async with seqsvr.AsyncClient(HOPELESS) as seq:
        for call in (
            seq.next(1, timeout=0.3),
            seq.next_many([1, 2], timeout=0.3),
            seq.current(1, timeout=0.3),
            seq.route(timeout=0.3),
        ):
            with pytest.raises(seqsvr.Unavailable) as caught:
                await call
            assert caught.value.reason == "UNREACHABLE"


async def test_ten_thousand_first_calls_to_nobody_all_end() -> None:
    async with seqsvr.AsyncClient(HOPELESS) as seq:
        errors = await asyncio.gather(
            *(seq.next(uid, timeout=0.5) for uid in range(10_000)), return_exceptions=True
        )
        assert all(isinstance(error, seqsvr.Unavailable) for error in errors)


async def test_no_time_at_all_is_a_timeout() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        with pytest.raises(seqsvr.Unavailable):
            await seq.next(1, timeout=0)


async def test_closing_ends_the_calls_that_are_outstanding() -> None:
    async with FakeAlloc(route="table") as node:
        seq = seqsvr.AsyncClient(node.address, timeout=60)
        await seq.next(1)
        node.script = node.never
        sent = asyncio.create_task(seq.next(1))
        asked = asyncio.create_task(seq.current(1))
        while len(node.requests) < 3:
            await asyncio.sleep(0.001)
        queued = asyncio.create_task(seq.next(2))
        await asyncio.sleep(0)
        await seq.aclose()
        for call, kind, reason in (
            (sent, seqsvr.OutcomeUnknown, "OUTCOME_UNKNOWN"),
            (asked, seqsvr.Unavailable, "CLOSED"),
            (queued, seqsvr.Unavailable, "CLOSED"),
        ):
            with pytest.raises(kind) as caught:
                await asyncio.wait_for(call, 30)
            assert caught.value.reason == reason
        with pytest.raises(seqsvr.Unavailable, match="closed"):
            await seq.next(1)
        await seq.aclose()


async def test_closing_ends_the_calls_that_wait_to_try_again_or_for_a_table() -> None:
    async with FakeAlloc() as node, FakeAlloc(route="hang") as mute:
        node.script = node.refusing("OVERLOADED", retry_after_ms=50_000)
        first = seqsvr.AsyncClient(node.address, timeout=3600)
        second = seqsvr.AsyncClient(mute.address, timeout=3600)
        calls = [asyncio.create_task(first.next(1)), asyncio.create_task(second.next(1))]
        while not (node.requests and mute.route_calls):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        await first.aclose()
        await second.aclose()
        for call in calls:
            with pytest.raises(seqsvr.Unavailable) as caught:
                await asyncio.wait_for(call, 30)
            assert caught.value.reason == "CLOSED"


async def test_an_answer_that_does_not_fit_is_never_handed_out() -> None:
    async def script(request: Any, reply: Reply) -> None:
        answer = node.answered(request)
        del answer.next.seqs[0]
        await reply(answer)

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = script
        with pytest.raises(seqsvr.DataLoss):
            await seq.next_many([1, 2])
        node.script = node.answer
        assert await seq.next(3) == 1
