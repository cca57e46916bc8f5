"""Asking StoreSvr replicas and AllocSvr nodes of a cluster: all at once, none for too long."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clustermap.model import Owner
from seqctl.failures import NotDone
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc
from svrprocess.health import node_service

AT_ONCE = 64
_OPTIONS = [("grpc.enable_http_proxy", 0)]

K = TypeVar("K")
T = TypeVar("T")


async def ask_stores(
    addresses: Iterable[str], timeout_s: float, credentials: Credentials = PLAIN
) -> dict[str, pb.InfoResponse | str]:
    """Address -> what the replica there says of itself, or why there is no answer."""

    async def info(_: str, channel: grpc.aio.Channel) -> pb.InfoResponse:
        stub = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]
        answer: pb.InfoResponse = await stub.Info(pb.InfoRequest(), metadata=credentials.metadata())
        return answer

    wanted = {address: address for address in addresses}
    return await _ask_all(wanted, info, timeout_s, credentials)


async def ask_every_store(
    addresses: Sequence[str], timeout_s: float, credentials: Credentials = PLAIN
) -> dict[str, pb.InfoResponse]:
    """The same where each has to answer. Raises NotDone."""
    answers = await ask_stores(addresses, timeout_s, credentials)
    dead = [f"{where}: {why}" for where, why in answers.items() if isinstance(why, str)]
    if dead:
        raise NotDone(f"not every replica answers, nothing was written: {'; '.join(dead)}")
    return {where: info for where, info in answers.items() if not isinstance(info, str)}


async def probe_nodes(
    owners: Iterable[Owner], timeout_s: float, credentials: Credentials = PLAIN
) -> dict[Owner, bool | str]:
    """Owner -> whether this very incarnation answers at its address, or why nobody does."""

    async def probe(owner: Owner, channel: grpc.aio.Channel) -> bool:
        request = health_pb2.HealthCheckRequest(service=node_service(owner.incarnation))
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return await _ask_all({owner: owner.address for owner in owners}, probe, timeout_s, credentials)


async def _ask_all(
    wanted: dict[K, str],
    ask: Callable[[K, grpc.aio.Channel], Awaitable[T]],
    timeout_s: float,
    credentials: Credentials,
) -> dict[K, T | str]:
    """wanted: key -> address."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(key: K, address: str) -> T | str:
        async with room, credentials.channel(address, _OPTIONS) as channel:
            try:
                async with asyncio.timeout(timeout_s):
                    return await ask(key, channel)
            except TimeoutError:
                return f"no answer in {timeout_s:g} s"
            except grpc.aio.AioRpcError as error:
                return _why(error)

    answers = await asyncio.gather(*(one(key, address) for key, address in wanted.items()))
    return dict(zip(wanted, answers, strict=True))


def _why(error: grpc.aio.AioRpcError) -> str:
    """In one line; of a chain of errors, as grpc makes it for a connection, the last one."""
    text = " ".join((error.details() or "").split())
    if text.startswith("failed to connect"):
        text = text.rpartition(": ")[2]
    return f"{error.code().name}: {text}"
