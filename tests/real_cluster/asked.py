"""A child that answers one line of JSON with another: calls from tests into a host."""

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes import ROOT
from real_cluster.network import Host
from real_cluster.program import surroundings

ANSWER_S = 30.0


class Asked:
    """Runs until `close`; its standard error goes to `errors`."""

    def __init__(self, host: Host, command: Sequence[str], errors: Path) -> None:
        self._errors = errors
        self._rest = b""
        with errors.open("wb") as error:
            self._process = subprocess.Popen(
                [*host.entering, "setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=error,
                env=surroundings(),
                cwd=ROOT,
                start_new_session=True,
            )

    def ask(self, **question: object) -> Any:
        """What it answers; AssertionError where it does not, with what it complained of."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"it has ended: {self.complaints()}") from None
        return json.loads(self._line())

    def complaints(self) -> str:
        return self._errors.read_text(errors="replace")[-4000:]

    def wait(self, timeout_s: float = ANSWER_S) -> int:
        """Wait for its end of its own accord; the exit code."""
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """End it in whatever state it is."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> bytes:
        """One line of its answer; not by readline, which cannot be given up."""
        assert self._process.stdout is not None
        stream, deadline_s = self._process.stdout.fileno(), time.monotonic() + ANSWER_S
        while b"\n" not in self._rest:
            left_s = deadline_s - time.monotonic()
            ready = left_s > 0 and select.select([stream], [], [], left_s)[0]
            assert ready, f"no answer within {ANSWER_S} s: {self.complaints()}"
            more = os.read(stream, 1 << 20)
            assert more, f"it has ended: {self.complaints()}"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line
