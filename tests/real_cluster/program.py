"""A process of the cluster on its host: started, killed, frozen, and started again as it was."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from processes import ROOT, environment
from real_cluster.network import Host

READY_S = 60.0
EXIT_S = 60.0
_POLL_S = 0.01
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy")


def surroundings() -> dict[str, str]:
    """Environment of a child: nothing of SEQSVR_... but one, no proxy, tests/ importable."""
    kept = {k: v for k, v in environment().items() if k.lower() not in _PROXIES}
    # The hosts are namespaces of ours. Not a flag: versions from before it know it not.
    return {**kept, "PYTHONPATH": str(ROOT / "tests"), "SEQSVR_INSECURE": "true"}


class Program:
    """`command` on `host`, run after run; output of run i in FOLDER/NAME-i.out and .err.

    ready: whether it serves, given its standard output and standard error so far.
    environ: on top of `surroundings`.
    """

    def __init__(
        self,
        name: str,
        host: Host,
        folder: Path,
        command: Sequence[str],
        ready: Callable[[str, str], bool],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.command = list(command)
        self.runs = 0
        self.may_trace = False  # a Traceback on stderr is no failure of the test
        self._folder = folder
        self._ready = ready
        self.environ = {**surroundings(), **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return self.name

    # -- starting

    def start(self) -> "Program":
        """Start and wait until it is ready."""
        self.spawn()
        self.wait_ready()
        return self

    def spawn(self, *more: str) -> None:
        """Start, with more arguments for this once, and do not wait."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already")
        self.runs += 1
        # setpriv: it does not outlive us, whatever ends us.
        command = [*self.host.entering, "setpriv", "--pdeathsig", "KILL", *self.command, *more]
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environ,
                cwd=ROOT,
                start_new_session=True,  # a Ctrl-C on the test run is not meant for it
            )

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until it serves; fails with its stderr if it ends instead."""
        deadline_s = time.monotonic() + timeout_s
        while not self._ready(self.stdout(), self.stderr()):
            code = self._running.poll()
            if code is not None:
                raise AssertionError(f"{self.name} ended with {code}: {self.stderr()[-4000:]}")
            if time.monotonic() > deadline_s:
                raise AssertionError(
                    f"{self.name} not ready after {timeout_s} s: {self.stderr()[-4000:]}"
                )
            time.sleep(_POLL_S)

    # -- harming

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self._frozen = None, False

    def freeze(self) -> None:
        """SIGSTOP; returns when it really stands still."""
        self._running.send_signal(signal.SIGSTOP)
        self._frozen = True
        deadline_s = time.monotonic() + 5
        while self._state() != "T" and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def thaw(self) -> None:
        """SIGCONT, if it was frozen."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
            self._frozen = False

    # -- ending

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._running.send_signal(number)

    def wait(self, timeout_s: float = EXIT_S) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        try:
            code = self._running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {timeout_s} s: {self.stderr()[-4000:]}"
            ) from None
        self._process, self._frozen = None, False
        return code

    def leave(self, timeout_s: float = EXIT_S) -> None:
        """SIGTERM, and it must leave with 0."""
        self.signal()
        code = self.wait(timeout_s)
        assert code == 0, f"{self.name} left with {code}: {self.stderr()[-4000:]}"

    # -- watching

    @property
    def runs_still(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def started(self) -> bool:
        """Started, and neither killed by us nor waited for."""
        return self._process is not None

    @property
    def serves(self) -> bool:
        """Whether it runs, and has said that it is ready."""
        return self.runs_still and self._ready(self.stdout(), self.stderr())

    @property
    def pid(self) -> int:
        return self._running.pid

    def stdout(self) -> str:
        """Of the last run."""
        return self._file("out").read_text()

    def stderr(self) -> str:
        """Of the last run."""
        return self._file("err").read_text(errors="replace")

    def traces(self) -> str:
        """What any run wrote from its first Traceback on, unless it was allowed to."""
        if self.may_trace:
            return ""
        for file in sorted(self._folder.glob(f"{self.name}-*.err")):
            text = file.read_text(errors="replace")
            if "Traceback" in text:
                return f"{file.name}: {text[text.index('Traceback') :][:4000]}"
        return ""

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _file(self, kind: str) -> Path:
        return self._folder / f"{self.name}-{self.runs:03}.{kind}"


def says_ready(out: str, err: str) -> bool:
    """As the project's servers do."""
    del err
    return out.startswith("ready ") and out.endswith("\n")


def python(module: str, *arguments: object) -> list[str]:
    """A command that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]
