"""Ranges of sections as documents of the map have them: in order, apart from each other. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from clustermap.documents import Fields

SECTION_MAX = 2**63 - 1


class Range(NamedTuple):
    """Sections `first..last`, both included."""

    first: int
    last: int

    @property
    def sections(self) -> int:
        return self.last - self.first + 1

    def fields(self) -> dict[str, object]:
        return {"first": self.first, "last": self.last}

    @classmethod
    def read(cls, fields: Fields) -> "Range":
        first = fields.integer("first", 0, SECTION_MAX)
        return cls(first, fields.integer("last", 0, SECTION_MAX))

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"


def check_ranges(what: str, ranges: Sequence[Range]) -> None:
    """Raises ValueError unless they rise, and neither overlap nor touch: there is one way to say
    which sections are meant."""
    free = 0
    for span in ranges:
        if not free <= span.first <= span.last <= SECTION_MAX:
            raise ValueError(f"{what}: {span} is no range of sections, or out of place")
        free = span.last + 2


def shown(ranges: Sequence[Range]) -> str:
    """As operators read them: 0..9,20..29."""
    return ",".join(map(str, ranges)) or "none"
