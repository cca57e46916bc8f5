"""A map with Sets, nodes that come and go, arbiters that run."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from prometheus_client import CollectorRegistry

from arbitersvr.arbiter import Arbiter
from arbitersvr.detection import Outcome
from arbitersvr.jobs import Work
from arbitersvr.keeper import Options
from arbitersvr.metrics import Metrics
from clustermap import placement
from clustermap.clock import BootClock
from clustermap.coordinator import Coordinator, Registration
from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range

PATIENCE_S = 30.0
TTL_S = 5.0
FAST = Options(lease_ttl_s=0.2, round_s=0.02, gather_s=0.05)


async def eventually(holds: Callable[[], bool], what: str = "it") -> None:
    """Wait until `holds()`; fails after PATIENCE_S."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {PATIENCE_S} s") from None


@dataclass
class FakeProber:
    """Finds what it is told to find; `asked` counts probes by incarnation."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)

    async def probe(self, address: str, incarnation: int) -> Outcome:
        self.asked[incarnation] = self.asked.get(incarnation, 0) + 1
        await asyncio.sleep(0.001)
        return self.outcomes.get(incarnation, Outcome.ALIVE)


class Running:
    """An arbiter as a task."""

    def __init__(
        self,
        world: "World",
        coordinator: Coordinator,
        options: Options,
        kinds: Mapping[str, Work] | None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.arbiter = Arbiter(
            coordinator,
            BootClock(),
            world.prober,
            Metrics(self.registry),
            options,
            b"an arbiter",
            kinds,
        )
        self.task = asyncio.create_task(self.arbiter.run())

    @property
    def leads(self) -> bool:
        return self.arbiter.leading.is_set()

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"seqsvr_arbiter_{name}", labels) or 0.0

    async def stop(self) -> None:
        """As a signal does; fails with what ended it before."""
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()


class World:
    """Use as a context manager; `sections` are those of the first Set."""

    def __init__(self, coordinator: Coordinator, sections: int = 30, name: str = "s") -> None:
        self.coordinator = coordinator
        self.name = name
        self.sections = sections
        self.prober = FakeProber()
        self.arbiters: list[Running] = []
        self.registered: dict[int, Registration] = {}
        self.addresses: dict[int, str] = {}
        self.document = Assignments(name)

    async def __aenter__(self) -> "World":
        whole = Cluster("c", section_size=10, uid_limit=10 * self.sections)
        await self.put({CLUSTER_KEY: whole.to_json()})
        await self.add_set(self.name, 0, self.sections - 1)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        for arbiter in self.arbiters:
            await arbiter.stop()

    async def put(self, puts: dict[str, bytes | None]) -> None:
        assert await self.coordinator.transact({}, puts) is not None

    async def add_set(self, name: str, first: int, last: int) -> None:
        spec = SetSpec(name, (Range(first, last),), (Replica("store-0", "s:1", 1),), 1, 1)
        key = assignments_key(name)
        await self.put({set_key(name): spec.to_json(), key: Assignments(name).to_json()})

    def arbiter(
        self,
        coordinator: Coordinator | None = None,
        options: Options = FAST,
        kinds: Mapping[str, Work] | None = None,
    ) -> Running:
        running = Running(self, coordinator or self.coordinator, options, kinds)
        self.arbiters.append(running)
        return running

    # -- nodes

    def node(self, incarnation: int) -> Node:
        return Node(incarnation, f"n:{incarnation}", self.name)

    async def come(self, *incarnations: int, **said: Any) -> None:
        """These register, or say something new of themselves."""
        for incarnation in incarnations:
            known = self.addresses.get(incarnation, f"n:{incarnation}")
            self.addresses[incarnation] = said.get("address", known)
            fields = {"address": self.addresses[incarnation], **said}
            node = replace(self.node(incarnation), **fields)
            if incarnation in self.registered:
                await self.registered[incarnation].update(node.to_json())
                continue
            key = node_key(node.set, incarnation)
            held = await self.coordinator.register(key, node.to_json(), TTL_S)
            self.registered[incarnation] = held

    async def go(self, incarnation: int) -> None:
        """Its registration ends."""
        await self.registered.pop(incarnation).aclose()

    async def die(self, incarnation: int) -> None:
        """Nobody listens at its address, and its registration ends."""
        self.prober.outcomes[incarnation] = Outcome.GONE
        await self.go(incarnation)

    # -- assignments

    async def look(self, name: str | None = None) -> Assignments:
        key = assignments_key(name or self.name)
        held = (await self.coordinator.get(key)).entries[key]
        return Assignments.from_json(held.value)

    async def change(self, by: Callable[[Assignments], Assignments]) -> Assignments:
        """As some node would: compare and swap until it is done."""
        key = assignments_key(self.name)
        while True:
            held = (await self.coordinator.get(key)).entries[key]
            new = by(Assignments.from_json(held.value))
            if await self.coordinator.transact({key: held.revision}, {key: new.to_json()}):
                return new

    async def hand_over(self, incarnation: int, first: int, last: int) -> None:
        await self.change(lambda d: placement.hand_over(d, [Range(first, last)], incarnation))

    async def until(self, holds: Callable[[Assignments], bool], what: str) -> Assignments:
        """The assignments as soon as they are so."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds(found := await self.look()):
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"{what}: {await self.look()}") from None
        return found

    async def until_owned_by(self, *incarnations: int) -> Assignments:
        """Everything is owned, by these and by all of them, and nothing is leaving."""

        def settled(document: Assignments) -> bool:
            counts = self.counts(document)
            whole = sum(counts.values()) == self.sections
            still = not any(entry.leaving for entry in document.entries)
            return whole and still and counts.keys() == set(incarnations)

        return await self.until(settled, f"not everything is owned by {incarnations}")

    @staticmethod
    def counts(document: Assignments) -> dict[int, int]:
        counts: dict[int, int] = {}
        for entry in document.entries:
            size = entry.last - entry.first + 1
            counts[entry.incarnation] = counts.get(entry.incarnation, 0) + size
        return counts
