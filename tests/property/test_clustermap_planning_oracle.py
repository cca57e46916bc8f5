"""Plans against a dumb oracle that looks at every single section.

Histories are random: nodes come, drain, lose their lease, are given up; owners release, sections
are refused. Each plan along the way is checked (FENCE-1: epochs rise; ROUTE-1: so do versions).
"""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clustermap.model import Assignment, Assignments, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.placement import hand_over, raise_floor
from clustermap.planning import Memory, Plan, plan
from clustermap.ranges import Range
from clustermap.scene import BALANCE, FAILURE, REFUSED, Limits, Scene

SECTIONS = 23
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), (Replica("store-0", "s:1", 1),), 1, 1)
LIMITS = Limits(balance_rounds=2)
EVERYTHING = 10**6

sections = st.integers(0, SECTIONS - 1)
ranges = st.tuples(sections, sections).map(lambda ends: (min(ends), max(ends)))
loads = st.builds(
    lambda hot, rest: Load(sum(r for _, r in hot) + rest, tuple(hot), SECTIONS // 3),
    st.lists(st.tuples(sections, st.integers(0, 5_000)), max_size=3, unique_by=lambda h: h[0]),
    st.integers(0, 10_000),
)


class Planning(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.document = Assignments("s")
        self.nodes: dict[int, Node] = {}
        self.given_up: set[int] = set()
        self.memory = Memory()
        self.born = 0
        self.history = [0] * SECTIONS
        self.loaded = False

    @initialize(nodes=st.integers(0, 4))
    def some_are_there(self, nodes: int) -> None:
        for _ in range(nodes):
            self.a_node_comes()
        self.the_arbiter_plans(EVERYTHING, False)

    # -- the world

    @rule()
    def a_node_comes(self) -> None:
        if len(self.nodes) < 6:
            self.born += 1
            self.nodes[self.born] = Node(self.born, f"n:{self.born}", "s")

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.nodes)))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), how=st.sampled_from(["drains", "lapses", "holds"]))
    def a_node_changes(self, data: st.DataObject, how: str) -> None:
        key = self.pick(data)
        if how == "drains":
            self.nodes[key] = replace(self.nodes[key], draining=True)
        else:
            self.nodes[key] = replace(self.nodes[key], leased=how == "holds")

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), load=loads)
    def a_node_reports(self, data: st.DataObject, load: Load) -> None:
        key = self.pick(data)
        self.nodes[key] = replace(self.nodes[key], load=load)
        self.loaded = True

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), given_up=st.booleans())
    def a_node_goes(self, data: st.DataObject, given_up: bool) -> None:
        key = self.pick(data)
        del self.nodes[key]
        if given_up:
            self.given_up.add(key)

    @rule()
    def whoever_is_not_registered_is_given_up(self) -> None:
        named = {entry.incarnation for entry in self.document.entries}
        named |= {e.successor.incarnation for e in self.document.entries if e.successor}
        self.given_up |= named - self.nodes.keys()

    @rule(span=ranges, epoch=st.integers(1, 60))
    def some_are_refused(self, span: tuple[int, int], epoch: int) -> None:
        self.document = raise_floor(self.document, *span, epoch)

    @rule(span=ranges)
    def owners_release(self, span: tuple[int, int]) -> None:
        for incarnation in {entry.incarnation for entry in self.document.entries}:
            self.document = hand_over(self.document, [Range(*span)], incarnation)

    @rule(share=st.sampled_from([1, 5, EVERYTHING]), new_round=st.booleans())
    def the_arbiter_plans(self, share: int, new_round: bool) -> None:
        scene = Scene(SPEC, tuple(self.nodes.values()), frozenset(self.given_up))
        made = plan(self.document, scene, self.memory, LIMITS, budget=share, new_round=new_round)
        again = plan(
            self.document,
            replace(scene, nodes=tuple(reversed(scene.nodes))),
            self.memory,
            LIMITS,
            budget=share,
            new_round=new_round,
        )
        assert again == made
        self.check(scene, made, share)
        self.document, self.memory = made.document, made.memory

    # -- what must hold

    def check(self, scene: Scene, made: Plan, budget: int) -> None:
        before, after = self.document, made.document
        assert after.version == before.version + bool(made.moves)
        assert made.moves or after is before
        assert Assignments.from_json(after.to_json()) == after
        willing = scene.willing
        self.check_moves(made, budget)
        for section in range(SECTIONS):
            self.check_section(section, before, after, scene, budget)
        if willing and budget == EVERYTHING:
            owners = [after.owner(section) for section in range(SECTIONS)]
            assert all(owner and owner.incarnation not in self.given_up for owner in owners)
            # Balance aims at less; what is refused stays although its owner may have too much.
            if not self.loaded and not {m.cause for m in made.moves} & {BALANCE, REFUSED}:
                self.check_even(made, scene)
            settled = plan(after, scene, made.memory, LIMITS, budget=budget, new_round=False)
            assert settled.moves == (), "a plan leaves nothing undone"

    def check_moves(self, made: Plan, budget: int) -> None:
        covered: set[int] = set()
        for move in made.moves:
            span = set(range(move.first, move.last + 1))
            assert not span & covered
            covered |= span
        assert made.taken <= budget
        assert made.taken == sum(m.sections for m in made.moves if m.cause == FAILURE)

    def check_section(
        self, section: int, before: Assignments, after: Assignments, scene: Scene, budget: int
    ) -> None:
        old, new = before.owner(section), after.owner(section)
        floor = max((f.epoch for f in before.floors if f.first <= section <= f.last), default=0)
        highest = before.highest_epoch(section, section)
        assert after.highest_epoch(section, section) >= highest
        if new is not None and (old is None or new.epoch != old.epoch):
            assert new.epoch > highest
            assert not new.leaving
            assert new.incarnation in self.nodes and not self.nodes[new.incarnation].draining
            assert new.incarnation not in self.given_up
        if old is None:
            assert (new is None) == (not scene.willing)
            return
        assert new is not None
        dead, refused = old.incarnation in self.given_up, floor >= old.epoch
        if not dead and not refused:  # the owner may be serving: never by force
            assert (new.incarnation, new.epoch) == (old.incarnation, old.epoch)
            assert new.leaving >= old.leaving
            self.check_leaving(old, new, scene)
        owner = self.nodes.get(old.incarnation)
        if refused and not dead and not old.leaving and owner and not owner.draining:
            assert new.incarnation == old.incarnation
            assert new.epoch > floor

    def check_leaving(self, old: Assignment, new: Assignment, scene: Scene) -> None:
        node = self.nodes.get(old.incarnation)
        if node and node.draining:
            assert new.leaving
        if not new.leaving:
            return
        heir = new.successor and new.successor.incarnation
        unfit = self.given_up | {n.incarnation for n in self.nodes.values() if n.draining}
        assert heir not in unfit
        assert heir is not None or not scene.willing
        # There is no way back: where its heir is gone, the owner may have to succeed itself.
        assert heir != old.incarnation or old.leaving
        if old.leaving and old.successor and old.successor.incarnation not in unfit:
            assert new.successor == old.successor

    def check_even(self, made: Plan, scene: Scene) -> None:
        """Whoever got anything ends within one section of all, while nobody reports any load."""
        had, has = self.counts(self.document, scene), self.counts(made.document, scene)
        got = [has[key] for key in scene.willing if has[key] > had[key]]
        assert all(count >= max(got, default=0) - 1 for count in has.values())

    @staticmethod
    def counts(document: Assignments, scene: Scene) -> dict[int, int]:
        counts = dict.fromkeys(scene.willing, 0)
        for entry in document.entries:
            owner: int | None = entry.incarnation
            if entry.leaving:
                owner = entry.successor.incarnation if entry.successor else None
            if owner in counts:
                counts[owner] += entry.last - entry.first + 1
        return counts

    @invariant()
    def epochs_only_rise(self) -> None:
        for section in range(SECTIONS):
            highest = self.document.highest_epoch(section, section)
            assert highest >= self.history[section]
            self.history[section] = highest


TestPlanning = Planning.TestCase
TestPlanning.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
