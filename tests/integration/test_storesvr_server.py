"""StoreSvr over the wire, and as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc
from seqsvr.wire import reason_of
from storesvr import servicer
from storesvr.service import StoreService, add_to_server, open_service
from storesvr_world import HEADER, IDENTITY, A, S, fence, raising, release, renew, scan

STATUS = grpc.StatusCode


class Wire:
    def __init__(self, service: StoreService, channel: grpc.aio.Channel, path: Path) -> None:
        self.service, self.channel, self.path = service, channel, path
        self.stub: Any = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    service = open_service(tmp_path / "store", IDENTITY, create=True)
    server = grpc.aio.server(options=servicer.SERVER_OPTIONS)
    add_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Wire(service, channel, tmp_path / "store")
    await server.stop(0)
    await service.aclose()


async def status_of(call: Any) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), reason_of(caught.value)[0]


async def test_every_rpc_answers_over_the_wire(wire: Wire) -> None:
    stub = wire.stub
    assert len((await stub.Fence(fence(0, 4_095, 1))).granted) == 4_096
    assert not (await stub.Raise(raising(A, (0, 1, 10), (1, 1, 10)))).refused
    big = bytes(800_000)
    assert not (await stub.Release(release(A, *((s, 1, big) for s in (0, 1))))).refused
    assert (await stub.Renew(renew(A))).fence_version == 4_096
    scanned = await stub.Scan(scan(0, 9, with_snapshots=True))
    assert [len(record.snapshot) for record in scanned.records[:2]] == [800_000] * 2
    digest = pb.DigestRequest(header=HEADER, first=0, last=4_095, chunk=4_096)
    assert len((await stub.Digest(digest)).chunks) == 1
    put = pb.PutAtLeastRequest(header=HEADER, records=[pb.StoredRecord(section=1, max_seq=11)])
    assert (await stub.PutAtLeast(put)).raised == 1
    assert (await stub.Info(pb.InfoRequest(header=HEADER))).sections == 4_096


async def test_refusals_carry_their_status_and_reason(wire: Wire) -> None:
    other = pb.StoreHeader(cluster="c2", set="set-0", membership=1)
    old = pb.StoreHeader(cluster="c1", set="set-0", membership=9)
    for request, status, reason in (
        (pb.RenewRequest(header=other), STATUS.FAILED_PRECONDITION, "FOREIGN"),
        (pb.RenewRequest(header=old), STATUS.FAILED_PRECONDITION, "MEMBERSHIP"),
        (renew(0), STATUS.INVALID_ARGUMENT, "MALFORMED"),
        (renew(A, ttl_ns=61 * S), STATUS.INVALID_ARGUMENT, "MALFORMED"),
    ):
        assert await status_of(wire.stub.Renew(request)) == (status, reason)


def test_every_reason_of_the_wire_has_a_status() -> None:
    names = {
        name.removeprefix("STORE_REASON_") for name in pb.StoreReason.DESCRIPTOR.values_by_name
    }
    assert names - {"UNSPECIFIED"} == set(servicer.STATUS) - {"UNREACHABLE", "TIMEOUT"}
    expected = {"CORRUPT": STATUS.DATA_LOSS, "OVERLOADED": STATUS.RESOURCE_EXHAUSTED}
    for reason, status in expected.items():
        assert servicer.refusal(ReplicaFailed(reason, "")).code == status.value[0]


async def test_bytes_that_are_no_message_are_malformed(wire: Wire) -> None:
    for name in ("Fence", "Raise", "Renew", "Info"):
        call: Any = wire.channel.unary_unary(f"/seqsvr.v1.Store/{name}")
        assert await status_of(call(b"\xff\xff\xff")) == (STATUS.INVALID_ARGUMENT, "MALFORMED")
    assert (await wire.stub.Info(pb.InfoRequest())).cluster == "c1"


async def test_a_fault_of_the_server_is_internal_and_the_server_lives_on(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(wire.service._replica, "digest", broken)
        request = pb.DigestRequest(header=HEADER, last=1, chunk=1)
        assert await status_of(wire.stub.Digest(request)) == (STATUS.INTERNAL, "INTERNAL")
    assert (await wire.stub.Info(pb.InfoRequest())).cluster == "c1"


async def test_a_corrupt_record_is_data_loss(wire: Wire) -> None:
    await wire.stub.Fence(fence(0, 1, 1))
    engine: Any = wire.service._engine
    with engine._env.begin(write=True, db=engine._records) as txn:
        txn.put((1).to_bytes(8, "big"), bytes(60))
    expected = (STATUS.DATA_LOSS, "CORRUPT")
    assert await status_of(wire.stub.Fence(fence(1, 1, 2))) == expected
    assert await status_of(wire.stub.Renew(renew(A))) == expected
    assert "section 1" in (await wire.stub.Info(pb.InfoRequest())).out_of_quorum


# The process.


def command(path: Path, *more: str) -> list[str]:
    options = ["--data", str(path), "--listen", "127.0.0.1:0", "--cluster", "c1"]
    return [sys.executable, "-m", "storesvr", *options, *more]


@contextmanager
def running(path: Path, *more: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A StoreSvr process and its address."""
    process = subprocess.Popen(
        command(path, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = re.fullmatch(r"ready (127\.0\.0\.1:\d+)\n", line)
        assert ready is not None, line + (process.stderr.read() if process.stderr else "")
        yield process, ready[1]
    finally:
        process.kill()
        process.communicate()


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def test_a_process_serves_until_sigterm_and_goes_on_where_it_was(tmp_path: Path) -> None:
    for epoch in (1, 2):
        create = ["--create"] if epoch == 1 else []
        with running(tmp_path / "store", *create) as (process, address):
            with grpc.insecure_channel(address) as channel:
                stub: Any = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]
                answer = stub.Fence(fence(0, 0, epoch), timeout=10)
                assert answer.granted == [True]
                assert answer.max_seq == [100 * (epoch - 1)]
                assert 0 <= answer.boot_grace_ns <= 2 * S
                stub.Raise(raising(A, (0, epoch, 100 * epoch)), timeout=10)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_health_reflection_and_metrics_are_served(tmp_path: Path) -> None:
    with (
        running(tmp_path / "store", "--create", "--metrics", "127.0.0.1:0") as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "seqsvr.ready"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = reflection.ServerReflectionInfo(iter([listing]), timeout=10)
        names = {service.name for service in answer.list_services_response.service}
        assert "seqsvr.v1.Store" in names
        assert process.stderr is not None
        metrics = re.search(r"metrics=(127\.0\.0\.1:\d+)", process.stderr.readline())
        assert metrics is not None
        with urllib.request.urlopen(f"http://{metrics[1]}/metrics", timeout=10) as page:
            assert b"seqsvr_store_out_of_quorum 0.0" in page.read()


def test_a_second_process_on_the_directory_or_the_port_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "store", "--create") as (process, address):
        second = run(*command(tmp_path / "store"))
        assert second.returncode == 3
        assert f"in use by process {process.pid}" in second.stderr
        third = run(*command(tmp_path / "other", "--create", "--listen", address))
        assert third.returncode == 3
        assert address in third.stderr
        assert "Traceback" not in third.stderr


def test_a_store_that_cannot_be_served_is_refused_clearly(tmp_path: Path) -> None:
    blank = run(*command(tmp_path / "store"))
    assert (blank.returncode, "Blank" in blank.stderr) == (3, True)
    with running(tmp_path / "store", "--create"):
        pass
    foreign = run(*command(tmp_path / "store", "--set", "set-9"))
    assert (foreign.returncode, "set-9" in foreign.stderr) == (3, True)
    (tmp_path / "store" / "data.mdb").write_bytes(b"")
    corrupt = run(*command(tmp_path / "store", "--create"))
    assert (corrupt.returncode, "truncated" in corrupt.stderr) == (3, True)


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    with_environment = run(
        sys.executable,
        "-m",
        "storesvr",
        SEQSVR_DATA=str(tmp_path / "missing"),
        SEQSVR_CLUSTER="c1",
        SEQSVR_LISTEN="127.0.0.1:0",
    )
    assert with_environment.returncode == 3
    assert "missing" in with_environment.stderr
    assert run(sys.executable, "-m", "storesvr").returncode == 2
