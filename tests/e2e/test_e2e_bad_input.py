"""Callers that are wrong, hostile or stuck: each gets its error, and nobody else notices."""

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from processes import Service, Services
from processes.calls import OPTIONS, TIMEOUT_S, Plain, channel_to, plain, reason_for
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc

Code = grpc.StatusCode
UNARY = ("GetSeq", "GetCurSeq", "BatchGetSeq", "BatchGetCurSeq", "GetRoute")
NONSENSE = (b"\xff\xff\xff\xff", b"\x08", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000)
MB = 2**20
ELSEWHERE = 987_654  # a uid that nothing else here uses


@contextmanager
def others_are_served(service: Service) -> Iterator[None]:
    """Before, after, and densely: nothing in between took one of their numbers."""
    with plain(service.address) as calls:
        first = calls.next(ELSEWHERE)
        yield
        assert calls.next(ELSEWHERE) == first + 1
        assert calls.current(ELSEWHERE) == (first + 1, True)
    assert service.runs_still()


def raw_channel(service: Service) -> AbstractContextManager[Any]:
    """Without messages: what is called on it takes and gives bytes."""
    return channel_to(service.address)


def refusal(
    call: Callable[..., object], *arguments: object, **options: object
) -> tuple[grpc.StatusCode, str | None, str]:
    """Status, reason and text of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code(), reason_for(caught.value), caught.value.details() or ""


@pytest.mark.parametrize("uid", [2**32, 2**63, 2**64 - 1])
def test_a_uid_out_of_range_is_refused_with_its_bound(services: Services, uid: int) -> None:
    service = services(uid_limit=2**32, options=["--section-size", str(2**30)]).start()
    with others_are_served(service), plain(service.address) as calls:
        for call in (calls.next, calls.current):
            code, reason, text = refusal(call, uid)
            assert (code, reason) == (Code.INVALID_ARGUMENT, "UID_OUT_OF_RANGE")
            assert str(uid) in text and str(2**32) in text
        batch = calls.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[1, uid, 2]))
        assert list(batch.seqs) == [1, 0, 1]
        assert [(e.index, e.reason) for e in batch.errors] == [(1, pb.REASON_UID_OUT_OF_RANGE)]
        assert (batch.errors[0].field, batch.errors[0].bound) == ("uid", 2**32)
        current = calls.stub.BatchGetCurSeq(pb.BatchGetCurSeqRequest(uids=[uid, 1]))
        assert list(current.seqs) == [0, 1]
        assert [(e.index, e.reason) for e in current.errors] == [(0, pb.REASON_UID_OUT_OF_RANGE)]


def test_a_count_out_of_range_is_refused_and_takes_nothing(services: Services) -> None:
    service = services().start()
    with others_are_served(service), plain(service.address) as calls:
        for count in (0, 10_001, 2**32 - 1):
            code, reason, text = refusal(calls.next, 7, count)
            assert (code, reason) == (Code.INVALID_ARGUMENT, "COUNT_OUT_OF_RANGE")
            assert "10000" in text
            batch = calls.stub.BatchGetSeq(pb.BatchGetSeqRequest(uids=[7, 8], counts=[count, 1]))
            assert [(e.index, e.reason) for e in batch.errors] == [
                (0, pb.REASON_COUNT_OUT_OF_RANGE)
            ]
            assert batch.seqs[0] == 0 and batch.seqs[1] > 0
        assert calls.current(7) == (0, True)
        assert calls.next(7, 10_000) == 1


def test_a_batch_out_of_bounds_is_refused_as_a_whole(services: Services) -> None:
    service = services().start()
    with others_are_served(service), plain(service.address) as calls:
        for size in (0, 4_097):
            uids = list(range(size))
            for call, request in (
                (calls.stub.BatchGetSeq, pb.BatchGetSeqRequest(uids=uids)),
                (calls.stub.BatchGetCurSeq, pb.BatchGetCurSeqRequest(uids=uids)),
            ):
                code, reason, text = refusal(call, request)
                assert (code, reason) == (Code.INVALID_ARGUMENT, "BATCH_TOO_LARGE")
                assert "4096" in text
        uneven = pb.BatchGetSeqRequest(uids=[1, 2], counts=[1])
        code, reason, _ = refusal(calls.stub.BatchGetSeq, uneven)
        assert (code, reason) == (Code.INVALID_ARGUMENT, "COUNT_OUT_OF_RANGE")
        assert calls.current(0) == (0, True), "a batch that was refused took a number"
        assert calls.next_many(list(range(4_096))) == [1] * 4_096


def test_a_bad_batch_in_a_session_does_not_end_the_session(services: Services) -> None:
    service = services().start()
    requests = [
        pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest()),
        pb.SessionRequest(id=2, current=pb.BatchGetCurSeqRequest(uids=range(4_097))),
        pb.SessionRequest(id=3),
        pb.SessionRequest(id=4, next=pb.BatchGetSeqRequest(uids=[2**64 - 1, 5], counts=[1, 0])),
        pb.SessionRequest(id=5, next=pb.BatchGetSeqRequest(uids=[5])),
    ]
    with others_are_served(service), plain(service.address) as calls:
        answers = {a.id: a for a in calls.stub.Session(iter(requests), timeout=TIMEOUT_S)}
    assert answers[1].refused.reason == pb.REASON_BATCH_TOO_LARGE
    assert answers[2].refused.reason == pb.REASON_BATCH_TOO_LARGE
    assert answers[3].refused.reason == pb.REASON_MALFORMED
    assert [e.reason for e in answers[4].next.errors] == [
        pb.REASON_UID_OUT_OF_RANGE,
        pb.REASON_COUNT_OUT_OF_RANGE,
    ]
    assert list(answers[5].next.seqs) == [1]


def test_bytes_that_are_no_message_are_malformed(services: Services) -> None:
    service = services().start()
    with others_are_served(service), raw_channel(service) as channel:
        for name in UNARY:
            call = channel.unary_unary(f"/seqsvr.v1.Alloc/{name}")
            for nonsense in NONSENSE:
                code, reason, _ = refusal(call, nonsense, timeout=TIMEOUT_S)
                assert (code, reason) == (Code.INVALID_ARGUMENT, "MALFORMED"), (name, nonsense)
        session = channel.stream_stream("/seqsvr.v1.Alloc/Session")
        for nonsense in NONSENSE:
            stream = session(iter([nonsense]), timeout=TIMEOUT_S)
            code, reason, _ = refusal(list, stream)
            assert (code, reason) == (Code.INVALID_ARGUMENT, "MALFORMED"), nonsense
        unknown = channel.unary_unary("/seqsvr.v1.Alloc/GiveMeAll")
        assert refusal(unknown, b"", timeout=TIMEOUT_S)[0] is Code.UNIMPLEMENTED


def test_a_message_of_ten_megabytes_is_refused_unread(services: Services) -> None:
    service = services().start()
    small = pb.BatchGetSeqRequest(uids=[999_999] * 4_096).SerializeToString()
    big = small * (10 * MB // len(small) + 1)  # messages in a row are one, with all their uids
    with others_are_served(service), raw_channel(service) as channel:
        before = service.rss_bytes()
        for name in ("GetSeq", "BatchGetSeq"):
            call = channel.unary_unary(f"/seqsvr.v1.Alloc/{name}")
            code, _, _ = refusal(call, big, timeout=TIMEOUT_S)
            assert code is Code.RESOURCE_EXHAUSTED
        stream = channel.stream_stream("/seqsvr.v1.Alloc/Session")(iter([big]), timeout=TIMEOUT_S)
        assert refusal(list, stream)[0] is Code.RESOURCE_EXHAUSTED
        assert service.rss_bytes() < before + 100 * MB


async def _stuck(address: str, request: pb.SessionRequest) -> tuple[grpc.aio.Channel, int]:
    """Write to a session, never read it, until nothing more can be written; bytes written."""
    channel = grpc.aio.insecure_channel(address, options=OPTIONS)
    stub = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
    session = stub.Session()
    written, size = 0, request.ByteSize()
    while written < 100 * MB:
        try:
            async with asyncio.timeout(1):
                await session.write(request)
        except TimeoutError:
            break
        written += size
    return channel, written


async def test_streams_that_stop_reading_cost_little_and_disturb_nobody(
    services: Services,
) -> None:
    service = services().start()
    uids = list(range(100, 4_196))
    request = pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=uids))
    with others_are_served(service):
        before = service.rss_bytes()
        stuck = await asyncio.gather(*(_stuck(service.address, request) for _ in range(4)))
        try:
            # Each of them was brought to a halt, so the server does not take all that is sent.
            assert all(0 < written < 100 * MB for _, written in stuck), stuck
            grown = service.rss_bytes() - before
            print(f"stuck streams: {[w for _, w in stuck]} bytes written, RSS +{grown}")
            assert grown < 256 * MB, "what is sent to a caller that does not read is heaped up"
            with plain(service.address) as calls:
                began = time.monotonic()
                for _ in range(50):
                    calls.next(5)
                assert time.monotonic() - began < 10
        finally:
            for channel, _ in stuck:
                await channel.close()


@contextmanager
def silent_connections(service: Service, count: int, data: bytes) -> Iterator[list[socket.socket]]:
    """Raw connections that send `data` and nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 200
    assert hard in (resource.RLIM_INFINITY, *range(needed, hard + 1)), "ulimit -Hn is too low"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    host, _, port = service.address.partition(":")
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection((host, int(port)), timeout=20)
            made.append(connection)
            if data:
                connection.sendall(data)
        yield made
    finally:
        for connection in made:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def serves_newcomers(service: Service) -> None:
    for uid in range(20):
        with plain(service.address) as calls:
            assert calls.next(uid) > 0


