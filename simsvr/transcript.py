"""What happened, as lines that a person can read: true time, host, event."""

import hashlib
import logging
from collections import deque

from simsvr.hosts import HOST
from simsvr.loop import SimLoop

KEPT = 4000


class Transcript:
    """The last lines, and a digest over all of them: two runs of a seed have the same."""

    def __init__(self, loop: SimLoop, kept: int = KEPT) -> None:
        self._loop = loop
        self.lines: deque[tuple[int, str, str]] = deque(maxlen=kept)
        self._digest = hashlib.sha256()

    def note(self, who: str, text: str) -> None:
        now_ns = self._loop.now_ns
        self.lines.append((now_ns, who, text))
        self._digest.update(f"{now_ns} {who} {text}\n".encode())

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()[:16]

    def show(self, last: int = 60, until_ns: int | None = None) -> str:
        """The last lines, up to an instant."""
        lines = [line for line in self.lines if until_ns is None or line[0] <= until_ns]
        return "\n".join(f"{at / 1e9:10.6f}  {who:9} {text}" for at, who, text in lines[-last:])


class LogLines(logging.Handler):
    """What the product logs, in the transcript."""

    def __init__(self, transcript: Transcript) -> None:
        super().__init__(logging.INFO)
        self._transcript = transcript

    def emit(self, record: logging.LogRecord) -> None:
        host = HOST.get()
        who = "-" if host is None else host.name
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self._transcript.note(who, text)
