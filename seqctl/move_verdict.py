"""Whether each section of a move is with exactly one Set, from the map and from the replicas. Pure.

What is asked is not what was done but what could happen: any R replicas decide what a new owner
finds. So a Set has lost a section only if any R of its replicas that answered have one among them
that is sealed, or if all are blank; and what the owning Set knows is the least that any R know.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clustermap.changes import Piece, pieces
from clustermap.jobs import Move
from clustermap.model import Assignment, SetSpec
from clustermap.ranges import Range
from seqctl.map_view import View


class Seen(NamedTuple):
    """What one replica has of one section; all 0: nothing."""

    max_seq: int = 0
    owner_epoch: int = 0
    sealed: int = 0

    @property
    def shut(self) -> bool:
        """It takes no owner any more."""
        return self.sealed >= max(1, self.owner_epoch)

    @property
    def blank(self) -> bool:
        return not (self.max_seq or self.owner_epoch)


Records = Mapping[int, Seen]  # of one replica, by section
BLANK = Seen()


class Finding(NamedTuple):
    """What is wrong with sections `first..last`."""

    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class _Side:
    """One Set's part in it. answers: of the replicas that did; at least R."""

    spec: SetSpec
    answers: Sequence[Records]
    pieces: Mapping[int, Piece]

    def seen(self, section: int) -> list[Seen]:
        return [records.get(section, BLANK) for records in self.answers]

    def entry(self, section: int) -> Assignment | None:
        return self.pieces[section].entry

    def epoch(self, section: int) -> int:
        return self.pieces[section].highest

    def has_lost(self, section: int) -> bool:
        """Whether no R replicas would let a node of this Set serve it."""
        seen = self.seen(section)
        return all(one.blank for one in seen) or sum(not one.shut for one in seen) < self.spec.r

    def may_serve(self, section: int) -> bool:
        """Whether W replicas, if those that did not answer are as they should be, let it."""
        shut = sum(one.shut for one in self.seen(section))
        return shut <= len(self.spec.replicas) - self.spec.w

    def least_known(self, section: int) -> int:
        """The least max_seq that R of the replicas may come up with."""
        return sorted(one.max_seq for one in self.seen(section))[self.spec.r - 1]


def concerned(found: View, move: Move) -> list[SetSpec]:
    """The Sets of a move, and whoever has its sections by now."""
    names = {move.source, move.target}
    for spec in found.specs.values():
        if any(a.first <= b.last and b.first <= a.last for a in spec.ranges for b in move.ranges):
            names.add(spec.name)
    return [found.specs[name] for name in sorted(names & found.specs.keys())]


def findings(found: View, move: Move, answers: Mapping[str, Sequence[Records]]) -> list[Finding]:
    """All that is wrong, by rising section. answers: by Set of `concerned`, at least R of each."""
    sides = [
        _Side(spec, answers[spec.name], _by_section(found, spec.name, move.ranges))
        for spec in concerned(found, move)
    ]
    wrong: list[Finding] = []
    latest: dict[str, int] = {}  # where the last finding of this text stands
    for span in move.ranges:
        for section in range(span.first, span.last + 1):
            for text in dict.fromkeys(_wrong(section, sides, move.incarnation)):
                index = latest.get(text, -1)
                if index >= 0 and wrong[index].last == section - 1:
                    wrong[index] = wrong[index]._replace(last=section)
                    continue
                latest[text] = len(wrong)
                wrong.append(Finding(section, section, text))
    return sorted(wrong)


def _wrong(section: int, sides: Sequence[_Side], job: int) -> Iterator[str]:
    having = [side for side in sides if side.spec.covers(section, section)]
    if len(having) != 1:
        names = " and ".join(side.spec.name for side in having)
        yield f"in Sets {names}" if having else "in no Set"
    for side in sides:
        name, entry = side.spec.name, side.entry(section)
        if entry is not None and job in _named(entry):
            yield f"Set {name} has it assigned to the job"
        if entry is not None and side not in having:
            yield f"Set {name} has it assigned without having it"
    for owner in having:
        if not owner.may_serve(section):
            yield f"sealed in Set {owner.spec.name}, which has it"
        for other in sides:
            if other not in having:
                yield from _contradictions(section, owner, other)


def _contradictions(section: int, owner: _Side, other: _Side) -> Iterator[str]:
    ours, theirs = owner.spec.name, other.spec.name
    if not other.has_lost(section):
        yield f"not sealed in Set {theirs}: a node there could serve it"
    greatest = max(seen.max_seq for seen in other.seen(section))
    if owner.least_known(section) < greatest:
        yield f"max_seq in Set {ours} may be found below {greatest}, that of Set {theirs}"
    if owner.epoch(section) < other.epoch(section):
        yield f"the epoch of Set {ours} is below {other.epoch(section)}, that of Set {theirs}"


def _named(entry: Assignment) -> tuple[int, ...]:
    heir = entry.successor
    return (entry.incarnation, heir.incarnation) if heir else (entry.incarnation,)


def _by_section(found: View, name: str, ranges: Sequence[Range]) -> dict[int, Piece]:
    cut = pieces(found.document(name), list(ranges))
    return {s: piece for piece in cut for s in range(piece.first, piece.last + 1)}