@pytest.mark.parametrize(
    ("count", "data"),
    [
        (1_000, b""),
        (200, b"PRI * HTTP/2.0\r\n\r\nSM"),
        (200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x0c\x04"),
        (200, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
        (200, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)),
    ],
    ids=["nothing", "half a preface", "half a frame", "http 1", "tls"],
)
def test_connections_that_say_nothing_of_use_disturb_nobody(
    services: Services, count: int, data: bytes
) -> None:
    service = services().start()
    with others_are_served(service):
        before = service.descriptors()
        with silent_connections(service, count, data):
            if not data:
                deadline_s = time.monotonic() + 10
                while service.descriptors() < before + count - 20:
                    assert time.monotonic() < deadline_s, "they were not even accepted"
                    time.sleep(0.02)
            serves_newcomers(service)
        deadline_s = time.monotonic() + 20
        while service.descriptors() > before + 5:
            assert time.monotonic() < deadline_s, "connections that are closed stay open here"
            time.sleep(0.05)
    assert service.terminate() == 0


def test_callers_that_vanish_in_the_middle_leave_nothing_behind(services: Services) -> None:
    """Deadlines that pass at once, and streams that are cut off: no Traceback, no leak."""
    service = services().start()
    with others_are_served(service):
        before = service.descriptors()
        for _ in range(50):
            with channel_to(service.address) as channel:
                calls = Plain(channel)
                stream = calls.stub.Session(_endless())
                next(stream)
                calls.stub.GetSeq.future(pb.GetSeqRequest(uid=3), timeout=0.001)
        deadline_s = time.monotonic() + 20
        while service.descriptors() > before + 5:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    assert service.terminate() == 0


def _endless() -> Iterator[pb.SessionRequest]:
    for number in range(1, 1_000_000):
        yield pb.SessionRequest(id=number, next=pb.BatchGetSeqRequest(uids=[3] * 100))
