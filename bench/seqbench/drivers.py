"""Who the load calls: for each kind of contestant, a coroutine that takes a uid a number."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio

from seqsvr import AsyncClient, Tls
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc

Call = Callable[[Any], Awaitable[object]]
REDIS_CONNECTIONS = 200
POSTGRES_CONNECTIONS = 50
"""Each takes one call at a time; more callers share them."""
TIMEOUT_S = 30.0


def shown(certificates: str) -> Tls | None:
    """Who numbers are taken as; certificates: as of Spec."""
    if not certificates:
        return None
    folder = Path(certificates)
    return Tls(folder / "ca.crt", folder / "allocator.crt", folder / "allocator.key")


@contextlib.asynccontextmanager
async def coalesced(address: str, callers: int, certificates: str = "") -> AsyncIterator[Call]:
    """Our client, one call per number."""
    queue = max(callers, 65_536)
    tls = shown(certificates)
    async with AsyncClient(address, timeout=TIMEOUT_S, max_queue=queue, tls=tls) as client:
        yield client.next


@contextlib.asynccontextmanager
async def many(address: str, callers: int) -> AsyncIterator[Call]:
    """Our client, whole lists of uids."""
    del callers
    async with AsyncClient(address, timeout=TIMEOUT_S) as client:
        yield client.next_many


@contextlib.asynccontextmanager
async def unary(address: str, callers: int) -> AsyncIterator[Call]:
    """The generated stub, as a program in any language would use it."""
    del callers
    async with grpc.aio.insecure_channel(address.split(",")[0]) as channel:
        stub = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        yield lambda uid: stub.GetSeq(pb.GetSeqRequest(uid=uid))


@contextlib.asynccontextmanager
async def redis(address: str, callers: int) -> AsyncIterator[Call]:
    """redis-py with hiredis: INCR, a connection per caller, up to REDIS_CONNECTIONS."""
    from redis.asyncio import BlockingConnectionPool, Redis

    host, port = address.split(":")
    size = min(callers, REDIS_CONNECTIONS)
    pool = BlockingConnectionPool(max_connections=size, timeout=TIMEOUT_S, host=host, port=port)
    async with Redis(connection_pool=pool) as client:

        def call(uid: int) -> Awaitable[object]:
            return client.incr(f"seq:{uid}")

        yield call if callers == size else _in_turn(call, size)


@contextlib.asynccontextmanager
async def postgres(address: str, callers: int) -> AsyncIterator[Call]:
    """psycopg: one upsert per number, in a transaction of its own."""
    import psycopg

    host, port = address.split(":")
    where = f"host={host} port={port} user=bench dbname=postgres"
    sql = (
        "INSERT INTO seqs VALUES (%s, 1)"
        " ON CONFLICT (uid) DO UPDATE SET seq = seqs.seq + 1 RETURNING seq"
    )
    table = "CREATE TABLE IF NOT EXISTS seqs (uid bigint PRIMARY KEY, seq bigint NOT NULL)"
    connect = partial(psycopg.AsyncConnection.connect, where, autocommit=True, prepare_threshold=0)
    size = min(callers, POSTGRES_CONNECTIONS)
    async with contextlib.AsyncExitStack() as opened:
        idle = [await opened.enter_async_context(await connect()) for _ in range(size)]
        await idle[0].execute(table)

        async def call(uid: int) -> object:
            connection = idle.pop()
            try:
                return await (await connection.execute(sql, (uid,), binary=True)).fetchone()
            finally:
                idle.append(connection)

        yield call if callers == size else _in_turn(call, size)


@contextlib.asynccontextmanager
async def etcd(address: str, callers: int) -> AsyncIterator[Call]:
    """A put per number; the number is the version of the key, which the answer tells (prev_kv).

    That is one transaction and one round trip. Compare-and-swap would take two, and repeats.
    """
    from etcd3.etcdrpc import rpc_pb2, rpc_pb2_grpc

    del callers
    async with grpc.aio.insecure_channel(address) as channel:
        put = rpc_pb2_grpc.KVStub(channel).Put

        async def call(uid: int) -> object:
            request = rpc_pb2.PutRequest(key=b"seq/%d" % uid, value=b"-", prev_kv=True)
            return (await put(request)).prev_kv.version + 1

        yield call


def _in_turn(call: Call, size: int) -> Call:
    """At most `size` at a time, whoever waits longest first: pools let those that have just had a
    connection have it again, and the others starve, which no percentile of answers shows.
    """
    free = asyncio.Semaphore(size)

    async def turn(uid: int) -> object:
        async with free:
            return await call(uid)

    return turn


DRIVERS = {
    "coalesced": coalesced,
    "many": many,
    "unary": unary,
    "redis": redis,
    "postgres": postgres,
    "etcd": etcd,
}
