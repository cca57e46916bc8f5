"""Our servers as processes, and what /proc and Prometheus say of them."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from processes.metrics import Scrape, scrape
from processes.service import free_port
from seqbench.peers import HOST, EtcdServer
from seqbench.processes import Child, cpu_s, says_ready, surroundings

UID_LIMIT = 2**32
SETTLE_S = 120.0
STEADY_S, STILL_S = 10.0, 0.5
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def program(*arguments: object) -> list[object]:
    """One of our modules, on whichever core is free."""
    every = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return ["taskset", "--cpu-list", every, sys.executable, "-m", *arguments]


def rss_b(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory")


def settled_b(pid: int) -> int:
    """RSS once it no longer changes, or after STEADY_S."""
    end_s = time.monotonic() + STEADY_S
    last = 0
    while (now := rss_b(pid)) != last and time.monotonic() < end_s:
        last = now
        time.sleep(STILL_S)
    return now


def written_b(pid: int) -> int:
    """Bytes that a process has written to files; what it sends is not counted here.

    Not write_bytes: a kernel that caches files in large pieces counts a whole piece for a page.
    """
    fields = Path(f"/proc/{pid}/io").read_text().split()
    return int(fields[fields.index("wchar:") + 1])


class Servers:
    """Processes that end with the block. `address` of nodes, `metrics` of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []
        self.address = ""
        self.metrics: list[str] = []

    def __enter__(self) -> Self:
        self.folder.mkdir()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Nodes first."""
        for child in reversed(self.children):
            child.stop()

    def run(self, name: str, *command: object) -> Child:
        child = Child(name, self.folder, program(*command), says_ready)
        self.children.append(child)
        return child.start()

    def scrape(self, index: int = 0) -> Scrape:
        return scrape(self.metrics[index])


class Embedded(Servers):
    """`seqctl up`; ready_s, ready_cpu_s: from its start until it served."""

    def __init__(self, folder: Path, uid_limit: int = UID_LIMIT) -> None:
        super().__init__(folder)
        self._uid_limit = uid_limit
        self.ready_s = 0.0

    def start(self) -> None:
        self.address, metrics = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
        self.metrics = [metrics]
        command: list[object] = [
            "seqctl",
            "up",
            "--data",
            self.folder / "data",
            "--listen",
            self.address,
        ]
        began_s = time.monotonic()
        self.node = self.run("up", *command, "--metrics", metrics, "--uid-limit", self._uid_limit)
        self.ready_s = time.monotonic() - began_s
        self.ready_cpu_s = cpu_s([self.node.pid])

    @property
    def pid(self) -> int:
        return self.node.pid


class Cluster(Servers):
    """etcd, an arbiter, three StoreSvr and one `allocsvr --workers K`, all sections served."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        super().__init__(folder)
        self._workers = workers
        self._etcd = EtcdServer(folder, "etcd")
        self.store_metrics: list[str] = []
        self.ready_s = 0.0

    def start(self) -> None:
        self._etcd.start()
        addresses = [f"{HOST}:{free_port()}" for _ in range(3)]
        self.stores = [self._store(index, address) for index, address in enumerate(addresses)]
        self._seqctl("cluster", "init", "--set", f"set-0={','.join(addresses)}")
        of_map = ("--etcd", self._etcd.address)
        self.run("arbiter", "arbitersvr", *of_map, "--listen", f"{HOST}:{free_port()}")
        ports, more = _consecutive(self._workers), _consecutive(self._workers)
        self.address = ",".join(f"{HOST}:{port}" for port in ports)
        self.metrics = [f"{HOST}:{port}" for port in more]
        command: list[object] = ["allocsvr", *of_map, "--listen", f"{HOST}:{ports[0]}"]
        command += ["--metrics", self.metrics[0], "--workers", self._workers]
        began_s = time.monotonic()
        self.alloc = self.run("alloc", *command)
        self.settle()
        self.ready_s = time.monotonic() - began_s
        self.ready_cpu_s = cpu_s([self.alloc.pid])

    def stop(self) -> None:
        super().stop()
        self._etcd.stop()

    @property
    def node_pids(self) -> Sequence[int]:
        """Of the processes that answer."""
        pid = self.alloc.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(worker) for worker in workers] or [pid]

    def settle(self) -> None:
        """Wait until all nodes serve, together every section. RuntimeError if they do not."""
        deadline_s = time.monotonic() + SETTLE_S
        while not self._settled():
            if time.monotonic() > deadline_s:
                raise RuntimeError("sections of the cluster are not served")
            time.sleep(0.2)

    def serving(self) -> list[int]:
        """Sections that each node serves."""
        state = json.loads(self._seqctl("cluster", "status", "-o", "json"))
        return [int(node["serving"] or 0) for node in state["nodes"]]

    def revision(self) -> int:
        """How often something was written to etcd."""
        request = urllib.request.Request(
            f"http://{self._etcd.address}/v3/kv/range",
            data=b'{"key":"AA=="}',
            headers={"Content-Type": "application/json"},
        )
        with NO_PROXY.open(request, timeout=5) as answer:
            return int(json.load(answer)["header"]["revision"])

    def _settled(self) -> bool:
        state = json.loads(self._seqctl("cluster", "status", "-o", "json"))
        one = state["sets"][0]
        whole = one["reported"]["serving"] == one["sections"]
        return whole and len([n for n in state["nodes"] if n["serving"]]) == self._workers

    def _seqctl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "seqctl", *arguments, "--etcd", self._etcd.address]
        done = subprocess.run(command, env=surroundings(), capture_output=True, text=True)
        if done.returncode not in (0, 3) or not done.stdout:
            raise RuntimeError(f"seqctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def _store(self, index: int, address: str) -> Child:
        name, metrics = f"store-{index}", f"{HOST}:{free_port()}"
        self.store_metrics.append(metrics)
        command: list[object] = [
            "storesvr",
            "--data",
            self.folder / name,
            "--create",
            "--listen",
            address,
        ]
        command += ["--cluster", "bench", "--replica", name, "--metrics", metrics]
        return self.run(name, *command)


def _consecutive(count: int) -> list[int]:
    """Free ports, one after the other."""
    while True:
        first = free_port()
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.create_server((HOST, port)))
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return list(range(first, first + count))
