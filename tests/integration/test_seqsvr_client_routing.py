"""AsyncClient and its routing table: seeds, moves, epochs, foreign clusters."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

import seqsvr
from fake_alloc import FakeAlloc, Reply, body_of, table_of
from seqsvr.client import BULK_FROM

LAST = 99


@pytest.fixture(autouse=True, params=[1, BULK_FROM], ids=["bulks", "entries"])
def the_way_of_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few uids of one call go as they do here either way."""
    monkeypatch.setattr("seqsvr.client.BULK_FROM", request.param)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FakeAlloc, FakeAlloc]]:
    """Two nodes of one cluster: sections 0..49 at the first, 50..99 at the second."""
    async with FakeAlloc() as one, FakeAlloc() as two:
        share(one, two, version=1, split=50)
        yield one, two


def share(one: FakeAlloc, two: FakeAlloc, *, version: int, split: int, epoch: int = 1) -> None:
    """Give sections below `split` to one, the others to two."""
    owners = {}
    if split > 0:
        owners[0, split - 1] = one.address
    if split <= LAST:
        owners[split, LAST] = two.address
    one.table = two.table = table_of(owners, version=version, epoch=epoch)
    one.epoch = two.epoch = epoch


async def test_any_one_seed_leads_to_all_owners(pair: tuple[FakeAlloc, FakeAlloc]) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(two.address) as seq:
        assert await seq.next_many([1, 5_000, 2, 5_001]) == [1, 1, 1, 1]
        assert (one.batches, two.batches) == ([[1, 2]], [[5_000, 5_001]])


async def test_dead_and_hanging_seeds_do_not_eat_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host, port = mute.getsockname()
        for _ in range(5):  # the order is random
            async with FakeAlloc() as live, FakeAlloc(route="hang") as hanging:
                seeds = ["127.0.0.1:1", f"{host}:{port}", hanging.address, live.address]
                async with seqsvr.AsyncClient(seeds) as seq:
                    assert await seq.next(1, timeout=20) == 1


async def test_a_hanging_seed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqsvr.finder.ATTEMPT_S", 3600.0)
    async with FakeAlloc() as live, FakeAlloc(route="hang") as hanging:
        for _ in range(8):  # the order is random
            async with seqsvr.AsyncClient([hanging.address, live.address]) as seq:
                assert await seq.next(1, timeout=20) > 0


async def test_a_seed_that_refuses_does_not_stop_the_others() -> None:
    async with FakeAlloc() as live, FakeAlloc(route="OVERLOADED") as busy:
        for _ in range(5):
            async with seqsvr.AsyncClient(f"{busy.address},{live.address}") as seq:
                assert await seq.next(1, timeout=20) > 0


async def test_the_refusal_of_the_only_seed_is_mapped() -> None:
    async with FakeAlloc(route="OVERLOADED") as node, seqsvr.AsyncClient(node.address) as seq:
        with pytest.raises(seqsvr.Overloaded) as caught:
            await seq.next(1, timeout=0.3)
        assert (caught.value.reason, caught.value.uid) == ("OVERLOADED", 1)


async def test_route_returns_the_newest_table(pair: tuple[FakeAlloc, FakeAlloc]) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        assert (await seq.route()).version == 1
        share(one, two, version=2, split=10)
        assert (await seq.refresh()).version == 2
        table = seq.table()
        assert table is not None
        assert table.version == 2
        assert [route.address for route in table.routes] == [one.address, two.address]


async def test_many_first_calls_ask_for_one_table() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        await asyncio.gather(*(seq.next(uid) for uid in range(1_000)))
        assert node.route_calls == 1


