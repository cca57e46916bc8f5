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

from collections.abc import Iterable, Sequence
from dataclasses import replace

from clustermap.documents import U64_MAX
from clustermap.model import Assignment, Assignments, Floor, Owner, SetSpec
from clustermap.nodes import Node
from clustermap.ranges import Range
from clustermap.spans import merged, minus, overlaps, union, within, without


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
    if not within(document.entries, ranges):
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
    before = within(document.entries, ranges)
    marked = [replace(entry, leaving=True, successor=successor) for entry in before]
    if marked == before:
        return document
    return _next(document, [*without(document.entries, ranges), *marked], document.floors)


def hand_over(document: Assignments, released: Iterable[Range], incarnation: int) -> Assignments:
    """The owner `incarnation` has released these sections: they go to their successors.

    Those without one are left without an owner. What is not its own, or not leaving, is not
    touched. released: by rising section, not overlapping.
    """
    done = [
        entry
        for entry in within(document.entries, list(released))
        if entry.incarnation == incarnation and entry.leaving
    ]
    if not done:
        return document
    above = {entry.first: entry.epoch for entry in done}
    for entry, floor, _, _ in overlaps(done, document.floors):
        above[entry.first] = max(above[entry.first], floor.epoch)
    given = [
        Assignment.to(
            entry.successor, entry.first, entry.last, _after(document, above[entry.first])
        )
        for entry in done
        if entry.successor is not None
    ]
    left = [Floor(e.first, e.last, e.epoch) for e in done if e.successor is None]
    entries = [*without(document.entries, done), *given]
    return _next(document, entries, _raised(without(document.floors, given), left))


def withdraw(document: Assignments, incarnation: int) -> Assignments:
    """The same for all that `incarnation` has, which is going for good.

    What was not leaving, or had no other successor, is left without an owner.
    """
    own = [entry for entry in document.entries if entry.incarnation == incarnation]
    if not own:
        return document
    ranges = [Range(entry.first, entry.last) for entry in own]
    leaving = [replace(e, leaving=True, successor=_other(e)) for e in own]
    marked = replace(document, entries=merged([*without(document.entries, ranges), *leaving]))
    return hand_over(marked, ranges, incarnation)


def _other(entry: Assignment) -> Owner | None:
    named = entry.successor
    return named if named is not None and named.incarnation != entry.incarnation else None


def claim(document: Assignments, held: Sequence[Assignment]) -> Assignments:
    """Write down assignments that the document has forgotten: it was wiped, or is an old copy.

    The owner goes on under its epoch (docs/PROTOCOL.md, section 5: a map may be wiped). Only what
    lies above every epoch that the document knows of its sections is taken over. One floor may be
    equal: above an entry with a lower epoch it can but be the promise made to the claimant, which
    the node of that entry was refused for; where there is no entry, it may be what an `unassign`
    left. held: as they were, by rising section, not overlapping.
    """
    later = [
        Range(first, last)
        for own, entry, first, last in overlaps(held, document.entries)
        if entry.epoch >= own.epoch
    ]
    equal: list[Range] = []
    for own, floor, first, last in overlaps(held, document.floors):
        if floor.epoch > own.epoch:
            later.append(Range(first, last))
        elif floor.epoch == own.epoch:
            equal.append(Range(first, last))
    later += minus(equal, document.entries)
    claimed = without(held, union(later))
    if not claimed:
        return document
    entries = [*without(document.entries, claimed), *claimed]
    return _next(document, entries, without(document.floors, claimed))


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
        for entry, floor, low, high in overlaps(document.entries, floors)
        if floor.epoch < entry.epoch
    ]
    floors = merged(without(floors, outbid))
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
        for entry, floor, low, high in overlaps(document.entries, document.floors)
        if floor.epoch >= entry.epoch
    ]
    own = [entry for entry in document.entries if _serves(entry, node)]
    ranges = minus(spec.ranges, without(own, refused))
    if not ranges:
        return None
    epoch = max(document.highest_epoch(span.first, span.last) for span in spec.ranges)
    return _next(document, *_given(document, ranges, node.owner, epoch))


def _check_set(document: Assignments, node: Node) -> None:
    if node.set != document.set:
        raise ValueError(f"a node of Set {node.set!r} cannot own sections of {document.set!r}")


def _serves(entry: Assignment, node: Node) -> bool:
    return entry.owner == node.owner and not entry.leaving


def _given(
    document: Assignments, ranges: Sequence[Range], owner: Owner, above: int = 0
) -> tuple[list[Assignment], tuple[Floor, ...]]:
    """Entries and floors once `ranges` are the owner's, at one epoch above all that they had."""
    known = (document.highest_epoch(span.first, span.last) for span in ranges)
    epoch = _after(document, max(above, *known))
    given = [Assignment.to(owner, r.first, r.last, epoch) for r in ranges]
    entries = [*without(document.entries, ranges), *given]
    return entries, without(document.floors, ranges)


def _after(document: Assignments, epoch: int) -> int:
    if epoch >= U64_MAX:
        raise ValueError(f"Set {document.set!r} has no epoch left")
    return epoch + 1


def _vacated(
    document: Assignments, ranges: Sequence[Range]
) -> tuple[list[Assignment], tuple[Floor, ...]]:
    """Entries and floors once nobody owns `ranges`."""
    gone = within(document.entries, ranges)
    left = [Floor(entry.first, entry.last, entry.epoch) for entry in gone]
    return list(without(document.entries, ranges)), _raised(document.floors, left)


def _next(
    document: Assignments, entries: Iterable[Assignment], floors: Iterable[Floor]
) -> Assignments:
    return Assignments(document.set, document.version + 1, merged(entries), merged(floors))


def _raised(floors: Sequence[Floor], promised: Sequence[Floor]) -> tuple[Floor, ...]:
    both = [
        Floor(first, last, max(old.epoch, new.epoch))
        for old, new, first, last in overlaps(floors, promised)
    ]
    return merged([*without(floors, promised), *without(promised, floors), *both])


def _range(first: int, last: int) -> Range:
    if not 0 <= first <= last:
        raise ValueError(f"{first}..{last} is no range of sections")
    return Range(first, last)
