"""Traces: nothing unless asked for; then calls, batches, answers, raises, fences and commits."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import seqsvr
from cluster_in_a_box.box import opened
from processes import Services, environment, free_port
from processes.calls import channel_to
from seqsvr import tracing
from seqsvr.v1 import alloc_pb2, alloc_pb2_grpc
from seqsvr.v1 import store_pb2 as pb
from storesvr.memory import Disk
from storesvr.port import Identity
from storesvr.service import add_to_server
from storesvr.servicer import SERVER_OPTIONS
from svrprocess.failures import WrongUsage
from svrprocess.store_client import GrpcReplica
from svrprocess.tracing import is_wanted, set_up


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_opentelemetry(provider)
    yield exporter
    tracing.use_nothing()
    provider.shutdown()


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def test_what_is_off_imports_nothing_and_does_nothing() -> None:
    code = """
import sys, seqsvr
from seqsvr import tracing
import allocsvr.__main__, storesvr.__main__, arbitersvr.__main__
with tracing.span("a"), tracing.root("b"), tracing.continued("c", ()):
    assert tracing.headers() == ()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


def test_the_bare_client_needs_nothing_of_the_servers() -> None:
    code = """
import sys, seqsvr
strange = ("structlog", "prometheus_client", "opentelemetry", "clustermap", "svrprocess", "lmdb")
assert not [name for name in sys.modules if name.partition(".")[0] in strange]
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


def test_the_other_side_continues_a_span_by_its_metadata(exported: InMemorySpanExporter) -> None:
    with tracing.span("asking"):
        metadata = tracing.headers()
    with tracing.continued("answering", (*metadata, ("other-bin", b"x"))):
        pass
    asking, answering = exported.get_finished_spans()
    assert [key for key, _ in metadata] == ["traceparent"]
    assert answering.parent is not None and asking.context is not None
    assert answering.parent.span_id == asking.context.span_id
    assert answering.parent.trace_id == asking.context.trace_id


async def test_calls_of_a_client_and_its_batches_are_spans(
    exported: InMemorySpanExporter, services: Services
) -> None:
    service = services().start()
    async with seqsvr.AsyncClient(service.address) as client:
        assert await client.next(7) == 1
        assert len(await client.next_many([1, 2, 3])) == 3
        assert (await client.current(7)).exact
    found = names(exported)
    assert {"seqsvr.next", "seqsvr.next_many", "seqsvr.current", "seqsvr.batch"} <= set(found)
    ended_by = [dict(span.attributes or {}) for span in exported.get_finished_spans()]
    assert not any("seqsvr.ended_by" in attributes for attributes in ended_by)


def test_spans_that_nobody_ends_are_ended_with_their_stream(exported: InMemorySpanExporter) -> None:
    spans = tracing.Spans("batch")
    for key in range(3):
        spans.begin(key)
    spans.end(1)
    spans.end(99)
    assert len(exported.get_finished_spans()) == 1
    spans.end_all("the stream ended")
    assert len(exported.get_finished_spans()) == 3


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_environment_turns_traces_on(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted


def test_traces_that_cannot_be_had_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(WrongUsage, match=r"install seqsvr\[otel\]"):
        set_up("p", {"OTEL_TRACES_EXPORTER": "otlp"})
    set_up("p", {})()


async def test_a_store_continues_the_trace_of_a_request_over_the_wire(
    exported: InMemorySpanExporter,
) -> None:
    store = opened(Disk(Identity("c", "set-0", "r", 10, 100, store_id=9)))
    server = grpc.aio.server(options=list(SERVER_OPTIONS))
    port = server.add_insecure_port("127.0.0.1:0")
    add_to_server(store, server)
    await server.start()
    replica = GrpcReplica(f"127.0.0.1:{port}")
    header = pb.StoreHeader(cluster="c", set="set-0", membership=1)
    entry = pb.RaiseEntry(section=1, epoch=1, max_seq=5)
    try:
        with tracing.span("asking"):
            await replica.raise_max(pb.RaiseRequest(header=header, incarnation=1, entries=[entry]))
    finally:
        await replica.aclose()
        await server.stop(0)
        await store.aclose()
    spans = {span.name: span for span in exported.get_finished_spans()}
    answered, asked = spans["seqsvr.v1.Store/Raise"], spans["asking"]
    assert answered.parent is not None and asked.context is not None
    assert answered.parent.span_id == asked.context.span_id
    assert dict(spans["seqsvr.commit"].attributes or {}) == {"sections": 1, "requests": 1}


class Collector:
    """Takes what is exported, as an OpenTelemetry collector does; spans by name."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Any]] = {}
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        name = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _export(self, request: Any, _context: Any) -> Any:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.name, []).append(span)
        return ExportTraceServiceResponse()

    def close(self) -> None:
        self._server.stop(0).wait()


def test_a_server_exports_what_the_environment_asks_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    try:
        service = services().start()
        with channel_to(service.address) as channel:
            stub: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
            metadata = (("traceparent", f"00-{trace}-{parent}-01"),)
            stub.GetSeq(alloc_pb2.GetSeqRequest(uid=7), timeout=20, metadata=metadata)
            requests = [
                alloc_pb2.SessionRequest(id=1, next=alloc_pb2.BatchGetSeqRequest(uids=[5, 6]))
            ]
            list(stub.Session(iter(requests), timeout=20))
        assert service.terminate() == 0
    finally:
        collector.close()
    wanted = {"seqsvr.fence", "seqsvr.raise", "seqsvr.commit", "seqsvr.answer"}
    assert wanted <= collector.spans.keys()
    (call,) = collector.spans["seqsvr.v1.Alloc/GetSeq"]
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (trace, parent)


def test_a_collector_that_is_not_there_keeps_no_server_from_serving_or_stopping(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    service = services().start()
    with channel_to(service.address) as channel:
        stub: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        assert stub.GetSeq(alloc_pb2.GetSeqRequest(uid=7), timeout=20).seq == 1
    assert service.terminate() == 0
    assert len(service.stderr()) < 100_000
