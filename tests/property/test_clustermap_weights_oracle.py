"""Weights, shares and transfers, section by section, and what a scene says of its nodes.

The oracle knows every section's weight by itself. Planning puts these parts together, see
test_clustermap_planning_oracle.py and test_clustermap_planning_balance.py.
"""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.balancing import transfers, uneven
from clustermap.model import Assignment, Assignments, Owner, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.ranges import Range
from clustermap.scene import CAUSES, MARKED, Limits, Move, Scene
from clustermap.spreading import MAX_PARTS, grain, spread
from clustermap.weights import IDLE_SECTION, IDLE_SET, MILLI, Rates, Segment, Weights

SECTIONS = 12
IDLE = IDLE_SET // SECTIONS
HOT = st.dictionaries(st.integers(0, SECTIONS - 1), st.integers(1, 5_000), max_size=4)
OWNER = st.one_of(st.none(), st.integers(1, 3))
RATES = st.builds(
    lambda each, hot: Rates(each, {s: rate * MILLI for s, rate in hot.items()}),
    st.dictionaries(st.integers(1, 3), st.integers(0, 9_000)),
    HOT,
)


def spec(last: int) -> SetSpec:
    return SetSpec("s", (Range(0, last),), (Replica("r", "a:1", 1),), 1, 1)


# -- weights


@given(RATES, st.integers(0, SECTIONS - 1), st.integers(0, SECTIONS - 1), OWNER)
def test_a_range_weighs_what_its_sections_weigh(
    rates: Rates, first: int, last: int, owner: int | None
) -> None:
    first, last = sorted([first, last])
    weights = Weights(rates, SECTIONS)
    each = rates.each.get(owner, 0) if owner is not None else 0
    expected = {s: IDLE + rates.hot.get(s, each) for s in range(first, last + 1)}
    assert weights.weight(first, last, owner) == sum(expected.values())
    segments = list(weights.segments(first, last, owner))
    assert [s for one in segments for s in range(one.first, one.last + 1)] == list(expected)
    for one in segments:
        assert {expected[s] for s in range(one.first, one.last + 1)} == {one.unit}
        assert one.weight == one.unit * (one.last - one.first + 1)
    assert Weights(rates, 10**9).weight(0, 0, None) >= IDLE_SECTION


REPORTS = st.lists(
    st.dictionaries(
        st.integers(1, 3),
        st.builds(
            lambda hot, rest, serving: Load(
                sum(hot.values()) + rest, tuple(hot.items()), serving + len(hot)
            ),
            HOT,
            st.integers(0, 5_000),
            st.integers(0, 9),
        ),
    ),
    max_size=5,
)


@given(REPORTS, st.sets(st.integers(1, 3)))
def test_rates_go_a_part_of_the_way_to_what_is_reported_each_round(
    rounds: list[dict[int, Load]], kept: set[int]
) -> None:
    rates = Rates()
    for loads in rounds:
        before = rates
        nodes = [Node(key, f"n:{key}", "s", load=load) for key, load in loads.items()]
        rates = before.smoothed(nodes, kept)
        reversed_ = before.smoothed(nodes[::-1], kept)
        assert reversed_ == rates
        assert set(rates.each) == (before.each.keys() & kept) | loads.keys()
        for key, load in loads.items():
            rest = load.per_second - sum(rate for _, rate in load.hot)
            seen = rest * MILLI // max(1, load.serving - len(load.hot))
            known = before.each.get(key, seen)
            assert min(known, seen) - 1 <= rates.each[key] <= max(known, seen)
        for section in range(SECTIONS):
            seen = sum(dict(load.hot).get(section, 0) for load in loads.values()) * MILLI
            rate, known = rates.hot.get(section, 0), before.hot.get(section, 0)
            # What has cooled down below one number per second is forgotten.
            assert min(known, seen) - MILLI <= rate <= max(known, seen)
            if known > 100 * MILLI and not seen:
                assert 0 < rate < known


# -- shares


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Range], list[Segment]]:
    pool: list[Range] = []
    segments: list[Segment] = []
    first = 0
    for gap, parts in draw(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=3),
            ),
            min_size=1,
            max_size=4,
        )
    ):
        first += gap
        begin = first
        for length, unit in parts:
            segments.append(Segment(first, first + length - 1, unit))
            first += length
        pool.append(Range(begin, first - 1))
        first += 1
    return pool, segments


