"""An etcd, a store, and whoever is to write the map."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from clustermap import placement
from clustermap.coordinator import Coordinator
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from clustermap.model import (
    CLUSTER_KEY,
    DEFAULT_SET,
    NODES_PREFIX,
    Assignments,
    Cluster,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from etcd_servers import EtcdServers
from one_store.children import Child, eventually
from processes import free_port
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc

SIZE = 1000
SECTIONS = 4
KEY = assignments_key(DEFAULT_SET)
TTL = ("--lease-ttl-s", "1")

T = TypeVar("T")


class OneStore:
    """Nothing runs before it is asked for; `close` ends what does.

    metadata: what goes with the map's own question to a StoreSvr, such as a token.
    """

    def __init__(self, folder: Path, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._metadata = tuple(metadata)
        self.folder = folder
        self.etcd = EtcdServers(folder / "etcd", fsync=False)
        self._children: list[Child] = []

    # -- processes

    def child(self, module: str, *arguments: object, **more: Any) -> Child:
        name = f"{module}-{len(self._children)}"
        child = Child(self.folder, name, module, *arguments, **more)
        self._children.append(child)
        return child

    def alloc(self, *arguments: object, **more: Any) -> Child:
        """An `allocsvr` of the Set, with a port of its own unless `arguments` give one."""
        given = [] if "--listen" in arguments else ["--listen", f"127.0.0.1:{free_port()}"]
        etcd = ",".join(self.etcd.endpoints)
        return self.child("allocsvr", "--etcd", etcd, *TTL, *given, *arguments, **more)

    def store(self, name: str = DEFAULT_SET, *arguments: object) -> str:
        """Start the StoreSvr of a Set; its address."""
        return self.child(
            *("storesvr", "--data", self.folder / f"store-{name}", "--set", name, "--create", *TTL),
            *("--listen", f"127.0.0.1:{free_port()}", "--cluster", "c1", "--map-size-gb", "0.25"),
            *("--section-size", SIZE, "--uid-limit", SIZE * SECTIONS),
            *arguments,
        ).ready()

    def start(self, *arguments: object) -> "OneStore":
        """etcd, store (with these options, too) and map."""
        self.etcd.start()
        self.write_map(self.store(DEFAULT_SET, *arguments))
        return self

    def close(self) -> None:
        for child in self._children:
            child.close()
        self.etcd.close()

    def traces(self) -> str:
        return "".join(child.log for child in self._children if "Traceback" in child.log)

    # -- the map

    def on_map(self, work: Callable[[Coordinator], Awaitable[T]]) -> T:
        """Do something with the map, to the end."""

        async def run() -> T:
            coordinator = await EtcdCoordinator.open(EtcdOptions(self.etcd.endpoints))
            try:
                return await work(coordinator)
            finally:
                await coordinator.aclose()

        return asyncio.run(run())

    def write_map(self, store: str, name: str = DEFAULT_SET) -> None:
        """As `seqctl cluster init` would."""
        with grpc.insecure_channel(store) as channel:
            stub: Any = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]
            info = stub.Info(pb.InfoRequest(), metadata=self._metadata, timeout=20)
        replicas = (Replica(info.replica, store, info.store_id),)
        puts: dict[str, bytes | None] = {
            CLUSTER_KEY: Cluster(info.cluster, info.section_size, info.uid_limit).to_json(),
            set_key(name): SetSpec(name, (Range(0, SECTIONS - 1),), replicas, 1, 1).to_json(),
            assignments_key(name): Assignments(name).to_json(),
        }
        self.on_map(lambda coordinator: coordinator.transact({}, puts))

    def nodes(self) -> list[Node]:
        """Who is registered, by address."""
        listing = self.on_map(lambda coordinator: coordinator.get(NODES_PREFIX))
        found = [Node.from_json(held.value) for held in listing.entries.values()]
        return sorted(found, key=lambda node: node.address)

    def wait_nodes(self, count: int, *, but: Sequence[int] = ()) -> list[Node]:
        """Wait until so many are registered, not counting the incarnations `but`."""
        found: list[Node] = []

        def enough() -> bool:
            found[:] = [node for node in self.nodes() if node.incarnation not in but]
            return len(found) == count

        eventually(enough, f"{count} nodes")
        return found

    def assign(self, node: Node, first: int = 0, last: int = SECTIONS - 1) -> None:
        """As the arbiter would."""

        async def change(coordinator: Coordinator) -> bool:
            held = (await coordinator.get(KEY)).entries[KEY]
            document = placement.reassign(Assignments.from_json(held.value), first, last, node)
            puts: dict[str, bytes | None] = {KEY: document.to_json()}
            return await coordinator.transact({KEY: held.revision}, puts) is not None

        while not self.on_map(change):
            pass

    def assigned(self) -> int:
        """How many sections the map gives to anybody."""
        listing = self.on_map(lambda coordinator: coordinator.get(KEY))
        document = Assignments.from_json(listing.entries[KEY].value)
        return sum(entry.last - entry.first + 1 for entry in document.entries)
