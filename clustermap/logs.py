"""Loggers of the server rooms: an event and what is known of it, as key=value, by way of logging.

    log = get_logger(__name__)
    log.warning("sections_lost", count=3, first=17, promised=9)

The record that logging gets has the text `event=sections_lost count=3 ...`, so that any handler
shows it (tests, the simulator's transcript), and the same as a mapping in `record.fields`, for
JSON (svrprocess/logs.py). What is bound by `bind` goes with every event of a task, and of those
that it starts. A level that is off costs a comparison. Values are cut at MAX_VALUE characters.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

# Where there is rich, structlog loads it for tracebacks that none of ours are. That takes a seventh
# of the time in which a server starts, and nobody is served meanwhile.
_hidden = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if _hidden is None:
    del sys.modules["rich"]

MAX_VALUE = 1_000

bind = structlog.contextvars.bind_contextvars
"""bind(set="s", incarnation="ab"): for whatever this task, and those that it starts, will log."""


def get_logger(name: str) -> Any:
    """A structlog logger over logging's logger of that name; it has no other configuration."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _to_logging],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )


def logfmt(fields: Mapping[str, object]) -> str:
    """key=value ..., each value without spaces, or in quotes."""
    return " ".join(f"{key}={_shown(value)}" for key, value in fields.items())


def cut(value: object) -> object:
    """The same, or the beginning of what is too long for a log."""
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "..."
    if value is None or isinstance(value, bool | int | float):
        return value
    return cut(repr(value) if isinstance(value, BaseException) else str(value))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if isinstance(value, _Repr):
        return " ".join(text.split())
    plain = text and text.isprintable() and not any(c in text for c in ' "=')
    return text if plain else repr(text)


class _Repr(str):
    """Of an exception: to be shown as it is."""

    __slots__ = ()


def _to_logging(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What logging's own methods are called with."""
    more = {key: event.pop(key) for key in ("exc_info", "stack_info") if key in event}
    fields: dict[str, object] = {"event": event.pop("event")}
    for key, value in event.items():
        fields[key] = _Repr(cut(value)) if isinstance(value, BaseException) else cut(value)
    return (logfmt(fields),), {"extra": {"fields": fields}, **more}