@settings(max_examples=300)
@given(
    pools(),
    st.dictionaries(st.integers(1, 5), st.integers(0, 200), min_size=1),
    st.sampled_from([1, 1, 3]),
)
def test_every_section_goes_to_one_receiver_and_all_are_filled_to_one_level(
    drawn: tuple[list[Range], list[Segment]], weights: dict[int, int], step: int
) -> None:
    pool, segments = drawn
    unit = {s: one.unit for one in segments for s in range(one.first, one.last + 1)}
    dealt = spread(pool, segments, weights, step)
    assert [s for span, _ in dealt for s in range(span.first, span.last + 1)] == sorted(unit)
    receivers = [key for _, key in dealt]
    assert receivers == sorted(receivers), "one contiguous part each"
    starts = {span.first for span in pool}
    assert all(span.first % step == 0 or span.first in starts for span, _ in dealt)
    after = dict(weights)
    for span, key in dealt:
        after[key] += sum(unit[s] for s in range(span.first, span.last + 1))
    # The ideal level by pouring unit by unit; nobody is off it by more than a cut at either end.
    ideal = dict(weights)
    for _ in range(sum(unit.values())):
        ideal[min(ideal, key=lambda key: ideal[key])] += 1
    slack = 2 * step * max(unit.values()) + 1
    for key in weights:
        assert abs(after[key] - ideal[key]) <= slack


@given(st.integers(0, 3 * MAX_PARTS + 5))
def test_a_set_is_cut_into_so_many_parts_at_most(last: int) -> None:
    step = grain(spec(last))
    assert step * MAX_PARTS >= last + 1
    assert step == 1 or (step - 1) * MAX_PARTS < last + 1


# -- transfers


@settings(max_examples=300)
@given(
    st.lists(st.integers(1, 3), min_size=SECTIONS, max_size=SECTIONS),
    HOT,
    st.sampled_from([0.1, 0.2, 0.5]),
    st.integers(1, SECTIONS),
    st.sampled_from([1, 1, 2]),
)
def test_each_transfer_makes_it_more_even_and_never_turns_the_tables(
    owners: list[int], hot: dict[int, int], bound: float, at_most: int, step: int
) -> None:
    weights = Weights(Rates({}, {s: rate * MILLI for s, rate in hot.items()}), SECTIONS)
    held: dict[int, list[Range]] = {1: [], 2: [], 3: []}
    for section, owner in enumerate(owners):
        held[owner].append(Range(section, section))
    of = {s: weights.weight(s, s, None) for s in range(SECTIONS)}

    def totals(now: list[int]) -> dict[int, int]:
        return {key: sum(of[s] for s, o in enumerate(now) if o == key) for key in held}

    before = totals(owners)
    found = transfers(held, weights, step, bound, at_most)
    assert found == sorted(found)
    assert sum(move.last - move.first + 1 for move in found) <= max(at_most, step)
    if not uneven(before, bound / 2):
        assert found == []
    now = list(owners)
    for move in found:
        for section in range(move.first, move.last + 1):
            assert now[section] == owners[section] != move.recipient, "moved twice, or nowhere"
            now[section] = move.recipient
    after = totals(now)
    if found:
        assert spread_of(after) < spread_of(before)
        assert max(after.values()) <= max(before.values())


def spread_of(totals: dict[int, int]) -> int:
    return sum(weight**2 for weight in totals.values())


# -- what a plan is made from


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    flags = draw(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=4))
    nodes = tuple(
        Node(key, f"n:{key}", "s", draining=draining, leased=leased)
        for key, (draining, leased) in enumerate(flags, 1)
    )
    return Scene(spec(SECTIONS - 1), nodes, frozenset(draw(st.sets(st.integers(1, 6)))))


@given(scenes())
def test_willing_is_who_is_leased_not_draining_and_not_given_up(scene: Scene) -> None:
    for node in scene.nodes:
        fit = node.leased and not node.draining and node.incarnation not in scene.given_up
        assert (scene.willing.get(node.incarnation) == node) == fit
    assert len(scene.willing) <= len(scene.nodes)


@given(st.integers(1, 100), st.integers(0, 50))
def test_a_round_may_take_its_share_and_always_something(percent: int, assigned: int) -> None:
    entries = (Assignment(0, assigned - 1, 1, "a:1", 1),) if assigned else ()
    limits = Limits(max_move_share=percent / 100)
    budget = limits.budget(Assignments("s", 1, entries))
    assert budget == max(1, ceil(percent / 100 * assigned))


@given(
    st.sampled_from(["max_move_share", "hysteresis", "balance_share", "balance_rounds"]),
    st.integers(-3, 6),
)
def test_limits_are_shares_above_nothing_and_whole_rounds(name: str, quarters: int) -> None:
    value = quarters if name == "balance_rounds" else quarters / 4
    sound = quarters >= 1 if name == "balance_rounds" else 0 < quarters <= 4
    if sound:
        assert getattr(Limits(**{name: value}), name) == value  # type: ignore[arg-type]
    else:
        with pytest.raises(ValueError, match=name):
            Limits(**{name: value})  # type: ignore[arg-type]


@given(st.integers(0, 9), st.integers(0, 9), st.sampled_from(CAUSES))
def test_a_move_counts_both_its_ends(first: int, length: int, cause: str) -> None:
    move = Move(first, first + length, cause, Owner(1, "a:1"))
    assert move.sections == length + 1
    assert set(MARKED) <= set(CAUSES)
