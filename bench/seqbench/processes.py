"""Child processes, each pinned to a core, none of which outlives us."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from processes.commands import ROOT, environment

READY_S = 120.0
STOP_S = 30.0
PATHS = os.pathsep.join((str(ROOT / "bench"), str(ROOT / "tests")))


class Missing(Exception):
    """A contestant cannot take part; the text says what to install."""


def cores() -> tuple[int, int]:
    """The core of servers and that of the load; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Children that are started meanwhile run on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of a child: finds our modules, no proxy stands before loopback."""
    kept = {k: v for k, v in environment().items() if not k.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": PATHS, **(more or {})}


def as_user(user: str) -> list[str]:
    """The beginning of a command that runs as this user, or as ourselves if the name is empty."""
    who = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    return ["setpriv", *who]


class Child:
    """A server on the core of servers; what it says goes to FOLDER/NAME.log.

    ready: whether it serves, given what it has said so far. user: whom it runs as, by name.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Sequence[object],
        ready: Callable[[str], bool],
        user: str = "",
    ) -> None:
        self.name, self._log, self._ready = name, folder / f"{name}.log", ready
        self._command = [*as_user(user), "--pdeathsig", "KILL", *map(str, command)]
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it, and do not wait."""
        with on_core(cores()[0]), self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=surroundings(),
                cwd=self._log.parent,
                start_new_session=True,  # a Ctrl-C is ours: we end it
            )

    def start(self) -> "Child":
        """Start it and wait until it serves. RuntimeError if it does not."""
        self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """RuntimeError with the end of what it said where it ends, or takes too long."""
        deadline_s = time.monotonic() + READY_S
        while not self._ready(self.said()):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{self.name} does not serve: {self.said()[-2000:]}")
            time.sleep(0.02)

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Let it leave; kill it where it does not."""
        if self._process is None:
            return
        self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self.kill()


def says_ready(said: str) -> bool:
    """As our servers do."""
    return any(line.startswith("ready ") for line in said.splitlines())


def cpu_s(pids: Sequence[int]) -> float:
    """CPU time so far of these processes and their living descendants, user and system."""
    found, seconds = list(pids), 0.0
    for pid in found:  # grows meanwhile
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def machine_cpu_s() -> float:
    """CPU time so far of everything on this machine, what a hypervisor took included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
