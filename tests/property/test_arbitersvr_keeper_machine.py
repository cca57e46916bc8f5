"""The keeper as a shell drives it, over a map that others write too. FENCE-1, ROUTE-1.

What must hold of every change that it asks for: it is a compare-and-swap on all that it was decided
from, so one that is late changes nothing; epochs and versions only rise; sections are taken by
force only from nodes that are gone and silent, or say so themselves; a round takes at most its
share; and a world that stands still is brought to rest with every section at a willing node.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from arbitersvr.detection import Outcome, Probe
from arbitersvr.keeper import Change, Keeper, Options
from clustermap.coordinator import Versioned
from clustermap.model import Assignments, Replica, SetSpec, assignments_key, node_key, set_key
from clustermap.nodes import Node
from clustermap.placement import hand_over, raise_floor
from clustermap.ranges import Range
from clustermap.scene import CAUSES, FAILURE, Limits

S = 10**9
SECTIONS = 12
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), (Replica("r", "a:1", 1),), 1, 1)
OPTIONS = Options(gather_s=0.0, limits=Limits(balance_rounds=2))
KEY = assignments_key("s")
NODES = st.integers(1, 4)


class KeeperAndItsMap(RuleBasedStateMachine):
    @initialize(nodes=st.integers(0, 4))
    def begin(self, nodes: int) -> None:
        self.now = 1_000 * S
        self.revision = 1
        self.map = {set_key("s"): Versioned(SPEC.to_json(), 1)}
        self.older = dict(self.map)
        self.history = [0] * SECTIONS
        self.flying: list[Probe] = []
        self.change: Change | None = None
        self.taken = 0
        self.elect()
        for incarnation in range(1, nodes + 1):
            self.register(incarnation)
        self.see()
        self.decide()
        self.write()

    @rule()
    def elect(self) -> None:
        """A new arbiter knows nothing of what its predecessor did."""
        self.keeper = Keeper("s", OPTIONS)
        self.change = None
        self.flying = []
        self.taken = 0
        self.round_end = 0
        self.written = 0
        self.see()

    # -- the map, and who else writes to it

    def put(self, key: str, value: bytes) -> None:
        self.revision += 1
        self.map[key] = Versioned(value, self.revision)

    @property
    def document(self) -> Assignments:
        held = self.map.get(KEY)
        return Assignments.from_json(held.value) if held else Assignments("s")

    def write_document(self, document: Assignments) -> None:
        if document is not self.document and document.version != self.document.version:
            self.put(KEY, document.to_json())

    @rule(incarnation=NODES, leased=st.booleans(), draining=st.booleans())
    def register(self, incarnation: int, leased: bool = True, draining: bool = False) -> None:
        node = Node(incarnation, f"n:{incarnation}", "s", draining, leased)
        self.put(node_key("s", incarnation), node.to_json())

    @rule(incarnation=NODES)
    def a_registration_ends(self, incarnation: int) -> None:
        self.map.pop(node_key("s", incarnation), None)

    @rule(incarnation=NODES)
    def owners_release(self, incarnation: int) -> None:
        span = [Range(0, SECTIONS - 1)]
        self.write_document(hand_over(self.document, span, incarnation))

    @rule(section=st.integers(0, SECTIONS - 1), epoch=st.integers(1, 20))
    def a_promise_is_reported(self, section: int, epoch: int) -> None:
        self.write_document(raise_floor(self.document, section, section, epoch))

    @rule()
    def see_what_stood_before_the_last_write(self) -> None:
        """A reading that was slow: what the keeper has written itself is not taken back."""
        assert self.keeper.see(self.older, self.now) == []

    @rule()
    def see(self) -> None:
        assert self.keeper.see(self.map, self.now) == []

    @rule(passed=st.sampled_from([0.1, 0.5, 5.0]))
    def time_passes(self, passed: float) -> None:
        self.now += int(passed * S)

    # -- probes

    @rule()
    def probe(self) -> None:
        self.flying += self.keeper.due(self.now)

    @precondition(lambda self: self.flying)
    @rule(outcome=st.sampled_from([Outcome.GONE, Outcome.SILENT, Outcome.ALIVE]))
    def probes_end(self, outcome: Outcome) -> None:
        for probe in self.flying:
            self.keeper.probed(probe, outcome)
        self.flying = []

    # -- decisions

    @rule()
    def decide(self) -> None:
        if self.now >= self.round_end:
            self.round_end = self.now + S // 2
            self.taken = 0
        self.change = self.keeper.decide(self.now)
        if self.change is None:
            return
        plan, expected = self.change.plan, self.change.expected
        assert self.change.key == KEY
        assert plan.moves and {move.cause for move in plan.moves} <= set(CAUSES)
        assert set_key("s") in expected and KEY in expected
        assert plan.document.version == self.keeper.document.version + 1
        for move in plan.moves:
            if move.cause == FAILURE:
                for section in range(move.first, move.last + 1):
                    self.check_taken(section, self.change)

    def check_taken(self, section: int, change: Change) -> None:
        """By force only from whoever was given up, and only if that still holds in the map."""
        entry = self.keeper.document.owner(section)
        assert entry is not None
        assert entry.incarnation in self.keeper.given_up
        assert node_key("s", entry.incarnation) in change.expected

    @precondition(lambda self: self.change is not None)
    @rule()
    def write(self) -> None:
        """As the map does it: only if nothing of what is expected has changed."""
        change, self.change = self.change, None
        if change is None:
            return
        stands = {key: held.revision for key, held in self.map.items()}
        if any(stands.get(key, 0) != revision for key, revision in change.expected.items()):
            return
        before = self.document
        for incarnation in {e.incarnation for e in before.entries}:
            self.check_spared(incarnation, before, change.plan.document)
        self.older = dict(self.map)
        self.put(KEY, change.plan.document.to_json())
        self.keeper.written(change, self.revision)
        self.written = change.plan.document.version
        self.taken += change.plan.taken
        assert self.taken <= max(1, SECTIONS // 2), "the share of a round"

    def check_spared(self, incarnation: int, before: Assignments, after: Assignments) -> None:
        """Who is registered and has its lease loses nothing that it is not asked to release."""
        held = self.map.get(node_key("s", incarnation))
        if held is None or not Node.from_json(held.value).leased:
            return
        for section in range(SECTIONS):
            old, new = before.owner(section), after.owner(section)
            floors = (f.epoch for f in before.floors if f.first <= section <= f.last)
            floor = max(floors, default=0)
            if old and old.incarnation == incarnation and floor < old.epoch:
                assert new and (new.incarnation, new.epoch) == (incarnation, old.epoch)

    # -- what must hold

    @invariant()
    def epochs_only_rise(self) -> None:
        for section in range(SECTIONS):
            highest = self.document.highest_epoch(section, section)
            assert highest >= self.history[section]
            self.history[section] = highest

    @invariant()
    def it_forgets_nothing_that_it_has_written(self) -> None:
        assert self.keeper.document.version >= self.written

    @invariant()
    def it_says_when_it_wants_to_be_asked_again(self) -> None:
        assert self.keeper.next_ns() <= max(self.round_end, self.now) + 60 * S
        counts = self.keeper.sections()
        assert sum(counts.values()) == SECTIONS
        assert min(counts.values()) >= 0

    def teardown(self) -> None:
        """Everybody else stands still: one node is well, the others are gone for good."""
        if not hasattr(self, "keeper"):
            return
        for incarnation in (1, 2, 3, 4):
            self.a_registration_ends(incarnation)
        self.register(5)
        for _ in range(60):
            self.see()
            self.probe()
            self.probes_end(Outcome.GONE)
            self.decide()
            self.write()
            self.owners_release(5)
            self.now += S // 4
        self.see()
        owners = [self.document.owner(section) for section in range(SECTIONS)]
        assert all(owner and owner.incarnation == 5 and not owner.leaving for owner in owners)
        self.decide()
        assert self.change is None, "a world at rest is left alone"


KeeperAndItsMap.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestKeeper = KeeperAndItsMap.TestCase
