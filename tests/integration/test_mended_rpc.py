"""A call to another process ends in an answer, in RpcFailed, or in our own cancellation."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest

from allocsvr.peers import Peers
from cluster_in_a_box import eventually
from clustermap.errors import ReplicaFailed
from seqsvr.v1 import alloc_pb2, alloc_pb2_grpc
from seqsvr.v1 import store_pb2 as pb
from svrprocess.rpc import RpcFailed, call
from svrprocess.store_client import GrpcReplica

REQUEST = alloc_pb2.BatchGetSeqRequest(uids=[5])


class Server:
    """Answers every unary call with the same bytes, or never."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.calls = 0
        self.address = ""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._handle)

    async def _handle(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        if self.answer is None:
            await asyncio.sleep(60)
        return self.answer or b""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    running = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    running.add_generic_rpc_handlers((made,))  # type: ignore[arg-type]
    made.address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    await running.start()
    try:
        yield made
    finally:
        await running.stop(0)


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as made:
        yield made


def ask(channel: grpc.aio.Channel) -> Any:
    stub = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
    return partial(stub.BatchGetSeq, timeout=30)


async def test_a_channel_that_closes_under_a_call_fails_it_and_its_task_lives(
    server: Server, channel: grpc.aio.Channel
) -> None:
    lived = []

    async def asking() -> str:
        try:
            await call(ask(channel), REQUEST, "over there")
        except RpcFailed as failed:
            await asyncio.sleep(0)  # where a task that was cancelled would end
            lived.append(failed)
        return "on it goes"

    task = asyncio.create_task(asking())
    await eventually(lambda: server.calls)
    await channel.close()
    async with asyncio.timeout(20):
        assert await task == "on it goes"
    assert lived[0].reason is None
    assert "over there" in str(lived[0])
    with pytest.raises(RpcFailed):  # and one that is closed already
        await call(ask(channel), REQUEST, "over there")


@pytest.mark.parametrize("answer", [b"\xff\xff\xff", b"\x0a\x7f1", b"\x0a"], ids=repr)
async def test_an_answer_that_cannot_be_decoded_is_none(
    server: Server, channel: grpc.aio.Channel, answer: bytes
) -> None:
    server.answer = answer
    with pytest.raises(RpcFailed) as caught:
        await call(ask(channel), REQUEST, "over there")
    assert caught.value.reason is None
    assert "over there" in str(caught.value)


async def test_our_own_cancellation_passes_through(
    server: Server, channel: grpc.aio.Channel
) -> None:
    task = asyncio.create_task(call(ask(channel), REQUEST, "over there"))
    await eventually(lambda: server.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    async with asyncio.timeout(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(ask(channel), REQUEST, "over there")


async def test_a_replica_whose_channel_closes_or_talks_nonsense_is_unreachable_nrw_2(
    server: Server,
) -> None:
    replica = GrpcReplica(server.address)
    task = asyncio.create_task(replica.fence(pb.FenceRequest()))
    await eventually(lambda: server.calls)
    await replica.aclose()
    with pytest.raises(ReplicaFailed) as failed:
        await asyncio.wait_for(task, 20)
    assert failed.value.reason == "UNREACHABLE"
    server.answer = b"\xff\xff\xff"
    replica = GrpcReplica(server.address)
    with pytest.raises(ReplicaFailed) as failed:
        await replica.renew(pb.RenewRequest())
    assert failed.value.reason == "UNREACHABLE"
    await replica.aclose()


async def test_an_owner_that_answers_nonsense_fails_the_forwarded_entries_only(
    server: Server,
) -> None:
    server.answer = b"\xff\xff\xff"
    peers = Peers()
    try:
        answers = await peers.next(server.address, [5, 6], [1, 1], 20)
        assert [index for index, _ in answers.failures] == [0, 1]
        assert answers.seqs == [0, 0]
    finally:
        await peers.aclose()
