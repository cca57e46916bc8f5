"""Single steps of placement; whole sequences of them are in tests/property."""

import time
from dataclasses import replace

import pytest

from clustermap.documents import U64_MAX
from clustermap.model import Assignment, Assignments, Floor, Replica, SetSpec
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

A = Node(1, "a:1", "set-0")
B = Node(2, "b:1", "set-0")
SPEC = SetSpec("set-0", (Range(0, 99),), (Replica("store-0", "s:1", 1),), 1, 1)
BLANK = Assignments("set-0")


def owned(first: int, last: int, node: Node, epoch: int, leaving: bool = False) -> Assignment:
    return Assignment(first, last, node.incarnation, node.address, epoch, leaving)


def test_a_range_out_of_the_middle_splits_its_entry() -> None:
    document = reassign(reassign(BLANK, 0, 99, A), 40, 49, B)
    assert document.entries == (owned(0, 39, A, 1), owned(40, 49, B, 2), owned(50, 99, A, 1))
    assert document.version == 2


def test_a_range_over_several_entries_goes_above_the_highest_of_them() -> None:
    document = reassign(reassign(reassign(BLANK, 0, 99, A), 40, 49, B), 40, 49, A)
    assert reassign(document, 30, 45, B).owner(30) == owned(30, 45, B, 4)


def test_neighbours_are_merged_only_if_equal_in_everything() -> None:
    halves = reassign(reassign(BLANK, 0, 49, A), 50, 99, A)
    assert halves.entries == (owned(0, 99, A, 1),)
    leaving = mark_leaving(halves, 50, 99)
    assert leaving.entries == (owned(0, 49, A, 1), owned(50, 99, A, 1, leaving=True))
    assert len(reassign(reassign(BLANK, 0, 49, A), 51, 99, A).entries) == 2


def test_what_is_unassigned_and_given_again_goes_above_its_history() -> None:
    document = unassign(reassign(reassign(BLANK, 0, 9, A), 0, 9, A), 0, 4)
    assert document.owner(4) is None
    assert document.owner(5) == owned(5, 9, A, 2)
    assert document.floors == (Floor(0, 4, 2),)
    again = reassign(document, 4, 4, B)
    assert again.owner(4) == owned(4, 4, B, 3)
    assert again.floors == (Floor(0, 3, 2),)


def test_a_floor_is_only_ever_raised() -> None:
    document = raise_floor(BLANK, 10, 20, 5)
    assert raise_floor(document, 12, 14, 4) is document
    higher = raise_floor(document, 15, 25, 6)
    assert higher.floors == (Floor(10, 14, 5), Floor(15, 25, 6))
    assert higher.version == document.version + 1


def test_a_floor_below_the_epoch_in_force_changes_nothing_and_an_equal_one_does() -> None:
    document = reassign(raise_floor(BLANK, 0, 9, 7), 0, 9, A)
    assert document.entries[0].epoch == 8
    assert raise_floor(document, 0, 9, 7) is document
    assert raise_floor(document, 0, 9, 8).floors == (Floor(0, 9, 8),)


def test_marking_twice_and_unassigning_nothing_change_nothing() -> None:
    document = mark_leaving(reassign(BLANK, 0, 9, A), 0, 9)
    assert mark_leaving(document, 3, 5) is document
    assert mark_leaving(document, 50, 60) is document
    assert unassign(document, 10, 99) is document


def test_the_sole_owner_of_a_blank_set_gets_all_of_it_in_one_entry() -> None:
    document = sole_owner(BLANK, SPEC, A)
    assert document is not None
    assert document.entries == (owned(0, 99, A, 1),)
    assert sole_owner(document, SPEC, A) is None


def test_a_restart_makes_one_entry_above_everything_that_was() -> None:
    before = raise_floor(reassign(reassign(BLANK, 0, 99, A), 3, 3, A), 50, 50, 17)
    document = sole_owner(before, SPEC, B)
    assert document is not None
    assert document.entries == (owned(0, 99, B, 18),)
    assert document.floors == ()


def test_the_sole_owner_gives_up_only_the_epochs_that_are_refused() -> None:
    document = reassign(BLANK, 0, 99, A)
    refused = raise_floor(raise_floor(document, 5, 6, 1), 90, 90, 44)
    again = sole_owner(refused, SPEC, A)
    assert again is not None
    assert again.owner(4) == owned(0, 4, A, 1)
    assert again.owner(5) == owned(5, 6, A, 45)
    assert again.owner(90) == owned(90, 90, A, 45)
    assert again.owner(91) == owned(91, 99, A, 1)
    assert again.version == refused.version + 1


def test_the_sole_owner_takes_back_what_is_leaving_or_under_an_old_address() -> None:
    document = mark_leaving(reassign(BLANK, 0, 99, A), 10, 19)
    again = sole_owner(document, SPEC, A)
    assert again is not None
    assert again.owner(15) == owned(10, 19, A, 2)
    moved = sole_owner(again, SPEC, Node(A.incarnation, "a:2", "set-0"))
    assert moved is not None
    assert moved.entries == (Assignment(0, 99, 1, "a:2", 3),)


def test_a_node_of_another_set_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot own sections"):
        reassign(BLANK, 0, 0, Node(1, "a:1", "set-1"))


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (1, 0)])
def test_what_is_no_range_is_refused_by_every_operation(first: int, last: int) -> None:
    document = reassign(BLANK, 0, 9, A)
    with pytest.raises(ValueError, match="no range of sections"):
        reassign(document, first, last, A)
    with pytest.raises(ValueError, match="no range of sections"):
        unassign(document, first, last)
    with pytest.raises(ValueError, match="no range of sections"):
        mark_leaving(document, first, last)
    with pytest.raises(ValueError, match="no range of sections"):
        raise_floor(document, first, last, 1)


