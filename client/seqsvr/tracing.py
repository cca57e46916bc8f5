"""Traces by OpenTelemetry, off unless `use_opentelemetry` was called before a client was made.

Nothing of OpenTelemetry is imported, or needed, until then, and what is off costs a comparison per
batch. Each call of a client is a span, and so is each batch that it sends. Unary calls carry the
context in gRPC metadata (`traceparent`); a batch on a Session shares its stream with others and
begins a trace of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

Metadata = tuple[tuple[str, str], ...]

_CALLS = ("next", "next_range", "next_many", "current", "current_many", "advance", "advance_many")
_OFF: AbstractContextManager[None] = nullcontext()
_MAX_SPANS = 10_000

_tracer: Any = None


def use_opentelemetry(provider: Any = None) -> None:
    """Trace with this TracerProvider; None: with OpenTelemetry's global one.

    Needs the package opentelemetry-api, which the extra `otel` brings; raises ImportError.
    """
    global _tracer
    from opentelemetry import trace

    _tracer = trace.get_tracer("seqsvr", tracer_provider=provider)


def use_nothing() -> None:
    """Trace no more."""
    global _tracer
    _tracer = None


def is_on() -> bool:
    return _tracer is not None


def span(name: str, **attributes: object) -> AbstractContextManager[None]:
    """What is done inside the `with`, as part of what it is done for."""
    return _OFF if _tracer is None else _span(name, None, attributes)


def root(name: str, **attributes: object) -> AbstractContextManager[None]:
    """The same for what is done for many at once: the beginning of a trace."""
    if _tracer is None:
        return _OFF
    from opentelemetry.context import Context

    return _span(name, Context(), attributes)


def continued(
    name: str, metadata: Iterable[Any] | None, **attributes: object
) -> AbstractContextManager[None]:
    """The same for a call that came with this gRPC metadata."""
    if _tracer is None:
        return _OFF
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = {key: value for key, value in metadata or () if isinstance(value, str)}
    return _span(name, TraceContextTextMapPropagator().extract(found), attributes)


def headers() -> Metadata:
    """Metadata by which the other side continues the current span."""
    if _tracer is None:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())


def trace_calls(client: object) -> None:
    """Have every call of this client be a span; nothing where traces are off."""
    if _tracer is not None:
        for name in _CALLS:
            setattr(client, name, _traced(f"seqsvr.{name}", getattr(client, name)))


class Spans:
    """Spans that begin and end in different places, by id; at most _MAX_SPANS are open."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: dict[int, Any] = {}

    def begin(self, key: int, **attributes: object) -> None:
        if _tracer is not None and len(self._open) < _MAX_SPANS:
            from opentelemetry.context import Context

            self._open[key] = _tracer.start_span(self._name, Context(), attributes=attributes)

    def end(self, key: int) -> None:
        if self._open and (begun := self._open.pop(key, None)) is not None:
            begun.end()

    def end_all(self, why: str) -> None:
        """Nobody will end those that are open any more."""
        opened, self._open = self._open, {}
        for begun in opened.values():
            begun.set_attribute("seqsvr.ended_by", why)
            begun.end()


@contextmanager
def _span(name: str, context: Any, attributes: dict[str, Any]) -> Iterator[None]:
    with _tracer.start_as_current_span(name, context, attributes=attributes):
        yield


def _traced(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def traced(*args: Any, **more: Any) -> Any:
        with span(name):
            return await call(*args, **more)

    return traced
