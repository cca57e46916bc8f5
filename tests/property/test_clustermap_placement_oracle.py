"""Placement against a dumb oracle: one dictionary entry per section, no ranges at all.

Keeps: epochs of a section only rise whatever is done, entries never overlap, the version rises with
every change and only then (ROUTE-1, FENCE-1).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clustermap.model import Assignments, Cluster, Replica, SetSpec, routing_table
from clustermap.nodes import Node
from clustermap.placement import mark_leaving, raise_floor, reassign, sole_owner, unassign

SECTIONS = 12
SPEC = SetSpec("s", 0, SECTIONS - 1, (Replica("store-0", "s:1", 1),), 1, 1)
CLUSTER = Cluster("ab", section_size=10, uid_limit=10 * SECTIONS)

ranges = st.tuples(st.integers(0, SECTIONS - 1), st.integers(0, SECTIONS - 1)).map(
    lambda ends: (min(ends), max(ends))
)
nodes = st.sampled_from([Node(1, "a:1", "s"), Node(2, "b:1", "s"), Node(2, "b:2", "s")])


@dataclass
class Section:
    """What the oracle knows of one section."""

    owner: Node | None = None
    epoch: int = 0
    leaving: bool = False
    history: int = 0  # the highest epoch ever given or reported


class Placement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.document = Assignments("s")
        self.sections = [Section() for _ in range(SECTIONS)]
        self.given: list[set[int]] = [set() for _ in range(SECTIONS)]

    def become(self, document: Assignments, changed: bool) -> None:
        assert document.version == self.document.version + changed
        if not changed:
            assert document is self.document
        old = routing_table(CLUSTER, {"s": SPEC}, {"s": self.document})
        new = routing_table(CLUSTER, {"s": SPEC}, {"s": document})
        assert new.version >= old.version
        assert new.routes == old.routes or new.version > old.version
        self.document = Assignments.from_json(document.to_json())
        assert self.document == document

    def give(self, sections: list[int], node: Node, epoch: int) -> None:
        for section in sections:
            assert epoch > self.sections[section].history
            assert all(epoch > earlier for earlier in self.given[section])
            self.given[section].add(epoch)
            self.sections[section] = Section(node, epoch, False, epoch)

    @rule(span=ranges, node=nodes)
    def reassigned(self, span: tuple[int, int], node: Node) -> None:
        sections = list(range(span[0], span[1] + 1))
        epoch = max(self.sections[s].history for s in sections) + 1
        self.give(sections, node, epoch)
        self.become(reassign(self.document, *span, node), changed=True)

    @rule(span=ranges)
    def unassigned(self, span: tuple[int, int]) -> None:
        inside = self.sections[span[0] : span[1] + 1]
        changed = any(section.owner for section in inside)
        for section in inside:
            section.owner, section.epoch, section.leaving = None, 0, False
        self.become(unassign(self.document, *span), changed)

    @rule(span=ranges)
    def marked(self, span: tuple[int, int]) -> None:
        inside = [s for s in self.sections[span[0] : span[1] + 1] if s.owner]
        changed = any(not section.leaving for section in inside)
        for section in inside:
            section.leaving = True
        self.become(mark_leaving(self.document, *span), changed)

    @rule(span=ranges, epoch=st.integers(1, 40))
    def reported(self, span: tuple[int, int], epoch: int) -> None:
        document = raise_floor(self.document, *span, epoch)
        for section in self.sections[span[0] : span[1] + 1]:
            section.history = max(section.history, epoch)
        self.become(document, changed=document is not self.document)

    @rule(node=nodes)
    def restarted(self, node: Node) -> None:
        refused = self.refused()
        needing = [
            s
            for s, section in enumerate(self.sections)
            if section.owner != node or section.leaving or s in refused
        ]
        document = sole_owner(self.document, SPEC, node)
        assert (document is None) == (not needing)
        if document is not None:
            self.give(needing, node, max(s.history for s in self.sections) + 1)
            self.become(document, changed=True)
            assert sole_owner(self.document, SPEC, node) is None

    @rule(span=ranges)
    def lost_its_map_and_was_told_again(self, span: tuple[int, int]) -> None:
        """A floor equal to the epoch in force: the replica refuses that epoch from now on."""
        owner = self.document.owner(span[0])
        assume(owner is not None)
        assert owner is not None
        document = raise_floor(self.document, span[0], span[0], owner.epoch)
        assert span[0] in self.refused(document)
        self.become(document, changed=document is not self.document)

    def refused(self, document: Assignments | None = None) -> set[int]:
        """Sections whose entry cannot win: a promise is not below its epoch."""
        document = document or self.document
        return {
            s
            for s in range(SECTIONS)
            for floor in document.floors
            if floor.first <= s <= floor.last
            and (owner := document.owner(s))
            and floor.epoch >= owner.epoch
        }

    @invariant()
    def the_document_says_what_the_oracle_says(self) -> None:
        for s, section in enumerate(self.sections):
            owner = self.document.owner(s)
            assert self.document.highest_epoch(s, s) == section.history
            if section.owner is None:
                assert owner is None
            else:
                assert owner is not None
                assert (owner.incarnation, owner.address, owner.epoch, owner.leaving) == (
                    section.owner.incarnation,
                    section.owner.address,
                    section.epoch,
                    section.leaving,
                )

    @invariant()
    def nothing_is_longer_than_it_has_to_be(self) -> None:
        entries, floors = self.document.entries, self.document.floors
        for entry, after in pairwise(entries):
            assert entry.last < after.first
            assert replace(entry, last=after.last) != replace(after, first=entry.first) or (
                entry.last + 1 < after.first
            )
        for floor, higher in pairwise(floors):
            assert floor.last < higher.first
            assert floor.epoch != higher.epoch or floor.last + 1 < higher.first
        for floor in self.document.floors:
            for s in range(floor.first, floor.last + 1):
                owner = self.document.owner(s)
                assert owner is None or floor.epoch >= owner.epoch


TestPlacement = Placement.TestCase
TestPlacement.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
