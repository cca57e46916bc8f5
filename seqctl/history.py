"""Reads the histories that clients write: one JSON object per line and finished call.

Strict: a history that is not understood proves nothing. One thing is forgiven, because a client
killed at any instant leaves it: a last line without its newline that is no whole object.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from seqcheck.calls import Call
from seqctl.failures import WrongUsage
from seqctl.lines import read_lines


@dataclass(slots=True)
class HistoryReader:
    """Iterates over the calls of files; `torn` counts the last lines that were cut off."""

    paths: list[str]
    torn: int = 0

    def __iter__(self) -> Iterator[Call]:
        """Raises WrongUsage naming file and line of the first line that is no call."""
        self.torn = 0
        for path in self.paths:
            for number, line in read_lines(path):
                try:
                    yield parse_call(line, (path, number))
                except ValueError as error:
                    if not line.endswith(b"\n") and not _is_json(line):
                        self.torn += 1
                        continue
                    raise WrongUsage(f"{path}:{number}: {error}") from None


def parse_call(line: bytes, where: tuple[str, int]) -> Call:
    """One line of a history; unknown fields are allowed. Raises ValueError saying what is wrong."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not a JSON object") from None
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    op = entry.get("op")
    if op not in ("next", "current", "advance"):
        raise ValueError('"op" must be "next", "current" or "advance"')
    error = entry.get("error")
    if not (error is None or isinstance(error, str)):
        raise ValueError('"error" must be a string or null')
    call = Call(
        op=op,
        uid=_integer(entry, "uid", 0),
        count=_integer(entry, "count", 1) if op == "next" else 1,
        call_ns=_integer(entry, "call_ns", 0),
        return_ns=_integer(entry, "return_ns", 0),
        seq=_integer(entry, "seq", 1 if op == "next" else 0) if not error else 0,
        exact=_exact(entry) if op == "current" and not error else False,
        epoch=_integer(entry, "epoch", 0) if entry.get("epoch") is not None else 0,
        error=error or None,
        where=where,
        at_least=_integer(entry, "at_least", 0) if op == "advance" else 0,
    )
    if call.return_ns < call.call_ns:
        raise ValueError('"return_ns" is before "call_ns"')
    return call


def _integer(entry: dict[str, object], name: str, least: int) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f'"{name}" must be an integer of at least {least}')
    return value


def _exact(entry: dict[str, object]) -> bool:
    value = entry.get("exact")
    if not isinstance(value, bool):
        raise ValueError('"exact" must be true or false')
    return value


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
