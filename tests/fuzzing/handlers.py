"""Targets: every rpc of Alloc and Store, and Sessions, by their handlers as gRPC calls them.

An answer is none that says INTERNAL: that is an error nobody foresaw. Nor may a store come to the
end of its process, which is what it does when a request breaks its group commit.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from allocsvr.answering import Answering
from allocsvr.limits import Limits
from allocsvr.peers import Peers
from allocsvr.service import SERVICE, AllocService
from cluster_in_a_box import open_box
from fuzzing.loop import run_on_loop
from fuzzing.mutate import absurd, seeded
from seqsvr.errors import TABLE
from seqsvr.v1 import alloc_pb2, store_pb2
from storesvr import records
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Batch
from storesvr.replica import Replica
from storesvr.service import StoreService
from storesvr.servicer import STATUS, add_to_server
from storesvr_world import HEADER, IDENTITY, A, fence, raising, release, renew, scan

MAX_STATUS_BYTES = 8_000
"""More than that no client takes as a header."""


class Escaped(Exception):
    """A caller was told INTERNAL; the cause is what it comes from."""


class _Aborted(Exception):
    pass


class Call:
    """One call as a handler sees it; what it writes is kept."""

    def __init__(self, frames: Iterable[bytes] = (), decode: Any = None) -> None:
        self.code: grpc.StatusCode | None = None
        self.written: list[Any] = []
        self._frames = iter(frames)
        self._decode = decode

    async def read(self) -> Any:
        await asyncio.sleep(0)
        frame = next(self._frames, None)
        return grpc.aio.EOF if frame is None else self._decode(frame)

    async def write(self, message: Any) -> None:
        self.written.append(message)

    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"

    def time_remaining(self) -> float:
        return 0.01

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    async def abort(self, code: grpc.StatusCode, text: str, metadata: Any = ()) -> None:
        self._end(code, text, metadata)

    async def abort_with_status(self, status: Any) -> None:
        self._end(status.code, status.details, status.trailing_metadata)

    def _end(self, code: grpc.StatusCode, text: str, metadata: Any) -> None:
        self.code = code
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            raise Escaped(text)
        size = sum(len(value) for _, value in metadata)
        assert len(text) + size < MAX_STATUS_BYTES, f"{len(text)} + {size} bytes of refusal"
        for _, value in metadata:
            assert status_pb2.Status.FromString(value).message == text
        raise _Aborted


# -- Alloc

_ALLOC: dict[str, type[Message]] = {
    "GetSeq": alloc_pb2.GetSeqRequest,
    "GetCurSeq": alloc_pb2.GetCurSeqRequest,
    "BatchGetSeq": alloc_pb2.BatchGetSeqRequest,
    "BatchGetCurSeq": alloc_pb2.BatchGetCurSeqRequest,
    "AdvanceSeq": alloc_pb2.AdvanceSeqRequest,
    "GetRoute": alloc_pb2.GetRouteRequest,
}
_SECTIONS, _SECTION_SIZE, _SEQ_LIMIT = 4, 100, 100_000


class _Details:
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


@cache
def _alloc() -> Callable[[str], Any]:
    """The handlers of a node that serves half of its sections; it lives as long as the process."""
    folder = TemporaryDirectory(prefix="fuzzing-")
    stack = AsyncExitStack()

    async def opened() -> AllocService:
        box = await stack.enter_async_context(
            open_box(
                Path(folder.name),
                sections=_SECTIONS,
                section_size=_SECTION_SIZE,
                uid_limit=_SECTIONS * _SECTION_SIZE,
                seq_limit=_SEQ_LIMIT,
            )
        )
        # So long a lease that a breakpoint, or a busy machine, does not end it.
        member = await stack.enter_async_context(box.node(lease_ttl_s=9.0))
        await box.own(member, 0, _SECTIONS // 2 - 1)
        node = member.node
        limits = Limits(wait_s=0.005, late_batches=4)
        return AllocService(node, Answering(node, Peers()), node.metrics, limits)

    handler = run_on_loop(opened()).handler()
    _KEPT.append((stack, folder))
    return lambda rpc: handler.service(_Details(f"/{SERVICE}/{rpc}"))


_KEPT: list[Any] = []


def alloc_seeds(rpc: str) -> Callable[[], list[bytes]]:
    """As bytes, then absurd ones."""
    valid: dict[str, list[Message]] = {
        "GetSeq": [
            alloc_pb2.GetSeqRequest(uid=5, count=10, route_version=1),
            alloc_pb2.GetSeqRequest(uid=2**64 - 1, forwarded=True),
        ],
        "GetCurSeq": [alloc_pb2.GetCurSeqRequest(uid=250, route_version=2**64 - 1)],
        "BatchGetSeq": [
            alloc_pb2.BatchGetSeqRequest(uids=[1, 1, 399], counts=[1, 10_000, 2]),
            alloc_pb2.BatchGetSeqRequest(uids=range(64)),
        ],
        "BatchGetCurSeq": [alloc_pb2.BatchGetCurSeqRequest(uids=[1, 2, 399])],
        "AdvanceSeq": [alloc_pb2.AdvanceSeqRequest(uids=[1, 2], at_least=[9, 2**63], max_jump=9)],
        "GetRoute": [alloc_pb2.GetRouteRequest(known_version=9)],
    }
    return lambda: [
        *(b"\0" + message.SerializeToString() for message in valid[rpc]),
        *(bytes((1, n)) for n in range(30)),
    ]


def alloc(rpc: str) -> Callable[[bytes], None]:
    """First byte odd: an absurd message drawn from the rest, else the rest as bytes."""

    def run(data: bytes) -> None:
        handler = _alloc()(rpc)
        raw = data[1:]
        if data[:1] and data[0] % 2:
            raw = absurd(_ALLOC[rpc], seeded(data)).SerializeToString()
        run_on_loop(_unary(handler, raw, {row.status for row in TABLE.values()}))

    return run


async def _unary(handler: Any, raw: bytes, known: set[grpc.StatusCode]) -> Any:
    call = Call()
    try:
        decode = handler.request_deserializer or bytes
        answer = await handler.unary_unary(decode(raw), call)
    except _Aborted:
        assert call.code in known, call.code
        return None
    return handler.response_serializer(answer) if handler.response_serializer else answer


def session_seeds() -> list[bytes]:
    frames = [
        alloc_pb2.SessionRequest(id=1, next=alloc_pb2.BatchGetSeqRequest(uids=[1, 2, 399])),
        alloc_pb2.SessionRequest(id=1, current=alloc_pb2.BatchGetCurSeqRequest(uids=[1, 2])),
        alloc_pb2.SessionRequest(id=2**64 - 1),
    ]
    parts = [frame.SerializeToString() for frame in frames]
    whole = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return [b"\0" + whole, *(bytes((1, n)) for n in range(40))]


def session(data: bytes) -> None:
    """Frames, each with its length before it; or absurd ones. Every one of them is answered."""
    handler = _alloc()("Session")
    if data[:1] and data[0] % 2:
        rng = seeded(data)
        count = rng.randint(1, 4)
        frames = [absurd(alloc_pb2.SessionRequest, rng).SerializeToString() for _ in range(count)]
    else:
        frames = list(_framed(data[1:]))
    run_on_loop(_session(handler, frames))


def _framed(data: bytes) -> Iterator[bytes]:
    while data:
        size = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + size]
        data = data[2 + size :]


async def _session(handler: Any, frames: list[bytes]) -> None:
    call = Call(frames, handler.request_deserializer)
    try:
        await handler.stream_stream(None, call)
    except _Aborted:
        assert call.code is grpc.StatusCode.INVALID_ARGUMENT, call.code
        return
    written = [handler.response_serializer(one) for one in call.written]
    answers = [alloc_pb2.SessionResponse.FromString(one) for one in written]
    assert sum(not answer.more for answer in answers) == len(frames)


# -- Store

_STORE: dict[str, type[Message]] = {
    "Fence": store_pb2.FenceRequest,
    "Raise": store_pb2.RaiseRequest,
    "Release": store_pb2.ReleaseRequest,
    "Renew": store_pb2.RenewRequest,
    "Scan": store_pb2.ScanRequest,
    "Digest": store_pb2.DigestRequest,
    "Seal": store_pb2.SealRequest,
    "PutAtLeast": store_pb2.PutAtLeastRequest,
    "Info": store_pb2.InfoRequest,
    "Adopt": store_pb2.AdoptRequest,
}


class _Checked(MemoryEngine):
    """Whatever is committed can be written to a disk, and read again."""

    def commit(self, batch: Batch) -> None:
        for record in batch.records:
            assert records.decode(record.section, records.encode(record)) == record
        super().commit(batch)


class _Registrar:
    """Takes handlers as a server does."""

    def __init__(self) -> None:
        self.handlers: Any = None

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        (self.handlers,) = handlers


def store_seeds() -> list[bytes]:
    """Requests that are served, one after the other; and absurd ones."""
    requests: list[tuple[str, Message]] = [
        ("Fence", fence(0, 3, 5)),
        ("Renew", renew(A)),
        ("Raise", raising(A, (0, 5, 1_000), (1, 5, 2**63 - 1))),
        ("Release", release(A, (0, 5, b"counters"))),
        ("Scan", scan(0, 9, with_snapshots=True)),
        ("Seal", store_pb2.SealRequest(header=HEADER, entries=[_seal()])),
        ("Digest", store_pb2.DigestRequest(header=HEADER, first=0, last=9, chunk=4)),
        ("PutAtLeast", store_pb2.PutAtLeastRequest(header=HEADER, records=[_record()])),
        ("Adopt", store_pb2.AdoptRequest(header=HEADER, store_id=7, learning=True)),
        ("Info", store_pb2.InfoRequest()),
    ]
    names = list(_STORE)
    rows = [(names.index(name), message.SerializeToString()) for name, message in requests]
    parts = [bytes((at,)) + len(raw).to_bytes(2, "big") + raw for at, raw in rows]
    single = [b"\0" + part for part in parts]
    return [b"\0" + b"".join(parts), *single, *(bytes((1, n)) for n in range(60))]


def _seal() -> store_pb2.SealEntry:
    return store_pb2.SealEntry(section=2, epoch=6)


def _record() -> store_pb2.StoredRecord:
    return store_pb2.StoredRecord(
        section=5, promised=9, max_seq=50, owner_epoch=4, owner=3, released=True, snapshot=b"x"
    )


def store(data: bytes) -> None:
    """Requests, each with its rpc and its length before it, to a store that is blank; or absurd."""
    if data[:1] and data[0] % 2:
        rng = seeded(data)
        names = [rng.choice(list(_STORE)) for _ in range(rng.randint(1, 5))]
        requests = [(name, _absurd(name, rng)) for name in names]
    else:
        requests = list(_requests(data[1:]))
    run_on_loop(_asked(requests))


def _absurd(name: str, rng: Any) -> bytes:
    message: Any = absurd(_STORE[name], rng)
    if rng.random() < 0.9:  # else nothing goes beyond the header
        message.header.CopyFrom(HEADER)
    return bytes(message.SerializeToString())


def _requests(data: bytes) -> Iterator[tuple[str, bytes]]:
    names = list(_STORE)
    while data:
        size = int.from_bytes(data[1:3], "big")
        yield names[data[0] % len(names)], data[3 : 3 + size]
        data = data[3 + size :]


async def _asked(requests: list[tuple[str, bytes]]) -> None:
    engine = _Checked(Disk(IDENTITY._replace(store_id=7)))
    deaths: list[str] = []
    service = StoreService(Replica(engine, now_ns=0), engine, fatal=deaths.append)
    registrar = _Registrar()
    add_to_server(service, registrar)  # type: ignore[arg-type]
    known = set(STATUS.values()) - {grpc.StatusCode.INTERNAL}
    try:
        for name, raw in requests:
            handler = registrar.handlers.service(_Details(f"/seqsvr.v1.Store/{name}"))
            await _unary(handler, raw, known)
            assert not deaths, deaths
            assert not service.out_of_quorum, service.out_of_quorum
    finally:
        await service.aclose()