async def test_not_owner_with_a_table_is_rerouted_without_asking(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next_many([1, 5_000])
        share(one, two, version=2, split=0, epoch=2)
        one.script = one.refusing("NOT_OWNER", retry_after_ms=3_600_000)
        assert await seq.next(1, timeout=20) == 1, "a new route is not waited for"
        assert two.batches[-1] == [1]
        asked = len(one.requests)
        await seq.next(2)
        assert len(one.requests) == asked, "the table was learnt"


async def test_not_owner_without_a_table_asks_for_one(pair: tuple[FakeAlloc, FakeAlloc]) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next(1)
        share(one, two, version=2, split=0, epoch=2)
        one.attach = False
        one.script = one.refusing("NOT_OWNER")
        assert await seq.next(1, timeout=20) == 1
        assert two.batches == [[1]]


async def test_a_table_that_comes_with_a_good_answer_is_installed(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next(1)
        share(one, two, version=7, split=10)
        await seq.next(1)
        table = seq.table()
        assert table is not None
        assert table.version == 7
        assert body_of(one.requests[-1]).route_version == 1
        await seq.next(1)
        assert body_of(one.requests[-1]).route_version == 7


async def test_the_version_of_the_table_never_falls_route_1(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, two = pair
    share(one, two, version=9, split=100)
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next(1)
        old = table_of({(0, LAST): two.address}, version=3)

        async def script(request: Any, reply: Reply) -> None:
            answer = one.answered(request)
            answer.next.table.CopyFrom(old)
            await reply(answer)

        one.script = script
        for _ in range(3):
            await seq.next(1)
        one.table = two.table = old
        assert (await seq.refresh()).version == 9
        assert two.requests == []


async def test_an_answer_under_a_superseded_epoch_is_dropped_and_asked_again_route_1() -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.epoch = 5
        assert await seq.next(1) == 1

        async def script(request: Any, reply: Reply) -> None:
            node.script = node.answer
            node.epoch = 4
            stale = node.answered(request)
            node.epoch = 5
            await reply(stale)

        node.script = script
        assert await seq.next(1, timeout=20) == 3, "2 came from an owner that was superseded"


async def test_epochs_may_come_one_per_entry() -> None:
    async def script(request: Any, reply: Reply) -> None:
        answer = node.answered(request)
        del answer.next.epochs[:]
        answer.next.epochs.extend(uid // 100 + 1 for uid in request.next.uids)
        await reply(answer)

    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address) as seq:
        node.script = script
        assert await seq.next_many([1, 101, 201]) == [1, 1, 1]
        node.script = node.answer  # epoch 1: right for section 0 only
        assert await seq.next(1) == 2
        with pytest.raises(seqsvr.OutcomeUnknown):
            await seq.next(201, timeout=0.2)


async def test_a_seed_of_another_cluster_is_data_loss(pair: tuple[FakeAlloc, FakeAlloc]) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next(1)
        foreign = table_of({(0, LAST): one.address}, version=9, cluster="another")
        one.table = foreign
        with pytest.raises(seqsvr.DataLoss) as caught:
            await seq.next(1)
        assert caught.value.reason == "FOREIGN_CLUSTER"
        assert not caught.value.retryable
        two.table = foreign
        with pytest.raises(seqsvr.DataLoss) as caught:
            await seq.refresh()
        assert caught.value.reason == "FOREIGN_CLUSTER"


async def test_a_section_without_an_owner_is_waited_for(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, two = pair
    one.table = two.table = table_of({(0, 9): one.address})
    async with seqsvr.AsyncClient(one.address) as seq:
        with pytest.raises(seqsvr.Unavailable, match="no owner") as caught:
            await seq.next(5_000, timeout=0.2)
        assert caught.value.reason == "NOT_OWNER"
        call = asyncio.create_task(seq.next(5_000, timeout=30))
        await asyncio.sleep(0.05)
        share(one, two, version=2, split=50)
        assert await call == 1


async def test_a_frozen_owner_does_not_hold_up_the_other_one(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, _ = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next_many([1, 5_000])
        one.script = one.never
        stuck = [asyncio.create_task(seq.next(1, timeout=60)) for _ in range(100)]
        assert [await seq.next(5_000, timeout=20) for _ in range(50)] == list(range(2, 52))
        assert not any(call.done() for call in stuck)
        for call in stuck:
            call.cancel()


async def test_calls_stuck_at_a_frozen_owner_follow_their_section_to_the_next_one(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, two = pair
    async with seqsvr.AsyncClient([one.address, two.address]) as seq:
        await seq.next_many([1, 5_000])
        one.script, one.route = one.never, "hang"
        call = asyncio.create_task(seq.next(1, timeout=60))
        await asyncio.sleep(0.05)
        two.table = table_of({(0, LAST): two.address}, version=2, epoch=2)
        two.epoch = 2
        started = time.monotonic()
        assert await call == 1
        assert time.monotonic() - started < 30, "long before its deadline"


async def test_sessions_to_nodes_that_have_left_the_table_are_closed(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    one, two = pair
    async with seqsvr.AsyncClient(one.address) as seq:
        await seq.next_many([1, 5_000])
        assert two.open_streams == 1
        share(one, two, version=2, split=100)
        await seq.next(1)
        async with asyncio.timeout(30):
            while two.open_streams:
                await asyncio.sleep(0.01)
        assert await seq.next(5_000) == 1
        share(one, two, version=3, split=50)
        await seq.next(1)
        assert await seq.next(5_000) == 2, "and back again"


async def test_a_seed_that_answers_with_something_else_is_only_a_bad_seed(
    pair: tuple[FakeAlloc, FakeAlloc],
) -> None:
    async def junk(_request: bytes, _context: object) -> bytes:
        return b"\xff\xff\xff"

    server = grpc.aio.server()
    methods: dict[str, Any] = {"GetRoute": grpc.unary_unary_rpc_method_handler(junk)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("seqsvr.v1.Alloc", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with seqsvr.AsyncClient([f"127.0.0.1:{port}"]) as seq:
            with pytest.raises(seqsvr.Unavailable, match="no message"):
                await seq.next(1, timeout=0.5)
        async with seqsvr.AsyncClient([f"127.0.0.1:{port}", pair[0].address]) as seq:
            assert await seq.next(1) == 1
    finally:
        await server.stop(None)
