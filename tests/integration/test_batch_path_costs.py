"""What a number may cost at most, against the least that must be done for it in the same minute.

Ratios of CPU time within one run, each from the fastest of many rounds, and several times wider
than what they are: they notice a loop where there was none, an object for each number, a task for
each call. Figures that mean something come from bench/.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from allocsvr.answering import Answering
from allocsvr.peers import Peers
from allocsvr.service import AllocService
from cluster_in_a_box.box import open_box
from seqsvr.batching import Answer, Outbox
from seqsvr.calls import Entry, Op
from seqsvr.routing import Router
from seqsvr.v1 import alloc_pb2 as pb

ROUNDS, MESSAGES = 25, 60
SECTIONS, SIZE = 100, 100


class Stream:
    """A context of grpc.aio without a network: what is read is decoded, what is written encoded."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = iter(requests)
        self.last = b""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def read(self) -> Any:
        raw = next(self._requests, None)
        return grpc.aio.EOF if raw is None else pb.SessionRequest.FromString(raw)

    async def write(self, response: pb.SessionResponse | bytes) -> None:
        self.last = response if isinstance(response, bytes) else response.SerializeToString()


async def echo(stream: Stream) -> None:
    """As many numbers as are asked for, and no work."""
    numbers = list(range(1_000, 6_000))
    while (request := await stream.read()) is not grpc.aio.EOF:
        response = pb.SessionResponse(id=request.id)
        response.next.seqs.extend(numbers[: len(request.next.uids)])
        response.next.epochs.append(1)
        await stream.write(response)


def requests(size: int) -> list[bytes]:
    rng = random.Random(size)
    made = []
    for id_ in range(1, MESSAGES + 1):
        batch = pb.BatchGetSeqRequest(
            uids=rng.sample(range(SECTIONS * SIZE), size), route_version=1
        )
        made.append(pb.SessionRequest(id=id_, next=batch).SerializeToString())
    return made


async def cheapest(work: Callable[[Stream], Awaitable[None]], size: int) -> float:
    """CPU seconds of a message of `size` uids, at best."""
    asked, best = requests(size), float("inf")
    for _ in range(ROUNDS):
        stream = Stream(asked)
        began_s = time.thread_time()
        await work(stream)
        best = min(best, (time.thread_time() - began_s) / MESSAGES)
        answer = pb.SessionResponse.FromString(stream.last)
        assert answer.id == MESSAGES and len(answer.next.seqs) == size
    return best


async def test_a_number_of_a_batch_costs_no_more_than_a_few_times_its_place_in_the_messages(
    tmp_path: Path,
) -> None:
    """About as much as the echo for each further uid; a loop over them would be 10 times that."""
    async with (
        open_box(tmp_path, sections=SECTIONS) as box,
        box.node(step=1_000_000, lease_ttl_s=60.0) as member,
    ):
        await box.own(member)
        node = member.node
        service = AllocService(node, Answering(node, Peers()), node.metrics)

        async def ours(stream: Stream) -> None:
            await service._session(None, stream)

        small, large = 64, 1_024
        cost = {(w, n): await cheapest(w, n) for w in (echo, ours) for n in (small, large)}
        each = {w: (cost[w, large] - cost[w, small]) / (large - small) for w in (echo, ours)}
        print({(w.__name__, n): round(s * 1e6, 1) for (w, n), s in cost.items()})
        assert each[ours] < 4 * each[echo]
        assert cost[ours, small] < 15 * cost[echo, small]


async def test_a_call_costs_the_client_much_less_than_a_task() -> None:
    """About a fifth of one that waits for a future."""
    loop, calls = asyncio.get_running_loop(), 1_000

    async def tasks() -> None:
        futures = [loop.create_future() for _ in range(calls)]
        waiting = [asyncio.ensure_future(_wait(future)) for future in futures]
        await asyncio.sleep(0)
        for future in futures:
            future.set_result(None)
        await asyncio.gather(*waiting)

    async def through_the_outbox() -> None:
        outbox, router = Outbox("node:1", max_in_flight=2, max_queue=65_536), Router()
        entries = [Entry(Op.NEXT, uid, 1, 10.0) for uid in range(calls)]
        for entry in entries:
            entry.waiter = loop.create_future()
            outbox.put(entry)
        batch = outbox.take(0.0)
        assert batch is not None
        request = pb.BatchGetSeqRequest(uids=batch.uids(), counts=batch.counts())
        answer = Answer(batch.id, seqs=list(range(1, calls + 1)), epochs=[1])
        outbox.settle(answer, router.observe)
        assert len(request.uids) == calls and all(entry.seq for entry in entries)

    least, own = await _best(tasks), await _best(through_the_outbox)
    print(f"{least * 1e6 / calls:.2f} {own * 1e6 / calls:.2f} us per call")
    assert own < 0.6 * least


async def _wait(future: "asyncio.Future[None]") -> None:
    await future


async def _best(work: Callable[[], Awaitable[None]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began_s = time.thread_time()
        await work()
        best = min(best, time.thread_time() - began_s)
    return best
