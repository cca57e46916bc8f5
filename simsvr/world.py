"""A whole cluster on simulated hosts: stores, nodes, arbiters, the map, callers.

The world starts programs, kills them and starts them again; it takes part in nothing. What survives
a host (disks, the map's state) belongs to it.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from clustermap import placement
from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    Owner,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from clustermap.spans import minus
from simsvr import programs, reforming, resharding
from simsvr.calling import Callers
from simsvr.channels import Wires
from simsvr.disks import SimDisk
from simsvr.hosts import Host
from simsvr.loop import SimLoop
from simsvr.mapclient import MapClient
from simsvr.mapserver import MapDisk, MapServer
from simsvr.network import Network
from simsvr.plan import Plan
from simsvr.transcript import Transcript
from simsvr.watching import Watch
from storesvr.errors import CorruptRecord
from storesvr.port import Batch, Identity
from storesvr.records import Record, decode
from storesvr.service import StoreService

if TYPE_CHECKING:
    from simsvr.faults import Faults

CLUSTER = "c0ffee"
FAR = "set-1"
"""The second Set, if there is one."""
FAR_NODES = 2
MAP = "etcd"
ALLOC_PORT = 7420
STORE_PORT = 7421


@dataclass
class Place:
    """Where a program runs: the host of now, and how it is started again."""

    name: str
    start: Callable[[], Host]
    host: Host
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False  # of its own accord


class World:
    """See the head of the module. Made on the loop that runs it."""

    def __init__(self, loop: SimLoop, plan: Plan, transcript: Transcript) -> None:
        self.loop = loop
        self.plan = plan
        self.transcript = transcript
        self.rng = random.Random(f"world {plan.seed}")
        self.network = Network(loop, random.Random(f"network {plan.seed}"))
        self.wires = loop.wires = Wires(self.network)
        self.watch = Watch(self)
        self.disks: list[SimDisk] = []
        self.labels: dict[int, str] = {}  # of disks, by store id
        self.services: dict[str, StoreService] = {}
        self.nodes: dict[str, programs.WatchedNode] = {}
        self.places: dict[str, Place] = {}
        self.clients: list[Callers] = []
        self.faults: Faults
        self.graveyard: list[Any] = []
        self.crashes = 0
        self.healed = False
        self.map_disk = MapDisk()
        self.map_disk.on_written = self._written
        self._map_rng = random.Random(f"map {plan.seed}")
        self._incarnations = 0
        self.cluster = Cluster(CLUSTER, plan.section_size, plan.uid_limit)
        self.spec = self._spec(plan.set_name, (Range(0, plan.sections - 1),))
        self.specs = [self.spec, self._spec(FAR, ())] if plan.resharding else [self.spec]
        self._set_keys = {set_key(spec.name) for spec in self.specs}
        loop.disk_ns = self._commit_ns

    def _spec(self, name: str, ranges: tuple[Range, ...]) -> SetSpec:
        plan = self.plan
        replicas = []
        for index in range(len(self.disks), len(self.disks) + plan.stores):
            store_id = self._blank(index, name)
            replicas.append(Replica(f"store-{index}", self.store_address(index), store_id))
        return SetSpec(name, ranges, tuple(replicas), plan.r, plan.w)

    def _blank(self, index: int, set_name: str) -> int:
        """A new disk, the first or another one of that store; its id."""
        plan, name = self.plan, f"store-{index}"
        store_id = self.rng.getrandbits(63) | 1
        label = f"{name}, disk {len(self.labels)}" if index < len(self.disks) else name
        identity = Identity(CLUSTER, set_name, name, plan.section_size, plan.uid_limit, 1, store_id)
        self.labels[store_id] = label
        self.disks[index : index + 1] = [SimDisk(identity, label, self._committed)]
        return store_id

    @property
    def near(self) -> "dict[str, programs.WatchedNode]":
        """The nodes of the first Set, which is the one that plots are about."""
        own = self.plan.set_name
        return {name: node for name, node in self.nodes.items() if node.spec.name == own}

    @property
    def undisturbed(self) -> bool:
        """Nothing is done to this cluster but what operators do."""
        return not self.plan.kinds

    @property
    def map_answers(self) -> bool:
        """Whether there is anybody at etcd who answers."""
        return self.places[MAP].host.running and not self.map_disk.refuse

    # -- names

    def store_address(self, index: int) -> str:
        return f"store-{index}:{STORE_PORT}"

    @property
    def seeds(self) -> list[str]:
        return [f"node-{index}:{ALLOC_PORT}" for index in range(self.plan.nodes)]

    def incarnation(self) -> int:
        """Never the same one twice; small, so that transcripts can be read."""
        self._incarnations += 1
        return self._incarnations

    def note(self, who: str, text: str) -> None:
        self.transcript.note(who, text)

    def _written(self, puts: Mapping[str, bytes | None]) -> None:
        """Something stands in the map from now on."""
        for key, value in puts.items():
            if value is not None and key in self._set_keys:
                self.watch.reformed(SetSpec.from_json(value))

    def map_client(self, host: Host) -> MapClient:
        return MapClient(host, self.network, self.map_disk, self._map_rng)

    # -- starting

    def begin(self) -> None:
        """Everything is started at once, and the map is written by an operator."""
        self._place(MAP, self._start_map)
        for index in range(len(self.disks)):
            self._place(f"store-{index}", partial(self._start_store, index))
        for index in range(self.plan.nodes):
            self._place(f"node-{index}", partial(self._start_node, f"node-{index}"))
        for index in range(FAR_NODES if self.plan.resharding else 0):
            self._place(f"far-{index}", partial(self._start_node, f"far-{index}"))
        for index in range(self.plan.arbiters):
            self._place(f"arbiter-{index}", partial(self._start_arbiter, index))
        for index in range(self.plan.clients):
            host = self.new_host(f"client-{index}")
            callers = Callers(self, host, random.Random(f"calls {self.plan.seed} {index}"))
            self.clients.append(callers)
            host.spawn(self._supervised(host, callers.run()))
        operator = self.new_host("operator")
        operator.spawn(self._write_map(self.map_client(operator)))
        if self.plan.resharding:
            self._operator("mover", resharding.operate(self))
        if self.plan.reforming:
            self._operator("reformer", reforming.operate(self))

    def _operator(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        host = self.new_host(name)
        host.spawn(self._supervised(host, work))

    def _place(self, name: str, start: Callable[[], Host]) -> None:
        place = Place(name, start, None)  # type: ignore[arg-type]
        self.places[name] = place
        place.host = start()

    def new_host(self, name: str) -> Host:
        """A host with a clock of its own; the one of that name from now on."""
        rate = 1 + self.plan.max_drift * self.rng.uniform(-1, 1)
        host = Host(self.loop, name, rate=rate, offset_ns=self.rng.randrange(10**12))
        self.network.hosts[name] = host
        self.network.dark.discard(name)
        return host

    def _start_map(self) -> Host:
        host = self.new_host(MAP)
        self.graveyard.append(MapServer(host, self.network, self._map_rng, self.map_disk))
        return host

    def _start_store(self, index: int) -> Host:
        host = self.new_host(f"store-{index}")
        work = programs.store(self, host, index, self.disks[index])
        host.spawn(self._supervised(host, work))
        return host

    def _start_node(self, name: str) -> Host:
        host = self.new_host(name)
        stop = asyncio.Event()
        self.places[host.name].stop = stop
        set_name = FAR if name.startswith("far") else self.plan.set_name
        work = programs.node(self, host, f"{host.name}:{ALLOC_PORT}", stop, set_name)
        host.spawn(self._supervised(host, work))
        return host

    def _start_arbiter(self, index: int) -> Host:
        host = self.new_host(f"arbiter-{index}")
        host.spawn(self._supervised(host, programs.arbiter(self, host)))
        return host

    async def _supervised(self, host: Host, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException as error:
            if self.watch.over:
                raise
            self.note(host.name, f"ended with {error!r}")
            self.watch.program_ended(host, error)
        self.ended(host)

    async def _write_map(self, coordinator: MapClient) -> None:
        puts = {CLUSTER_KEY: self.cluster.to_json()}
        for spec in self.specs:
            puts[set_key(spec.name)] = spec.to_json()
            puts[assignments_key(spec.name)] = Assignments(spec.name).to_json()
        while True:
            try:
                if await coordinator.transact(dict.fromkeys(puts, 0), puts) is None:
                    return  # it is there
            except Exception as error:  # noqa: BLE001 - it goes on until it is done
                self.note("operator", f"map not written: {error!r}")
            await asyncio.sleep(0.2)

    # -- stopping and starting again

    def ended(self, host: Host) -> None:
        """A program has left by itself."""
        place = self.places.get(host.name)
        if place is not None and place.host is host and not host.crashed:
            place.ended = True
            host.crash()
            self._bury(host)
            if self.healed:  # a supervisor is there again
                self.network.at(10_000_000, partial(self.restart, host.name))

    def kill(self, name: str, *, silent: bool = False) -> None:
        """kill -9; silent: the whole machine, and nobody says that nobody is there."""
        host = self.places[name].host
        if not host.crashed:
            self.crashes += 1
            self.note(name, "power lost" if silent else "killed")
            if silent:
                self.network.dark.add(name)
            host.crash(silent=silent)
            self._bury(host)

    def restart(self, name: str) -> None:
        """Start it again, if it does not run."""
        place = self.places[name]
        if place.host.crashed:
            place.ended = False
            self.note(name, "started again")
            place.host = place.start()

    def drain(self, name: str) -> None:
        """What SIGTERM does to a node."""
        place = self.places[name]
        if place.host.running:
            self.note(name, "told to stop")
            place.host.call_soon(place.stop.set)

    def _bury(self, host: Host) -> None:
        """Its objects are kept to the end: that Python takes them apart is no event of the run."""
        self.graveyard.append(host)
        self.graveyard.append(self.nodes.pop(host.name, None))
        self.graveyard.append(self.services.pop(host.name, None))
        self.watch.crashed(host)

    # -- the map, past the network

    def edit_map(self, key: str, change: Callable[[Assignments], Assignments]) -> None:
        """Compare and swap in one instant, as somebody did who was quick enough."""
        held = self.map_disk.read_true(key).entries.get(key)
        if held is None or self.map_disk.server is None:
            return
        try:
            new = change(Assignments.from_json(held.value))
        except ValueError as error:
            self.note("operator", f"no such change: {error}")
            return
        spec = self.map_disk.read_true(set_key(new.set)).entries.get(set_key(new.set))
        if spec is not None and minus(new.entries, SetSpec.from_json(spec.value).ranges):
            self.note("operator", "no such change: sections of another Set")
            return
        self.map_disk.server.transact({key: held.revision}, {key: new.to_json()})

    def wipe_map(self) -> None:
        """All of it is lost, and written anew by an operator who was quick."""
        self.note("etcd", "wiped")
        self.map_disk.wipe()
        operator = self.new_host("operator")
        operator.spawn(self._write_map(self.map_client(operator)))

    def map_lie(self, rng: random.Random) -> tuple[float, Callable[[], None]] | None:
        """Let the map do one of the things that etcd is known to do."""
        disk, server = self.map_disk, self.map_disk.server
        lies: dict[str, Callable[[], None]] = {
            "refuses": lambda: setattr(disk, "refuse", True),
            "keepalives lie": lambda: setattr(disk, "keepalive_lies", True),
            "stale after pauses": lambda: setattr(disk, "stale_after_pause_s", 2.0),
            "watches skip": lambda: disk.skip_watch_events(rng.choice((0.1, 0.5))),
        }
        if server is not None:
            lies |= {
                "watches are late": lambda: server.hold_watches(rng.uniform(0.2, 5)),
                "watches are silent": server.silence_watches,
                "watches end": server.end_watches,
                "compacts": server.compact,
                "expires all leases": server.expire_all_leases,
                "reads are stale": lambda: server.stale_reads(rng.uniform(0.2, 4)),
            }
        name = rng.choice(list(lies))
        self.note("etcd", name)
        lies[name]()
        return rng.uniform(0.5, 4), disk.heal

    def assign(self, first: int, last: int, node: programs.WatchedNode, *, planned: bool) -> None:
        """Have the map say that a node should have sections; planned: once they are released."""
        owner = Owner(node.incarnation, node.address)
        at = Node(node.incarnation, node.address, self.plan.set_name)

        def change(old: Assignments) -> Assignments:
            if planned:
                return placement.mark_leaving(old, first, last, owner)
            return placement.reassign(old, first, last, at)

        self.edit_map(assignments_key(self.plan.set_name), change)

    # -- disks

    def records(self, index: int) -> list[Record]:
        """What stands on a replica's disk, but for what is damaged."""
        found = []
        for section, value in sorted(self.disks[index].records.items()):
            with suppress(CorruptRecord):
                found.append(decode(section, value))
        return found

    def max_seq(self, index: int, section: int) -> int:
        """What stands on a replica's disk; 0 where it is damaged."""
        value = self.disks[index].records.get(section)
        with suppress(CorruptRecord):
            return decode(section, value).max_seq if value else 0
        return 0

    def new_disk(self, index: int) -> None:
        """Another disk, empty, in the place of a replica's."""
        old = self.disks[index]
        self._blank(index, old.identity.set)
        self.note(f"store-{index}", "has a new disk")
        self.watch.lost(index, old.label, "a blank disk")

    def new_store(self) -> Replica:
        """A blank store of the first Set on a host of its own, which no map knows yet."""
        index = len(self.disks)
        name = f"store-{index}"
        store_id = self._blank(index, self.plan.set_name)
        self.watch.came(store_id)
        self._place(name, partial(self._start_store, index))
        self.note(name, "is a new store")
        return Replica(name, self.store_address(index), store_id)

    def _commit_ns(self, host: Host) -> int:
        kind, _, index = host.name.partition("-")
        if kind != "store":
            return 0
        return self.disks[int(index)].commit_ns(self.loop.now_ns, self.rng)

    def _committed(self, disk: SimDisk, batch: Batch) -> None:
        for index, own in enumerate(self.disks):
            if own is disk:
                self.watch.committed(index, batch)
