"""How a server program writes its log: one line per event on standard error, console or JSON.

Whoever logs, it comes out the same way: events of clustermap.logs with their fields, messages
`event=... key=value` of logging's own loggers taken apart, and the text of libraries as `message`.
What was bound (set, incarnation) goes with each. Lines are bounded; tracebacks are cut in front.

Values may come from outside. They break no line (on a console, control characters are escaped and
the lines of a traceback indented; in JSON they are escaped as JSON has it), and are no keys: which
keys a message has is read from its format, not from what was put into it.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice

from structlog.contextvars import get_contextvars

from clustermap.logs import MAX_VALUE, cut, logfmt
from seqsvr.escaping import escaped
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

_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S*(?:\s+(?!\w+=)\S+)*"""
_PAIR = re.compile(rf"(?:^|\s)(\w+)=({_TEXT})(?=\s|$)")
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_PLACE = re.compile(r"%(?:%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])")
_INDENT = "\n    "
GRPC = "grpc._cython.cygrpc"
GONE = "ExecuteBatchError raised in core"
FEW, EACH_S = 10, 60.0


def set_up(form: str = "console", level: str = "info") -> None:
    """Log to standard error; where logging was set up before, nothing changes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else ConsoleLines())
    logging.basicConfig(handlers=[handler], level=level.upper())
    grpc = logging.getLogger(GRPC)
    if not any(isinstance(one, Few) for one in grpc.filters):
        grpc.addFilter(Few())


class Few(logging.Filter):
    """Lets FEW records through in EACH_S: gRPC has a traceback for each call whose metadata is no
    text, or whose message is none, and anybody may send those. None of callers that have gone
    while an answer was on its way.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since_s, self._seen = float("-inf"), 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(GONE):
            return False
        if record.created - self._since_s >= EACH_S or record.created < self._since_s:
            self._since_s, self._seen = record.created, 0
        self._seen += 1
        return self._seen <= FEW


class ConsoleLines(logging.Formatter):
    """Time, level, logger, then event=... key=value; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escaped(_bounded(record.message))
        known = sorted(get_contextvars().items())
        bound = {key: value for key, value in known if f" {key}=" not in record.message}
        line = super().formatMessage(record)
        return f"{line} {escaped(logfmt(bound))}" if bound else line

    def formatException(self, ei: object) -> str:
        return _indented(_end_of(super().formatException(ei)))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:
        return _indented(_end_of(stack_info))


class JsonLines(logging.Formatter):
    """One JSON object per line: time (UTC, RFC 3339), level, logger, what is bound, the fields."""

    def format(self, record: logging.LogRecord) -> str:
        own: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line = {**own, **get_contextvars(), **fields_of(record), **own}
        if record.exc_info:
            line["exception"] = _end_of(self.formatException(record.exc_info))
        text = json.dumps(line, ensure_ascii=False, default=str)
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What a record says, by key; `message` is what is not said by key."""
    fields = getattr(record, "fields", None)
    if isinstance(fields, Mapping):
        return fields
    text = record.getMessage()
    if not text.startswith("event="):
        return {"message": _bounded(text)}
    pairs = _PAIR.findall(str(record.msg))
    if not isinstance(record.args, tuple) or not record.args:
        return {key: _value(value) for key, value in pairs}
    args = iter(record.args)
    return {key: _value(_filled(value, args)) for key, value in pairs}


def _filled(form: str, args: Iterator[object]) -> str:
    """A part of a format with its share of what comes next."""
    places = sum(place != "%%" for place in _PLACE.findall(form))
    return form % tuple(islice(args, places))


def _value(text: str) -> object:
    if quoted := _QUOTED.fullmatch(text):
        inside = quoted[1] if quoted[1] is not None else quoted[2]
        return cut(inside.replace("\\'", "'").replace("\\n", "\n"))
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else cut(text)


def _indented(text: str) -> str:
    """Lines that nobody takes for events."""
    return _INDENT.join(["", *map(escaped, text.split("\n"))])[1:]


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "..."


def _end_of(text: str) -> str:
    """Of a traceback, whose end says most."""
    return text if len(text) <= MAX_TRACEBACK else "..." + text[-MAX_TRACEBACK:]
