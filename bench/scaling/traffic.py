"""Batches over one raw Session stream, and what they took."""

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from seqbench.processes import cpu_s
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc

IN_FLIGHT = 4
_ACKED_AT = 120  # tcpi_bytes_acked of Linux' struct tcp_info; tcpi_bytes_received follows


class Stream:
    """One Session of a connection of its own, in turn: `ask` a batch, `answer` the oldest."""

    def __init__(self, call: Any, version: int) -> None:
        self._call, self._version, self._next = call, version, 0

    async def ask(self, uids: Sequence[int], counts: Sequence[int] = ()) -> None:
        self._next += 1
        batch = pb.BatchGetSeqRequest(uids=uids, counts=counts, route_version=self._version)
        await self._call.write(pb.SessionRequest(id=self._next, next=batch))

    async def answer(self) -> pb.SessionResponse:
        """RuntimeError if it is anything but numbers for the whole batch."""
        answer: Any = await self._call.read()
        if answer is grpc.aio.EOF or answer.WhichOneof("answer") != "next":
            raise RuntimeError(f"instead of numbers: {answer}")
        if answer.next.errors or answer.more:
            raise RuntimeError(f"not the whole batch: {answer.next.errors[:1]}")
        assert isinstance(answer, pb.SessionResponse)
        return answer

    async def push(self, batches: Iterable[Sequence[int]]) -> None:
        """Send all of them, IN_FLIGHT at a time."""
        flying = 0
        for uids in batches:
            await self.ask(uids)
            flying += 1
            if flying == IN_FLIGHT:
                await self.answer()
                flying -= 1
        for _ in range(flying):
            await self.answer()

    async def timed(self, batches: Sequence[Sequence[int]], seconds: float) -> int:
        """The same over and over, for so long; how many batches were answered."""
        done, end_s = 0, time.monotonic() + seconds
        while time.monotonic() < end_s:
            await self.push(batches)
            done += len(batches)
        return done


@contextlib.asynccontextmanager
async def stream(address: str, version: int = -1) -> AsyncIterator[Stream]:
    """To the first node of `address`; version: of the routing table, -1: ask for it."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address.split(",")[0], options=options) as channel:
        stub: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        if version < 0:
            version = (await stub.GetRoute(pb.GetRouteRequest())).table.version
        call = stub.Session()
        yield Stream(call, version)
        call.cancel()


async def node_us(address: str, pids: Sequence[int], batch: int, seconds: float) -> float:
    """CPU time of the servers per batch of so many uids, in microseconds."""
    async with stream(address) as one:
        made = [
            [429 * 100_000 * (i % 100) + 997 * n + i // 100 for i in range(batch)]
            for n in range(64)
        ]
        await one.timed(made, seconds / 4)
        before_s = cpu_s(pids)
        done = await one.timed(made, seconds)
        return (cpu_s(pids) - before_s) / done * 1e6


def sent_and_received_b(port: int) -> tuple[int, int]:
    """Bytes so far on this process's TCP connections to a port, as the kernel counts them."""
    sent = received = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not os.readlink(entry).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as one:
                if one.family is socket.AF_UNIX or one.getpeername()[1] != port:
                    continue
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
            acked, got = struct.unpack_from("=QQ", info, _ACKED_AT)
            sent, received = sent + acked, received + got
    return sent, received


async def paced(client: Any, per_s: float, seconds: float) -> tuple[float, int]:
    """Single calls as they fall due, at random instants; mean seconds of one, and how many."""
    draw, spent_s, done = random.Random(9), 0.0, 0
    began_s = due_s = time.monotonic()

    async def call(uid: int) -> None:
        nonlocal spent_s, done
        asked_s = time.monotonic()
        await client.next(uid)
        spent_s += time.monotonic() - asked_s
        done += 1

    async with asyncio.TaskGroup() as group:
        while due_s < began_s + seconds:
            while due_s <= time.monotonic():
                due_s += draw.expovariate(per_s)
                group.create_task(call(429 * 100_000 * draw.randrange(100) + draw.randrange(100)))
            await asyncio.sleep(0)
    return spent_s / done, done
