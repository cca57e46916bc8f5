"""AsyncClient against a scripted node: batches, bounds, order, cancellation."""

import asyncio
from typing import Any

import pytest

import seqsvr
from fake_alloc import FakeAlloc, Reply, body_of
from seqsvr.client import BULK_FROM


@pytest.fixture(autouse=True, params=[1, BULK_FROM], ids=["bulks", "entries"])
def the_way_of_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few uids of one call go as they do here either way."""
    monkeypatch.setattr("seqsvr.client.BULK_FROM", request.param)


def test_a_client_can_be_made_outside_of_any_loop() -> None:
    client = seqsvr.AsyncClient("127.0.0.1:1")

    async def use() -> None:
        assert client.table() is None
        async with client:
            pass

    asyncio.run(use())


async def test_a_client_belongs_to_the_loop_that_used_it_first() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(1)

        async def misuse() -> None:
            with pytest.raises(RuntimeError, match="event loop"):
                await seq.next(1)

        await asyncio.to_thread(asyncio.run, misuse())


async def test_numbers_of_a_uid_rise_from_one_and_other_uids_have_their_own() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        assert [await seq.next(7) for _ in range(3)] == [1, 2, 3]
        assert await seq.next(8) == 1
        assert await seq.next_range(7, 10) == range(4, 14)
        assert await seq.current(7) == seqsvr.Current(value=13, exact=True)
        assert await seq.current_many([8, 9, 7]) == [
            seqsvr.Current(1, True),
            seqsvr.Current(0, True),
            seqsvr.Current(13, True),
        ]


async def test_next_many_keeps_the_order_of_its_uids() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        assert await seq.next_many([1, 2, 1, 3, 1]) == [1, 1, 2, 1, 3]
        assert await seq.next_many(uid for uid in (1, 2)) == [4, 2]


async def test_an_empty_next_many_asks_nobody() -> None:
    async with seqsvr.AsyncClient("127.0.0.1:1") as seq:
        assert await seq.next_many([]) == []
        assert await seq.current_many([]) == []


async def test_a_list_of_any_length_is_cut_into_batches() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        uids = [uid % 5_000 for uid in range(20_000)]
        numbers = await seq.next_many(uids, timeout=30)
        assert numbers == [1 + place // 5_000 for place in range(20_000)]
        assert max(map(len, node.batches)) <= 4096
        assert sum(map(len, node.batches)) == 20_000


async def test_concurrent_calls_share_a_batch() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(0)
        numbers = await asyncio.gather(*(seq.next(1) for _ in range(500)))
        assert sorted(numbers) == list(range(1, 501))
        assert len(node.batches) == 2


async def test_a_call_alone_does_not_wait_for_company() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        for _ in range(20):
            await seq.next(1)
        assert node.batches == [[1]] * 20


async def test_ten_thousand_calls_can_be_queued() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, timeout=30) as seq:
        numbers = await asyncio.gather(*(seq.next(uid) for uid in range(10_000)))
        assert numbers == [1] * 10_000
        assert len(node.batches) < 20


async def test_a_full_queue_refuses_at_once_and_recovers() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, max_queue=10) as seq:
        await seq.next(0)
        node.script, gate = held_until_set(node)
        calls = [asyncio.create_task(seq.next(uid, timeout=30)) for uid in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(seqsvr.Overloaded) as caught:
            await seq.next(99, timeout=30)
        assert caught.value.reason == "OVERLOADED"
        gate.set()
        await asyncio.gather(*calls)
        assert await seq.next(99) == 1


@pytest.mark.parametrize("uid", [-1, 10_000, 2**64, True, 1.5, "1", None])
async def test_a_uid_out_of_bounds_is_refused_here(uid: Any) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(1)
        asked = len(node.requests)
        for call in (seq.next(uid), seq.next_many([1, uid]), seq.current(uid)):
            with pytest.raises(seqsvr.InvalidArgument, match=r"uid .*0\.\.9999") as caught:
                await call
            assert caught.value.reason == "UID_OUT_OF_RANGE"
        assert len(node.requests) == asked


async def test_the_real_bound_of_a_uid_holds_for_the_first_call_too() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        with pytest.raises(seqsvr.InvalidArgument, match=r"0\.\.9999"):
            await seq.next(10_000)
        assert node.requests == []


async def test_a_count_out_of_bounds_is_refused_here() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        for count in (0, 10_001, 2**32 - 1, True):
            with pytest.raises(seqsvr.InvalidArgument, match=r"count .*1\.\.10000"):
                await seq.next_range(1, count)
        assert len(await seq.next_range(1, 10_000)) == 10_000


async def test_partial_answers_out_of_order_reach_their_callers() -> None:
    async def script(request: Any, reply: Reply) -> None:
        last = len(body_of(request).uids) - 1
        for index in range(last, -1, -1):
            await reply(node.answered(request, [index], more=index > 0))

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.numbers = {uid: 100 * uid for uid in range(50)}
        node.script = script
        numbers = await asyncio.gather(*(seq.next(uid) for uid in range(50)))
        assert numbers == [100 * uid + 1 for uid in range(50)]


async def test_duplicates_answered_in_the_wrong_order_still_rise_seq_1() -> None:
    async def script(request: Any, reply: Reply) -> None:
        last = len(body_of(request).uids) - 1
        for index in range(last, -1, -1):
            await reply(node.answered(request, [index], more=index > 0))

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = script
        assert await seq.next_many([5, 6, 5, 5]) == [1, 1, 2, 3]


async def test_a_duplicate_that_is_retried_does_not_overtake_the_other_seq_1() -> None:
    async def script(request: Any, reply: Reply) -> None:
        node.script = node.answer
        answer = node.answered(request)
        answer.next.seqs[0] = 0
        answer.next.errors.add(index=0, reason=2)
        await reply(answer)

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(5)
        node.script = script
        numbers = await seq.next_many([5, 5])
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == 2
        assert node.batches[-2:] == [[5, 5], [5]]


async def test_a_section_that_waits_does_not_hold_up_the_others() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(0)
        waiting, gate = held_until_set(node)

        async def script(request: Any, reply: Reply) -> None:
            held = 500 in body_of(request).uids
            await (waiting if held else node.answer)(request, reply)

        node.script = script
        stuck = []
        for _ in range(20):  # more batches than may be in flight
            stuck.append(asyncio.create_task(seq.next(500, timeout=30)))
            await asyncio.sleep(0)
        while sum(map(len, node.batches)) < 1 + 20:
            await asyncio.sleep(0.001)
        assert await seq.next(1, timeout=30) == 1
        assert not any(call.done() for call in stuck)
        gate.set()
        assert sorted(await asyncio.gather(*stuck)) == list(range(1, 21))


async def test_half_of_the_callers_of_a_batch_may_leave_without_harm_to_the_rest() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(0)
        node.script, gate = held_until_set(node)
        calls = [asyncio.create_task(seq.next(1, timeout=30)) for _ in range(100)]
        while len(node.batches) < 2:
            await asyncio.sleep(0.001)
        for call in calls[::2]:
            call.cancel()
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        assert results[1::2] == list(range(2, 101, 2)), "the others are gaps"
        assert await seq.next(1) == 101
        assert (node.streams, node.route_calls) == (1, 1), "nobody took it for a dead server"


async def test_a_caller_that_leaves_before_its_call_is_sent_takes_no_number() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(0)
        calls = [asyncio.create_task(seq.next(1)) for _ in range(10)]
        await asyncio.sleep(0)  # queued, and no more
        for call in calls[:5]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[5:] == [1, 2, 3, 4, 5]
        assert node.batches == [[0], [1] * 5]


async def test_a_next_many_that_is_cancelled_leaves_the_stream_alone() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(0)
        node.script, gate = held_until_set(node)
        call = asyncio.create_task(seq.next_many(range(100), timeout=30))
        other = asyncio.create_task(seq.next(200, timeout=30))
        while len(node.batches) < 2:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert await other == 1
        assert node.streams == 1


async def test_next_and_current_do_not_share_a_message() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await seq.next(1)
        numbers, now = await asyncio.gather(
            asyncio.gather(*(seq.next(2) for _ in range(10))),
            asyncio.gather(*(seq.current(1) for _ in range(10))),
        )
        assert numbers == list(range(1, 11))
        assert now == [seqsvr.Current(1, True)] * 10
        kinds = [request.WhichOneof("batch") for request in node.requests]
        assert sorted(kinds[1:]) == ["current", "next"]


def held_until_set(node: FakeAlloc) -> tuple[Any, asyncio.Event]:
    gate = asyncio.Event()

    async def script(request: Any, reply: Reply) -> None:
        await gate.wait()
        await node.answer(request, reply)

    return script, gate
