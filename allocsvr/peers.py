"""Towards other nodes: forwards entries of callers that keep no routing table, one hop at most."""

import asyncio
from collections.abc import Sequence
from functools import partial

from allocsvr.ledger import Answers
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.errors import TABLE, reason_name
from seqsvr.link import Link
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc
from svrprocess.rpc import CHANNEL_OPTIONS, RpcFailed, call


class Peers:
    """Links to other nodes, made at first use. credentials: whoever made them refreshes them."""

    def __init__(self, credentials: Credentials = PLAIN) -> None:
        self._credentials = credentials
        self._links: dict[str, Link[alloc_pb2_grpc.AllocStub]] = {}

    async def next(
        self, address: str, uids: Sequence[int], counts: Sequence[int], timeout_s: float
    ) -> Answers:
        """What the node at `address` answers; a node that does not answer fails every entry."""
        request = pb.BatchGetSeqRequest(uids=uids, counts=counts, forwarded=True)
        method = partial(self._link(address).call, "BatchGetSeq", timeout=timeout_s)
        try:
            return fitting(await call(method, request, address), len(uids))
        except RpcFailed as failed:
            return _failed(len(uids), failed)

    async def current(
        self, address: str, uids: Sequence[int], _counts: Sequence[int], timeout_s: float
    ) -> Answers:
        """As `next`, for the last numbers handed out."""
        request = pb.BatchGetCurSeqRequest(uids=uids, forwarded=True)
        method = partial(self._link(address).call, "BatchGetCurSeq", timeout=timeout_s)
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
        method = partial(self._link(address).call, "AdvanceSeq", timeout=timeout_s)
        try:
            return fitting(await call(method, request, address), len(uids))
        except RpcFailed as failed:
            return _failed(len(uids), failed)

    async def aclose(self) -> None:
        await asyncio.gather(*(link.aclose() for link in self._links.values()))
        self._links.clear()

    def _link(self, address: str) -> Link[alloc_pb2_grpc.AllocStub]:
        link = self._links.get(address)
        if link is None:
            make = alloc_pb2_grpc.AllocStub
            link = self._links[address] = Link(address, self._credentials, CHANNEL_OPTIONS, make)
        return link


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
