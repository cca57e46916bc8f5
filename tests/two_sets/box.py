"""The map, both Sets' replicas and nodes, the arbiter; what is durable where."""

import asyncio
import random
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from allocsvr.answering import Answering, Batch
from allocsvr.metrics import Metrics
from allocsvr.node import AllocNode, Options
from allocsvr.peers import Peers
from allocsvr.presence import Presence
from arbitersvr.arbiter import Arbiter
from arbitersvr.detection import Outcome
from arbitersvr.keeper import Options as ArbiterOptions
from arbitersvr.metrics import Metrics as ArbiterMetrics
from arbitersvr.moving_sets import MovingSets
from clustermap.clock import BootClock, boottime_ns
from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import ReplicaFailed
from clustermap.jobs import Job, Move, State, job_key
from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.ranges import Range
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Identity
from storesvr.records import Record, decode
from storesvr.replica import Replica as StoredReplica
from storesvr.service import StoreService

PATIENCE_S = 30.0
TTL_S = 1.0
SIZE = 10
JOB = 0x1D
RETRIED = frozenset({"NOT_OWNER", "ACQUIRING", "DRAINING", "STALE_EPOCH", "LEASE_EXPIRED"})


class Door:
    """A replica as the arbiter's jobs reach it. before: called with each request, may raise."""

    def __init__(self, target: StoreService) -> None:
        self._target = target
        self.before: Callable[[str, Any], None] = lambda method, request: None

    async def fence(self, request: Any) -> Any:
        return await self._call("fence", request)

    async def seal(self, request: Any) -> Any:
        return await self._call("seal", request)

    async def put_at_least(self, request: Any) -> Any:
        return await self._call("put_at_least", request)

    async def scan(self, request: Any) -> Any:
        return await self._call("scan", request)

    async def aclose(self) -> None:
        pass

    async def _call(self, method: str, request: Any) -> Any:
        self.before(method, request)
        return await getattr(self._target, method)(request)


class AliveProber:
    """Finds everybody alive but those that are told to be dead."""

    def __init__(self) -> None:
        self.dead: set[int] = set()

    async def probe(self, address: str, incarnation: int) -> Outcome:
        del address
        return Outcome.GONE if incarnation in self.dead else Outcome.ALIVE


