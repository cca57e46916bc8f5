"""What commands print: one JSON value, lines, a table, or calls that contradict each other.

Names, notes and answers come from outside, so that nothing here is printed as it came: control
characters are escaped. Other modules print through this one.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from seqcheck.calls import Call
from seqcheck.violations import Violation
from seqsvr.escaping import escaped

_WIDE = 10_000  # columns, where standard output is no terminal: nothing is wrapped


def say(text: object = "", *, end: str = "\n", file: TextIO | None = None) -> None:
    """One line, at once; to standard output unless said otherwise."""
    print(escaped(str(text)), end=end, file=file, flush=True)


def print_json(value: object) -> None:
    """The value on one line and nothing else on standard output."""
    print(json.dumps(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings; cells are shown as they are, without markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False)
    for row in rows:
        table.add_row(*(Text(escaped(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else _WIDE
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def print_violations(shown: Sequence[Violation], found: int, file: TextIO) -> None:
    """Each violation in a line, followed by its calls: file:line and the call as JSON."""
    for violation in shown:
        say(f"{violation.promise} broken for uid {violation.uid}: {violation.text}", file=file)
        for call in violation.calls:
            say(f"  {place(call)} {json.dumps(call_as_json(call))}", file=file)
    if found > len(shown):
        say(f"and {found - len(shown)} more", file=file)


def violation_as_json(violation: Violation) -> dict[str, object]:
    calls = [{"where": place(call), **call_as_json(call)} for call in violation.calls]
    return {
        "promise": violation.promise,
        "uid": violation.uid,
        "text": violation.text,
        "calls": calls,
    }


def call_as_json(call: Call) -> dict[str, object]:
    """The fields of a line of a history."""
    names = ("op", "uid", "count", "call_ns", "return_ns", "seq", "exact", "epoch", "error")
    own = ("at_least",) if call.op == "advance" else ()
    return {name: getattr(call, name) for name in (*names, *own)}


def place(call: Call) -> str:
    """file:line of a recorded call; the file alone of a call made before the first line."""
    path, line = call.where
    return f"{path}:{line}" if line else path
