"""Changes to a Set's assignments. Pure: a document in, the next document out.

Obligations, each checked against a per-section oracle in tests/property:

* The epoch of a section only rises: a new assignment is above every epoch that the section was ever
  given and every promise that was reported of it, whatever was done in between (FENCE-1 would
  refuse it otherwise, and two owners under one epoch would not be told apart).
* History is never lost: an entry that goes leaves its epoch behind as a floor, unless a higher one
  takes its place.
* Every change adds one to the version; a call that changes nothing returns the document itself
  (ROUTE-1 needs the first, idle re-writes are avoided by the second).

A floor is kept where it is not below the epoch of the entry there. Equal counts: a replica that has
promised this very epoch refuses to promise it again, so the entry needs a new one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from clustermap.documents import U64_MAX
from clustermap.model import Assignment, Assignments, Floor, Node, SetSpec


class Spanning(Protocol):
    """Sections `first..last`, both included."""

    @property
    def first(self) -> int: ...

    @property
    def last(self) -> int: ...


class Range(NamedTuple):
    first: int
    last: int


Span = TypeVar("Span", Assignment, Floor)
A = TypeVar("A", bound=Spanning)
B = TypeVar("B", bound=Spanning)


def reassign(document: Assignments, first: int, last: int, node: Node) -> Assignments:
    """Give sections `first..last` to `node` under the next free epoch.

    Raises ValueError where the range is none, the node is of another Set, or epochs have run out.
    """
    epoch = document.highest_epoch(first, last) + 1
    return _assign(document, [_range(first, last)], node, epoch)


def unassign(document: Assignments, first: int, last: int) -> Assignments:
    """Leave sections `first..last` without an owner; their epochs stay as floors."""
    ranges = [_range(first, last)]
    floors = document.floors
    gone = _within(document.entries, ranges)
    floors = _raised(floors, [Floor(entry.first, entry.last, entry.epoch) for entry in gone])
    return _next(document, _without(document.entries, ranges), floors) if gone else document


def mark_leaving(document: Assignments, first: int, last: int) -> Assignments:
    """Ask the owners of sections `first..last` to release them. They keep epoch and routes."""
    ranges = [_range(first, last)]
    marked = [replace(entry, leaving=True) for entry in _within(document.entries, ranges)]
    if all(entry.leaving for entry in _within(document.entries, ranges)):
        return document
    return _next(document, [*_without(document.entries, ranges), *marked], document.floors)


def raise_floor(document: Assignments, first: int, last: int, epoch: int) -> Assignments:
    """Note that a replica has promised `epoch` for sections `first..last`. Never lowers one."""
    return raise_floors(document, [Floor(*_range(first, last), epoch)])


def raise_floors(document: Assignments, promised: Sequence[Floor]) -> Assignments:
    """The same for many ranges at once, by rising section and not overlapping; one change."""
    floors = _raised(document.floors, promised)
    outbid = [
        Range(low, high)
        for entry, floor, low, high in _overlaps(document.entries, floors)
        if floor.epoch < entry.epoch
    ]
    floors = _merged(_without(floors, outbid))
    return document if floors == document.floors else _next(document, document.entries, floors)


def sole_owner(document: Assignments, spec: SetSpec, node: Node) -> Assignments | None:
    """The document by which `node` owns all of its Set; None if it does already.

    Only what needs it is reassigned: sections of another incarnation or address, of nobody,
    leaving, or with a floor that is not below their epoch. All of them get one epoch, so that a
    restart makes one entry of whatever there was. Raises ValueError as `reassign` does.
    """
    refused = [
        Range(low, high)
        for entry, floor, low, high in _overlaps(document.entries, document.floors)
        if floor.epoch >= entry.epoch
    ]
    own = [entry for entry in document.entries if _serves(entry, node)]
    ranges = list(_gaps(_without(own, refused), spec.first, spec.last))
    if not ranges:
        return None
    return _assign(document, ranges, node, document.highest_epoch(spec.first, spec.last) + 1)


def _serves(entry: Assignment, node: Node) -> bool:
    owner = (entry.incarnation, entry.address)
    return owner == (node.incarnation, node.address) and not entry.leaving


def _assign(document: Assignments, ranges: Sequence[Range], node: Node, epoch: int) -> Assignments:
    if node.set != document.set:
        raise ValueError(f"a node of Set {node.set!r} cannot own sections of {document.set!r}")
    if epoch > U64_MAX:
        raise ValueError(f"Set {document.set!r} has no epoch left")
    given = [Assignment(r.first, r.last, node.incarnation, node.address, epoch) for r in ranges]
    entries = [*_without(document.entries, ranges), *given]
    return _next(document, entries, _without(document.floors, ranges))


def _next(
    document: Assignments, entries: Iterable[Assignment], floors: Iterable[Floor]
) -> Assignments:
    return Assignments(document.set, document.version + 1, _merged(entries), _merged(floors))


def _raised(floors: Sequence[Floor], promised: Sequence[Floor]) -> tuple[Floor, ...]:
    both = [
        Floor(first, last, max(old.epoch, new.epoch))
        for old, new, first, last in _overlaps(floors, promised)
    ]
    return _merged([*_without(floors, promised), *_without(promised, floors), *both])


def _range(first: int, last: int) -> Range:
    if not 0 <= first <= last:
        raise ValueError(f"{first}..{last} is no range of sections")
    return Range(first, last)


# What follows takes spans by rising section that do not overlap, and is linear in their number.


def _overlaps(some: Sequence[A], others: Sequence[B]) -> Iterator[tuple[A, B, int, int]]:
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


def _within(spans: Sequence[Span], ranges: Sequence[Range]) -> list[Span]:
    """The parts of the spans that lie in the ranges."""
    return [
        replace(span, first=first, last=last) for span, _, first, last in _overlaps(spans, ranges)
    ]


def _without(spans: Sequence[Span], ranges: Sequence[Spanning]) -> tuple[Span, ...]:
    """The parts of the spans that lie in none of the ranges."""
    if not spans:
        return ()
    outside = list(_gaps(ranges, spans[0].first, spans[-1].last))
    return tuple(_within(spans, outside))


def _gaps(spans: Iterable[Spanning], first: int, last: int) -> Iterator[Range]:
    """The ranges of `first..last` that no span covers."""
    for span in spans:
        if first > last:
            return
        if first < span.first:
            yield Range(first, min(last, span.first - 1))
        first = max(first, span.last + 1)
    if first <= last:
        yield Range(first, last)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """By rising section, neighbours that differ in nothing but their range made one."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        last = merged[-1] if merged else None
        joined = last and replace(last, last=span.last)
        if last and last.last + 1 == span.first and joined == replace(span, first=last.first):
            merged[-1] = joined
        else:
            merged.append(span)
    return tuple(merged)
