"""All that the arbiter knows of one Set, and what it would write. Pure: no clock, no network.

`see` takes pictures of the map, `due` and `probed` go to and come from whoever can reach nodes, and
`decide` says what to write and on which conditions. The shell (reign.py) only carries things to and
fro. A decision is a transaction that expects everything that it rests on: the Set as it was read,
the assignments at their revision, nodes that were given up to be still unregistered (or, where they
were given up for want of a lease, to say still what they said). The shell adds the election.

A keeper lives from an election to its loss: a new arbiter begins with no memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from arbitersvr.detection import Detection, Outcome, Probe
from arbitersvr.grace import GATHER_NS, Grace
from clustermap.coordinator import Versioned
from clustermap.errors import MapCorrupt
from clustermap.jobs import FINISHED, JOBS_PREFIX, Job
from clustermap.model import (
    Assignments,
    SetSpec,
    assignments_key,
    node_key,
    nodes_prefix,
    set_key,
)
from clustermap.nodes import Node
from clustermap.orders import Orders, orders_key
from clustermap.planning import Memory, Plan, plan
from clustermap.scene import FAILURE, SUCCESSOR, Limits, Scene
from clustermap.spans import overlaps

# etcd takes 128 comparisons in a transaction.
MAX_GIVEN_UP = 64
# Nodes take about one lease time to see that the map was wiped, one after the other.
CLAIM_TTLS = 3
DOUBT_NS = 2 * 10**9


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds. lease_ttl_s: of the nodes' leases; the rest is named in keeper and shell.

    round_s: between two probes of a node, two readings of the loads, two refills of what may be
    taken from nodes that were given up; gather_s: how long a new Set waits for its nodes.
    """

    lease_ttl_s: float = 2.0
    round_s: float = 0.5
    gather_s: float = GATHER_NS / 1e9
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("lease_ttl_s", "round_s"):
            if not 0.001 <= getattr(self, name) <= 3600:
                raise ValueError(f"{name} must be in 0.001..3600 s, not {getattr(self, name)}")


class Change(NamedTuple):
    """To be written: the next assignments. expected: as Coordinator.transact wants it."""

    expected: dict[str, int]
    key: str
    plan: Plan


class _Registered(NamedTuple):
    """A registration as it was read; node: None where it cannot be."""

    revision: int
    node: Node | None


