"""A whole cluster of real processes, each on a host of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import ROOT
from real_cluster.asked import Asked
from real_cluster.etcd import Etcd
from real_cluster.network import Host, Network
from real_cluster.program import Program, python, says_ready, surroundings
from real_cluster.verdict import Verdicts

if TYPE_CHECKING:
    from real_cluster.load import Load

NAME = "chaos"
ALLOC_PORT, STORE_PORT, ARBITER_PORT, METRICS_PORT = 7420, 7421, 7422, 7430


@dataclass(frozen=True)
class Shape:
    """How many of each; stores and nodes per Set, which share the sections evenly.

    step: so small that load makes raises all the time, and that half of it is above meter.JUMP:
    whoever takes over without a hand-over begins at least that much higher.
    """

    etcds: int = 3
    stores: int = 3
    nodes: int = 3
    arbiters: int = 2
    sets: tuple[str, ...] = ("set-0",)
    section_size: int = 1_000
    uid_limit: int = 30_000
    lease_ttl_s: float = 2.0
    step: int = 3_000

    @property
    def sections(self) -> int:
        return self.uid_limit // self.section_size

    def uids(self) -> list[int]:
        """One of each section: the first, one in the middle or the last of it."""
        size = self.section_size
        places = (0, size // 2, size - 1)
        return [section * size + places[section % 3] for section in range(self.sections)]


@dataclass
class RealSet:
    """first, last: of its sections when the cluster began; jobs may move them since."""

    name: str
    first: int
    last: int
    stores: list[Program]
    data: list[Path]
    nodes: list[Program]

    def uids(self, uids: Sequence[int], section_size: int) -> list[int]:
        """Those of these uids that are its."""
        return [uid for uid in uids if self.first <= uid // section_size <= self.last]

    @property
    def spec(self) -> str:
        """As `seqctl cluster init --set` wants it."""
        stores = ",".join(f"{store.host.ip}:{STORE_PORT}" for store in self.stores)
        return f"{self.name}:{self.first}-{self.last}={stores}"


class RealCluster:
    """Processes that `start` starts. Hosts stand at once. Leave nothing behind: `close`."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.shape = folder, shape
        self.network = Network()
        self.client: Host = self.network.host("client")
        self.etcd = Etcd(self.network, folder, shape.etcds)
        self.sets = [self._set(index, name) for index, name in enumerate(shape.sets)]
        self.arbiters = [self._arbiter(index) for index in range(shape.arbiters)]
        self.web = Asked(self.client, python("real_cluster.web_program"), folder / "web.err")
        asking = python("real_cluster.map_program", "--etcd", self.etcd.addresses)
        self.map = Asked(self.client, asking, folder / "map.err")
        self.load: Load | None = None
        self.verdicts = Verdicts(folder)
        self.spoiled = False  # something went wrong: not fit for another test

    # -- its parts

    @property
    def stores(self) -> list[Program]:
        """Of the first Set; most clusters have no other."""
        return self.sets[0].stores

    @property
    def nodes(self) -> list[Program]:
        """Of the first Set."""
        return self.sets[0].nodes

    @property
    def all_nodes(self) -> list[Program]:
        return [node for one in self.sets for node in one.nodes]

    @property
    def programs(self) -> list[Program]:
        """In the order in which they are started."""
        stores = [store for one in self.sets for store in one.stores]
        return [*self.etcd.members, *stores, *self.all_nodes, *self.arbiters]

    @property
    def seeds(self) -> str:
        return ",".join(f"{node.host.ip}:{ALLOC_PORT}" for node in self.all_nodes)

    # -- starting and ending

    def start(self) -> "RealCluster":
        """Start everything; ready when the servers say so, which is before sections serve."""
        self.etcd.spawn()
        for one in self.sets:
            for store in one.stores:
                store.spawn("--create")
        for program in self.programs:
            if program.started:
                program.wait_ready()
        self.init()
        for program in (*self.all_nodes, *self.arbiters):
            program.spawn()
        for program in (*self.all_nodes, *self.arbiters):
            program.wait_ready()
        return self

    def add_set(self, name: str) -> RealSet:
        """A Set more, without sections: its stores run and the map has it, its nodes are ready."""
        added = self._set_of(name, 0, -1)
        self.sets.append(added)
        for store in added.stores:
            store.spawn("--create")
        for store in added.stores:
            store.wait_ready()
        where = ",".join(f"{store.host.ip}:{STORE_PORT}" for store in added.stores)
        done = self.seqctl(
            "set", "create", name, "--etcd", self.etcd.addresses, "--replicas", where
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for node in added.nodes:
            node.spawn()
        for node in added.nodes:
            node.wait_ready()
        return added

    def init(self, *more: str) -> None:
        """`seqctl cluster init`."""
        sets = [argument for one in self.sets for argument in ("--set", one.spec)]
        done = self.seqctl("cluster", "init", "--etcd", self.etcd.addresses, *sets, *more)
        assert done.returncode == 0, done.stdout + done.stderr

    def heal(self) -> None:
        """Mend every cut, thaw, start what was killed; fails if anything ended by itself."""
        self.network.mend()
        self.unexpected_ends()
        down = [program for program in self.programs if not program.started]
        for program in self.programs:
            program.thaw()
        for program in down:
            program.spawn()
        for program in down:
            program.wait_ready()

    def another_store(self) -> Program:
        """A blank one more of the first Set, which the map does not know."""
        one = self.sets[0]
        index = len(one.stores)
        one.data.append(self.folder / f"{one.name}-store-{index}.data")
        one.stores.append(self._store(one.name, index, one.data[index]))
        one.stores[index].spawn("--create")
        one.stores[index].wait_ready()
        return one.stores[index]

    def unexpected_ends(self) -> None:
        """AssertionError if a process has ended that nobody has ended."""
        for program in self.programs:
            if program.started and not program.runs_still:
                code, said = program.wait(), program.stderr()[-4000:]
                raise AssertionError(f"{program} has ended with {code}: {said}")

    def close(self) -> None:
        if self.load is not None:
            self.load.close()
        for program in reversed(self.programs):
            program.kill()
        self.web.close()
        self.map.close()
        self.network.close()

    def traces(self) -> str:
        return "".join(program.traces() for program in self.programs)

    # -- asking

    def seqctl(
        self, *arguments: object, timeout_s: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """A command from the clients' host."""
        return subprocess.run(
            [*self.client.entering, sys.executable, "-m", "seqctl", *map(str, arguments)],
            env=surroundings(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def status(self) -> Any:
        """What `seqctl cluster status` says."""
        done = self.seqctl("cluster", "status", "--etcd", self.etcd.addresses, "-o", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Under load: the arbiter evens out nothing. What moves while the map cannot be written
        waits for it, and that is told by tests of moves.
        """
        assert self.load is not None
        self.load.spread()
        self._balance("off")
        try:
            self.load.flows()
            yield
        finally:
            self._balance("on")

    def _balance(self, which: str) -> None:
        for one in self.sets:
            words = ("rebalance", "auto", which, "--set", one.name)
            done = self.seqctl(*words, "--etcd", self.etcd.addresses)
            assert done.returncode == 0, done.stdout + done.stderr

    def in_map(self, **question: object) -> Any:
        """See map_program."""
        said = self.map.ask(**question)
        assert "answer" in said, f"{said}: {self.map.complaints()}"
        return said["answer"]

    def leading_arbiter(self) -> Program:
        """The one that the map says is elected; AssertionError where it says none."""
        candidates = self.in_map(do="candidates")
        for arbiter in self.arbiters:
            if candidates and f"{arbiter.host.ip}:{ARBITER_PORT}" in candidates[0]:
                return arbiter
        raise AssertionError(f"no arbiter leads: {candidates}")

    def at(self, address: str) -> Program:
        """The node that callers reach at an address."""
        return next(node for node in self.all_nodes if address_of(node) == address)

    def metric(self, program: Program, name: str) -> float:
        """The sum over all labels of one metric; 0 if there is none."""
        said = self.web.ask(url=f"http://{program.host.ip}:{METRICS_PORT}/metrics", body=None)
        assert "text" in said, f"{program}: {said}"
        lines = [line for line in said["text"].splitlines() if not line.startswith("#")]
        values = (line.rsplit(" ", 1) for line in lines)
        return sum(float(value) for key, value in values if key.partition("{")[0] == name)

    # -- making

    def _set(self, index: int, name: str) -> RealSet:
        each = self.shape.sections // len(self.shape.sets)
        last = (index + 1) * each if index + 1 < len(self.shape.sets) else self.shape.sections
        return self._set_of(name, index * each, last - 1)

    def _set_of(self, name: str, first: int, last: int) -> RealSet:
        data = [self.folder / f"{name}-store-{i}.data" for i in range(self.shape.stores)]
        return RealSet(
            name,
            first,
            last,
            [self._store(name, i, path) for i, path in enumerate(data)],
            data,
            [self._node(name, i) for i in range(self.shape.nodes)],
        )

    def _store(self, set_name: str, index: int, data: Path) -> Program:
        host, shape = self.network.host(f"{set_name}-store-{index}"), self.shape
        command = python("storesvr", "--data", data, "--listen", f"{host.ip}:{STORE_PORT}")
        command += ["--cluster", NAME, "--set", set_name, "--replica", f"store-{index}"]
        command += ["--section-size", str(shape.section_size), "--uid-limit", str(shape.uid_limit)]
        command += ["--map-size-gb", "1", "--lease-ttl-s", str(shape.lease_ttl_s)]
        command += ["--metrics", f"{host.ip}:{METRICS_PORT}"]
        return Program(host.name, host, self.folder, command, says_ready)

    def _node(self, set_name: str, index: int) -> Program:
        host = self.network.host(f"{set_name}-node-{index}")
        command = python("allocsvr", "--etcd", self.etcd.addresses, "--set", set_name)
        command += ["--listen", f"{host.ip}:{ALLOC_PORT}"]
        command += ["--lease-ttl-s", str(self.shape.lease_ttl_s), "--step", str(self.shape.step)]
        command += ["--metrics", f"{host.ip}:{METRICS_PORT}"]
        return Program(host.name, host, self.folder, command, says_ready)

    def _arbiter(self, index: int) -> Program:
        host = self.network.host(f"arbiter-{index}")
        command = python("arbitersvr", "--etcd", self.etcd.addresses)
        command += ["--listen", f"{host.ip}:{ARBITER_PORT}", "--round-s", "0.25"]
        command += ["--lease-ttl-s", str(self.shape.lease_ttl_s)]
        command += ["--metrics", f"{host.ip}:{METRICS_PORT}"]
        return Program(host.name, host, self.folder, command, says_ready)


def address_of(node: Program) -> str:
    return f"{node.host.ip}:{ALLOC_PORT}"


@contextmanager
def open_cluster(folder: Path, shape: Shape) -> Iterator[RealCluster]:
    """A started cluster, ended by pid whatever happens; a Traceback of any server fails it."""
    cluster = RealCluster(folder, shape)
    try:
        yield cluster.start()
    finally:
        cluster.close()
    assert not cluster.traces(), cluster.traces()
