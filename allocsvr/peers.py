"""Towards other nodes: forwards entries of callers that keep no routing table, one hop at most."""

import asyncio
from collections.abc import Sequence
from functools import partial

import grpc

from allocsvr.ledger import Answers
from seqsvr.errors import TABLE, reason_name
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc
from svrprocess.rpc import CHANNEL_OPTIONS, RpcFailed, call


class Peers:
    """Channels to other nodes, made at first use."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def next(
        self, address: str, uids: Sequence[int], counts: Sequence[int], timeout_s: float
    ) -> Answers:
        """What the node at `address` answers; a node that does not answer fails every entry."""
        request = pb.BatchGetSeqRequest(uids=uids, counts=counts, forwarded=True)
        method = partial(self._stub(address).BatchGetSeq, timeout=timeout_s)
        try:
            return fitting(await call(method, request, address), len(uids))
        except RpcFailed as failed:
            return _failed(len(uids), failed)

    async def current(
        self, address: str, uids: Sequence[int], _counts: Sequence[int], timeout_s: float
    ) -> Answers:
        """As `next`, for the last numbers handed out."""
        request = pb.BatchGetCurSeqRequest(uids=uids, forwarded=True)
        method = partial(self._stub(address).BatchGetCurSeq, timeout=timeout_s)
        try:
            response: pb.BatchGetCurSeqResponse = await call(method, request, address)
        except RpcFailed as failed:
            answers = _failed(len(uids), failed)
            answers.exact = [False] * len(uids)
            return answers
        answers = fitting(response, len(uids))
        answers.exact = answers.exact or [False] * len(uids)
        return answers

    async def advance(
        self,
        address: str,
        uids: Sequence[int],
        floors: Sequence[int],
        max_jump: int,
        timeout_s: float,
    ) -> Answers:
        """As `next`, for numbers that are raised to a floor."""
        request = pb.AdvanceSeqRequest(
            uids=uids, at_least=floors, max_jump=max_jump, forwarded=True
        )
        method = partial(self._stub(address).AdvanceSeq, timeout=timeout_s)
        try:
            return fitting(await call(method, request, address), len(uids))
        except RpcFailed as failed:
            return _failed(len(uids), failed)

    async def aclose(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))
        self._channels.clear()

    def _stub(self, address: str) -> alloc_pb2_grpc.AllocStub:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = grpc.aio.insecure_channel(
                address, options=CHANNEL_OPTIONS
            )
        return alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]


def fitting(
    response: pb.BatchGetSeqResponse | pb.BatchGetCurSeqResponse | pb.AdvanceSeqResponse, size: int
) -> Answers:
    """The answer to `size` entries; what cannot be one fails each of them with INTERNAL."""
    answers = Answers(size)
    exact = getattr(response, "exact", None)
    fits = len(response.seqs) == size and (exact is None or len(exact) == size)
    if not fits or any(error.index >= size for error in response.errors):
        return _all_failed(answers, size, "INTERNAL")
    answers.seqs = list(response.seqs)
    if exact is not None:
        answers.exact = list(exact)
    epochs = list(response.epochs)
    answers.epochs = epochs if len(epochs) == size else (epochs[:1] or [0]) * size
    answers.failures = [(error.index, reason_name(error.reason)) for error in response.errors]
    answers.bounds = {error.index: error.bound for error in response.errors if error.bound}
    for index, _ in answers.failures:
        answers.epochs[index] = 0
    return answers


def _failed(size: int, failed: RpcFailed) -> Answers:
    """The owner cannot be reached, or refuses: its section is on its way to another one."""
    shown = failed.reason if failed.reason in TABLE else "ACQUIRING"
    return _all_failed(Answers(size), size, shown)


def _all_failed(answers: Answers, size: int, reason: str) -> Answers:
    answers.failures = [(index, reason) for index in range(size)]
    return answers
