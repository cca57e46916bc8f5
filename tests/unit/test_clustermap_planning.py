"""Plans, one situation at a time; random histories are in tests/property."""

import time
from dataclasses import replace

import pytest

from clustermap.balancing import Transfer, transfers
from clustermap.documents import U64_MAX
from clustermap.errors import MapCorrupt
from clustermap.model import Assignment, Assignments, Floor, Owner, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.placement import mark_leaving, raise_floor, reassign
from clustermap.planning import Memory, Plan, plan, rewritten
from clustermap.ranges import Range
from clustermap.scene import DRAIN, FAILURE, UNOWNED, Limits, Move, Scene
from clustermap.spreading import MAX_PARTS, grain, spread
from clustermap.weights import IDLE_SET, MILLI, Rates, Segment, Weights

LIMITS = Limits()
BLANK = Assignments("s")


def spec(sections: int) -> SetSpec:
    return SetSpec("s", (Range(0, sections - 1),), (Replica("store-0", "s:1", 1),), 1, 1)


def node(incarnation: int, load: Load | None = None) -> Node:
    return Node(incarnation, f"n:{incarnation}", "s", load=load or Load())


def planned(
    document: Assignments,
    sections: int,
    *nodes: Node,
    given_up: frozenset[int] = frozenset(),
    held_back: tuple[Range, ...] = (),
    budget: int = 10**9,
    memory: Memory | None = None,
) -> Plan:
    scene = Scene(spec(sections), nodes, given_up, held_back)
    return plan(document, scene, memory or Memory(), LIMITS, budget=budget, new_round=True)


def counts(document: Assignments) -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in document.entries:
        size = entry.last - entry.first + 1
        found[entry.incarnation] = found.get(entry.incarnation, 0) + size
    return found


def test_a_blank_set_is_one_contiguous_range_per_node() -> None:
    made = planned(BLANK, 10, node(1), node(2), node(3))
    assert [(e.first, e.last, e.incarnation, e.epoch) for e in made.document.entries] == [
        (0, 2, 1, 1),
        (3, 6, 2, 1),
        (7, 9, 3, 1),
    ]
    assert made.document.version == 1
    assert {move.cause for move in made.moves} == {UNOWNED}


def test_what_is_held_back_stays_with_nobody() -> None:
    made = planned(BLANK, 10, node(1), held_back=(Range(2, 8),))
    assert [(e.first, e.last) for e in made.document.entries] == [(0, 1), (9, 9)]


def test_what_a_dead_node_had_fills_up_those_who_have_least() -> None:
    document = reassign(reassign(reassign(BLANK, 0, 9, node(1)), 10, 11, node(2)), 12, 19, node(3))
    made = planned(document, 20, node(2), node(3), given_up=frozenset({1}))
    assert counts(made.document) == {2: 10, 3: 10}
    assert {move.cause for move in made.moves} == {FAILURE}


