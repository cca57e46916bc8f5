"""Floors reported many at a time: as if one by one, but one change of the map, and soon done."""

import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from clustermap.model import Assignment, Assignments, Floor
from clustermap.nodes import Node
from clustermap.placement import mark_leaving, raise_floor, raise_floors, reassign, unassign

NODES = (Node(1, "a:1", "s"), Node(2, "b:1", "s"))
SECTIONS = 24
EPOCHS = st.integers(1, 8)

Change = Callable[[Assignments], Assignments]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """One change of a document, as arbiter and nodes make them."""
    first = draw(st.integers(0, SECTIONS - 1))
    last = draw(st.integers(first, SECTIONS - 1))
    node, epoch = draw(st.sampled_from(NODES)), draw(EPOCHS)
    choice: Change = draw(
        st.sampled_from(
            [
                lambda d: reassign(d, first, last, node),
                lambda d: unassign(d, first, last),
                lambda d: mark_leaving(d, first, last),
                lambda d: raise_floor(d, first, last, epoch),
            ]
        )
    )
    return choice


@st.composite
def documents(draw: st.DrawFn) -> Assignments:
    document = Assignments("s")
    for change in draw(st.lists(changes(), max_size=10)):
        document = change(document)
    return document


@st.composite
def reports(draw: st.DrawFn) -> list[Floor]:
    """By rising section and not overlapping, adjacent or with gaps, beyond what is owned too."""
    found, first = [], 0
    for gap, length, epoch in draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), EPOCHS), max_size=12)
    ):
        found.append(Floor(first + gap, first + gap + length - 1, epoch))
        first += gap + length
    return found


@given(document=documents(), floors=reports())
def test_many_floors_at_once_are_what_they_are_one_by_one_fence_1(
    document: Assignments, floors: list[Floor]
) -> None:
    single = document
    for floor in floors:
        single = raise_floor(single, floor.first, floor.last, floor.epoch)
    many = raise_floors(document, floors)
    assert (many.entries, many.floors) == (single.entries, single.floors)
    if single.version == document.version:
        assert many is document
    else:
        assert many.version == document.version + 1


@given(document=documents(), floors=reports())
def test_a_reported_promise_always_stands_as_an_epoch_or_as_a_floor_fence_1(
    document: Assignments, floors: list[Floor]
) -> None:
    """Section by section, without ranges: what is known after is the greatest that was said."""

    def known(of: Assignments) -> dict[int, int]:
        return {section: of.highest_epoch(section, section) for section in range(5 * SECTIONS)}

    expected = known(document)
    for floor in floors:
        for section in range(floor.first, floor.last + 1):
            expected[section] = max(expected[section], floor.epoch)
    assert known(raise_floors(document, floors)) == expected


def test_2000_floors_of_alternating_epochs_do_not_hold_up_the_loop() -> None:
    """A Set that was balanced section by section: no two neighbours have one range."""
    entries = tuple(Assignment(s, s, 1 + s % 3, f"node-{s % 3}:1", 1 + s % 7) for s in range(2000))
    floors = [Floor(s, s, 10 + s % 7) for s in range(2000)]
    start_s = time.process_time()
    document = raise_floors(Assignments("s", 1, entries), floors)
    assert time.process_time() - start_s < 2.0
    assert document.version == 2
    assert document.floors == tuple(floors)
