"""A Set of N replicas over memory, its map on disk, and AllocSvr nodes over both."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from allocsvr.metrics import Metrics
from allocsvr.node import AllocNode, Options
from cluster_in_a_box.links import Link
from clustermap import placement
from clustermap.clock import BootClock, Clock, boottime_ns
from clustermap.coordinator import Coordinator
from clustermap.embedded import EmbeddedCoordinator
from clustermap.model import (
    CLUSTER_KEY,
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
from seqsvr.sections import SEQ_LIMIT
from seqsvr.v1 import store_pb2 as pb
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Identity
from storesvr.records import Record, decode
from storesvr.replica import Replica as StoredReplica
from storesvr.service import StoreService

SET = "set-0"
KEY = assignments_key(SET)
PATIENCE_S = 20.0


async def eventually(holds: Callable[[], object], what: str = "") -> None:
    """Wait until `holds()` is true; a test that waits in vain fails after PATIENCE_S."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"in vain: {what or holds}") from None


@dataclass
class Member:
    """A node with its links, one per replica."""

    node: AllocNode
    links: list[Link]
    at: Node = field(init=False)

    def __post_init__(self) -> None:
        self.at = Node(self.node.incarnation, self.node.address, SET)

    def serves(self, section: int) -> bool:
        held = self.node.ledger.sections.get(section)
        return held is not None and held.serving

    def ejected(self) -> list[int]:
        """The replicas that are asked nothing but Renew."""
        lines = enumerate(self.node.membership.current.replicas._lines)
        return [index for index, line in lines if line.standing.ejected is not None]

    def holds_lease(self) -> bool:
        return self.node.ledger.lease.held(self.node.clock.now_ns())


