"""Ranges of sections that carry something: cut, joined and compared. Pure.

Everything here takes spans by rising section that do not overlap, and is linear in their number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from clustermap.model import Assignment, Floor
from clustermap.ranges import Range as Range


class Spanning(Protocol):
    """Sections `first..last`, both included."""

    @property
    def first(self) -> int: ...

    @property
    def last(self) -> int: ...


Span = TypeVar("Span", Assignment, Floor)
A = TypeVar("A", bound=Spanning)
B = TypeVar("B", bound=Spanning)


def overlaps(some: Sequence[A], others: Sequence[B]) -> Iterator[tuple[A, B, int, int]]:
    """Each pair that shares sections, and which."""
    i = j = 0
    while i < len(some) and j < len(others):
        first = max(some[i].first, others[j].first)
        last = min(some[i].last, others[j].last)
        if first <= last:
            yield some[i], others[j], first, last
        if some[i].last < others[j].last:
            i += 1
        else:
            j += 1


def within(spans: Sequence[Span], ranges: Sequence[Spanning]) -> list[Span]:
    """The parts of the spans that lie in the ranges."""
    return [
        replace(span, first=first, last=last) for span, _, first, last in overlaps(spans, ranges)
    ]


def without(spans: Sequence[Span], ranges: Sequence[Spanning]) -> tuple[Span, ...]:
    """The parts of the spans that lie in none of the ranges."""
    if not spans:
        return ()
    outside = list(gaps(ranges, spans[0].first, spans[-1].last))
    return tuple(within(spans, outside))


def minus(ranges: Sequence[Spanning], spans: Sequence[Spanning]) -> list[Range]:
    """The parts of the ranges that lie in none of the spans."""
    if not ranges:
        return []
    outside = list(gaps(spans, ranges[0].first, ranges[-1].last))
    return [Range(first, last) for _, _, first, last in overlaps(ranges, outside)]


def gaps(spans: Iterable[Spanning], first: int, last: int) -> Iterator[Range]:
    """The ranges of `first..last` that no span covers."""
    for span in spans:
        if first > last:
            return
        if first < span.first:
            yield Range(first, min(last, span.first - 1))
        first = max(first, span.last + 1)
    if first <= last:
        yield Range(first, last)


def alike(one: Span, other: Span) -> bool:
    """Whether they differ in nothing but their range."""
    return one == replace(other, first=one.first, last=one.last)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """By rising section, neighbours that differ in nothing but their range made one."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        last = found[-1] if found else None
        if last and last.last + 1 == span.first and alike(last, span):
            found[-1] = replace(last, last=span.last)
        else:
            found.append(span)
    return tuple(found)


def union(ranges: Iterable[Spanning]) -> list[Range]:
    """The ranges that these cover, which may overlap and be in any order."""
    found: list[Range] = []
    for span in sorted(ranges, key=lambda span: span.first):
        if found and span.first <= found[-1].last + 1:
            found[-1] = Range(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(Range(span.first, span.last))
    return found
