"""A StoreSvr replica behind the wire: for nodes, for the arbiter's jobs and for operators."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import grpc

from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc
from svrprocess.rpc import CHANNEL_OPTIONS, RpcFailed, call

MAX_MESSAGE_BYTES = 16 << 20
TIMEOUT_S = 10.0
QUICK_S = 1.0

T = TypeVar("T")


class GrpcReplica:
    """Each method raises ReplicaFailed where there is no usable answer.

    timeout_s: for what a replica answers after an fsync, so it bounds a frozen replica and not a
    slow disk; quick_s: for what it answers from memory. The replica is told these deadlines.
    """

    def __init__(
        self, address: str, *, timeout_s: float = TIMEOUT_S, quick_s: float = QUICK_S
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._quick_s = min(timeout_s, quick_s)
        self._away = False
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                *CHANNEL_OPTIONS,
            ],
        )
        self._stub = store_pb2_grpc.StoreStub(self._channel)  # type: ignore[no-untyped-call]

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        return await self._call(self._stub.Fence, request, self._timeout_s)

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        return await self._call(self._stub.Raise, request, self._timeout_s)

    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return await self._call(self._stub.Release, request, self._timeout_s)

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        # After a failure the next one waits for the connection, so that it is answered as soon as
        # the replica is back. A deadline of our caller's ends this by cancellation: a failure too.
        wait, self._away = self._away, True
        try:
            answer: pb.RenewResponse = await self._call(
                partial(self._stub.Renew, wait_for_ready=wait), request, self._quick_s
            )
        except ReplicaFailed as failed:
            self._away = failed.reason in ("TIMEOUT", "UNREACHABLE")
            raise
        self._away = False
        return answer

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        return await self._call(self._stub.Scan, request, self._quick_s)

    async def digest(self, request: pb.DigestRequest) -> pb.DigestResponse:
        return await self._call(self._stub.Digest, request, self._quick_s)

    async def put_at_least(self, request: pb.PutAtLeastRequest) -> pb.PutAtLeastResponse:
        return await self._call(self._stub.PutAtLeast, request, self._timeout_s)

    async def seal(self, request: pb.SealRequest) -> pb.SealResponse:
        return await self._call(self._stub.Seal, request, self._timeout_s)

    async def adopt(self, request: pb.AdoptRequest) -> pb.AdoptResponse:
        return await self._call(self._stub.Adopt, request, self._timeout_s)

    async def info(self) -> pb.InfoResponse:
        return await self._call(self._stub.Info, pb.InfoRequest(), self._quick_s)

    async def aclose(self) -> None:
        await self._channel.close()

    @staticmethod
    async def hang_up(replica: object) -> None:
        """Close one of these; anything else is left alone."""
        if isinstance(replica, GrpcReplica):
            await replica.aclose()

    async def _call(
        self, method: Callable[..., Awaitable[T | None]], request: object, timeout_s: float
    ) -> T:
        try:
            return await call(partial(method, timeout=timeout_s), request, self.address)
        except RpcFailed as failed:
            reason = "TIMEOUT" if failed.timed_out else failed.reason or "UNREACHABLE"
            raise ReplicaFailed(reason, str(failed), membership=failed.membership) from None
