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
from clustermap.model import Assignment, Assignments, Floor, Owner, SetSpec
from clustermap.nodes import Node


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
    _check_set(document, node)
    ranges = [_range(first, last)]
    return _next(document, *_given(document, ranges, node.owner))


def unassign(document: Assignments, first: int, last: int) -> Assignments:
    """Leave sections `first..last` without an owner; their epochs stay as floors."""
    ranges = [_range(first, last)]
    if not _within(document.entries, ranges):
        return document
    return _next(document, *_vacated(document, ranges))


def mark_leaving(
    document: Assignments, first: int, last: int, successor: Owner | None = None
) -> Assignments:
    """Ask the owners of sections `first..last` to release them, to `successor` if there is one.

    They keep epoch and routes until they say `hand_over`. May be called again, to name another
    successor; there is no way back, since the owner may have stopped by now.
    """
    ranges = [_range(first, last)]
    before = _within(document.entries, ranges)
    marked = [replace(entry, leaving=True, successor=successor) for entry in before]
    if marked == before:
        return document
    return _next(document, [*_without(document.entries, ranges), *marked], document.floors)


def hand_over(document: Assignments, released: Iterable[Range], incarnation: int) -> Assignments:
    """The owner `incarnation` has released these sections: they go to their successors.

    Those without one are left without an owner. What is not its own, or not leaving, is not
    touched. released: by rising section, not overlapping.
    """
    done = [
        entry
        for entry in _within(document.entries, list(released))
        if entry.incarnation == incarnation and entry.leaving
    ]
    if not done:
        return document
    entries: Sequence[Assignment] = document.entries
    floors, changed = document.floors, document
    for entry in done:
        ranges = [Range(entry.first, entry.last)]
        if entry.successor is not None:
            entries, floors = _given(changed, ranges, entry.successor)
        else:
            entries, floors = _vacated(changed, ranges)
        changed = replace(document, entries=_merged(entries), floors=_merged(floors))
    return _next(document, entries, floors)


def claim(document: Assignments, held: Iterable[Assignment]) -> Assignments:
    """Write down assignments that the document has forgotten: it was wiped, or is an old copy.

    Only what lies above every epoch that the document knows of its sections is taken over; the
    owner goes on under its epoch (docs/PROTOCOL.md, section 5: a map may be wiped). held: as they
    were, by rising section, not overlapping.
    """
    claimed = [span for span in held if document.highest_epoch(span.first, span.last) < span.epoch]
    if not claimed:
        return document
    entries = [*_without(document.entries, claimed), *claimed]
    return _next(document, entries, _without(document.floors, claimed))


def raise_version(document: Assignments, version: int) -> Assignments:
    """The same with at least this version: somebody has seen a later one (ROUTE-1)."""
    return replace(document, version=version) if version > document.version else document


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
    _check_set(document, node)
    refused = [
        Range(low, high)
        for entry, floor, low, high in _overlaps(document.entries, document.floors)
        if floor.epoch >= entry.epoch
    ]
    own = [entry for entry in document.entries if _serves(entry, node)]
    ranges = list(_gaps(_without(own, refused), spec.first, spec.last))
    if not ranges:
        return None
    epoch = document.highest_epoch(spec.first, spec.last)
    return _next(document, *_given(document, ranges, node.owner, epoch))


def _check_set(document: Assignments, node: Node) -> None:
    if node.set != document.set:
        raise ValueError(f"a node of Set {node.set!r} cannot own sections of {document.set!r}")


def _serves(entry: Assignment, node: Node) -> bool:
    return Owner(entry.incarnation, entry.address) == node.owner and not entry.leaving


def _given(
    document: Assignments, ranges: Sequence[Range], owner: Owner, above: int = 0
) -> tuple[list[Assignment], tuple[Floor, ...]]:
    """Entries and floors once `ranges` are the owner's, at one epoch above all that they had."""
    known = (document.highest_epoch(span.first, span.last) for span in ranges)
    epoch = max(above, *known) + 1
    if epoch > U64_MAX:
        raise ValueError(f"Set {document.set!r} has no epoch left")
    given = [Assignment(r.first, r.last, owner.incarnation, owner.address, epoch) for r in ranges]
    entries = [*_without(document.entries, ranges), *given]
    return entries, _without(document.floors, ranges)


def _vacated(
    document: Assignments, ranges: Sequence[Range]
) -> tuple[list[Assignment], tuple[Floor, ...]]:
    """Entries and floors once nobody owns `ranges`."""
    gone = _within(document.entries, ranges)
    left = [Floor(entry.first, entry.last, entry.epoch) for entry in gone]
    return list(_without(document.entries, ranges)), _raised(document.floors, left)


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
