"""What follows from a change of the map: as much work as has changed."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from allocsvr.intent import Intent
from allocsvr.lease import Lease
from allocsvr.ledger import Ledger
from allocsvr.moving import Moving
from allocsvr.section import Section
from clustermap import placement
from clustermap.model import Assignments, Floor
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqsvr.sections import Layout

SECTIONS = 42_950
A, B = Node(1, "a:1", "s"), Node(2, "b:1", "s")


class Told:
    """Stands for reporting.py, and for what the node does."""

    def __init__(self) -> None:
        self.claims: list[int] = []
        self.spent: dict[int, int] = {}
        self.ledger = Ledger(Layout(), Lease(2 * 10**9, 0.01))
        self.moving = Moving(
            cast(Any, None), cast(Any, None), "s", 1, self.ledger, *cast(Any, [None] * 3)
        )
        self.intent = Intent(
            "s", 1, self.ledger, self.moving, cast(Any, self), self.drop, self.begin
        )

    def claim(self, sections: Sequence[int]) -> None:
        self.claims += sections

    def report(self, promised: Mapping[int, int]) -> None:
        self.spent.update(promised)

    def drop(self, sections: Sequence[Section]) -> None:
        for section in sections:
            self.ledger.lose(section)

    def begin(self, new: Mapping[int, int]) -> None:
        """Won at once."""
        for id_, epoch in new.items():
            section = Section(id_, epoch, 0, found=0, size=100, on_hungry=lambda section: None)
            self.ledger.admit(section)
            self.ledger.raised(section, 100)
            self.intent.unserved.discard(id_)


def given(sections: int = 4) -> Assignments:
    return placement.reassign(Assignments("s"), 0, sections - 1, A)


def test_what_is_new_is_begun_once_and_what_is_gone_is_dropped() -> None:
    node = Told()
    node.intent.follow(given())
    held = dict(node.ledger.sections)
    assert sorted(held) == [0, 1, 2, 3]
    node.intent.follow(placement.reassign(given(), 2, 2, B))
    assert {s: held[s] for s in (0, 1, 3)} == node.ledger.sections
    assert (node.claims, node.spent) == ([], {})


def test_an_epoch_that_was_lost_is_not_tried_again_and_is_said_to_be_spent() -> None:
    node = Told()
    node.intent.follow(given())
    node.ledger.lose(node.ledger.sections[1])
    node.intent.follow(placement.unassign(given(), 1, 1))
    node.intent.follow(given())  # an older copy of the map
    assert sorted(node.ledger.sections) == [0, 2, 3]
    assert node.spent == {1: 1}


def test_what_cannot_be_begun_stays_to_be_told_until_it_is_assigned_anew() -> None:
    """The map may lose what it was told, and then look as it did before: no difference is seen."""
    node = Told()
    node.intent.follow(given())
    lost = node.ledger.promise(1, 1, 3)
    node.intent.lost(lost)
    assert node.intent.spent() == {1: 3}
    node.intent.follow(given())
    assert node.intent.spent() == {1: 3}
    node.ledger.acquiring.add(1)
    assert node.intent.spent() == {}, "an attempt is under way"
    node.intent.given_up([1])
    node.intent.follow(
        placement.reassign(placement.raise_floors(given(), [Floor(1, 1, 3)]), 1, 1, A)
    )
    assert node.intent.spent() == {}


def test_what_goes_to_others_before_it_was_won_is_not_wanted_any_more() -> None:
    node = Told()
    node.intent._begin = lambda new: None  # it takes its time
    node.intent.follow(given())
    assert node.intent.unserved == node.ledger.acquiring == {0, 1, 2, 3}
    node.intent.follow(placement.reassign(given(), 2, 2, B))
    assert sorted(node.intent.desired) == [0, 1, 3]
    assert node.intent.unserved == node.ledger.acquiring == {0, 1, 3}


def test_what_was_stopped_for_a_hand_over_is_never_served_at_that_epoch_again() -> None:
    node = Told()
    node.intent.follow(given())
    leaving = placement.mark_leaving(given(), 1, 2)
    node.intent.follow(leaving)
    assert node.moving.leaving == {1: 1, 2: 1}
    node.ledger.leave(node.ledger.sections[1])
    node.intent.follow(given())  # taken back, which it may not be
    assert sorted(node.ledger.sections) == [0, 2, 3], "2 was not stopped yet"
    assert (node.spent, node.intent.unserved, node.moving.leaving) == ({1: 1}, {1}, {})


def test_a_wiped_map_is_told_of_what_is_served_and_that_what_was_stopped_is_spent() -> None:
    node = Told()
    node.intent.follow(given())
    node.intent.follow(placement.mark_leaving(given(), 1, 2))
    node.ledger.leave(node.ledger.sections[1])
    node.intent.follow(Assignments("s"))
    assert (sorted(node.claims), node.spent) == ([0, 2, 3], {1: 1})
    assert sorted(node.ledger.sections) == [0, 2, 3]


def test_a_chunk_of_a_full_set_costs_what_a_chunk_is() -> None:
    node = Told()
    document = given(SECTIONS)
    node.intent.follow(document)
    document = placement.mark_leaving(document, 0, SECTIONS - 1, B.owner)
    node.intent.follow(document)
    spent_s = 0.0
    for first in range(0, SECTIONS, 256):
        released = [Range(first, min(first + 255, SECTIONS - 1))]
        document = placement.hand_over(document, released, 1)
        start_s = time.process_time()
        changed = node.intent.follow(document)
        spent_s += time.process_time() - start_s
        assert [(piece.first, piece.last) for piece in changed] == [tuple(released[0])]
    assert not node.ledger.sections and not node.moving.leaving
    assert spent_s < 5.0  # looking at everything each time would take a minute
