"""A fault that nobody foresaw: callers get an id, and only the log says what went wrong."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from cluster_in_a_box import eventually, open_box
from cluster_in_a_box.serving import Served, served
from seqsvr.invariants import BrokenInvariant
from seqsvr.v1 import alloc_pb2, store_pb2
from seqsvr.v1.store_pb2_grpc import StoreStub
from storesvr.memory import Disk, MemoryEngine
from storesvr.replica import Replica
from storesvr.service import StoreService
from storesvr.servicer import add_to_server
from storesvr_world import HEADER, IDENTITY
from svrprocess import ending, incidents
from svrprocess.front import Front

SECRET = "the colour of the cellar"


def leaky(*_args: object, **_more: object) -> Any:
    raise KeyError(SECRET)


def contradicting(*_args: object, **_more: object) -> Any:
    raise BrokenInvariant(SECRET)


def incident_of(error: BaseException, log: pytest.LogCaptureFixture) -> str:
    """What the caller was told: nothing but an id, under which the log has the rest."""
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() is grpc.StatusCode.INTERNAL
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    (detail,) = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert (info.domain, info.reason) == ("seqsvr", "INTERNAL")
    incident = str(info.metadata["incident"])
    assert re.fullmatch("[0-9a-f]{16}", incident)
    assert incident in (error.details() or "")
    assert SECRET not in repr(error) and "Error" not in (error.details() or "")
    logged = [record for record in log.records if incident in record.getMessage()]
    assert len(logged) == 1 and logged[0].exc_info and SECRET in repr(logged[0].exc_info[1])
    return incident


def counted() -> float:
    return float(incidents.COUNT._value.get())


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_box(tmp_path) as box, served(box) as made:
        await box.own(made.member, 0, 1)
        yield made


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("GetSeq", alloc_pb2.GetSeqRequest(uid=1)),
        ("BatchGetSeq", alloc_pb2.BatchGetSeqRequest(uids=[1])),
        ("GetCurSeq", alloc_pb2.GetCurSeqRequest(uid=1)),
        ("BatchGetCurSeq", alloc_pb2.BatchGetCurSeqRequest(uids=[1])),
        ("AdvanceSeq", alloc_pb2.AdvanceSeqRequest(uids=[1], at_least=[1])),
    ],
)
async def test_a_fault_of_a_single_call_is_an_incident(
    one: Served, rpc: str, request_: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted()
    monkeypatch.setattr("allocsvr.answering.Answering.now", leaky)
    with pytest.raises(grpc.RpcError) as caught:
        await getattr(one.stub, rpc)(request_, timeout=20)
    incident_of(caught.value, caplog)
    assert counted() == before + 1
    monkeypatch.undo()
    assert await getattr(one.stub, rpc)(request_, timeout=20)


async def test_a_fault_in_a_session_ends_it_with_an_incident(
    one: Served, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("allocsvr.service.AllocService._one", leaky)
    call = one.stub.Session(timeout=20)
    await call.write(alloc_pb2.SessionRequest(id=1))
    with pytest.raises(grpc.RpcError) as caught:
        await call.read()
    incident_of(caught.value, caplog)


async def test_a_contradiction_is_an_incident_and_ends_the_node(
    one: Served, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BrokenInvariant] = []
    monkeypatch.setattr("allocsvr.node.AllocNode.broken", lambda _, broken: told.append(broken))
    monkeypatch.setattr("allocsvr.answering.Answering.now", contradicting)
    with pytest.raises(grpc.RpcError) as caught:
        await one.stub.GetSeq(alloc_pb2.GetSeqRequest(uid=1), timeout=20)
    incident_of(caught.value, caplog)
    assert [str(broken) for broken in told] == [SECRET]


class Store:
    """A store in memory behind a port."""

    def __init__(self) -> None:
        self.deaths: list[str] = []
        engine = MemoryEngine(Disk(IDENTITY._replace(store_id=7)))
        replica = Replica(engine, now_ns=0)
        self.service = StoreService(replica, engine, fatal=self.deaths.append)
        self.front = Front()

    async def __aenter__(self) -> "Store":
        self.front.bind("127.0.0.1:0")
        add_to_server(self.service, self.front.server)
        await self.front.start()
        self.channel = grpc.aio.insecure_channel(self.front.address)
        self.stub = StoreStub(self.channel)  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.front.aclose(0)
        await self.service.aclose()


async def test_a_fault_of_a_store_is_an_incident(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storesvr.service.StoreService.info", leaky)
    async with Store() as store:
        with pytest.raises(grpc.RpcError) as caught:
            await store.stub.Info(store_pb2.InfoRequest(), timeout=20)
        incident_of(caught.value, caplog)
        assert store.deaths == []
        assert await store.stub.Scan(store_pb2.ScanRequest(header=HEADER), timeout=20)


async def test_a_contradiction_ends_a_store(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storesvr.service.StoreService.info", contradicting)
    async with Store() as store:
        with pytest.raises(grpc.RpcError) as caught:
            await store.stub.Info(store_pb2.InfoRequest(), timeout=20)
        incident_of(caught.value, caplog)
        await eventually(lambda: len(store.deaths) == 1)
        with pytest.raises(grpc.RpcError):
            await store.stub.Scan(store_pb2.ScanRequest(header=HEADER), timeout=20)


async def test_a_fault_of_the_health_service_is_an_incident(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("grpc_health.v1.health.aio.HealthServicer.Check", leaky)
    async with Store() as store:
        stub = health_pb2_grpc.HealthStub(store.channel)
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=20)
        incident_of(caught.value, caplog)
        monkeypatch.undo()
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_what_a_store_repeats_of_a_request_is_short() -> None:
    async with Store() as store:
        header = store_pb2.StoreHeader(cluster="c" * 10**6, set="s")
        with pytest.raises(grpc.RpcError) as caught:
            await store.stub.Scan(store_pb2.ScanRequest(header=header), timeout=20)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert len(caught.value.details() or "") < 2_000


def test_an_incident_is_logged_at_error_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        leaky()
    except KeyError as error:
        incident = incidents.note("Test/Call", error)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"incident={incident}" in record.getMessage()
    assert record.exc_info is not None


class Gone:
    """A call whose caller has gone before it could be told how it ended."""

    async def abort(self, *_: object) -> None:
        raise grpc.aio.InternalError("execute_batch")


async def test_a_caller_that_has_gone_before_its_refusal_is_no_incident() -> None:
    """Else whoever resets what he called fills the log with tracebacks."""
    before = counted()
    with pytest.raises(asyncio.CancelledError):
        await ending.abort(Gone(), grpc.StatusCode.ABORTED, "x")
    with pytest.raises(asyncio.CancelledError):
        async with incidents.none_leaves(Gone(), "Test/Call"):
            await Gone().abort()
    assert counted() == before


async def test_a_fault_whose_caller_has_gone_is_in_the_log_all_the_same() -> None:
    before = counted()
    with pytest.raises(asyncio.CancelledError):
        async with incidents.none_leaves(Gone(), "Test/Call"):
            leaky()
    assert counted() == before + 1
