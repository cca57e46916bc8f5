"""Towards the StoreSvr replicas of the node's Set: the port, its gRPC form, asking all at once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import grpc

from allocsvr.rpc import CHANNEL_OPTIONS, RpcFailed, call
from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc

MAX_MESSAGE_BYTES = 16 << 20

T = TypeVar(
    "T",
    pb.FenceResponse,
    pb.RaiseResponse,
    pb.ReleaseResponse,
    pb.RenewResponse,
    pb.ScanResponse,
)


class ReplicaTransport(Protocol):
    """One StoreSvr replica. Each method raises ReplicaFailed where there is no usable answer."""

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse: ...
    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse: ...
    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse: ...
    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse: ...
    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse: ...


class GrpcReplica:
    """A replica behind the wire. Deadlines are the asker's (`Replicas`)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                *CHANNEL_OPTIONS,
            ],
        )
        self._stub = store_pb2_grpc.StoreStub(self._channel)  # type: ignore[no-untyped-call]

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        return await self._call(self._stub.Fence, request)

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        return await self._call(self._stub.Raise, request)

    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return await self._call(self._stub.Release, request)

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        return await self._call(self._stub.Renew, request)

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        return await self._call(self._stub.Scan, request)

    async def aclose(self) -> None:
        await self._channel.close()

    async def _call(self, method: Callable[..., Awaitable[T | None]], request: object) -> T:
        try:
            return await call(method, request, self.address)
        except RpcFailed as failed:
            raise ReplicaFailed(failed.reason or "UNREACHABLE", str(failed)) from None


class Replicas:
    """All N replicas of the Set, asked at once; each answer is handed over as it comes.

    Nobody waits for the slowest: a straggler's task ends by its own deadline. `spawn` starts a
    task that its owner will not lose sight of.

    store_ids: those that the map names, in order. An answer of another store is none: its data
    directory may have been begun anew, and would say so by nothing else (NRW-2). Empty: any store.

    timeout_s: for what a replica answers after an fsync, so it bounds a frozen replica and not a
    slow disk; quick_s: for what it answers from memory.
    """

    def __init__(
        self,
        transports: Sequence[ReplicaTransport],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        timeout_s: float,
        quick_s: float,
        store_ids: Sequence[int] = (),
    ) -> None:
        self.transports = tuple(transports)
        self._spawn = spawn
        self.timeout_s = timeout_s
        self.quick_s = quick_s
        self._store_ids = tuple(store_ids)

    def __len__(self) -> int:
        return len(self.transports)

    def ask(
        self,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        on_answer: Callable[[int, T | ReplicaFailed], None],
    ) -> None:
        """Send to every replica; `on_answer(index, answer)` once for each, synchronously."""
        for index in range(len(self.transports)):
            self._spawn(self._ask_one(index, send, on_answer))

    async def ask_one(
        self,
        index: int,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        timeout_s: float | None = None,
    ) -> T | ReplicaFailed:
        """The answer of one replica, or what it failed with."""
        timeout_s = timeout_s or self.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                answer = await send(index, self.transports[index])
        except TimeoutError:
            return ReplicaFailed("TIMEOUT", f"replica {index}: no answer in {timeout_s} s")
        except ReplicaFailed as failed:
            return failed
        if self._store_ids and answer.store_id != self._store_ids[index]:
            text = f"store {answer.store_id:x} answers, not {self._store_ids[index]:x}"
            return ReplicaFailed("FOREIGN", f"replica {index}: {text}")
        return answer

    async def _ask_one(
        self,
        index: int,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        on_answer: Callable[[int, T | ReplicaFailed], None],
    ) -> None:
        on_answer(index, await self.ask_one(index, send))
