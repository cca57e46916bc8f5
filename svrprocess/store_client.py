"""A StoreSvr replica behind the wire: for nodes, for the arbiter's jobs and for operators."""

from functools import partial
from typing import Any, TypeVar

from clustermap.errors import ReplicaFailed
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.link import Link
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc
from svrprocess.rpc import CHANNEL_OPTIONS, RpcFailed, call

MAX_MESSAGE_BYTES = 16 << 20
TIMEOUT_S = 10.0
QUICK_S = 1.0

T = TypeVar("T")

_REASONS = frozenset(
    {
        *(name.removeprefix("STORE_REASON_") for name in pb.StoreReason.keys()),  # noqa: SIM118
        *("UNREACHABLE", "UNAUTHENTICATED", "PERMISSION_DENIED"),
    }
)
_RANGES = {"refused": 1 << 16, "promises": 1 << 26}
"""Fields of answers that hold ranges of sections, and how many sections they can be about."""

_OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), *CHANNEL_OPTIONS]


class GrpcReplica:
    """Each method raises ReplicaFailed where there is no usable answer.

    timeout_s: for what a replica answers after an fsync, so it bounds a frozen replica and not a
    slow disk; quick_s: for what it answers from memory. The replica is told these deadlines.
    credentials: whoever made them has them refreshed.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = TIMEOUT_S,
        quick_s: float = QUICK_S,
        credentials: Credentials = PLAIN,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._quick_s = min(timeout_s, quick_s)
        self._away = False
        self._link = Link(address, credentials, _OPTIONS, store_pb2_grpc.StoreStub)

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        return await self._call(pb.FenceResponse, "Fence", request, self._timeout_s)

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        return await self._call(pb.RaiseResponse, "Raise", request, self._timeout_s)

    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return await self._call(pb.ReleaseResponse, "Release", request, self._timeout_s)

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        # After a failure the next one waits for the connection, so that it is answered as soon as
        # the replica is back. A deadline of our caller's ends this by cancellation: a failure too.
        wait, self._away = self._away, True
        try:
            answer = await self._call(
                pb.RenewResponse, "Renew", request, self._quick_s, wait_for_ready=wait
            )
        except ReplicaFailed as failed:
            self._away = failed.reason in ("TIMEOUT", "UNREACHABLE")
            raise
        self._away = False
        return answer

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        return await self._call(pb.ScanResponse, "Scan", request, self._quick_s)

    async def digest(self, request: pb.DigestRequest) -> pb.DigestResponse:
        return await self._call(pb.DigestResponse, "Digest", request, self._quick_s)

    async def put_at_least(self, request: pb.PutAtLeastRequest) -> pb.PutAtLeastResponse:
        return await self._call(pb.PutAtLeastResponse, "PutAtLeast", request, self._timeout_s)

    async def seal(self, request: pb.SealRequest) -> pb.SealResponse:
        return await self._call(pb.SealResponse, "Seal", request, self._timeout_s)

    async def adopt(self, request: pb.AdoptRequest) -> pb.AdoptResponse:
        return await self._call(pb.AdoptResponse, "Adopt", request, self._timeout_s)

    async def info(self) -> pb.InfoResponse:
        return await self._call(pb.InfoResponse, "Info", pb.InfoRequest(), self._quick_s)

    async def aclose(self) -> None:
        await self._link.aclose()

    @staticmethod
    async def hang_up(replica: object) -> None:
        """Close one of these; anything else is left alone."""
        if isinstance(replica, GrpcReplica):
            await replica.aclose()

    async def _call(
        self, _answer: type[T], method: str, request: object, timeout_s: float, **more: Any
    ) -> T:
        made = partial(self._link.call, method, timeout=timeout_s, **more)
        try:
            answer: T = await call(made, request, self.address)
        except RpcFailed as failed:
            raise refused(failed) from None
        check(answer, self.address)
        return answer


def refused(failed: RpcFailed) -> ReplicaFailed:
    """What came of a call without an answer; reasons are those that there are, whoever answers."""
    reason = failed.reason or "UNREACHABLE"
    if reason not in _REASONS:
        reason = "INTERNAL"
    if failed.timed_out:
        reason = "TIMEOUT"
    return ReplicaFailed(reason, str(failed), membership=failed.membership)


def check(answer: Any, address: str) -> None:
    """Raises ReplicaFailed where ranges in an answer are no ranges, or take for ever to go over."""
    for name, most in _RANGES.items():
        spans = getattr(answer, name, ())
        if any(span.first > span.last for span in spans):
            raise ReplicaFailed("INTERNAL", f"{address}: {name} has a range that is none")
        if sum(span.last - span.first + 1 for span in spans) > most:
            raise ReplicaFailed("INTERNAL", f"{address}: {name} has more than {most} sections")
