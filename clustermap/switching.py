"""The map's side of a move of sections from one Set to another. Pure.

    a node's --claimed--> leaving, to the job --released--> the job's --switched--> another Set's

The job owns entries as a node would, by an incarnation of its own, and at the address of the owner
before it: callers go on asking there, and are told to come again. What belongs to a job, or leaves
to one, is left alone by whoever plans a Set's assignments (planning.py), but for one thing: where
its owner has died, or was refused, the job gets it at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from clustermap import placement
from clustermap.changes import Piece, pieces
from clustermap.model import Assignment, Assignments, Floor, Owner, SetSpec
from clustermap.planning import rewritten
from clustermap.ranges import Range
from clustermap.scene import SUCCESSOR, UNOWNED, Move
from clustermap.spans import minus, overlaps, union, within


class Home(NamedTuple):
    """A Set's documents."""

    spec: SetSpec
    assignments: Assignments


def under_way(document: Assignments, job: int) -> list[Range]:
    """The sections that the job has, or is to get."""
    return union(
        entry
        for entry in document.entries
        if entry.incarnation == job or (entry.successor and entry.successor.incarnation == job)
    )


def next_chunk(spec: SetSpec, ranges: Sequence[Range], sections: int) -> list[Range]:
    """The first so many of `ranges` that the Set has; [] if it has none of them."""
    chunk: list[Range] = []
    for _, _, first, last in overlaps(spec.ranges, ranges):
        last = min(last, first + sections - 1)
        chunk.append(Range(first, last))
        sections -= last - first + 1
        if not sections:
            break
    return chunk


def claimed(document: Assignments, chunk: Sequence[Range], job: int, nowhere: str) -> Assignments:
    """The next document on the way to all of the chunk being the job's; itself where it is, or
    where its owners have yet to release it.

    nowhere: the address of sections of nobody.
    """
    return rewritten(
        document,
        [move for piece in pieces(document, chunk) if (move := _claim(piece, job, nowhere))],
    )


def _claim(piece: Piece, job: int, nowhere: str) -> Move | None:
    entry = piece.entry
    if entry is None:
        return Move(piece.first, piece.last, UNOWNED, Owner(job, nowhere))
    owner = replace(entry.owner, incarnation=job)
    if entry.incarnation == job:
        spent = piece.floor >= entry.epoch
        return Move(piece.first, piece.last, UNOWNED, owner) if spent else None
    if entry.leaving and entry.successor == owner:
        return None
    return Move(piece.first, piece.last, SUCCESSOR, owner)


def epochs(document: Assignments, chunk: Sequence[Range], job: int) -> dict[int, int] | None:
    """section -> epoch at which the job has it; None unless it has all of the chunk."""
    held = [entry for entry in within(document.entries, chunk) if entry.incarnation == job]
    if minus(chunk, held):
        return None
    return {s: entry.epoch for entry in held for s in range(entry.first, entry.last + 1)}


def spent(document: Assignments, promised: Mapping[int, int]) -> Assignments:
    """The next epochs of these sections are to be above those."""
    return placement.raise_floors(document, as_floors(promised))


def switched(
    home: Home, dest: Home, won: Mapping[int, int], nodes: Iterable[Owner]
) -> tuple[Home, Home]:
    """Both Sets' documents once `dest` has the sections; which may be where they are.

    won: section -> epoch at which the job had it; nodes: of `dest`, of whom the one with the
    fewest sections is given these, none: they are left without an owner.
    """
    chunk = union(Range(s, s) for s in won)
    left = home.assignments
    for span in chunk:
        left = placement.unassign(left, span.first, span.last)
    gained = left if dest.spec.name == home.spec.name else dest.assignments
    for span in chunk:
        gained = placement.unassign(gained, span.first, span.last)
    gained = placement.raise_floors(gained, as_floors(won))
    heir = _least_laden(dest.assignments.entries, nodes)
    if heir is not None:
        gained = rewritten(gained, [Move(*span, UNOWNED, heir) for span in chunk])
    if dest.spec.name == home.spec.name:
        return Home(home.spec, gained), Home(home.spec, gained)
    poorer = replace(home.spec, ranges=tuple(minus(home.spec.ranges, chunk)))
    richer = replace(dest.spec, ranges=tuple(union([*dest.spec.ranges, *chunk])))
    return Home(poorer, left), Home(richer, gained)


def _least_laden(entries: Iterable[Assignment], nodes: Iterable[Owner]) -> Owner | None:
    counts: dict[Owner, int] = dict.fromkeys(nodes, 0)
    for entry in entries:
        owner = entry.owner
        if owner in counts:
            counts[owner] += entry.last - entry.first + 1
    return min(counts, key=lambda owner: (counts[owner], owner.incarnation), default=None)


def as_floors(points: Mapping[int, int]) -> list[Floor]:
    """By rising section, neighbours of one epoch made one."""
    floors: list[Floor] = []
    for section, epoch in sorted(points.items()):
        if floors and (floors[-1].last, floors[-1].epoch) == (section - 1, epoch):
            floors[-1] = replace(floors[-1], last=section)
        else:
            floors.append(Floor(section, section, epoch))
    return floors
