"""Every limit of a node's port, met: what was done, and what the caller and the metrics said.

The last test prints all of it as a table, and fails where an option has no test.
"""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from allocsvr import limits as alloc_limits
from allocsvr.limits import Limits
from cluster_in_a_box.box import Box, open_box
from cluster_in_a_box.serving import Served, explained, refusal, served
from flooding import frames
from flooding.connection import Connection
from processes import Services
from processes.metrics import scrape
from processes.service import Service, free_port
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc
from svrprocess.limits import defaults

SESSION = "/seqsvr.v1.Alloc/Session"
FEW = {
    "requests-per-s": "50",
    "numbers-per-s": "1000",
    "queue-s": "0.005",
    "max-sessions-per-caller": "60",
    "session-idle-s": "2",
    "unread-s": "1",
    "max-connections": "40",
    "max-calls": "90",
    "max-calls-per-connection": "70",
    "max-pending-calls": "20",
    "max-message-bytes": "65536",
    "max-metadata-bytes": "4096",
    "connection-idle-s": "1",
    "handshake-timeout-s": "1",
    "request-s": "1",
}
RATES = ("requests-per-s", "numbers-per-s")
PATIENCE_S = 20.0
ROWS: dict[str, tuple[str, str]] = {}
"""By option: what was done, and what happened."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Makes a service with the options of FEW that are named; it is the same for the same ones."""
    made = Services(tmp_path_factory.mktemp("limits"))
    known: dict[tuple[str, ...], Service] = {}

    def node(*names: str) -> Service:
        if names not in known:
            options = [part for name in names for part in (f"--{name}", FEW[name])]
            metrics = f"127.0.0.1:{free_port()}"
            service = made(options=[*options, "--metrics", metrics], uid_limit=200_000)
            service.options_metrics = metrics  # type: ignore[attr-defined]
            known[names] = service.start()
        return known[names]

    try:
        yield node
    finally:
        made.close()
    assert not made.traces()


@pytest.fixture
def rest(nodes: Callable[..., Service]) -> Service:
    """A service with all but the rates."""
    return nodes(*(name for name in FEW if name not in RATES))


def limited(service: Service, limit: str) -> float:
    found = scrape(service.options_metrics)  # type: ignore[attr-defined]
    shown = found.value("seqsvr_limit", limit=limit)
    assert shown == float(FEW[limit]), "the metric says where the limit is"
    return found.value("seqsvr_limited_total", limit=limit)


@contextlib.asynccontextmanager
async def stub(address: str) -> AsyncIterator[Any]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]


def spin(
    connection: Connection, until: Callable[[], bool], patience_s: float = PATIENCE_S
) -> float:
    """Exchange what there is to exchange; seconds until it held. Fails where it never did."""
    began_s = time.monotonic()
    while not until():
        assert time.monotonic() - began_s < patience_s, "it never came to that"
        connection.flush()
        if not connection.ended and select.select([connection], [], [], 0.02)[0]:
            connection.receive()
    return time.monotonic() - began_s


def session_message(size: int, id_: int = 1) -> bytes:
    uids = [index * 40 for index in range(size)]
    request = pb.SessionRequest(id=id_, next=pb.BatchGetSeqRequest(uids=uids))
    return frames.message(request.SerializeToString())


# -- rates -----------------------------------------------------------------------------------------


