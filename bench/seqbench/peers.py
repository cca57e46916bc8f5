"""Starts the servers of other makers on loopback, each from an empty directory."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from etcd_servers import ETCD_INSTALL_LINE, etcd_binary
from processes.service import free_port
from seqbench.processes import Child, Missing, as_user, cores, on_core, says_ready, surroundings

HOST = "127.0.0.1"


class Peer(Protocol):
    """What a contestant runs."""

    address: str
    certificates: Path | None
    """Folder of `seqctl certs init`, whose allocator may call it over TLS; None: in the clear."""

    def start(self) -> None:
        """Serve at `address`. Raises Missing where this machine has not what it takes."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes whose CPU time is what a number costs its server."""

    @property
    def all_pids(self) -> Sequence[int]:
        """Everything that runs for it."""

    def stop(self) -> None:
        """End all of it."""


class One:
    """A peer that is one process."""

    child: Child | None = None
    address = ""
    certificates: Path | None = None

    @property
    def pids(self) -> Sequence[int]:
        assert self.child is not None
        return [self.child.pid]

    @property
    def all_pids(self) -> Sequence[int]:
        return self.pids

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(self.stop_signal)

    stop_signal = signal.SIGTERM


class BareServer(One):
    """See bare.py."""

    def __init__(self, folder: Path, loop: str) -> None:
        self._folder, self._loop = folder, loop

    def start(self) -> None:
        port = free_port()
        command = [*on_loop(self._loop), "seqbench.bare", port]
        self.child = Child(f"bare-{self._loop}", self._folder, command, says_ready)
        self.child.start()
        self.address = f"{HOST}:{port}"


class RedisServer(One):
    """Append-only file, written with fsync before each answer (always) or once a second."""

    stop_signal = signal.SIGKILL  # nobody needs its file again

    def __init__(self, folder: Path, appendfsync: str) -> None:
        self._folder, self._appendfsync = folder / f"redis-{appendfsync}", appendfsync

    def start(self) -> None:
        binary = found("redis-server", "apt-get install redis-server")
        self._folder.mkdir()
        port = free_port()
        command = [binary, "--port", port, "--bind", HOST, "--dir", self._folder, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", self._appendfsync]
        name = f"redis-{self._appendfsync}"
        self.child = Child(name, self._folder, command, lambda said: "Ready to accept" in said)
        self.child.start()
        self.address = f"{HOST}:{port}"


class Postgres(One):
    """As installed, fsync and synchronous commit on; it refuses to run as root, and need not."""

    stop_signal = signal.SIGINT  # its fast shutdown

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"

    def start(self) -> None:
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        path = os.pathsep.join([*map(str, reversed(places)), os.environ.get("PATH", "")])
        line = "apt-get install postgresql"
        initdb, postgres = found("initdb", line, path), found("postgres", line, path)
        user = _unprivileged() if os.geteuid() == 0 else ""
        self._folder.mkdir()
        if user:
            shutil.chown(self._folder, user, pwd.getpwnam(user).pw_gid)
        data, port = self._folder / "data", free_port()
        self._make([*as_user(user), initdb, "-D", str(data), "-A", "trust", "-U", "bench"])
        command = [postgres, "-D", data, "-p", port, "-k", self._folder, "-h", HOST]
        ready = "database system is ready to accept connections"
        self.child = Child("log", self._folder, command, lambda said: ready in said, user)
        self.child.start()
        self.address = f"{HOST}:{port}"

    def _make(self, initdb: Sequence[str]) -> None:
        """Its data directory. RuntimeError with the end of what initdb says."""
        with on_core(cores()[0]):
            done = subprocess.run(
                [*initdb, "--no-sync", "--no-locale", "--encoding=UTF8"],
                cwd=self._folder,
                env=surroundings(),
                capture_output=True,
                text=True,
            )
        if done.returncode != 0:
            raise RuntimeError(f"initdb: {done.stderr[-2000:]}")


class EtcdServer(One):
    """One member, with fsync."""

    stop_signal = signal.SIGKILL

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def start(self) -> None:
        try:
            binary = etcd_binary()
        except AssertionError:
            raise Missing(f"no etcd: {ETCD_INSTALL_LINE}") from None
        client, peer = free_port(), free_port()
        here, there = f"http://{HOST}:{client}", f"http://{HOST}:{peer}"
        command = [binary, "--name", "etcd", "--data-dir", self._folder / f"{self._name}.data"]
        command += ["--listen-client-urls", here, "--advertise-client-urls", here]
        command += ["--listen-peer-urls", there, "--initial-advertise-peer-urls", there]
        command += ["--initial-cluster", f"etcd={there}", "--quota-backend-bytes", 4 << 30]
        ready = "ready to serve client requests"
        self.child = Child(self._name, self._folder, command, lambda said: ready in said)
        self.child.start()
        self.address = f"{HOST}:{client}"


def on_loop(loop: str) -> list[str]:
    """The beginning of a command that runs a module on this event loop."""
    return [sys.executable, "-m", "seqbench.on_loop", loop]


def found(program: str, install: str, path: str | None = None) -> str:
    """Where a program is. Raises Missing with the line that installs it."""
    binary = shutil.which(program, path=path)
    if binary is None:
        raise Missing(f"no {program}: {install}")
    return binary


def _unprivileged() -> str:
    for user in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(user).pw_name
        except KeyError:
            continue
    raise Missing("PostgreSQL does not run as root, and there is no user postgres or nobody")