class TwoSets:
    """Sets "a", which begins with all sections, and "b", of N replicas each."""

    def __init__(self, coordinator: EmbeddedCoordinator, sections: int, n: int) -> None:
        self.coordinator = coordinator
        self.sections = sections
        self.cluster = Cluster("c0ffee", SIZE, sections * SIZE)
        self.prober = AliveProber()
        self.specs: dict[str, SetSpec] = {}
        self.disks: dict[str, list[Disk]] = {}
        self.stores: dict[str, list[StoreService]] = {}
        self.doors: dict[str, Door] = {}
        self.nodes: list[AllocNode] = []
        self.highest: dict[int, int] = defaultdict(int)
        self.answers = self.gaps = 0
        for k, name in enumerate("ab"):
            ranges = (Range(0, sections - 1),) if name == "a" else ()
            replicas = tuple(Replica(f"store-{i}", f"{name}:{i}", 10 * k + i + 1) for i in range(n))
            self.specs[name] = SetSpec(name, ranges, replicas, n // 2 + 1, n // 2 + 1)
            self.disks[name] = [
                Disk(Identity("c0ffee", name, r.name, SIZE, sections * SIZE, 1, r.store_id))
                for r in replicas
            ]
            self.stores[name] = [
                StoreService(StoredReplica(engine, now_ns=boottime_ns()), engine)
                for engine in map(MemoryEngine, self.disks[name])
            ]
            for replica, store in zip(replicas, self.stores[name], strict=True):
                self.doors[replica.address] = Door(store)

    def blank_map(self) -> dict[str, bytes | None]:
        puts: dict[str, bytes | None] = {CLUSTER_KEY: self.cluster.to_json()}
        for name, spec in self.specs.items():
            puts[set_key(name)] = spec.to_json()
            puts[assignments_key(name)] = Assignments(name).to_json()
        return puts

    # -- who runs

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[AllocNode]:
        """A node of a Set; leaving the block is its crash, but its registration goes at once."""
        incarnation = secrets.randbits(64) or 1
        node = AllocNode(
            cluster=self.cluster,
            spec=await self.spec(name),
            incarnation=incarnation,
            address=f"node-{incarnation:x}:1",
            clock=BootClock(),
            coordinator=self.coordinator,
            metrics=Metrics(CollectorRegistry()),
            options=Options(step=100, lease_ttl_s=TTL_S, replica_timeout_s=2.0),
        )
        presence = Presence(node, self.coordinator, node.address, 5)
        stores = {store.identity.store_id: store for store in self.stores[name]}
        with suppress(ExceptionGroup):
            async with node.running(lambda replica: stores[replica.store_id]):
                registered = asyncio.create_task(presence.run())
                self.nodes.append(node)
                try:
                    yield node
                finally:
                    self.nodes.remove(node)
                    registered.cancel()
                    await asyncio.wait([registered])
                    if presence._held is not None:
                        await presence._held.aclose()
        self.prober.dead.add(incarnation)

    @asynccontextmanager
    async def arbiter(self) -> AsyncIterator[Arbiter]:
        """One that leads; leaving the block is its end, wherever its work is."""
        clock = BootClock()
        moves = MovingSets(clock, self.doors.__getitem__)
        arbiter = Arbiter(
            self.coordinator,
            clock,
            self.prober,
            ArbiterMetrics(CollectorRegistry()),
            ArbiterOptions(lease_ttl_s=TTL_S, round_s=0.05, gather_s=0.05),
            b"arbiter",
            {"move": moves},
        )
        task = asyncio.create_task(arbiter.run())
        try:
            await arbiter.leading.wait()
            yield arbiter
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    # -- jobs

    async def move(
        self, source: str, target: str, first: int, last: int, *, name: str = "j", chunk: int = 1024
    ) -> None:
        """Start a job."""
        move = Move(source, target, (Range(first, last),), secrets.randbits(63) + 1, chunk)
        job = Job(name, State.RUNNING, "ann", 1, move=move)
        assert await self.coordinator.transact({}, {job_key(name): job.to_json()})

    async def job(self, name: str = "j") -> Job:
        key = job_key(name)
        return Job.from_json((await self.coordinator.get(key)).entries[key].value)

    async def say(self, state: State, name: str = "j", *, undo: bool = False) -> None:
        """As the operator does."""
        key = job_key(name)
        while True:
            held = (await self.coordinator.get(key)).entries[key]
            job = Job.from_json(held.value)
            assert job.move is not None
            new = replace(job, state=state, move=replace(job.move, undo=undo))
            if await self.coordinator.transact({key: held.revision}, {key: new.to_json()}):
                return

    async def ended(self, name: str = "j") -> Job:
        """The job, once the arbiter works on it no more."""
        async with asyncio.timeout(PATIENCE_S):
            while (job := await self.job(name)).state in (State.RUNNING, State.ABORTING):
                await asyncio.sleep(0.005)
        return job

    # -- what is

    async def spec(self, name: str) -> SetSpec:
        key = set_key(name)
        return SetSpec.from_json((await self.coordinator.get(key)).entries[key].value)

    async def document(self, name: str) -> Assignments:
        key = assignments_key(name)
        return Assignments.from_json((await self.coordinator.get(key)).entries[key].value)

    def serving(self, section: int) -> list[str]:
        """The Sets of all nodes that would answer for it in this instant."""
        return [
            node.spec.name
            for node in self.nodes
            if (held := node.ledger.sections.get(section)) is not None
            and held.serving
            and node.holds_lease()
        ]

    def records(self, name: str, section: int) -> list[Record]:
        return [
            decode(section, disk.records[section])
            for disk in self.disks[name]
            if section in disk.records
        ]

    async def all_served(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while any(not self.serving(section) for section in range(self.sections)):
                await asyncio.sleep(0.002)

    async def verify(self) -> None:
        """What `seqctl move verify` looks at: one Set has each section, the other cannot."""
        homes = {}
        for name, spec in self.specs.items():
            now, document = await self.spec(name), await self.document(name)
            for span in now.ranges:
                homes.update(dict.fromkeys(range(span.first, span.last + 1), name))
            for entry in document.entries:
                assert now.covers(entry.first, entry.last), f"{name}: {entry}"
                assert any(entry.incarnation == node.incarnation for node in self.nodes), entry
            del spec
        assert sorted(homes) == list(range(self.sections))
        for section, name in homes.items():
            other = "b" if name == "a" else "a"
            assert self.serving(section) == [name], f"section {section}"
            spec = self.specs[other]
            closed = [r for r in self.records(other, section) if r.is_sealed]
            blank = not any(r.owner_epoch for r in self.records(other, section))
            assert blank or len(closed) >= spec.w, f"section {section} of {other}"
            open_ = [r for r in self.records(name, section) if not r.is_sealed]
            assert len(open_) >= self.specs[name].r, f"section {section} of {name}"
            top = max((r.max_seq for r in self.records(other, section)), default=0)
            assert max(r.max_seq for r in open_) >= top

    # -- callers

    async def call(self, uid: int, *, dense: bool = False) -> int:
        """One number, from whoever serves it, within PATIENCE_S; checks SEQ-1 and SEQ-2."""
        before, section = self.highest[uid], uid // SIZE
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for node in random.sample(self.nodes, len(self.nodes)):
                    if section not in node.ledger.sections:
                        continue
                    asked = Answering(node, Peers())
                    batch = Batch(False, [uid], [1])
                    answers = await asked.rest(batch, asked.now(batch), 0.2)
                    if answers.seqs[0]:
                        return self._check(uid, before, answers.seqs[0], dense)
                await asyncio.sleep(0.002)

    def _check(self, uid: int, before: int, seq: int, dense: bool) -> int:
        assert seq > before, f"SEQ-1, SEQ-2: uid {uid}: {seq} after {before}"
        assert not dense or seq == before + 1, f"SEQ-5: uid {uid}: {seq} after {before}"
        self.gaps += seq != before + 1
        self.answers += 1
        self.highest[uid] = max(self.highest[uid], seq)
        return seq

    @asynccontextmanager
    async def callers(self, *, dense: bool = False) -> AsyncIterator[None]:
        """One per uid of every third one, each waiting for its answer before it calls again."""

        async def call(uid: int) -> None:
            while True:
                await self.call(uid, dense=dense)
                await asyncio.sleep(0.003)

        tasks = [asyncio.create_task(call(u)) for u in range(0, self.sections * SIZE, 3)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        assert not failed, failed[0]

    async def aclose(self) -> None:
        for stores in self.stores.values():
            for store in stores:
                await store.aclose()
        await self.coordinator.aclose()


@asynccontextmanager
async def open_two_sets(
    directory: Path, *, sections: int = 8, n: int = 3
) -> AsyncIterator[TwoSets]:
    coordinator = await EmbeddedCoordinator.open(directory)
    box = TwoSets(coordinator, sections, n)
    await coordinator.transact({}, box.blank_map())
    try:
        yield box
    finally:
        await box.aclose()


def unreachable(*methods: str) -> Callable[[str, Any], None]:
    """A `Door.before` by which these methods fail."""

    def before(method: str, request: Any) -> None:
        del request
        if method in methods:
            raise ReplicaFailed("UNREACHABLE", "by order of the test")

    return before