async def test_a_caller_that_asks_too_often_is_told_when_to_come_again(
    nodes: Callable[..., Service],
) -> None:
    node, began_s = nodes("requests-per-s"), time.monotonic()
    async with stub(node.address) as alloc:

        async def call() -> int | None:
            found = await asyncio.gather(
                alloc.GetCurSeq(pb.GetCurSeqRequest(uid=1)), return_exceptions=True
            )
            if not isinstance(found[0], grpc.aio.AioRpcError):
                return None
            said = explained(found[0])
            assert (said.code, said.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            return said.retry_ms

        again: list[int] = []
        answered = 0
        while not again:
            waits = await asyncio.gather(*(call() for _ in range(100)))
            answered += waits.count(None)
            again = [wait for wait in waits if wait is not None]
            assert answered <= 50 * (time.monotonic() - began_s + 1) + 1
            if not again and time.monotonic() - began_s > PATIENCE_S:
                pytest.fail("more than 50 a second were never made on this machine")
    assert min(again) > 0
    counted = limited(node, "requests-per-s")
    assert counted >= len(again)
    ROWS["requests-per-s"] = (
        "single calls as fast as can be",
        f"{answered} answered, then OVERLOADED, again in {min(again)} ms",
    )


async def test_numbers_beyond_the_rate_are_paid_back_before_there_are_more(
    nodes: Callable[..., Service],
) -> None:
    node = nodes("numbers-per-s")
    async with stub(node.address) as alloc:
        assert (await alloc.GetSeq(pb.GetSeqRequest(uid=7, count=9_000))).seq == 1
        said = await refusal(alloc.GetSeq(pb.GetSeqRequest(uid=8)))
        assert (said.code, said.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert 1_000 < said.retry_ms <= 8_001
        assert (await alloc.GetCurSeq(pb.GetCurSeqRequest(uid=7))).seq == 9_000  # takes none
        session = alloc.Session()
        await session.write(pb.SessionRequest(id=3, next=pb.BatchGetSeqRequest(uids=[9])))
        answer = await session.read()
        assert answer.id == 3 and answer.refused.reason == pb.REASON_OVERLOADED
        assert 500 < answer.refused.retry_after_ms <= 8_001
        session.cancel()
    assert limited(node, "numbers-per-s") == 2
    ROWS["numbers-per-s"] = (
        "9,000 numbers at once, then one",
        f"served, then OVERLOADED, again in {said.retry_ms} ms",
    )


# -- too much at a time ----------------------------------------------------------------------------


def test_of_more_than_there_is_time_for_the_newest_is_refused(rest: Service) -> None:
    connections = [Connection(rest.address, SESSION) for _ in range(2)]
    payload, refused = session_message(4_096), 0.0
    streams = [(one, one.open()) for one in connections for _ in range(25)]
    began_s = time.monotonic()
    while not refused:
        assert time.monotonic() - began_s < PATIENCE_S
        for one, stream in streams:
            one.say(stream, payload)
        for one in connections:
            one.flush()
            if select.select([one], [], [], 0.005)[0]:
                one.receive()
        refused = limited(rest, "queue-s")
    assert sum(one.answered for one in connections) > 0
    for one in connections:
        one.close()
    ROWS["queue-s"] = (
        "50 Sessions with batches of 4,096, one after the other",
        "some answered; to the newest OVERLOADED with a retry time",
    )


async def test_a_caller_has_so_many_sessions_and_no_more(rest: Service) -> None:
    await _calm(rest)
    async with stub(rest.address) as alloc:
        opened = []
        for id_ in range(60):
            session = alloc.Session()
            await session.write(
                pb.SessionRequest(id=id_, current=pb.BatchGetCurSeqRequest(uids=[1]))
            )
            assert (await session.read()).id == id_
            opened.append(session)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await alloc.Session().read()
        said = explained(error.value)
        assert said.reason == "OVERLOADED" and said.retry_ms
        for session in opened:
            session.cancel()
    assert limited(rest, "max-sessions-per-caller") == 1
    ROWS["max-sessions-per-caller"] = ("61 Sessions", "the last one: OVERLOADED")


async def test_a_port_has_so_many_calls_and_no_more(rest: Service) -> None:
    await _calm(rest)
    connections = [Connection(rest.address, "/grpc.health.v1.Health/Watch") for _ in range(2)]
    for one in connections:
        spin(one, lambda one=one: one.most_streams == 70)  # type: ignore[misc]
        for _ in range(60):
            stream = one.open()
            one.say(stream, frames.message(b""))
    spun_s = spin(connections[0], lambda: not _both(connections) or _closed(connections) >= 1)
    assert spun_s < PATIENCE_S
    for one in connections:
        one.close()
    ROWS["max-calls"] = ("120 streams on two connections", "those beyond 90: RESOURCE_EXHAUSTED")
    ROWS["max-calls-per-connection"] = ("a connection", "its settings say 70 streams")


def _both(connections: list[Connection]) -> bool:
    for one in connections:
        one.flush()
        if select.select([one], [], [], 0.01)[0]:
            one.receive()
    return True


def _closed(connections: list[Connection]) -> int:
    return sum(one.refused for one in connections)


def test_calls_that_nobody_has_begun_are_bounded(rest: Service) -> None:
    one = Connection(rest.address, "/seqsvr.v1.Alloc/GetSeq")
    other = Connection(rest.address, "/seqsvr.v1.Alloc/GetSeq")
    payload = frames.message(pb.GetSeqRequest(uid=1).SerializeToString())
    for connection in (one, other):
        spin(connection, lambda connection=connection: connection.most_streams == 70)  # type: ignore[misc]
    began_s = time.monotonic()
    while not one.refused + other.refused:
        assert time.monotonic() - began_s < PATIENCE_S
        for connection in (one, other):
            while connection.call(payload):
                pass
        _both([one, other])
    answered = one.answered + other.answered
    spin(one, lambda: one.answered > 0)
    one.close()
    other.close()
    ROWS["max-pending-calls"] = (
        "140 calls at a time, over and over",
        f"{answered} answered, then some ended by a reset",
    )


def test_connections_beyond_the_limit_are_closed_at_once(rest: Service) -> None:
    held: list[socket.socket] = []
    try:
        closed = 0
        for _ in range(60):
            held.append(_hello(rest.address))
        deadline_s = time.monotonic() + 5
        while not closed and time.monotonic() < deadline_s:
            closed = sum(_is_closed(one) for one in held[40:])
        assert closed, "none of those beyond was closed"
    finally:
        for one in held:
            one.close()
    ROWS["max-connections"] = ("60 connections", f"{closed} of those beyond 40 are closed")
    deadline_s = time.monotonic() + PATIENCE_S
    while True:  # those that were closed make room
        with contextlib.closing(Connection(rest.address, SESSION)) as fresh:
            try:
                spin(fresh, lambda: fresh.most_streams == 70, 2.0)
                return
            except AssertionError:
                assert time.monotonic() < deadline_s


def _hello(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    one = socket.create_connection((host, int(port)), timeout=5)
    one.sendall(frames.PREFACE + frames.settings())
    one.setblocking(False)
    return one


def _is_closed(one: socket.socket) -> bool:
    try:
        while one.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


# -- sizes -----------------------------------------------------------------------------------------


async def test_a_message_is_not_longer_than_allowed(rest: Service) -> None:
    async with stub(rest.address) as alloc:
        uids = [2**31] * 20_000
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await alloc.BatchGetSeq(pb.BatchGetSeqRequest(uids=uids), timeout=PATIENCE_S)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    ROWS["max-message-bytes"] = ("a batch of 100 kB", "RESOURCE_EXHAUSTED")


async def test_metadata_is_not_longer_than_allowed(rest: Service) -> None:
    async with stub(rest.address) as alloc:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await alloc.GetRoute(
                pb.GetRouteRequest(), metadata=(("x-much", "y" * 6_000),), timeout=PATIENCE_S
            )
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    ROWS["max-metadata-bytes"] = ("6 kB of metadata", "RESOURCE_EXHAUSTED")


# -- silence ---------------------------------------------------------------------------------------


async def test_a_session_without_requests_is_ended_without_an_error(rest: Service) -> None:
    async with stub(rest.address) as alloc:
        session, began_s = alloc.Session(), time.monotonic()
        await session.write(pb.SessionRequest(id=1, current=pb.BatchGetCurSeqRequest(uids=[1])))
        assert (await session.read()).id == 1
        async with asyncio.timeout(PATIENCE_S):
            assert await session.read() is grpc.aio.EOF
        assert await session.code() is grpc.StatusCode.OK
        lasted_s = time.monotonic() - began_s
    assert lasted_s > 1.5
    assert limited(rest, "session-idle-s") >= 1
    ROWS["session-idle-s"] = ("no request", f"the stream ends, OK, after {lasted_s:.1f} s")


def test_whoever_does_not_read_loses_the_connection(rest: Service) -> None:
    before = limited(rest, "unread-s")
    one = Connection(rest.address, SESSION, reads=False)
    stream = one.open()
    spin(one, lambda: one.most_streams == 70)
    began_s = time.monotonic()
    while not one.ended:  # answers fill the window, which nobody opens again
        assert time.monotonic() - began_s < PATIENCE_S
        one.say(stream, session_message(4_096))
        _both([one])
    one.close()
    assert limited(rest, "unread-s") == before + 1
    ROWS["unread-s"] = ("a Session that does not read", "its connection is closed")


async def test_requests_that_come_by_half_hold_no_calls_for_ever(rest: Service) -> None:
    before = limited(rest, "request-s")
    one, other = (Connection(rest.address, "/seqsvr.v1.Alloc/GetSeq") for _ in range(2))
    for connection in (one, other):
        spin(connection, lambda connection=connection: connection.most_streams == 70)  # type: ignore[misc]
        for _ in range(45):  # together as many as --max-calls
            connection.say(connection.open(), frames.message(bytes(100))[:50])
    began_s = time.monotonic()
    while one.refused + other.refused < 90:
        assert time.monotonic() - began_s < PATIENCE_S
        _both([one, other])
    assert limited(rest, "request-s") > before  # others were too many at once to be begun
    async with stub(rest.address) as alloc:
        assert (await alloc.GetSeq(pb.GetSeqRequest(uid=1), timeout=PATIENCE_S)).seq
    one.close()
    other.close()
    ROWS["request-s"] = ("90 requests by half", "all are ended, and others are answered")


def test_a_connection_without_a_call_is_closed(rest: Service) -> None:
    one = Connection(rest.address, SESSION)
    lasted_s = spin(one, lambda: one.ended)
    one.close()
    ROWS["connection-idle-s"] = ("no call", f"closed after {lasted_s:.1f} s")


def test_a_connection_that_never_says_hello_is_closed(rest: Service) -> None:
    host, _, port = rest.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as silent:
        began_s = time.monotonic()
        while silent.recv(4096):
            pass  # the server's settings
        lasted_s = time.monotonic() - began_s
    ROWS["handshake-timeout-s"] = ("not one byte", f"closed after {lasted_s:.1f} s")


# -- what waits ------------------------------------------------------------------------------------


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, sections=2, section_size=100_000, seq_limit=1_000) as made:
        yield made


@contextlib.asynccontextmanager
async def stuck(box: Box, values: Limits) -> AsyncIterator[Served]:
    """A node whose raises take for ever, and whose window of section 0 is used up."""
    async with served(box, limits=values) as made:
        await box.own(made.member, 0, 1)
        made.member.links[0].hang("raise_max")
        await made.stub.GetSeq(pb.GetSeqRequest(uid=5, count=100))
        yield made
        made.member.links[0].heal()


def of(made: Served, limit: str) -> float:
    value: float = made.member.node.metrics.limited.labels(limit)._value.get()
    return value


async def test_a_call_without_a_deadline_waits_no_longer_than_it_may(box: Box) -> None:
    async with stuck(box, Limits(wait_s=0.3)) as made:
        began_s = time.monotonic()
        said = await refusal(made.stub.GetSeq(pb.GetSeqRequest(uid=5)))
        lasted_s = time.monotonic() - began_s
    assert said.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") and said.retry_ms
    assert lasted_s >= 0.3
    ROWS["wait-s"] = ("a number of a section whose raise hangs", f"{said.reason}, {lasted_s:.1f} s")


async def test_so_many_calls_wait_and_no_more(box: Box) -> None:
    async with stuck(box, Limits(wait_s=PATIENCE_S, max_waiting_calls=3)) as made:
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(_wait(made.stub)) for _ in range(3)]
            while made.member.node.waiting.count < 3:
                await asyncio.sleep(0.01)
            said = await refusal(made.stub.GetSeq(pb.GetSeqRequest(uid=5)))
            for task in held:
                task.cancel()
        assert said.reason == "OVERLOADED" and said.retry_ms
        assert of(made, "max-waiting-calls") == 1
        await made.stub.GetSeq(pb.GetSeqRequest(uid=100_005))  # what need not wait is served
    ROWS["max-waiting-calls"] = ("one more than may wait", "OVERLOADED; what is ready is served")


async def _wait(alloc: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await alloc.GetSeq(pb.GetSeqRequest(uid=5))


async def test_answers_that_are_not_read_yet_are_bounded_in_bytes(box: Box) -> None:
    async with stuck(box, Limits(wait_s=PATIENCE_S, max_unread_bytes=64 * 32)) as made:
        session = made.stub.Session()
        for id_ in (1, 2, 3):  # 64 entries are all that may be outstanding
            await session.write(
                pb.SessionRequest(id=id_, next=pb.BatchGetSeqRequest(uids=[5] * 30))
            )
        answer = await session.read()
        assert answer.id == 3
        assert {e.reason for e in answer.next.errors} == {pb.REASON_OVERLOADED}
        session.cancel()
        assert of(made, "max-unread-bytes") == 1
    ROWS["max-unread-bytes"] = ("90 entries that wait where 64 may", "30 of them OVERLOADED")


# -- all of them -----------------------------------------------------------------------------------


def test_every_limit_has_been_met() -> None:
    known = defaults(alloc_limits.OPTIONS)
    print("\n| option | default | done | what happened |\n|---|---|---|---|")
    for option in alloc_limits.OPTIONS:
        done, happened = ROWS.get(option.name, ("", ""))
        print(f"| --{option.name} | {getattr(known, option.key):g} | {done} | {happened} |")
    missing = {option.name for option in alloc_limits.OPTIONS} - set(ROWS)
    assert not missing, "limits without a test that passes"


async def _calm(service: Service) -> None:
    """No Session is left of what was before."""
    metrics: str = service.options_metrics  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE_S):
        while scrape(metrics).value("seqsvr_sessions"):
            await asyncio.sleep(0.05)