class Keeper:
    """The core of one Set; calls of its methods must not overlap."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.spec: SetSpec | None = None
        self.document = Assignments(name)
        self._limits = options.limits
        self._round_ns = int(options.round_s * 1e9)
        lease_ttl_ns = int(options.lease_ttl_s * 1e9)
        self._detection = Detection(lease_ttl_ns, self._round_ns)
        self._grace = Grace(CLAIM_TTLS * lease_ttl_ns, int(options.gather_s * 1e9))
        self._memory = Memory()
        self._taken = 0  # from given up nodes, in this round
        self._next_round_ns = 0
        self._registered: dict[int, _Registered] = {}
        self._jobs: frozenset[int] = frozenset()
        self._spec_revision = 0
        self._orders = Orders(name)
        self._orders_revision = 0
        self._document_revision = 0
        self._older_since_ns: int | None = None
        self._broken = True
        self._settled: object = None

    # -- what the map says ---------------------------------------------------------------------

    def see(
        self, entries: Mapping[str, Versioned], now_ns: int, *, certain: bool = False
    ) -> list[str]:
        """A picture of the map that was read just now; what in it cannot be understood.

        certain: it was read after whatever was written; else one that is older than what we have
        written ourselves does not take that back.
        """
        self._broken = True
        try:
            self._see_documents(entries, now_ns, certain)
        except MapCorrupt as corrupt:
            return [str(corrupt)]
        self._broken = self.spec is None
        complaints = self._see_nodes(entries) + self._see_jobs(entries)
        self._grace.see(self.document)
        registered = {key: held.node for key, held in self._registered.items()}
        named = {k: at for k, at in _named(self.document).items() if k not in self._jobs}
        self._detection.see(named, registered, now_ns)
        return complaints

    def in_doubt(self, now_ns: int) -> bool:
        """Whether the map has shown assignments older than ours for longer than a watch is late.

        It was put back to an older state, with our election in it: read everything again.
        """
        since_ns = self._older_since_ns
        return since_ns is not None and now_ns - since_ns >= DOUBT_NS

    def _see_documents(self, entries: Mapping[str, Versioned], now_ns: int, certain: bool) -> None:
        spec = entries.get(set_key(self.name))
        if spec is None:
            self.spec = None
        elif spec.revision != self._spec_revision or self.spec is None:
            self.spec = SetSpec.from_json(spec.value)
            self._spec_revision = spec.revision
        self._see_orders(entries.get(orders_key(self.name)))
        held = entries.get(assignments_key(self.name))
        revision = held.revision if held else 0
        if revision < self._document_revision and not certain:
            if self._older_since_ns is None:
                self._older_since_ns = now_ns
            return
        self._older_since_ns = None
        if revision == self._document_revision:
            return
        document = Assignments.from_json(held.value) if held else Assignments(self.name)
        if document.set != self.name:
            raise MapCorrupt(f"assignments of Set {self.name!r} are those of {document.set!r}")
        self.document, self._document_revision = document, revision

    def _see_orders(self, held: Versioned | None) -> None:
        revision = held.revision if held else 0
        if revision == self._orders_revision:
            return
        orders = Orders.from_json(held.value) if held else Orders(self.name)
        if orders.set != self.name:
            raise MapCorrupt(f"orders of Set {self.name!r} are those of {orders.set!r}")
        self._orders, self._orders_revision = orders, revision

    def _see_jobs(self, entries: Mapping[str, Versioned]) -> list[str]:
        """By which incarnations jobs have sections: they are no nodes, and nobody probes them."""
        complaints, found = [], set()
        for key, held in entries.items():
            if not key.startswith(JOBS_PREFIX):
                continue
            try:
                job = Job.from_json(held.value)
            except MapCorrupt as error:
                complaints.append(f"{key}: {error}")
                continue
            if job.move is not None and job.state not in FINISHED:
                found.add(job.move.incarnation)
        self._jobs = frozenset(found)
        return complaints

    def _see_nodes(self, entries: Mapping[str, Versioned]) -> list[str]:
        complaints = []
        known, self._registered = self._registered, {}
        prefix = nodes_prefix(self.name)
        for key, held in entries.items():
            if not key.startswith(prefix):
                continue
            try:
                incarnation = int(key.removeprefix(prefix), 16)
                before = known.get(incarnation)
                if before is not None and before.revision == held.revision:
                    self._registered[incarnation] = before
                    continue
                self._registered[incarnation] = _Registered(held.revision, None)
                node = Node.from_json(held.value)
                if (node.set, node.incarnation) != (self.name, incarnation):
                    raise MapCorrupt(f"registration {key!r} is another node's")
                self._registered[incarnation] = _Registered(held.revision, node)
            except (MapCorrupt, ValueError) as error:
                complaints.append(f"{key}: {error}")
        return complaints

    # -- what nodes say ------------------------------------------------------------------------

    def due(self, now_ns: int) -> list[Probe]:
        """Probes to send now; each must come back by `probed`."""
        return [] if self._broken else self._detection.due(now_ns)

    def probed(self, probe: Probe, outcome: Outcome) -> None:
        """A probe has come to its end."""
        self._detection.probed(probe, outcome)

    @property
    def given_up(self) -> frozenset[int]:
        """Incarnations that have been given up and not been seen well since."""
        return self._detection.given_up

    # -- what is to be done --------------------------------------------------------------------

    def decide(self, now_ns: int) -> Change | None:
        """The next change to write, None if everything is as it should be.

        Raises MapCorrupt and ValueError where the assignments are such that nothing can be planned.
        """
        self._detection.pass_time(now_ns)
        new_round = now_ns >= self._next_round_ns
        if new_round:
            self._next_round_ns = now_ns + self._round_ns
            self._taken = 0
        if self._broken or self.spec is None:
            return None
        scene = self._scene(self.spec, now_ns)
        settled = self._signature(scene)
        if settled == self._settled and not new_round:
            return None
        made = plan(
            self.document,
            scene,
            self._memory,
            self._limits,
            budget=max(0, self._limits.budget(self.document) - self._taken),
            new_round=new_round,
        )
        self._memory = made.memory
        self._settled = None if made.moves else settled
        return self._change(made, scene) if made.moves else None

    def written(self, change: Change, revision: int) -> None:
        """The change stands in the map since `revision`."""
        self.document, self._document_revision = change.plan.document, revision
        self._taken += change.plan.taken
        self._grace.see(self.document)

    def next_ns(self) -> int:
        """When to `decide` again although nothing has happened."""
        if self._broken:  # nothing is probed, and nothing ends by itself
            return self._next_round_ns
        times = (self._next_round_ns, self._detection.next_ns(), self._grace.until_ns)
        return min(time for time in times if time is not None)

    def sections(self) -> dict[str, int]:
        """How many there are by state, as the map has it."""
        counts = {"assigned": 0, "leaving": 0, "given_up": 0, "unowned": 0}
        given_up = self._detection.given_up
        for entry in self.document.entries:
            gone = entry.incarnation in given_up
            state = "given_up" if gone else "leaving" if entry.leaving else "assigned"
            counts[state] += entry.last - entry.first + 1
        if self.spec is not None:
            counts["unowned"] = self.spec.sections - sum(counts.values())
        return counts

    def nodes(self) -> dict[str, int]:
        """How many there are by state: registered ones, and those given up, registered or not."""
        given_up = self._detection.given_up
        counts = {"live": 0, "draining": 0, "unleased": 0, "given_up": len(given_up)}
        known = [held.node for held in self._registered.values() if held.node is not None]
        for node in self._orders.obeyed(known, given_up):
            if node.incarnation not in given_up:
                state = "live" if node.leased else "unleased"
                counts["draining" if node.draining else state] += 1
        return counts

    def _scene(self, spec: SetSpec, now_ns: int) -> Scene:
        given_up = self._detection.given_up
        named = _named(self.document)
        acted_on = frozenset(sorted(key for key in given_up if key in named)[:MAX_GIVEN_UP])
        known = (held.node for _, held in sorted(self._registered.items()))
        nodes = self._orders.obeyed([node for node in known if node is not None], given_up)
        held_back = self._grace.held_back(self.document, spec, nodes, now_ns)
        pins, balance = self._orders.pins, self._orders.balance
        return Scene(spec, nodes, acted_on, held_back, pins, balance, self._jobs)

    def _signature(self, scene: Scene) -> object:
        """All that a plan depends on within a round: loads are read once per round only."""
        nodes = tuple((node.owner, node.draining, node.leased) for node in scene.nodes)
        revisions = self._spec_revision, self._document_revision, self._orders_revision
        return revisions, nodes, scene.given_up, scene.held_back, scene.jobs

    def _change(self, made: Plan, scene: Scene) -> Change:
        key = assignments_key(self.name)
        expected = {key: self._document_revision, set_key(self.name): self._spec_revision}
        if self._orders_revision:
            expected[orders_key(self.name)] = self._orders_revision
        for incarnation in sorted(self._rests_on(made) & scene.given_up):
            held = self._registered.get(incarnation)
            expected[node_key(self.name, incarnation)] = held.revision if held else 0
        return Change(expected, key, made)

    def _rests_on(self, made: Plan) -> set[int]:
        """Whose state the plan's moves were decided by."""
        moves = [move for move in made.moves if move.cause in (FAILURE, SUCCESSOR)]
        rests_on = set()
        for _, entry, _, _ in overlaps(moves, self.document.entries):
            rests_on.add(entry.incarnation)
            if entry.successor is not None:
                rests_on.add(entry.successor.incarnation)
        return rests_on


def _named(document: Assignments) -> dict[int, str]:
    """incarnation -> where to reach everybody who has sections, or is to get some."""
    named = {}
    for entry in document.entries:
        named[entry.incarnation] = entry.owner.reached
        if entry.successor is not None:
            named[entry.successor.incarnation] = entry.successor.reached
    return named
