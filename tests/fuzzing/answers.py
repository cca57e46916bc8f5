"""Targets: what a client, and a node that forwards, read of a server that is hostile."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from allocsvr.ledger import Answers
from allocsvr.peers import fitting
from clustermap.errors import ReplicaFailed
from fuzzing.loop import run_on_loop
from fuzzing.mutate import absurd, seeded
from seqsvr.batching import Outbox
from seqsvr.calls import Advance, Bulk, Entry, Op, Tally
from seqsvr.client import AsyncClient
from seqsvr.errors import TABLE, SeqError
from seqsvr.sections import MAX_JUMP, SEQ_LIMIT
from seqsvr.session import Session
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import store_pb2
from seqsvr.wire import membership_of, reason_of, refusal
from svrprocess import store_client
from svrprocess.rpc import RpcFailed

_WHERE = "127.0.0.1:1"


class BadCall(grpc.RpcError):
    """A failed call whose trailing metadata are of the server's making."""

    def __init__(self, details: bytes) -> None:
        super().__init__()
        self._details = details
        status = status_pb2.Status()
        try:
            status.MergeFromString(details)
        except DecodeError:
            status = status_pb2.Status(code=13)
        found = [code for code in grpc.StatusCode if code.value[0] == status.code]
        self._code = found[0] if found else grpc.StatusCode.INTERNAL
        self._text = status.message

    def trailing_metadata(self) -> Any:
        return (("x", "y"), ("grpc-status-details-bin", self._details))

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return str(self._text)


def status_seeds() -> list[bytes]:
    made = [refusal(reason, "text", field="uid", bound=5) for reason in TABLE]
    made.append(refusal("NOT_OWNER", "text", retry_after_ms=10, table=_table()))
    info = error_details_pb2.ErrorInfo(
        reason="MEMBERSHIP", domain="seqsvr", metadata={"membership": "7"}
    )
    status = status_pb2.Status(code=9, message="text")
    status.details.add().Pack(info)
    return [one.SerializeToString() for one in (*made, status)]


def statuses(data: bytes) -> None:
    error = BadCall(data)
    reason, table = reason_of(error)
    assert reason is None or isinstance(reason, str)
    assert table is None or isinstance(table, pb.RoutingTable)
    assert 0 <= membership_of(error) < 2**64


def _table(version: int = 7) -> pb.RoutingTable:
    return pb.RoutingTable(
        cluster="c1",
        version=version,
        section_size=100,
        uid_limit=1_000,
        addresses=[_WHERE],
        routes=[pb.Route(first_section=0, last_section=9, address=0, epoch=3)],
    )


def session_seeds() -> list[bytes]:
    """Answers to what `session` asks: two batches and a bulk. First byte: as bytes, or absurd."""
    numbers = pb.BatchGetSeqResponse(seqs=[5, 6, 7], epochs=[3])
    last = pb.BatchGetCurSeqResponse(seqs=[5, 6], exact=[True, False], epochs=[3, 4])
    failed = pb.BatchGetSeqResponse(seqs=[0, 6, 7], epochs=[0, 3, 3], table=_table(8))
    failed.errors.add(index=0, reason=pb.REASON_ACQUIRING, text="x", retry_after_ms=5)
    answers = [
        pb.SessionResponse(id=1, next=numbers),
        pb.SessionResponse(id=2, current=last),
        pb.SessionResponse(id=3, next=failed),
        pb.SessionResponse(id=1, next=failed, indexes=[2, 0, 1], more=True),
        pb.SessionResponse(id=1, refused=pb.EntryError(reason=pb.REASON_OVERLOADED)),
    ]
    return [*(b"\0" + a.SerializeToString() for a in answers), *(bytes((1, n)) for n in range(40))]


async def _asked() -> tuple[AsyncClient, Session, list[Entry], Bulk]:
    """A client with a session that has three batches in flight, and no connection."""
    client = AsyncClient(_WHERE)
    client._learn(_table())
    session = client._owner(0)
    assert session is not None
    outbox = session._outbox = Outbox(_WHERE, max_in_flight=9, max_queue=99, gather=1)
    loop = asyncio.get_running_loop()
    entries = [Entry(op, uid, 1, 1e9) for op, uids in _BATCHES for uid in uids]
    for entry in entries:
        entry.waiter = loop.create_future()
        outbox.put(entry)
    bulk = Bulk([11, 12, 13], [0, 0, 0], 1e9, Tally(loop.create_future(), 3))
    outbox.put_bulk(bulk)
    while outbox.take(0.0) is not None:
        pass
    assert outbox.in_flight == 3
    return client, session, entries, bulk


