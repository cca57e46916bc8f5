"""A node behind gRPC on a port of its own, as `seqctl up` and `allocsvr` serve it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from allocsvr.answering import Answering
from allocsvr.limits import MAX_MESSAGE_BYTES, Limits
from allocsvr.peers import Peers
from allocsvr.service import SERVICE, AllocService
from cluster_in_a_box.box import Box, Member
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc


@dataclass
class Served:
    """A node, the stub of its service, and a channel for bytes that are no message."""

    member: Member
    stub: Any
    channel: grpc.aio.Channel
    service: AllocService

    def raw(self, rpc: str) -> Any:
        """A unary call of bytes to bytes."""
        return self.channel.unary_unary(f"/{SERVICE}/{rpc}")


@asynccontextmanager
async def served(
    box: Box, *, limits: Limits | None = None, **options: Any
) -> AsyncIterator[Served]:
    """A running node without sections, listening on 127.0.0.1."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    peers = Peers()
    async with box.node(address=address, **options) as member:
        node = member.node
        service = AllocService(node, Answering(node, peers), node.metrics, limits)
        server.add_generic_rpc_handlers((service.handler(),))
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                stub = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
                yield Served(member, stub, channel, service)
        finally:
            await server.stop(0)
            await peers.aclose()


@dataclass
class Refusal:
    """What a refused unary call carries."""

    code: str
    reason: str
    domain: str
    metadata: dict[str, str]
    field: str
    retry_ms: int
    table: pb.RoutingTable | None


async def refusal(call: Any) -> Refusal:
    """The refusal that a call must end with."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return explained(error)
    raise AssertionError(f"answered: {answer}")


def explained(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    found = Refusal(error.code().name, "", "", {}, "", 0, None)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        table = pb.RoutingTable()
        if detail.Unpack(info):
            found.reason, found.domain = info.reason, info.domain
            found.metadata = dict(info.metadata)
        elif detail.Unpack(bad):
            found.field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            found.retry_ms = retry.retry_delay.ToMilliseconds()
        elif detail.Unpack(table):
            found.table = table
    return found
