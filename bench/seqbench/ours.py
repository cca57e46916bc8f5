"""Starts our servers: embedded, and as a cluster with StoreSvr replicas."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from processes.service import free_port
from seqbench.peers import HOST, EtcdServer, One, on_loop
from seqbench.processes import READY_S, Child, cores, on_core, says_ready, surroundings
from seqctl import certs_folder

SECTION_SIZE = 100_000


class Embedded(One):
    """`seqctl up` with its defaults: the whole uid space, one data directory.

    tls: callers have to show a certificate.
    """

    def __init__(self, folder: Path, loop: str, *, tls: bool = False) -> None:
        self._folder, self._loop = folder, loop
        self.certificates = folder / "certificates" if tls else None

    def start(self) -> None:
        self.address = f"{HOST}:{free_port()}"
        data = self._folder / f"embedded-{self._loop}.data"
        command = [*on_loop(self._loop), "seqctl", "up", "--data", data, "--listen", self.address]
        if self.certificates is not None:
            command += _shown(self.certificates)
        self.child = Child(f"embedded-{self._loop}", self._folder, command, says_ready)
        self.child.start()


def _shown(folder: Path) -> list[object]:
    """Make certificates there; the options of a server that shows its own and asks for others'."""
    certs_folder.init(folder)
    pair = ["--cert-file", folder / "server.crt", "--key-file", folder / "server.key"]
    return [*pair, "--trusted-ca-file", folder / "ca.crt", "--client-cert-auth"]


class Cluster:
    """etcd, three StoreSvr and `nodes` AllocSvr, all on the core of servers, and all uids.

    The arbiter goes where there is one node: once that has all sections, there is nothing to do.
    """

    certificates: Path | None = None

    def __init__(self, folder: Path, nodes: int = 1, step: int | None = None) -> None:
        self._folder = folder / f"cluster-{nodes}"
        self._etcd = EtcdServer(self._folder, "etcd")
        self._step = step
        self.metrics = [f"{HOST}:{free_port()}" for _ in range(nodes)]
        self._addresses = [f"{HOST}:{free_port()}" for _ in range(nodes)]
        self.address = ",".join(self._addresses)
        self.nodes: list[Child] = []
        self._stores: list[Child] = []
        self._arbiters: list[Child] = []

    @property
    def pids(self) -> Sequence[int]:
        """Nodes and replicas; etcd has no part in handing out numbers."""
        return [child.pid for child in (*self.nodes, *self._stores)]

    @property
    def all_pids(self) -> Sequence[int]:
        """Without the arbiter."""
        return [*self._etcd.pids, *self.pids]

    def start(self) -> None:
        self._folder.mkdir()
        self._etcd.start()
        stores = [f"{HOST}:{free_port()}" for _ in range(3)]
        self._stores = [self._store(i, address) for i, address in enumerate(stores)]
        _all_ready(self._stores)
        self._seqctl("cluster", "init", "--set", f"set-0={','.join(stores)}")
        step = [] if self._step is None else ["--step", self._step]
        self.nodes = [
            self._of_map(f"alloc-{i}", "allocsvr", "--listen", address, "--metrics", metrics, *step)
            for i, (address, metrics) in enumerate(zip(self._addresses, self.metrics, strict=True))
        ]
        arbiter = self._of_map("arbiter", "arbitersvr", "--listen", f"{HOST}:{free_port()}")
        self._arbiters = [arbiter]
        _all_ready([arbiter, *self.nodes])
        self.settle()
        if len(self.nodes) == 1:
            arbiter.stop()

    def settle(self) -> None:
        """Wait until every section is served, by all nodes. RuntimeError if that takes too long."""
        deadline_s = time.monotonic() + READY_S
        while not self._settled():
            if time.monotonic() > deadline_s:
                raise RuntimeError("sections of the cluster are not served")
            time.sleep(0.2)

    def stop(self) -> None:
        for children in (self.nodes, [*self._arbiters, *self._stores]):
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(Child.stop, children))
        self._etcd.stop()

    def _settled(self) -> bool:
        state = json.loads(self._seqctl("cluster", "status", "-o", "json"))
        one: dict[str, Any] = state["sets"][0]
        owning = [node for node in state["nodes"] if node["serving"]]
        whole = one["reported"]["serving"] == one["sections"]
        return bool(whole and len(owning) == len(self.nodes))

    def _seqctl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "seqctl", *arguments, "--etcd", self._etcd.address]
        with on_core(cores()[1]):
            done = subprocess.run(command, env=surroundings(), capture_output=True, text=True)
        if done.returncode not in (0, 3) or not done.stdout:
            raise RuntimeError(f"seqctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def _store(self, index: int, address: str) -> Child:
        name = f"store-{index}"
        command = ["storesvr", "--data", self._folder / name, "--create", "--listen", address]
        command += ["--cluster", "bench", "--replica", name, "--set", "set-0"]
        command += ["--section-size", SECTION_SIZE, "--uid-limit", 2**32]
        return Child(name, self._folder, [*on_loop("asyncio"), *command], says_ready)

    def _of_map(self, name: str, module: str, *arguments: object) -> Child:
        command = [*on_loop("asyncio"), module, "--etcd", self._etcd.address, *arguments]
        return Child(name, self._folder, command, says_ready)


def _all_ready(children: Sequence[Child]) -> None:
    for child in children:
        child.spawn()
    with contextlib.ExitStack() as failed:
        for child in children:
            failed.callback(child.kill)
        for child in children:
            child.wait_ready()
        failed.pop_all()
