"""Traces of a server program: on where OTEL_* variables of the environment ask for them.

OTEL_TRACES_EXPORTER=otlp, or OTEL_EXPORTER_OTLP_ENDPOINT (or its ..._TRACES_ENDPOINT), turns them
on; OTEL_TRACES_EXPORTER=none or OTEL_SDK_DISABLED=true turns them off. What else OpenTelemetry
reads holds as it says, OTEL_TRACES_SAMPLER and its argument above all. Unless they say otherwise
one call in a hundred is traced, and those that come with a trace that is recorded.
"""

import os
import threading
from collections.abc import Callable, Mapping

from seqsvr import tracing
from svrprocess.failures import WrongUsage

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SHARE = 0.01
_END_S = 2.0


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter == "otlp"
    return any(environ.get(name) for name in _ENDPOINTS)


def set_up(program: str, environ: Mapping[str, str] | None = None) -> Callable[[], None]:
    """Begin to trace, if that is wanted; what to call at the end. Raises WrongUsage."""
    environ = os.environ if environ is None else environ
    if not is_wanted(environ):
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise WrongUsage(
            f"OTEL_* variables ask for traces: install seqsvr[otel] ({error})"
        ) from None
    named = environ.get("OTEL_SERVICE_NAME") or program
    sampler = None if environ.get("OTEL_TRACES_SAMPLER") else ParentBasedTraceIdRatio(_SHARE)
    provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.use_opentelemetry(provider)
    return lambda: _end(provider.shutdown)


def _end(shutdown: Callable[[], None]) -> None:
    """Export what is left, unless that takes long: a program that is to stop waits for nobody."""
    tracing.use_nothing()
    ending = threading.Thread(target=shutdown, daemon=True)
    ending.start()
    ending.join(_END_S)