_BATCHES = ((Op.NEXT, (1, 2, 3)), (Op.CURRENT, (1, 2)))


def session(data: bytes) -> None:
    """What is no answer to what was asked gives nobody a number, and nothing is settled twice."""
    rng = seeded(data)
    try:
        if data[:1] and data[0] % 2:
            answers = [absurd(pb.SessionResponse, rng) for _ in range(4)]
            for answer in answers:
                answer.id = rng.choice((1, 2, 3, answer.id))
        else:
            answers = [pb.SessionResponse.FromString(data[1:])] * 2
    except DecodeError:
        return
    run_on_loop(_fed(answers))


async def _fed(answers: list[Any]) -> None:
    client, session, entries, bulk = await _asked()
    for answer in answers:
        session._settle(answer)
    given = [(e.seq, e.failure) for e in (*entries, *bulk.entries) if e.waiter.done()]
    for seq, failure in given:
        assert failure is not None or seq is None or 0 <= seq <= SEQ_LIMIT
    assert all(1 <= seq <= SEQ_LIMIT for seq in bulk.seqs)
    await client.aclose()


def advance_seeds() -> list[bytes]:
    answer = pb.AdvanceSeqResponse(seqs=[5, 0], epochs=[3], table=_table(8))
    answer.errors.add(index=1, reason=pb.REASON_JUMP_TOO_LARGE, bound=9)
    return [b"\0" + answer.SerializeToString(), *(bytes((1, n)) for n in range(20))]


def advance(data: bytes) -> None:
    """An advance, and the same answer as a node that forwarded gets it."""
    try:
        if data[:1] and data[0] % 2:
            answer = absurd(pb.AdvanceSeqResponse, seeded(data))
        else:
            answer = pb.AdvanceSeqResponse.FromString(data[1:])
    except DecodeError:
        return
    run_on_loop(_advanced(answer))
    got: Answers = fitting(answer, 2)
    assert len(got.seqs) == len(got.epochs) == 2
    assert all(0 <= index < 2 for index, _ in got.failures)


async def _advanced(answer: Any) -> None:
    client = AsyncClient(_WHERE)
    client._learn(_table())
    entries = [Advance(uid, 5, MAX_JUMP, 1e9) for uid in (1, 2)]
    client._advancing._settle(client._router, _WHERE, entries, answer, client._learn)
    for entry in entries:
        assert entry.failure is not None or (entry.seq or 0) >= entry.at_least
    await client.aclose()


def route_seeds() -> list[bytes]:
    return [b"\0" + _table(8).SerializeToString(), *(bytes((1, n)) for n in range(20))]


def route(data: bytes) -> None:
    """A table of any server, into a client that has one."""
    try:
        if data[:1] and data[0] % 2:
            table = absurd(pb.RoutingTable, seeded(data))
            table.cluster = "c1"
        else:
            table = pb.RoutingTable.FromString(data[1:])
    except DecodeError:
        return
    run_on_loop(_learnt(table))


async def _learnt(table: Any) -> None:
    client = AsyncClient(_WHERE)
    client._learn(_table())
    try:
        client._learn(table)
    except (ValueError, SeqError):
        assert client.table() is not None and client.table().version == 7  # type: ignore[union-attr]
    client._owner(0)
    await client.aclose()


def store_seeds() -> list[bytes]:
    """First byte: which answer, as bytes or absurd."""
    span = store_pb2.EpochRange(first=3, last=9, epoch=5)
    refused = store_pb2.RaiseResponse(store_id=7, refused=[span])
    renewed = store_pb2.RenewResponse(store_id=7, fence_version=3, promises=[span])
    return [
        b"\0" + refused.SerializeToString(),
        b"\1" + renewed.SerializeToString(),
        *(bytes((2 + kind, n)) for kind in range(2) for n in range(9)),
    ]


def store(data: bytes) -> None:
    """Whoever goes over the ranges of what passes comes to an end; reasons are bounded labels."""
    which = data[0] % 4 if data else 0
    kind: Any = (store_pb2.RaiseResponse, store_pb2.RenewResponse)[which % 2]
    try:
        answer = kind.FromString(data[1:]) if which < 2 else absurd(kind, seeded(data))
    except DecodeError:
        return
    reason = data[1:].decode("latin-1")
    assert store_client.refused(RpcFailed(reason, "text")).reason in store_client._REASONS
    try:
        store_client.check(answer, _WHERE)
    except ReplicaFailed:
        return
    spans = answer.refused if which % 2 == 0 else answer.promises
    assert sum(max(0, span.last - span.first + 1) for span in spans) <= 1 << 26
