"""Placement against a dumb oracle: one dictionary entry per section, no ranges at all.

Keeps: epochs of a section only rise whatever is done, entries never overlap, the version rises with
every change and only then (ROUTE-1, FENCE-1).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clustermap.changes import differing, pieces
from clustermap.model import (
    Assignment,
    Assignments,
    Cluster,
    Owner,
    Replica,
    SetSpec,
    routing_table,
)
from clustermap.nodes import Node
from clustermap.placement import (
    claim,
    hand_over,
    mark_leaving,
    raise_floor,
    raise_version,
    reassign,
    sole_owner,
    unassign,
    withdraw,
)
from clustermap.ranges import Range

SECTIONS = 12
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), (Replica("store-0", "s:1", 1),), 1, 1)
CLUSTER = Cluster("ab", section_size=10, uid_limit=10 * SECTIONS)

ranges = st.tuples(st.integers(0, SECTIONS - 1), st.integers(0, SECTIONS - 1)).map(
    lambda ends: (min(ends), max(ends))
)
NODES = [Node(1, "a:1", "s"), Node(2, "b:1", "s"), Node(2, "b:2", "s")]
nodes = st.sampled_from(NODES)


@dataclass
class Section:
    """What the oracle knows of one section."""

    owner: Node | None = None
    epoch: int = 0
    leaving: bool = False
    successor: Owner | None = None
    history: int = 0  # the highest epoch ever given or reported

    def of(self, incarnation: int) -> bool:
        return self.owner is not None and self.owner.incarnation == incarnation

    def leaves(self, incarnation: int) -> bool:
        return self.of(incarnation) and self.leaving

    def vacate(self) -> None:
        self.owner, self.epoch, self.leaving, self.successor = None, 0, False, None


def alone(entry: Assignment | None) -> Assignment | None:
    return entry and replace(entry, first=0, last=0)


def known(document: Assignments, section: int) -> tuple[Assignment | None, int]:
    """Entry and floor of one section, whatever its neighbours have."""
    floors = [f.epoch for f in document.floors if f.first <= section <= f.last]
    return alone(document.owner(section)), max(floors, default=0)


def said(ranges: list[Range]) -> set[int]:
    return {s for first, last in ranges for s in range(first, last + 1)}


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
        assert said(differing(self.document, document)) == {
            s for s in range(SECTIONS) if known(self.document, s) != known(document, s)
        }
        self.document = Assignments.from_json(document.to_json())
        assert self.document == document

    def give(self, sections: list[int], node: Node, epoch: int) -> None:
        for section in sections:
            assert epoch > self.sections[section].history
            assert all(epoch > earlier for earlier in self.given[section])
            self.given[section].add(epoch)
            self.sections[section] = Section(node, epoch, history=epoch)

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
            section.vacate()
        self.become(unassign(self.document, *span), changed)

    @rule(span=ranges, successor=st.sampled_from([None, *(node.owner for node in NODES)]))
    def marked(self, span: tuple[int, int], successor: Owner | None) -> None:
        inside = [s for s in self.sections[span[0] : span[1] + 1] if s.owner]
        changed = any((s.leaving, s.successor) != (True, successor) for s in inside)
        for section in inside:
            section.leaving, section.successor = True, successor
        self.become(mark_leaving(self.document, *span, successor), changed)

    @rule(spans=st.lists(ranges, min_size=1, max_size=3), node=nodes)
    def handed_over(self, spans: list[tuple[int, int]], node: Node) -> None:
        """The owner says what it has released; of that, what is its own and leaving counts."""
        released = sorted({s for span in spans for s in range(span[0], span[1] + 1)})
        done = [s for s in released if self.sections[s].leaves(node.incarnation)]
        document = hand_over(self.document, [Range(s, s) for s in released], node.incarnation)
        self.succeed(done, document)
        self.become(document, changed=bool(done))

    @rule(span=ranges, successor=nodes, epoch=st.integers(0, 40))
    def moved(self, span: tuple[int, int], successor: Node, epoch: int) -> None:
        """Marked, perhaps promised to somebody else meanwhile, handed over."""
        owner = self.sections[span[0]].owner
        assume(owner is not None)
        assert owner is not None
        self.marked(span, successor.owner)
        if epoch:
            self.reported(span, epoch)
        self.handed_over([span], owner)

    @rule(node=nodes)
    def withdrawn(self, node: Node) -> None:
        own = [s for s, section in enumerate(self.sections) if section.of(node.incarnation)]
        document = withdraw(self.document, node.incarnation)
        for s in own:
            successor = self.sections[s].successor
            if successor is not None and successor.incarnation == node.incarnation:
                self.sections[s].successor = None
        self.succeed(own, document)
        self.become(document, changed=bool(own))
        assert withdraw(document, node.incarnation) is document

    def succeed(self, sections: list[int], document: Assignments) -> None:
        """To their successors, each under an epoch of its own that is above its history."""
        for s in sections:
            successor = self.sections[s].successor
            if successor is None:
                self.sections[s].vacate()
                continue
            entry = document.owner(s)
            assert entry is not None
            self.give([s], Node(successor.incarnation, successor.address, "s"), entry.epoch)

    @rule(span=ranges, node=nodes, epoch=st.integers(1, 40))
    def claimed(self, span: tuple[int, int], node: Node, epoch: int) -> None:
        """Somebody serves sections under an epoch that the document has never heard of."""
        held = Assignment(*span, node.incarnation, node.address, epoch)
        before, document = self.document, claim(self.document, [held])
        changed = False
        for s in range(span[0], span[1] + 1):
            section = self.sections[s]
            floor = known(before, s)[1]
            theirs = section.owner is not None and section.epoch < epoch and floor == epoch
            if section.history < epoch or theirs:
                self.sections[s] = Section(node, epoch, history=epoch)
                self.given[s].add(epoch)
                changed = True
        self.become(document, changed)

    @rule(version=st.integers(0, 200))
    def outdated(self, version: int) -> None:
        document = raise_version(self.document, version)
        assert document.version == max(version, self.document.version)
        assert (document.entries, document.floors) == (self.document.entries, self.document.floors)
        self.document = document

    @rule(spans=st.lists(ranges, max_size=3))
    def looked_at(self, spans: list[tuple[int, int]]) -> None:
        ranges = [Range(s, s) for s in sorted({s for a, b in spans for s in range(a, b + 1)})]
        found = {}
        for piece in pieces(self.document, ranges):
            for s in range(piece.first, piece.last + 1):
                assert s not in found
                found[s] = (alone(piece.entry), piece.floor)
                assert piece.highest == self.sections[s].history
        assert found == {s: known(self.document, s) for s, _ in ranges}

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
                assert alone(owner) == Assignment(
                    0,
                    0,
                    section.owner.incarnation,
                    section.owner.address,
                    section.epoch,
                    section.leaving,
                    section.successor,
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
