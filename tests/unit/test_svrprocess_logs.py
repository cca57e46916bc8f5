"""Log lines: the same events on a console and as JSON, whoever logs them, and never without end."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from clustermap.logs import MAX_VALUE, bind, get_logger
from svrprocess import logs
from svrprocess.logs import MAX_MESSAGE, MAX_TRACEBACK, ConsoleLines, JsonLines

NAME = "seeing.test"


class Lines(logging.Handler):
    """What both formatters make of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.console: list[str] = []
        self.json: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = JsonLines().format(record)
        assert "\n" not in text
        self.json.append(json.loads(text))
        record.exc_text = None
        self.console.append(ConsoleLines().format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger(NAME), Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    structlog.contextvars.clear_contextvars()
    yield handler
    structlog.contextvars.clear_contextvars()
    logger.removeHandler(handler)


def test_an_event_has_its_fields_on_a_console_and_in_json(lines: Lines) -> None:
    get_logger(NAME).warning("sections_lost", count=3, first=17, why="a lease", seconds=0.25)
    assert lines.console[0].endswith(
        f"WARNING {NAME} event=sections_lost count=3 first=17 why='a lease' seconds=0.25"
    )
    found = lines.json[0]
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning",
        "logger": NAME,
        "event": "sections_lost",
        "count": 3,
        "first": 17,
        "why": "a lease",
        "seconds": 0.25,
    }


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("event=ready", {"event": "ready"}),
        ("event=lost count=3 node=00ff", {"event": "lost", "count": 3, "node": "00ff"}),
        ("event=x error='a b=c' n=1", {"event": "x", "error": "a b=c", "n": 1}),
        ("event=x error=TIMEOUT: not in time", {"event": "x", "error": "TIMEOUT: not in time"}),
        (
            'event=x error=OSError("it\'s") n=-1',
            {"event": "x", "error": 'OSError("it\'s")', "n": -1},
        ),
        ("event=x text=''", {"event": "x", "text": ""}),
        ("whatever a library says: a=b", {"message": "whatever a library says: a=b"}),
    ],
)
def test_what_loggings_own_loggers_say_becomes_fields(
    lines: Lines, message: str, fields: dict[str, object]
) -> None:
    logging.getLogger(NAME).error(message)
    head = {"time", "level", "logger"}
    assert {key: value for key, value in lines.json[0].items() if key not in head} == fields
    assert lines.console[0].endswith(message)


def test_what_was_bound_goes_with_every_line_once(lines: Lines) -> None:
    bind(set="s", incarnation="00ff")
    get_logger(NAME).info("started")
    logging.getLogger(NAME).info("event=moved set=t")
    assert lines.console[0].endswith("event=started incarnation=00ff set=s")
    assert lines.console[1].endswith("event=moved set=t incarnation=00ff")
    assert [line["set"] for line in lines.json] == ["s", "t"]
    assert {line["incarnation"] for line in lines.json} == {"00ff"}


def test_an_exception_is_one_value_and_its_traceback_one_more(lines: Lines) -> None:
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        get_logger(NAME).critical("fatal", error=error, exc_info=error)
        logging.getLogger(NAME).exception("event=failed")
    assert "event=fatal error=ZeroDivisionError('why')\n    Traceback" in lines.console[0]
    assert lines.json[0]["error"] == "ZeroDivisionError('why')"
    for line in lines.json:
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ZeroDivisionError: why")


def test_no_line_is_without_end(lines: Lines) -> None:
    long = "x" * 10**6
    get_logger(NAME).info("long", error=long, other=ValueError(long), bytes=long.encode())
    logging.getLogger(NAME).info("event=long error=%r", long)
    logging.getLogger(NAME).info(long)
    for text, line in zip(lines.console, lines.json, strict=True):
        assert len(text) < MAX_MESSAGE + 200
        assert len(json.dumps(line)) < MAX_MESSAGE + 200
    assert len(lines.json[0]["error"]) == MAX_VALUE + 3
    try:
        raise ValueError(long)
    except ValueError:
        get_logger(NAME).error("deep", exc_info=True)
    assert len(lines.console[-1]) < MAX_TRACEBACK + 200
    assert len(lines.json[-1]["exception"]) <= MAX_TRACEBACK + 3


