"""Sections of nobody: when they are waited for, and that it is never for long."""

from dataclasses import replace

from arbitersvr.grace import Grace
from clustermap.model import Assignments, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.placement import reassign, unassign
from clustermap.ranges import Range

SPEC = SetSpec("s", (Range(0, 99),), (Replica("store-0", "s:1", 1),), 1, 1)
BLANK = Assignments("s")
CLAIM, GATHER = 2_000, 300
IDLE = Node(1, "a:1", "s")
BUSY = Node(2, "b:1", "s", load=Load(serving=60))
ALL = (Range(0, 99),)


def grace(document: Assignments = BLANK) -> Grace:
    made = Grace(CLAIM, GATHER)
    made.see(document)
    return made


def test_a_new_set_waits_a_moment_for_more_nodes() -> None:
    held = grace()
    assert held.held_back(BLANK, SPEC, [IDLE], 1_000) == ALL
    assert held.until_ns == 1_300
    assert held.held_back(BLANK, SPEC, [IDLE], 1_299) == ALL
    assert held.held_back(BLANK, SPEC, [IDLE], 1_300) == ()
    assert held.until_ns is None


def test_the_moment_begins_with_the_first_node_that_can_take_sections() -> None:
    held = grace()
    assert held.held_back(BLANK, SPEC, [], 0) == ()
    unleased = Node(3, "c:1", "s", leased=False)
    assert held.held_back(BLANK, SPEC, [unleased], 5_000) == ()
    assert held.held_back(BLANK, SPEC, [unleased, IDLE], 9_000) == ALL
    assert held.until_ns == 9_300


def test_nodes_that_serve_more_than_the_map_knows_are_given_a_lease_time() -> None:
    held = grace()
    assert held.held_back(BLANK, SPEC, [IDLE], 0) == ALL
    assert held.held_back(BLANK, SPEC, [IDLE, BUSY], 1_999) == ALL
    assert held.until_ns == 2_000
    assert held.held_back(BLANK, SPEC, [IDLE, BUSY], 2_000) == ()


def test_once_they_have_claimed_the_rest_waits_no_longer() -> None:
    held = grace()
    assert held.held_back(BLANK, SPEC, [IDLE, BUSY], 0) == ALL
    claimed = reassign(BLANK, 0, 59, BUSY)
    held.see(claimed)
    assert held.held_back(claimed, SPEC, [IDLE, BUSY], 299) == (Range(60, 99),)
    assert held.held_back(claimed, SPEC, [IDLE, BUSY], 300) == ()


def test_sections_that_were_seen_owned_are_not_waited_for() -> None:
    owned = reassign(BLANK, 0, 99, BUSY)
    held = grace(owned)
    released = unassign(owned, 10, 19)
    held.see(released)
    assert held.held_back(released, SPEC, [IDLE, BUSY], 0) == ()


def test_a_map_that_has_gone_back_is_not_known() -> None:
    held = grace(reassign(BLANK, 0, 99, BUSY))
    held.see(BLANK)
    assert held.held_back(BLANK, SPEC, [IDLE, BUSY], 0) == ALL


def test_a_node_that_drains_is_not_waited_for() -> None:
    draining = Node(2, "b:1", "s", draining=True, load=Load(serving=60))
    held = grace()
    assert held.held_back(BLANK, SPEC, [IDLE, draining], 0) == ALL
    assert held.until_ns == GATHER


def test_only_sections_of_the_set_are_held_back() -> None:
    apart = replace(SPEC, ranges=(Range(0, 4), Range(20, 24)))
    held = grace()
    assert held.held_back(reassign(BLANK, 3, 4, IDLE), apart, [IDLE], 0) == (
        Range(0, 2),
        Range(20, 24),
    )
    assert grace().held_back(BLANK, replace(SPEC, ranges=()), [IDLE], 0) == ()
