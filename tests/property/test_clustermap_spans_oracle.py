"""Ranges against sets of sections: nothing here knows what a range is."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.changes import differing, pieces
from clustermap.model import Assignment, Assignments, Floor
from clustermap.spans import (
    Range,
    alike,
    gaps,
    merged,
    minus,
    overlaps,
    union,
    within,
    without,
)

SECTIONS = 16


@st.composite
def ranges(draw: st.DrawFn) -> list[Range]:
    """By rising section, not overlapping; neighbours may touch."""
    found, first = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=5)):
        if first + gap + length <= SECTIONS:
            found.append(Range(first + gap, first + gap + length - 1))
            first += gap + length
    return found


@st.composite
def floors(draw: st.DrawFn) -> list[Floor]:
    return [Floor(*span, draw(st.integers(1, 2))) for span in draw(ranges())]


@st.composite
def documents(draw: st.DrawFn) -> Assignments:
    entries = tuple(
        Assignment(*span, draw(st.integers(1, 2)), "a:1", draw(st.integers(1, 2)))
        for span in draw(ranges())
    )
    return Assignments("s", 1, entries, tuple(draw(floors())))


ANY_RANGES = st.lists(
    st.tuples(st.integers(0, SECTIONS - 1), st.integers(0, 4)).map(
        lambda drawn: Range(drawn[0], drawn[0] + drawn[1])
    ),
    max_size=5,
)


def sections(spans: list[Range] | list[Floor]) -> set[int]:
    found: set[int] = set()
    for span in spans:
        own = set(range(span.first, span.last + 1))
        assert own and not own & found, "overlaps, or is upside down"
        found |= own
    assert [s.first for s in spans] == sorted(s.first for s in spans)
    return found


def epochs(spans: list[Floor]) -> dict[int, int]:
    sections(spans)
    return {s: span.epoch for span in spans for s in range(span.first, span.last + 1)}


@settings(max_examples=200)
@given(floors(), ranges())
def test_spans_are_cut_as_sets_of_sections_are(some: list[Floor], others: list[Range]) -> None:
    there = sections(others)
    inside = {s: epoch for s, epoch in epochs(some).items() if s in there}
    outside = {s: epoch for s, epoch in epochs(some).items() if s not in there}
    assert epochs(within(some, others)) == inside
    assert epochs(list(without(some, others))) == outside
    assert sections(minus(others, some)) == there - sections(some)
    met = list(overlaps(some, others))
    for floor, span, first, last in met:
        shared = set(range(first, last + 1))
        assert shared and shared == sections([floor]) & sections([span])
    assert len(met) == sum(bool(sections([f]) & sections([o])) for f in some for o in others)


@given(ranges(), st.integers(0, SECTIONS), st.integers(0, SECTIONS))
def test_gaps_are_what_no_span_covers(spans: list[Range], first: int, last: int) -> None:
    found = list(gaps(spans, first, last))
    assert sections(found) == set(range(first, last + 1)) - sections(spans)
    for one, next_ in pairwise(found):
        assert one.last + 1 < next_.first, "two gaps where one would do"


@given(ANY_RANGES)
def test_a_union_covers_what_its_parts_cover_in_as_few_ranges_as_can_be(
    spans: list[Range],
) -> None:
    found = union(spans)
    assert sections(found) == {s for span in spans for s in range(span.first, span.last + 1)}
    for one, next_ in pairwise(found):
        assert one.last + 1 < next_.first


@given(floors(), st.randoms(use_true_random=False))
def test_merging_joins_neighbours_that_are_alike_and_changes_nothing_else(
    spans: list[Floor], random: object
) -> None:
    shuffled = list(spans)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = list(merged(shuffled))
    assert epochs(found) == epochs(spans)
    for one, next_ in pairwise(found):
        assert not (one.last + 1 == next_.first and alike(one, next_))


@settings(max_examples=200)
@given(documents(), documents())
def test_documents_differ_in_the_sections_of_which_they_say_different_things(
    before: Assignments, after: Assignments
) -> None:
    expected = {s for s in range(SECTIONS) if said(before, s) != said(after, s)}
    assert sections(differing(before, after)) == expected
    assert differing(before, before) == []


@settings(max_examples=200)
@given(documents(), ranges())
def test_pieces_say_of_every_section_what_the_document_does(
    document: Assignments, wanted: list[Range]
) -> None:
    found = pieces(document, wanted)
    told: dict[int, object] = {}
    for piece in found:
        for section in range(piece.first, piece.last + 1):
            assert section not in told
            entry = piece.entry
            told[section] = (
                entry and (entry.incarnation, entry.address, entry.epoch, entry.leaving),
                piece.floor,
            )
            assert piece.highest == document.highest_epoch(section, section)
    assert told == {section: said(document, section) for section in sections(wanted)}


def said(document: Assignments, section: int) -> object:
    entry = document.owner(section)
    floor = max((f.epoch for f in document.floors if f.first <= section <= f.last), default=0)
    return entry and (entry.incarnation, entry.address, entry.epoch, entry.leaving), floor
