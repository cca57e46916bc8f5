"""Blocking calls by plain generated stubs, as a client in any language would make them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc
from seqsvr.wire import reason_of

TIMEOUT_S = 20.0
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # no back-off inherited from another test
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
]


@contextmanager
def channel_to(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        yield channel


@contextmanager
def plain(address: str) -> Iterator["Plain"]:
    """Calls to the service at `address`."""
    with channel_to(address) as channel:
        yield Plain(channel)


class Plain:
    """Calls without a routing table. Failures are grpc.RpcError; see `reason_for`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]

    def next(self, uid: int, count: int = 1) -> int:
        """First of the next `count` numbers."""
        request = pb.GetSeqRequest(uid=uid, count=count)
        return int(self.stub.GetSeq(request, timeout=TIMEOUT_S).seq)

    def next_many(self, uids: Sequence[int], counts: Sequence[int] = ()) -> list[int]:
        """First numbers, in order; every entry must succeed."""
        request = pb.BatchGetSeqRequest(uids=uids, counts=counts)
        answer = self.stub.BatchGetSeq(request, timeout=TIMEOUT_S)
        assert not answer.errors, answer.errors
        return list(answer.seqs)

    def current(self, uid: int) -> tuple[int, bool]:
        """Value, and whether it is exact."""
        answer = self.stub.GetCurSeq(pb.GetCurSeqRequest(uid=uid), timeout=TIMEOUT_S)
        return int(answer.seq), bool(answer.exact)

    def route(self) -> pb.RoutingTable:
        table: pb.RoutingTable = self.stub.GetRoute(pb.GetRouteRequest(), timeout=TIMEOUT_S).table
        return table


def reason_for(error: grpc.RpcError) -> str | None:
    """The reason in a failed call's ErrorInfo; None: there is none."""
    return reason_of(error)[0]