class Box:
    """`open_box` makes one."""

    def __init__(
        self, cluster: Cluster, spec: SetSpec, coordinator: EmbeddedCoordinator, max_ttl_s: float
    ) -> None:
        self.cluster = cluster
        self.max_ttl_s = max_ttl_s
        self.spec = spec
        self.coordinator = coordinator
        self.disks = [
            Disk(Identity(cluster.id, SET, r.name, cluster.section_size, cluster.uid_limit, 1, i))
            for i, r in enumerate(spec.replicas, start=1)
        ]
        self.stores = [opened(disk, max_ttl_s) for disk in self.disks]
        self.replicas = list(spec.replicas)  # newcomers behind them
        self.least_w = spec.w  # of all versions of the membership that a test goes through

    @asynccontextmanager
    async def node(
        self,
        *,
        lease_ttl_s: float = 2.0,
        step: int = 100,
        address: str = "",
        clock: Clock | None = None,
        replica_timeout_s: float = 1.0,
        max_waiting: int = 1000,
        repair_period_s: float = 60.0,
        coordinator: Coordinator | None = None,
        faults: Callable[[list[Link]], None] = lambda links: None,
    ) -> AsyncIterator[Member]:
        """A running node; leaving the block without `drain` is its crash.

        coordinator: the map as this node sees it.
        """
        incarnation = secrets.randbits(64) or 1
        node = AllocNode(
            cluster=self.cluster,
            spec=self.spec,
            incarnation=incarnation,
            address=address or f"node-{incarnation:x}:1",
            clock=clock or BootClock(),
            coordinator=coordinator or self.coordinator,
            metrics=Metrics(CollectorRegistry()),
            options=Options(
                step=step,
                lease_ttl_s=lease_ttl_s,
                replica_timeout_s=replica_timeout_s,
                max_waiting=max_waiting,
                repair_period_s=repair_period_s,
            ),
        )
        links = [Link(store) for store in self.stores]
        faults(links)

        def connect(replica: Replica) -> Link:
            index = self.replicas.index(replica)
            if index == len(links):
                links.append(Link(self.stores[index]))
            return links[index]

        try:
            async with node.running(connect):
                yield Member(node, links)
        except BaseExceptionGroup as group:
            raise only(group) from None

    def newcomer(self) -> Replica:
        """Another store, empty, that the map does not know."""
        number = len(self.stores) + 1
        replica = Replica(f"store-{number - 1}", f"127.0.0.1:{number}", number)
        old = self.disks[0].identity
        self.disks.append(Disk(old._replace(replica=replica.name, store_id=number, membership=1)))
        self.stores.append(opened(self.disks[-1], self.max_ttl_s))
        self.replicas.append(replica)
        return replica

    def store(self, replica: Replica) -> StoreService:
        return self.stores[self.replicas.index(replica)]

    async def assign(self, member: Member, first: int = 0, last: int | None = None) -> None:
        """Give sections (all of them) to a node, as the arbiter would."""
        end = self.spec.ranges[-1].last if last is None else last
        await self.change(lambda d: placement.reassign(d, first, end, member.at))

    async def own(self, member: Member, first: int = 0, last: int | None = None) -> None:
        """Assign, and wait until they are served."""
        await self.assign(member, first, last)
        end = self.spec.ranges[-1].last if last is None else last
        await eventually(
            lambda: all(member.serves(s) for s in range(first, end + 1)), "sections to be served"
        )

    async def leave(self, first: int, last: int, successor: Member | None = None) -> None:
        """Mark sections as leaving, to a successor if there is one."""
        owner = successor.at.owner if successor else None
        await self.change(lambda d: placement.mark_leaving(d, first, last, owner))

    async def move(self, first: int, last: int, successor: Member) -> None:
        """Mark sections as leaving, and wait until the successor serves them."""
        await self.leave(first, last, successor)
        await eventually(
            lambda: all(successor.serves(s) for s in range(first, last + 1)),
            f"sections {first}..{last} to be moved",
        )

    async def wipe(self) -> None:
        """What `seqctl cluster init --adopt` leaves after all of the map was lost."""
        keys = (await self.coordinator.get("")).entries
        lasting = {key for key in keys if not key.startswith(NODES_PREFIX)}
        await self.coordinator.transact({}, dict.fromkeys(lasting))
        await self.coordinator.transact({}, self.blank_map())

    def blank_map(self) -> dict[str, bytes | None]:
        """Cluster, Set and assignments of nothing."""
        return {
            CLUSTER_KEY: self.cluster.to_json(),
            set_key(SET): self.spec.to_json(),
            KEY: Assignments(SET).to_json(),
        }

    async def change(self, how: Callable[[Assignments], Assignments]) -> None:
        """Read, change and swap the Set's assignments."""
        while True:
            held = (await self.coordinator.get(KEY)).entries[KEY]
            document = how(Assignments.from_json(held.value))
            written = await self.coordinator.transact(
                {KEY: held.revision}, {KEY: document.to_json()}
            )
            if written is not None:
                return

    async def document(self) -> Assignments:
        return Assignments.from_json((await self.coordinator.get(KEY)).entries[KEY].value)

    def record(self, replica: int, section: int) -> Record:
        """What is on a replica's disk."""
        value = self.disks[replica].records.get(section)
        return decode(section, value) if value else Record(section)

    def durable(self, section: int) -> int:
        """The greatest max_seq that `least_w` replicas have on disk."""
        found = sorted(self.record(i, section).max_seq for i in range(len(self.disks)))
        return found[-self.least_w]

    def lease_left_ns(self, replica: int, member: Member) -> int:
        """For how long a replica's grant to a node has to run."""
        left = self.stores[replica]._replica._leases.left(boottime_ns())
        return dict(left).get(member.node.incarnation, 0)

    async def promise(self, section: int, epoch: int, *replicas: int) -> None:
        """Somebody else fences a section at some replicas (all)."""
        request = pb.FenceRequest(
            header=pb.StoreHeader(cluster=self.cluster.id, set=SET, membership=1),
            ranges=[pb.EpochRange(first=section, last=section, epoch=epoch)],
        )
        for index in replicas or range(len(self.stores)):
            await self.stores[index].fence(request)

    async def aclose(self) -> None:
        for store in self.stores:
            await store.aclose()
        await self.coordinator.aclose()


def only(group: BaseException) -> BaseException:
    """What a test failed with, out of the groups that nodes wrap it in."""
    while isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1:
        group = group.exceptions[0]
    return group


def opened(disk: Disk, max_ttl_s: float = 60.0) -> StoreService:
    engine = MemoryEngine(disk)
    replica = StoredReplica(engine, now_ns=boottime_ns(), max_ttl_ns=int(max_ttl_s * 1e9))
    return StoreService(replica, engine)


@asynccontextmanager
async def open_box(
    directory: Path,
    n: int = 1,
    r: int = 1,
    w: int = 1,
    *,
    sections: int = 4,
    section_size: int = 100,
    seq_limit: int = SEQ_LIMIT,
    uid_limit: int | None = None,
    max_ttl_s: float = 60.0,
) -> AsyncIterator[Box]:
    """A Set of `sections` sections on `n` replicas, without a node.

    max_ttl_s: the longest lease that they grant, and boot grace of one that adopts a membership.
    """
    cluster = Cluster("c0ffee", section_size, uid_limit or sections * section_size, seq_limit)
    replicas = tuple(Replica(f"store-{i}", f"127.0.0.1:{i + 1}", i + 1) for i in range(n))
    spec = SetSpec(SET, (Range(0, cluster.layout.sections - 1),), replicas, r, w)
    coordinator = await EmbeddedCoordinator.open(directory)
    box = Box(cluster, spec, coordinator, max_ttl_s)
    await coordinator.transact({}, box.blank_map())
    try:
        yield box
    finally:
        await box.aclose()
