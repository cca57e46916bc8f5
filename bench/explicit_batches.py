"""Explicit batches over one raw Session stream, several in flight: loads for never_waits.py.

spread     1,024 entries of 100 uids, in sections of their own; one number each
hot        256 entries of one uid, one number each
hot-mixed  one entry of one uid, 1 to 10,000 numbers
hot-most   one entry of one uid, 10,000 numbers
"""

import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc

IN_FLIGHT = 8
SECTION_SIZE = 100_000
Batch = tuple[list[int], list[int]]  # uids, counts (empty: 1 each)


def spread(rng: random.Random) -> Batch:
    return [rng.randrange(1, 101) * 400 * SECTION_SIZE for _ in range(1024)], []


def hot(_: random.Random) -> Batch:
    return [7] * 256, []


def hot_mixed(rng: random.Random) -> Batch:
    return [100 * SECTION_SIZE + 7], [rng.randint(1, 10_000)]


def hot_most(_: random.Random) -> Batch:
    return [200 * SECTION_SIZE + 7], [10_000]


LOADS: dict[str, Callable[[random.Random], Batch]] = {
    "spread": spread,
    "hot": hot,
    "hot-mixed": hot_mixed,
    "hot-most": hot_most,
    "stalls": spread,
}


class Caller:
    """Batches of one load over one Session, until it is told to stop."""

    def __init__(self, stream: Any, make: Callable[[random.Random], Batch], version: int) -> None:
        self._stream = stream
        made = [make(random.Random(seed)) for seed in range(64)]
        self._sizes = [sum(counts) or len(uids) for uids, counts in made]
        self._entries = [len(uids) for uids, _ in made]
        self._messages = [
            pb.SessionRequest(
                id=index,
                next=pb.BatchGetSeqRequest(uids=uids, counts=counts, route_version=version),
            ).SerializeToString()
            for index, (uids, counts) in enumerate(made)
        ]
        self.numbers = self.failed = 0
        self.times: list[tuple[float, float]] = []  # (sent, answered) of each batch
        self.stopping = False

    async def run(self) -> None:
        began, missing = {}, list(self._entries)
        turns = itertools.cycle(range(len(self._messages)))
        for index in itertools.islice(turns, IN_FLIGHT):
            began[index] = time.perf_counter()
            await self._stream.write(self._messages[index])
        while began:
            answer = await self._stream.read()
            self.failed += len(answer.next.errors)
            missing[answer.id] -= len(answer.next.seqs)
            if answer.more:
                continue
            assert not missing[answer.id], f"not an answer: {answer}"
            self.times.append((began.pop(answer.id), time.perf_counter()))
            self.numbers += self._sizes[answer.id]
            missing[answer.id] = self._entries[answer.id]
            if not self.stopping:
                index = next(turns)
                while index in began:
                    index = next(turns)
                began[index] = time.perf_counter()
                await self._stream.write(self._messages[index])


@contextlib.asynccontextmanager
async def session(address: str, load: str) -> AsyncIterator[Caller]:
    """A caller of one of LOADS, for as long as the `async with`."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        version = (await stub.GetRoute(pb.GetRouteRequest())).table.version
        stream: Any = channel.stream_stream(
            "/seqsvr.v1.Alloc/Session", response_deserializer=pb.SessionResponse.FromString
        )()
        yield Caller(stream, LOADS[load], version)
        stream.cancel()
