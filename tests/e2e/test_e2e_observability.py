"""What an operator sees: metrics that move, health, reflection, status."""

import contextlib
import json
import time
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from processes import SMALL, Service, Services, free_port, seqctl
from processes.calls import channel_to, plain
from processes.metrics import Scrape, scrape
from seqsvr.v1 import alloc_pb2 as pb

SECTIONS = SMALL // 100_000
TYPES = {
    "seqsvr_numbers": "counter",
    "seqsvr_numbers_skipped": "counter",
    "seqsvr_requests": "counter",
    "seqsvr_errors": "counter",
    "seqsvr_request_seconds": "histogram",
    "seqsvr_batch_entries": "histogram",
    "seqsvr_raises": "counter",
    "seqsvr_raise_seconds": "histogram",
    "seqsvr_raise_waits": "counter",
    "seqsvr_lease_renewals": "counter",
    "seqsvr_lease_left_seconds": "gauge",
    "seqsvr_sections": "gauge",
    "seqsvr_window_left": "gauge",
    "seqsvr_epoch_changes": "counter",
    "seqsvr_route_version": "gauge",
    "seqsvr_sessions": "gauge",
    "seqsvr_loop_lag_seconds": "histogram",
    "seqsvr_replicas_ejected": "gauge",
    "seqsvr_replicas_behind": "gauge",
    "seqsvr_repairs": "counter",
    "seqsvr_store_requests": "counter",
    "seqsvr_store_commit_seconds": "histogram",
    "seqsvr_store_commit_sections": "histogram",
    "seqsvr_store_records": "gauge",
    "seqsvr_store_leases": "gauge",
    "seqsvr_store_out_of_quorum": "gauge",
    "seqsvr_number_space_used_ratio": "gauge",
    "seqsvr_sections_unserved": "gauge",
    "seqsvr_waiting_entries": "gauge",
    "seqsvr_replicas": "gauge",
    "seqsvr_build_info": "gauge",
    "process_open_fds": "gauge",
}


def measured(services: Services) -> tuple[Service, Callable[[], Scrape]]:
    """A service that serves metrics, and a function that reads them."""
    address = f"127.0.0.1:{free_port()}"
    service = services(options=["--metrics", address]).start()
    return service, lambda: scrape(address)


def test_every_metric_exists_under_its_name_and_type(services: Services) -> None:
    _, read = measured(services)
    types = read().types
    assert {name: types.get(name) for name in TYPES} == TYPES


def test_numbers_handed_out_are_counted_exactly(services: Services) -> None:
    service, read = measured(services)
    assert read().value("seqsvr_numbers_total") == 0
    with plain(service.address) as calls:
        calls.next(1)
        calls.next(2, 500)
        calls.next_many([1, 2, 3, 1])
        calls.next_many([1, 2], [10, 20])
        calls.current(1)
        with pytest.raises(grpc.RpcError):
            calls.next(1, 10_001)
        requests = [
            pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=[5, 6], counts=[7, 1])),
            pb.SessionRequest(id=2, current=pb.BatchGetCurSeqRequest(uids=[5, 6])),
            pb.SessionRequest(id=3, next=pb.BatchGetSeqRequest(uids=[5, SMALL])),
        ]
        list(calls.stub.Session(iter(requests)))
    assert read().value("seqsvr_numbers_total") == 1 + 500 + 4 + 30 + 8 + 1


def test_requests_and_errors_are_counted_by_rpc_and_reason(services: Services) -> None:
    service, read = measured(services)
    with plain(service.address) as calls:
        for _ in range(3):
            calls.next(1)
        calls.current(1)
        calls.next_many([1, 2])
        calls.route()
        for uid, count in ((SMALL, 1), (1, 0), (1, 0)):
            with pytest.raises(grpc.RpcError):
                calls.next(uid, count)
        with pytest.raises(grpc.RpcError):
            calls.next_many([])
        batch = pb.BatchGetCurSeqRequest(uids=[SMALL, 1, SMALL])
        calls.stub.BatchGetCurSeq(batch)
        list(calls.stub.Session(iter([pb.SessionRequest(id=1)])))
    found = read()
    requests = {
        rpc: found.value("seqsvr_requests_total", rpc=rpc)
        for rpc in ("GetSeq", "GetCurSeq", "BatchGetSeq", "BatchGetCurSeq", "GetRoute", "Session")
    }
    assert requests == {
        "GetSeq": 6,
        "GetCurSeq": 1,
        "BatchGetSeq": 2,
        "BatchGetCurSeq": 1,
        "GetRoute": 1,
        "Session": 1,
    }
    errors = {
        (rpc, reason): found.value("seqsvr_errors_total", rpc=rpc, reason=reason)
        for rpc, reason in (
            ("GetSeq", "UID_OUT_OF_RANGE"),
            ("GetSeq", "COUNT_OUT_OF_RANGE"),
            ("BatchGetSeq", "BATCH_TOO_LARGE"),
            ("BatchGetCurSeq", "UID_OUT_OF_RANGE"),
            ("Session", "MALFORMED"),
        )
    }
    assert list(errors.values()) == [1, 2, 1, 2, 1], errors
    assert sum(errors.values()) == found.total("seqsvr_errors_total")
    assert found.value("seqsvr_request_seconds_count", rpc="GetSeq") == 6
    assert 0 < found.value("seqsvr_request_seconds_sum", rpc="GetSeq") < 60
    assert found.value("seqsvr_batch_entries_sum", rpc="BatchGetSeq") == 2


