"""How a server program writes its log: one line per event on standard error, console or JSON.

Whoever logs, it comes out the same way: events of clustermap.logs with their fields, messages
`event=... key=value` of logging's own loggers taken apart, and the text of libraries as `message`.
What was bound (set, incarnation) goes with each. Lines are bounded; tracebacks are cut in front.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from structlog.contextvars import get_contextvars

from clustermap.logs import MAX_VALUE, cut, logfmt
from svrprocess.options import Option
from svrprocess.values import choice

MAX_MESSAGE = 8 * MAX_VALUE
MAX_TRACEBACK = 16 * MAX_VALUE
FORMATS = ("console", "json")
LEVELS = ("debug", "info", "warning", "error")
LOG_OPTIONS = (
    Option("log-format", "console", choice(*FORMATS), "log lines: console (key=value) or json"),
    Option("log-level", "info", choice(*LEVELS), "least level that is logged"),
)

_PAIR = re.compile(
    r"""(\w+)=(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(.*?))(?=\s+\w+=|$)""", re.DOTALL
)


def set_up(form: str = "console", level: str = "info") -> None:
    """Log to standard error; where logging was set up before, nothing changes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else ConsoleLines())
    logging.basicConfig(handlers=[handler], level=level.upper())


class ConsoleLines(logging.Formatter):
    """Time, level, logger, then event=... key=value; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _bounded(record.message).replace("\n", "\\n")
        known = sorted(get_contextvars().items())
        bound = {key: value for key, value in known if f" {key}=" not in record.message}
        line = super().formatMessage(record)
        return f"{line} {logfmt(bound)}" if bound else line

    def formatException(self, ei: object) -> str:
        return _end_of(super().formatException(ei))  # type: ignore[arg-type]


class JsonLines(logging.Formatter):
    """One JSON object per line: time (UTC, RFC 3339), level, logger, what is bound, the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **get_contextvars(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = _end_of(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What a record says, by key; `message` is what is not said by key."""
    fields = getattr(record, "fields", None)
    if isinstance(fields, Mapping):
        return fields
    text = record.getMessage()
    if not text.startswith("event="):
        return {"message": _bounded(text)}
    pairs = (match.groups() for match in _PAIR.finditer(_bounded(text)))
    return {key: _value(single, double, bare) for key, single, double, bare in pairs}


def _value(single: str | None, double: str | None, bare: str | None) -> object:
    quoted = single if single is not None else double
    if quoted is not None:
        return cut(quoted.replace("\\'", "'").replace("\\n", "\n"))
    text = bare or ""
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else cut(text)


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "..."


def _end_of(text: str) -> str:
    """Of a traceback, whose end says most."""
    return text if len(text) <= MAX_TRACEBACK else "..." + text[-MAX_TRACEBACK:]
