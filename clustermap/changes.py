"""What one picture of a Set's assignments says that another did not. Pure.

A drain writes the document a hundred times, and a full Set has tens of thousands of sections: who
follows it looks at what differs, not at everything. Linear in the number of entries and floors.
"""

from collections.abc import Sequence
from typing import NamedTuple

from clustermap.model import Assignment, Assignments
from clustermap.ranges import Range
from clustermap.spans import Span, alike, gaps, minus, overlaps, union, within


class Piece(NamedTuple):
    """Sections `first..last` have one entry (or none), and one floor (0: none)."""

    first: int
    last: int
    entry: Assignment | None
    floor: int

    @property
    def highest(self) -> int:
        """The greatest epoch that the document knows of these sections."""
        return max(self.floor, self.entry.epoch if self.entry else 0)


def differing(before: Assignments, after: Assignments) -> list[Range]:
    """The sections whose entry or floor is not what it was."""
    return union(
        [
            *_differing(before.entries, after.entries),
            *_differing(before.floors, after.floors),
        ]
    )


def pieces(document: Assignments, ranges: Sequence[Range]) -> list[Piece]:
    """All of `ranges` (by rising section, not overlapping), cut as the document cuts them."""
    if not ranges:
        return []
    owned = [Piece(e.first, e.last, e, 0) for e in within(document.entries, ranges)]
    free = [Piece(*span, None, 0) for span in minus(ranges, document.entries)]
    parts = sorted(owned + free, key=lambda piece: piece.first)
    raised = [
        Piece(first, last, part.entry, floor.epoch)
        for part, floor, first, last in overlaps(parts, document.floors)
    ]
    outside = list(gaps(document.floors, parts[0].first, parts[-1].last))
    raised += [
        Piece(first, last, part.entry, 0) for part, _, first, last in overlaps(parts, outside)
    ]
    return sorted(raised, key=lambda piece: piece.first)


def _differing(before: Sequence[Span], after: Sequence[Span]) -> list[Range]:
    same: list[Range] = [
        Range(first, last)
        for old, new, first, last in overlaps(before, after)
        if old == new or alike(old, new)  # equal is what most are, and costs a tenth
    ]
    return [*minus(before, same), *minus(after, same)]