def test_a_line_break_in_a_message_makes_no_second_line(lines: Lines) -> None:
    get_logger(NAME).info("odd", text="a\nb", error=ValueError("c\nd"))
    logging.getLogger(NAME).info("what a library\nsays")
    assert not any("\n" in line for line in lines.console)
    assert lines.json[0]["text"] == "a\nb"


def test_a_level_that_is_off_is_not_even_rendered(lines: Lines) -> None:
    class Loud:
        def __str__(self) -> str:
            raise AssertionError("rendered")

    get_logger(NAME).debug("quiet", value=Loud())
    assert not lines.json


def test_percent_signs_are_left_alone(lines: Lines) -> None:
    get_logger(NAME).info("share", text="100%s")
    assert lines.console[0].endswith("event=share text=100%s")


HOSTILE = "a\nb\r\x1b[2J\x7f\x9b\x00\u2028\u202e\ud800 level=forged time=0 event=forged x"


def test_nothing_from_outside_breaks_a_line_or_steers_a_terminal(lines: Lines) -> None:
    own = logging.getLogger(NAME)
    bind(set=HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        get_logger(NAME).error("odd", text=HOSTILE, error=error)
        own.error("event=odd text=%s error=%s", HOSTILE, error)
        own.error("event=odd text=%r error=%r", HOSTILE, error)
        own.error("what a library says of %s", HOSTILE)
        own.error(HOSTILE)
    for text in lines.console:
        assert text.isprintable(), text
    for line in lines.json:
        assert line["level"] == "error" and line["logger"] == NAME and line["time"] != "0"
    assert lines.json[0]["text"] == HOSTILE, "a reader of JSON gets what it was"
    for line in lines.json[:3]:
        assert line["event"] == "odd"
        assert line.keys() == {"time", "level", "logger", "set", "event", "text", "error"}


def test_json_lines_hold_printable_characters_only() -> None:
    record = logging.LogRecord(NAME, logging.ERROR, "f", 1, "%s", (HOSTILE + "é\U000e0001",), None)
    text = JsonLines().format(record)
    assert text.isprintable() and "é" in text
    assert json.loads(text)["message"] == HOSTILE + "é\U000e0001"


def test_a_traceback_has_no_line_that_looks_like_an_event(lines: Lines) -> None:
    try:
        raise ValueError("x\n2026-01-01 00:00:00,000 CRITICAL all is lost\x1b[2J")
    except ValueError:
        logging.getLogger(NAME).exception("event=failed")
    _, *more = lines.console[0].split("\n")
    assert len(more) >= 4
    assert all(line.startswith("    ") and line.isprintable() for line in more)


def test_a_long_message_costs_no_time_to_take_apart(lines: Lines) -> None:
    for text in (" " * 10**6, "a= " * 10**5, "'" * 10**6, "\\'" * 10**5):
        began_s = time.process_time()
        logging.getLogger(NAME).error("event=x error=%s", text)
        logging.getLogger(NAME).error("event=x " + text)
        assert time.process_time() - began_s < 5


def test_a_library_that_logs_each_call_of_strangers_fills_no_log() -> None:
    few = logs.Few()

    def passed(at_s: float) -> int:
        record = logging.LogRecord(logs.GRPC, logging.ERROR, "", 0, "no text", (), None)
        record.created = at_s
        return sum(few.filter(record) for _ in range(1_000))

    assert passed(1e9) == logs.FEW
    assert passed(1e9 + logs.EACH_S / 2) == 0
    assert passed(1e9 + logs.EACH_S) == logs.FEW
    assert passed(1e9) == logs.FEW, "a clock that was put back silences nothing"


def test_callers_that_went_before_their_answer_are_nothing_to_log() -> None:
    text = "ExecuteBatchError raised in core by servicer method [/x]"
    record = logging.LogRecord(logs.GRPC, logging.ERROR, "", 0, text, (), None)
    assert not logs.Few().filter(record)
