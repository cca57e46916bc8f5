"""Server processes that end with the test."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from processes import ROOT, environment

PATIENCE_S = 60.0
_STARTED = re.compile(r"event=worker_started worker=\d+ pid=(\d+)")


def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until `holds()` is true; a test that waits in vain fails after PATIENCE_S."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"in vain: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Child:
    """`python -m MODULE ...`, started by the constructor; output in FOLDER/NAME.out and .err."""

    def __init__(
        self,
        folder: Path,
        name: str,
        module: str,
        *arguments: object,
        environ: dict[str, str] | None = None,
    ) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**environment(), **(environ or {})},
                start_new_session=True,  # a Ctrl-C on the test run is not meant for it
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._err.read_text()

    @property
    def out(self) -> str:
        return self._out.read_text()

    def ready(self) -> str:
        """Wait for the line `ready HOST:PORT`; the address."""

        def is_ready() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log}"
            return self.out.endswith("\n")

        eventually(is_ready, f"ready: {self.log}")
        word, address = self.out.split()
        assert word == "ready", self.out
        return address

    def workers(self) -> list[int]:
        """The pid of every worker that it ever started."""
        return [int(pid) for pid in _STARTED.findall(self.log)]

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {PATIENCE_S} s: {self.log}") from None

    def close(self) -> None:
        """kill -9, of the workers too."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        try:
            eventually(lambda: not any(map(alive, self.workers())), f"an end of all: {self.log}")
        finally:
            for pid in filter(alive, self.workers()):
                os.kill(pid, signal.SIGKILL)
