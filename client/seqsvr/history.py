"""A record of every finished call, for `seqctl check`: one JSON object per line and uid.

`{"op", "uid", "count", "call_ns", "return_ns", "seq", "exact", "epoch", "error"}`, with times of
CLOCK_MONOTONIC, so the histories of all processes of one machine can be checked together. A call
that failed has `error` (a reason) and no seq; `exact` is null but for `current`, `epoch` null if
unknown. An `advance` has `at_least` too, and its seq is where the uid stood after it.
Lines are buffered, and on their way to the file within a second.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TextIO

from seqsvr.calls import Advance, Entry, Op, error_of

FLUSH_S = 1.0
_FLUSH_LINES = 1_000


class History:
    """Appends to the file at `path`. Raises OSError if it cannot be opened.

    Calls go on if the disk is full, but `close` raises the first OSError then: a history with
    holes proves nothing.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        # Who sends how much to whom is nobody's business.
        self._file: TextIO = open(path, "a", encoding="ascii", opener=_private)  # noqa: SIM115
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._trouble: OSError | None = None
        self.open_calls = 0

    @contextmanager
    def call(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Around a call: notes its entries when it has ended, however it did."""
        self.open_calls += 1
        call_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self.open_calls -= 1
            self._record(entries, call_ns, time.monotonic_ns())

    def _record(self, entries: Sequence[Entry], call_ns: int, return_ns: int) -> None:
        lines = (_line(entry, call_ns, return_ns) for entry in entries)
        self._lines += [line for line in lines if line is not None]
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._lines and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        try:
            self._file.write("".join(lines))
            self._file.flush()
        except OSError as error:
            self._trouble = self._trouble or error

    def close(self) -> None:
        """Flush and close. Raises the first OSError that any write met."""
        if self._file.closed:
            return
        self.flush()
        try:
            self._file.close()
        except OSError as error:
            self._trouble = self._trouble or error
        if self._trouble is not None:
            raise self._trouble


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(entry: Entry, call_ns: int, return_ns: int) -> str | None:
    head = (
        f'{{"op": "{entry.op.value}", "uid": {entry.uid}, "count": {entry.count}, '
        f'"call_ns": {call_ns}, "return_ns": {return_ns}, '
    )
    if isinstance(entry, Advance):
        head += f'"at_least": {entry.at_least}, '
    if entry.seq is not None:
        exact = "null" if entry.op is not Op.CURRENT else ("true" if entry.exact else "false")
        epoch = entry.epoch or "null"
        return f'{head}"seq": {entry.seq}, "exact": {exact}, "epoch": {epoch}, "error": null}}\n'
    reason = _reason(entry)
    if reason is None:
        return None
    return f'{head}"seq": null, "exact": null, "epoch": null, "error": "{reason}"}}\n'


def _reason(entry: Entry) -> str | None:
    """Why an entry has no answer; None: its caller left before it was sent."""
    if entry.failure is not None:
        return error_of(entry, entry.failure).reason
    return "OUTCOME_UNKNOWN" if entry.doubt else None
