"""`seqctl up` as a child process."""

import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes.commands import ROOT, environment
from processes.memory import resident_bytes

SMALL = 1_000_000
"""A uid_limit of ten sections: the service is up in well under a second."""

READY_S = 60.0
EXIT_S = 60.0
_POLL_S = 0.005


class Service:
    """One data directory, and the processes that serve it one after another.

    data: the data directory; port: 0 for any; uid_limit: None for the whole space; options: more
    of `seqctl up`; python: options of the interpreter, or a program in place of `-m seqctl`;
    before: a command that runs the command. Output of run i goes to `up-i.out` and `up-i.err` in
    `folder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        port: int = 0,
        uid_limit: int | None = SMALL,
        options: Sequence[str] = (),
        python: Sequence[str] = ("-m", "seqctl"),
        before: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.port = port
        self.options = list(options)
        self.python = list(python)
        self.before = list(before)
        self.runs = 0
        self.address = ""
        self.may_trace = False  # a Traceback on stderr is no failure of the test
        self._uid_limit = uid_limit
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    # -- starting

    def start(self) -> "Service":
        """Start and wait until it is ready."""
        self.spawn()
        self.wait_ready()
        return self

    def spawn(self) -> None:
        """Start, and do not wait."""
        if self._process is not None:
            raise RuntimeError("it runs already")
        self.runs += 1
        self.address = ""
        command = [*self.before, sys.executable, *self.python, "up"]
        command += ["--data", str(self.data), "--listen", f"127.0.0.1:{self.port}", *self.options]
        if self._uid_limit is not None:
            command += ["--uid-limit", str(self._uid_limit)]
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
                cwd=ROOT,
                start_new_session=True,  # a Ctrl-C on the test run is not meant for it
            )

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait for the line `ready HOST:PORT`; fails with its stderr if it ends instead."""
        deadline_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.stderr()}")
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not ready after {timeout_s} s: {self.stderr()}")
            time.sleep(_POLL_S)
        self.address = self.stdout().split()[1]
        assert self.stdout() == f"ready {self.address}\n", "one line and nothing else"

    def is_ready(self) -> bool:
        out = self.stdout()
        return out.startswith("ready ") and out.endswith("\n")

    # -- ending

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, timeout_s: float = EXIT_S) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout_s} s: {self.stderr()}") from None
        self._process = None
        return code

    def restart(self, number: int = signal.SIGTERM) -> "Service":
        """A graceful restart."""
        code = self.terminate(number)
        assert code == 0, f"left with {code}: {self.stderr()}"
        return self.start()

    # -- watching

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError("it does not run")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def runs_still(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stdout(self) -> str:
        """Of the last run."""
        return self._file("out").read_text()

    def stderr(self) -> str:
        """Of the last run."""
        return self._file("err").read_text()

    def all_stderr(self) -> str:
        """Of every run."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("up-*.err")))

    def rss_bytes(self) -> int:
        return resident_bytes(self.pid)

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def _file(self, kind: str) -> Path:
        return self.folder / f"up-{self.runs:03}.{kind}"


class Services:
    """Makes services below one folder, and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Service] = []

    def __call__(self, **options: Any) -> Service:
        """See Service."""
        service = Service(self._folder / f"service-{len(self._made)}", **options)
        self._made.append(service)
        return service

    def copy(self, of: Service, **options: Any) -> Service:
        """A service over a copy of the data directory of one that does not run."""
        service = self(**options)
        shutil.copytree(of.data, service.data)
        return service

    def close(self) -> None:
        for service in self._made:
            service.kill()

    def traces(self) -> str:
        """Tracebacks that any of them wrote and was not allowed to."""
        errors = "".join(s.all_stderr() for s in self._made if not s.may_trace)
        return errors if "Traceback" in errors else ""


def free_port() -> int:
    """A port on which a service can be started again and again.

    It lies outside the range that the kernel gives to outgoing connections: else a client that
    dials while the service is down can be given this very port, and take it.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100):
        port = random.randrange(10_000, min(lowest, 60_000))
        if _is_free(port):
            return port
    raise AssertionError("no free port found below the range of outgoing connections")


def free_base(*offsets: int) -> int:
    """A port from which on those at these offsets are free, likewise."""
    for _ in range(100):
        base = free_port()
        if all(_is_free(base + offset) for offset in offsets):
            return base
    raise AssertionError("no free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