def test_a_heavy_section_counts_for_many_light_ones() -> None:
    rate = 10 * IDLE_SET // 100 // MILLI  # as much as ten idle sections of this Set
    rates = Rates(hot={0: rate * MILLI - IDLE_SET // 100})
    document = reassign(BLANK, 0, 99, node(1))
    made = planned(
        document,
        100,
        node(2),
        node(3),
        given_up=frozenset({1}),
        memory=Memory(Rates({}, rates.hot)),
    )
    assert sum(counts(made.document).values()) == 100
    assert counts(made.document)[3] > counts(made.document)[2]


def test_the_budget_bounds_what_is_taken_from_dead_nodes_but_not_the_rest() -> None:
    document = reassign(BLANK, 10, 19, node(1))
    made = planned(document, 20, node(2), given_up=frozenset({1}), budget=3)
    assert made.taken == 3
    assert counts(made.document) == {2: 13, 1: 7}
    nothing = planned(made.document, 20, node(2), given_up=frozenset({1}), budget=0)
    assert nothing.moves == ()


@pytest.mark.parametrize(
    ("share", "assigned", "budget"), [(0.5, 10, 5), (0.5, 11, 6), (0.1, 5, 1), (1.0, 7, 7)]
)
def test_the_budget_is_a_share_of_what_is_assigned_and_at_least_one(
    share: float, assigned: int, budget: int
) -> None:
    document = reassign(BLANK, 0, assigned - 1, node(1))
    assert Limits(max_move_share=share).budget(document) == budget
    assert Limits(max_move_share=share).budget(BLANK) == 1


def test_a_refused_section_of_a_leaving_range_goes_to_its_heir() -> None:
    document = mark_leaving(reassign(BLANK, 0, 9, node(1)), 0, 9, node(2).owner)
    refused = raise_floor(document, 4, 4, 8)
    made = planned(refused, 10, node(1), node(2))
    assert made.document.owner(4) == Assignment(4, 4, 2, "n:2", 9)
    assert made.document.floors == ()


def test_a_section_without_an_epoch_left_keeps_nobody_else_from_theirs() -> None:
    document = Assignments("s", 1, (), (Floor(3, 3, U64_MAX),))
    made = planned(document, 10, node(1))
    assert counts(made.document) == {1: 9}
    assert planned(made.document, 10, node(1)).moves == ()


def test_assignments_outside_the_set_are_corrupt() -> None:
    with pytest.raises(MapCorrupt, match="outside"):
        planned(reassign(BLANK, 5, 15, node(1)), 10, node(1))


def test_everybody_drains_and_nobody_is_left() -> None:
    draining = Node(1, "n:1", "s", draining=True)
    made = planned(reassign(BLANK, 0, 9, node(1)), 10, draining)
    assert made.moves == (Move(0, 9, DRAIN, None),)
    assert made.document.entries == (Assignment(0, 9, 1, "n:1", 1, leaving=True),)
    assert planned(made.document, 10, draining).moves == ()


def test_rewriting_nothing_is_nothing() -> None:
    assert rewritten(BLANK, ()) is BLANK


def test_neighbours_of_different_epochs_become_one_entry_at_their_new_owner() -> None:
    document = reassign(reassign(BLANK, 0, 9, node(1)), 4, 5, node(1))
    made = planned(document, 10, node(2), given_up=frozenset({1}))
    assert made.document.entries == (Assignment(0, 9, 2, "n:2", 3),)


def test_a_large_set_is_cut_only_at_multiples_of_its_grain() -> None:
    assert grain(spec(MAX_PARTS)) == 1
    assert grain(spec(42_950)) == 11
    pool = [Range(5, 42_949)]
    dealt = spread(pool, [Segment(5, 42_949, 1000)], dict.fromkeys(range(1, 101), 0), 11)
    assert [span.first % 11 for span, _ in dealt[1:]] == [0] * 99
    sizes = [span.last - span.first + 1 for span, _ in dealt]
    assert max(sizes) - min(sizes) <= 22
    assert sum(sizes) == 42_945


def test_a_full_set_with_a_hundred_nodes_is_planned_in_no_time() -> None:
    load = Load(6_400, tuple((i * 671, 100) for i in range(64)), 430)
    nodes = [node(incarnation, load) for incarnation in range(1, 101)]
    document = planned(BLANK, 42_950, *nodes).document
    begun = time.process_time()
    for dead in range(1, 11):
        made = planned(document, 42_950, *nodes[dead:], given_up=frozenset({dead}))
        document = made.document
        nodes.append(node(100 + dead))
    assert time.process_time() - begun < 10  # for ten; a tenth of that where nobody else is busy
    assert len(document.entries) <= MAX_PARTS
    assert sum(counts(document).values()) == 42_950


def test_weights_of_ranges_are_the_sums_of_their_sections() -> None:
    weights = Weights(Rates({1: 5}, {3: 700, 7: 900}), 10)
    for first in range(10):
        for last in range(first, 10):
            alone = [weights.weight(section, section, 1) for section in range(first, last + 1)]
            assert weights.weight(first, last, 1) == sum(alone)
            assert weights.weight(first, last, 1) == sum(
                segment.weight for segment in weights.segments(first, last, 1)
            )


def test_a_hot_sections_rate_is_the_sum_of_what_old_and_new_owner_report() -> None:
    both = [node(1, Load(60, ((5, 60),), 1)), node(2, Load(40, ((5, 40),), 1))]
    assert Rates().smoothed(both, ()).hot == {5: 100 * MILLI}


def test_rates_follow_slowly_and_are_forgotten_with_their_node() -> None:
    busy = Rates().smoothed([node(1, Load(100, (), 10))], ())
    assert busy.each == {1: 10 * MILLI}
    idle = busy.smoothed([node(1)], ())
    assert 0 < idle.each[1] < 10 * MILLI
    assert idle.smoothed([], {1}).each == idle.each
    assert idle.smoothed([], ()).each == {}


@pytest.mark.parametrize("name", ["max_move_share", "hysteresis", "balance_share"])
@pytest.mark.parametrize("value", [0.0, 1.1, -1.0])
def test_limits_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})  # type: ignore[arg-type]


