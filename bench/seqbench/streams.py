"""Explicit batches over one raw Session stream: messages made beforehand, several in flight."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from seqbench.window import Window
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc


async def streams(
    address: str,
    batches: Sequence[Sequence[int]],
    in_flight: int,
    window: Window,
    warm_s: float,
    seconds: float,
) -> dict[str, Any]:
    """The figures; a latency is that of a batch. batches: more than `in_flight`."""
    async with grpc.aio.insecure_channel(address.split(",")[0]) as channel:
        stub = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        version = (await stub.GetRoute(pb.GetRouteRequest())).table.version
        stream: Any = channel.stream_stream(
            "/seqsvr.v1.Alloc/Session", response_deserializer=pb.SessionResponse.FromString
        )()
        messages = _messages(batches, version)
        async with asyncio.TaskGroup() as callers:
            callers.create_task(_caller(stream, messages, in_flight, len(batches[0]), window))
            await asyncio.sleep(warm_s)
            window.open()
            await window.lasts(seconds)
            figures = window.close()
        stream.cancel()
        return figures


def _messages(batches: Sequence[Sequence[int]], version: int) -> list[bytes]:
    """Ids are indexes here; none is in flight twice, since there are more of them than fly."""
    return [
        pb.SessionRequest(
            id=index, next=pb.BatchGetSeqRequest(uids=uids, route_version=version)
        ).SerializeToString()
        for index, uids in enumerate(batches)
    ]


async def _caller(
    stream: Any, messages: Sequence[bytes], in_flight: int, size: int, window: Window
) -> None:
    now, done = time.perf_counter_ns, window.samples.append
    began = [0] * len(messages)
    for index in range(in_flight):
        began[index] = now()
        await stream.write(messages[index])
    index, missing = in_flight, [size] * len(messages)
    while not window.over:
        response = await stream.read()
        if response is grpc.aio.EOF or response.WhichOneof("answer") != "next":
            raise RuntimeError(f"instead of an answer: {response}")
        if response.next.errors:
            raise RuntimeError(f"an entry failed: {response.next.errors[0]}")
        missing[response.id] -= len(response.next.seqs)
        if response.more:
            continue
        if missing[response.id]:
            raise RuntimeError(f"{missing[response.id]} numbers of a batch never came")
        missing[response.id] = size
        done(now() - began[response.id])
        began[index] = now()
        await stream.write(messages[index])
        index = (index + 1) % len(messages)