def test_an_epoch_never_wraps_around() -> None:
    with pytest.raises(ValueError, match="no epoch left"):
        reassign(raise_floor(BLANK, 0, 0, U64_MAX), 0, 0, A)


def test_forty_thousand_scattered_floors_do_not_slow_a_restart() -> None:
    floors = tuple(Floor(2 * i, 2 * i, 1 + i % 7) for i in range(20_000))
    entries = tuple(owned(2 * i, 2 * i + 1, A, 3) for i in range(20_000))
    spec = SetSpec("set-0", (Range(0, 39_999),), SPEC.replicas, 1, 1)
    document = sole_owner(Assignments("set-0", 9, entries, floors), spec, B)
    assert document is not None
    assert document.entries == (owned(0, 39_999, B, 8),)


# -- planned moves -----------------------------------------------------------------------------


def test_a_hand_over_goes_above_every_promise_of_its_sections() -> None:
    marked = mark_leaving(reassign(BLANK, 0, 99, A), 10, 29, B.owner)
    promised = raise_floor(marked, 15, 17, 8)
    document = hand_over(promised, [Range(12, 20)], A.incarnation)
    assert document.owner(12) == owned(12, 20, B, 9)
    assert document.floors == ()
    assert document.version == promised.version + 1


def test_a_hand_over_touches_neither_what_stays_nor_what_is_anothers() -> None:
    document = reassign(reassign(BLANK, 0, 49, A), 50, 99, B)
    leaving = mark_leaving(document, 40, 59, B.owner)
    assert hand_over(leaving, [Range(0, 39)], A.incarnation) is leaving
    done = hand_over(leaving, [Range(0, 99)], A.incarnation)
    assert [(e.first, e.last, e.epoch) for e in done.entries if not e.leaving] == [
        (0, 39, 1),
        (40, 49, 2),
        (60, 99, 1),
    ]


def test_what_is_handed_over_to_nobody_leaves_its_epoch_behind() -> None:
    document = hand_over(mark_leaving(reassign(BLANK, 0, 9, A), 0, 4), [Range(0, 9)], 1)
    assert (document.entries, document.floors) == ((owned(5, 9, A, 1),), (Floor(0, 4, 1),))


def test_who_withdraws_leaves_to_successors_what_has_one_and_the_rest_to_nobody() -> None:
    document = mark_leaving(reassign(BLANK, 0, 99, A), 0, 9, B.owner)
    own = mark_leaving(document, 20, 29, A.owner)
    done = withdraw(own, A.incarnation)
    assert done.entries == (owned(0, 9, B, 2),)
    assert done.floors == (Floor(10, 99, 1),)
    assert done.version == own.version + 1


# -- a map that has forgotten ------------------------------------------------------------------


def test_a_claim_takes_what_the_map_knows_less_of_and_nothing_else() -> None:
    document = raise_floor(reassign(BLANK, 0, 9, B), 20, 29, 7)
    for epoch in (1, 5, 7, 8):
        claimed = claim(document, [owned(0, 39, A, epoch)])
        low = claimed.owner(0)
        assert low == (owned(0, 39, A, 8) if epoch == 8 else low)
        assert (low == owned(0, 9, B, 1)) == (epoch == 1)
        assert (claimed.owner(20) is None) == (epoch <= 7)
        assert claimed.owner(35) is not None
    assert claim(claimed, [owned(0, 39, A, 8)]) is claimed


def test_a_claim_is_not_refused_for_the_promise_that_was_made_to_the_claimant() -> None:
    document = raise_floor(reassign(BLANK, 0, 9, B), 0, 9, 7)
    assert claim(document, [owned(0, 9, A, 7)]).entries == (owned(0, 9, A, 7),)
    assert claim(document, [owned(0, 9, A, 7)]).floors == ()


def test_what_was_unassigned_cannot_be_claimed_back() -> None:
    document = unassign(reassign(BLANK, 0, 9, A), 0, 9)
    assert claim(document, [owned(0, 9, A, 1)]) is document


def test_a_version_is_only_ever_raised() -> None:
    document = reassign(BLANK, 0, 9, A)
    assert raise_version(document, 1) is document
    assert raise_version(document, 7) == Assignments("set-0", 7, document.entries)


def test_a_chunk_of_a_scattered_set_is_handed_over_without_delay() -> None:
    scattered = tuple(
        Assignment(s, s, 1, "a:1", 1 + s % 3, True, (A, B)[s % 2].owner) for s in range(20_000)
    )
    floors = tuple(Floor(s, s, 1 + s % 5) for s in range(20_000))
    start_s = time.process_time()
    document = hand_over(
        Assignments("set-0", 9, scattered, floors), [Range(s, s) for s in range(256)], 1
    )
    assert time.process_time() - start_s < 5.0
    assert document.version == 10
    assert sum(not entry.leaving for entry in document.entries) == 256


def test_the_sole_owner_of_a_set_has_its_ranges_and_nothing_between_them() -> None:
    apart = replace(SPEC, ranges=(Range(0, 4), Range(20, 24)))
    document = sole_owner(reassign(BLANK, 20, 21, B), apart, A)
    assert document is not None
    held = [(e.first, e.last, e.incarnation, e.epoch) for e in document.entries]
    assert held == [(0, 4, A.incarnation, 2), (20, 24, A.incarnation, 2)]
    assert sole_owner(BLANK, replace(SPEC, ranges=()), A) is None