def test_raises_and_commits_are_counted_and_timed(services: Services) -> None:
    service, read = measured(services)
    first = read()
    assert first.value("seqsvr_raises_total", outcome="won") == SECTIONS
    assert first.value("seqsvr_store_commit_seconds_count") >= 2
    assert first.value("seqsvr_store_commit_seconds_sum") > 0
    assert first.value("seqsvr_store_records") == SECTIONS
    assert first.value("seqsvr_store_requests_total", rpc="Raise", outcome="ok") >= 1
    with plain(service.address) as calls:
        for _ in range(4):
            calls.next(1, 10_000)
    second = read()
    assert second.value("seqsvr_raises_total", outcome="won") > SECTIONS
    for name in ("seqsvr_raise_seconds_count", "seqsvr_store_commit_seconds_count"):
        assert second.value(name) > first.value(name)


def test_lease_sections_and_window_are_shown(services: Services) -> None:
    service, read = measured(services)
    found = read()
    assert 0 < found.value("seqsvr_lease_left_seconds") <= 2
    assert found.value("seqsvr_sections", state="serving") == SECTIONS
    assert found.total("seqsvr_sections") == SECTIONS
    assert found.value("seqsvr_window_left") == 10_000
    assert found.value("seqsvr_number_space_used_ratio") == 10_000 / (2**63 - 1)
    assert found.value("seqsvr_sections_unserved") == 0
    for which in ("all", "needed", "granting"):
        assert found.value("seqsvr_replicas", which=which) == 1
    assert found.value("seqsvr_epoch_changes_total", event="won") == SECTIONS
    assert found.value("seqsvr_numbers_skipped_total", cause="ceiling") == 0
    assert found.value("seqsvr_route_version") > 0
    assert found.value("seqsvr_store_leases") == 1
    assert found.value("seqsvr_store_out_of_quorum") == 0
    with plain(service.address) as calls:
        calls.next(1, 100)
    renewals = found.value("seqsvr_lease_renewals_total", outcome="granted")
    deadline_s = time.monotonic() + 20
    while read().value("seqsvr_lease_renewals_total", outcome="granted") < renewals + 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert read().value("seqsvr_lease_left_seconds") > 0


def test_a_crash_is_seen_in_the_numbers_skipped_and_a_graceful_restart_is_not(
    services: Services,
) -> None:
    service, read = measured(services)
    with plain(service.address) as calls:
        calls.next(1)
    service.restart()
    assert read().value("seqsvr_numbers_skipped_total", cause="ceiling") == 0
    service.kill()
    service.start()
    assert read().value("seqsvr_numbers_skipped_total", cause="ceiling") > 0


def test_health_says_alive_and_ready(services: Services) -> None:
    service = services().start()
    with channel_to(service.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "seqsvr.ready"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nonsense"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_not_ready_before_ready_and_while_leaving(services: Services) -> None:
    """Where traffic is sent by health: it may come from `ready` on, and not after SIGTERM."""
    service = services(port=free_port(), uid_limit=None)
    service.spawn()
    seen: list[int] = []
    with channel_to(f"127.0.0.1:{service.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="seqsvr.ready")
        before = health.Check(request, timeout=30, wait_for_ready=True).status
        assert service.is_ready() or before == health_pb2.HealthCheckResponse.NOT_SERVING
        service.wait_ready()
        deadline_s = time.monotonic() + 10
        while health.Check(request, timeout=10).status != health_pb2.HealthCheckResponse.SERVING:
            assert time.monotonic() < deadline_s
        watched = health.Watch(request, timeout=60)
        seen.append(next(watched).status)
        service.process.terminate()
        with contextlib.suppress(grpc.RpcError):
            seen.extend(answer.status for answer in watched)
    assert seen[:1] == [health_pb2.HealthCheckResponse.SERVING]
    assert seen[-1:] == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert service.wait() == 0


def test_reflection_lists_the_services_and_describes_them(services: Services) -> None:
    service = services().start()
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="seqsvr.v1.Alloc"),
    ]
    with channel_to(service.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), timeout=10)
    names = {found.name for found in listed.list_services_response.service}
    assert names == {
        "seqsvr.v1.Alloc",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert b"GetSeqRequest" in described.file_descriptor_response.file_descriptor_proto[0]


def test_the_commands_of_an_operator_see_the_service(services: Services) -> None:
    service = services().start()
    at = ("--addr", service.address, "-o", "json")
    assert json.loads(seqctl("next", 7, "--count", 3, *at).stdout) == {
        "uid": 7,
        "seq": 1,
        "count": 3,
    }
    assert json.loads(seqctl("current", 7, 8, *at).stdout) == [
        {"uid": 7, "seq": 3, "exact": True},
        {"uid": 8, "seq": 0, "exact": True},
    ]
    assert service.address in seqctl("route", *at).stdout
    status = seqctl("status", *at)
    assert status.returncode == 0 and service.address in status.stdout
    service.kill()
    assert seqctl("status", *at).returncode == 3
    assert seqctl("next", 7, *at).returncode == 3


def test_with_json_every_line_of_the_log_is_an_object_that_says_who_logged_it(
    services: Services,
) -> None:
    service = services(options=["--log-format", "json", "--log-level", "info"]).start()
    service.kill()
    service.start()  # from its ceilings
    assert service.terminate() == 0
    lines = [json.loads(line) for line in service.all_stderr().splitlines()]
    assert "ready" in {line.get("event") for line in lines}
    for line in lines:
        assert {"time", "level", "logger"} <= line.keys()
    assert all(line["set"] == "set-0" for line in lines if line.get("event") == "ready")
    incarnations = {line["incarnation"] for line in lines if line.get("event") == "ready"}
    assert len(incarnations) == 2
