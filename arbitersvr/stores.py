"""Towards the StoreSvr replicas of a Set, for jobs: the port, asking all at once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from clustermap.errors import ReplicaFailed
from clustermap.model import Cluster, SetSpec
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from svrprocess.store_client import GrpcReplica

TIMEOUT_S = 5.0

T = TypeVar("T", pb.FenceResponse, pb.SealResponse, pb.PutAtLeastResponse, pb.ScanResponse)


class Store(Protocol):
    """One StoreSvr replica. Each method raises ReplicaFailed where there is no usable answer."""

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse: ...
    async def seal(self, request: pb.SealRequest) -> pb.SealResponse: ...
    async def put_at_least(self, request: pb.PutAtLeastRequest) -> pb.PutAtLeastResponse: ...
    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse: ...
    async def aclose(self) -> None: ...


Connect = Callable[[str], Store]
"""From the address of a replica."""


def connecting(credentials: Credentials = PLAIN) -> Connect:
    """To replicas behind the wire."""

    def connect(address: str) -> Store:
        return GrpcReplica(address, timeout_s=TIMEOUT_S, quick_s=TIMEOUT_S, credentials=credentials)

    return connect


class Stores:
    """The replicas of one Set. An answer of another store than the map names is none (NRW-2)."""

    def __init__(
        self,
        cluster: Cluster,
        spec: SetSpec,
        stores: Sequence[Store],
        late: "set[asyncio.Task[object]]",
    ) -> None:
        """late: where stragglers are kept until they end, by their own deadlines; asyncio itself
        holds tasks only weakly."""
        self.spec = spec
        self.header = pb.StoreHeader(cluster=cluster.id, set=spec.name, membership=spec.membership)
        self._stores = tuple(stores)
        self._late = late

    async def ask(
        self, send: Callable[[Store], Awaitable[T]]
    ) -> AsyncGenerator[tuple[int, T | ReplicaFailed], None]:
        """Ask all; (replica, answer) as they come. Close it as soon as it is decided: what is still
        on its way then goes on, since a straggler may be told as well as the others."""
        tasks = {asyncio.create_task(self._one(i, send)): i for i in range(len(self._stores))}
        try:
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=tasks.__getitem__):
                    yield tasks.pop(task), task.result()
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        finally:
            self._late.update(tasks)
            for task in tasks:
                task.add_done_callback(self._late.discard)

    async def ask_one(self, index: int, send: Callable[[Store], Awaitable[T]]) -> T | ReplicaFailed:
        return await self._one(index, send)

    async def _one(self, index: int, send: Callable[[Store], Awaitable[T]]) -> T | ReplicaFailed:
        try:
            answer = await send(self._stores[index])
        except ReplicaFailed as failed:
            return failed
        if answer.store_id != self.spec.replicas[index].store_id:
            return ReplicaFailed("FOREIGN", f"replica {index} is store {answer.store_id:016x}")
        return answer