IDLE = Weights(Rates(), 100)


def shares(*sizes: int) -> dict[int, list[Range]]:
    """Nodes 1, 2, ... with so many sections each."""
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    return {
        i + 1: [Range(first, first + size - 1)] if size else []
        for i, (first, size) in enumerate(zip(firsts, sizes, strict=True))
    }


def test_once_begun_balancing_goes_on_to_half_the_hysteresis() -> None:
    assert sum(t.last - t.first + 1 for t in transfers(shares(23, 17), IDLE, 1, 0.2, 9)) == 3
    assert transfers(shares(22, 18), IDLE, 1, 0.2, 9) == []


def test_no_section_is_moved_that_would_only_turn_the_tables() -> None:
    assert transfers(shares(1, 0), IDLE, 1, 0.2, 9) == []
    hot = Weights(Rates(hot={0: 90 * IDLE_SET // 100}), 100)
    held = {1: [Range(0, 0)], 2: [Range(1, 5)]}
    assert transfers(held, hot, 1, 0.2, 9) == []
    assert transfers({1: [Range(0, 1)], 2: []}, IDLE, 1, 0.2, 9) == [Transfer(0, 0, 2)]


def test_blocks_of_a_large_set_move_as_a_whole() -> None:
    found = transfers({1: [Range(3, 40)], 2: []}, IDLE, 10, 0.2, 20)
    assert all(t.first % 10 == 0 or t.first == 3 for t in found)
    assert all(t.last % 10 == 9 or t.last == 40 for t in found)
    assert 0 < sum(t.last - t.first + 1 for t in found) <= 20


def test_an_heir_is_named_by_incarnation_and_address() -> None:
    draining = Node(1, "n:1", "s", draining=True)
    made = planned(reassign(BLANK, 0, 9, node(1)), 10, draining, node(2))
    assert made.document.entries[0].successor == Owner(2, "n:2")


def test_a_set_without_sections_is_left_alone() -> None:
    empty = replace(spec(1), ranges=())
    scene = Scene(empty, (node(1), node(2)))
    made = plan(BLANK, scene, Memory(), LIMITS, budget=0, new_round=True)
    assert (made.document, made.moves) == (BLANK, ())
    assert grain(empty) == 1


def test_each_range_of_a_set_is_shared_out_and_nothing_between_them() -> None:
    apart = replace(spec(1), ranges=(Range(0, 4), Range(20, 24)))
    scene = Scene(apart, (node(1), node(2)))
    made = plan(BLANK, scene, Memory(), LIMITS, budget=0, new_round=True)
    held = [(e.first, e.last, e.incarnation) for e in made.document.entries]
    assert held == [(0, 4, 1), (20, 24, 2)]


def test_sections_between_the_ranges_of_a_set_are_not_its_own() -> None:
    apart = replace(spec(1), ranges=(Range(0, 4), Range(20, 24)))
    document = reassign(BLANK, 3, 5, node(1))
    with pytest.raises(MapCorrupt, match="outside the Set"):
        plan(document, Scene(apart, (node(1),)), Memory(), LIMITS, budget=0, new_round=True)
