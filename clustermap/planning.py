"""What the arbiter would have a Set's assignments be. Pure: plan(alive, owned, load) -> moves.

In order of urgency, all in one new document with one version more:

* Sections of nobody, those of nodes that were given up, and those whose epoch a replica has refused
  get a new epoch. A live owner that was refused keeps its sections; everything else is shared out
  over the willing nodes (registered, leased, not draining) by weight, in contiguous parts.
* Sections of draining nodes are marked as leaving, with successors shared out likewise. A leaving
  section whose successor is no longer willing gets another one, or None if nobody is left.
* Sections that are pinned to another node, and those that are not pinned where a node is to have
  pinned ones alone, are marked as leaving to where they belong. Who cannot take them waits.
* Only where nothing of that is to do and nothing is leaving, load is balanced (balancing.py).

What a job has (switching.py) stays as it is, and what is leaving to one leaves to nobody else; the
job gets it at once where its owner was given up or refused.

Nothing else moves: a node that is not registered but not given up either keeps what it has and gets
no more. What is taken from nodes that were given up is bounded by a budget, so that a mistake about
many nodes at once does not move a whole Set at once.

FENCE-1 rests on the one rule of placement.py: a new epoch is above all that the document knows of
its sections. Sections that have no epoch left are not touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple

from clustermap.balancing import transfers, uneven
from clustermap.changes import Piece, pieces
from clustermap.documents import U64_MAX
from clustermap.errors import MapCorrupt
from clustermap.model import Assignment, Assignments, Owner
from clustermap.nodes import Node
from clustermap.pinning import Places, cut
from clustermap.ranges import Range
from clustermap.scene import (
    BALANCE,
    DRAIN,
    FAILURE,
    MARKED,
    PINNED,
    REFUSED,
    SUCCESSOR,
    UNOWNED,
    Limits,
    Move,
    Scene,
)
from clustermap.spans import merged, minus, overlaps, without
from clustermap.spreading import grain, spread
from clustermap.weights import Rates, Weights


@dataclass(frozen=True, slots=True)
class Memory:
    """What one round leaves to the next: smoothed rates, and rounds in a row that were uneven."""

    rates: Rates = field(default_factory=Rates)
    uneven_rounds: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """document: the one planned for itself where nothing is to do; moves: by rising section."""

    document: Assignments
    moves: tuple[Move, ...]
    memory: Memory

    @property
    def taken(self) -> int:
        """Sections taken from nodes that were given up."""
        return sum(move.sections for move in self.moves if move.cause == FAILURE)


def plan(
    document: Assignments,
    scene: Scene,
    memory: Memory,
    limits: Limits,
    *,
    budget: int,
    new_round: bool,
) -> Plan:
    """The next document, and why.

    budget: sections that may be taken from nodes that were given up (Limits.budget per round, less
    what the round has taken), in a large Set rounded to its grain; new_round: loads are read, and
    balanced, only then. Raises MapCorrupt where the document has sections outside the Set.
    """
    spec = scene.spec
    if minus(document.entries, spec.ranges):
        raise MapCorrupt(f"assignments of Set {spec.name!r}: sections outside the Set")
    if new_round:
        owners = {entry.incarnation for entry in document.entries}
        memory = replace(memory, rates=memory.rates.smoothed(scene.nodes, owners))
    weights = Weights(memory.rates, spec.sections)
    parts = cut(pieces(document, spec.ranges), scene.pins)
    moves = _repairs(parts, scene, weights, budget)
    if not moves and new_round and scene.balance:
        moves, rounds = _balance(parts, scene, weights, memory.uneven_rounds, limits)
        memory = replace(memory, uneven_rounds=rounds)
    return Plan(rewritten(document, moves), tuple(moves), memory)


def rewritten(document: Assignments, moves: Sequence[Move]) -> Assignments:
    """The document after these moves, by rising section and not overlapping; one version later.

    What one owner is given gets one epoch, above all that the document knows of those sections, so
    that neighbours become one entry. Raises ValueError where epochs have run out.
    """
    if not moves:
        return document
    epochs: dict[Owner, int] = {}
    given: list[Assignment] = []
    marked: list[Assignment] = []
    parts = pieces(document, [Range(move.first, move.last) for move in moves])
    paired = [(move, part) for move, part, _, _ in overlaps(moves, parts)]
    for move, part in paired:
        if move.cause not in MARKED and move.to is not None:
            epochs[move.to] = max(epochs.get(move.to, 0), part.highest + 1)
    for move, part in paired:
        if move.cause in MARKED:
            if part.entry is not None:
                marked.append(_leaving(part, part.entry, move.to))
        elif move.to is not None:
            given.append(_given(part, move.to, epochs[move.to]))
    changed = [*given, *marked]
    changed.sort(key=lambda entry: entry.first)
    entries = [*without(document.entries, changed), *changed]
    floors = without(document.floors, given)
    return Assignments(document.set, document.version + 1, merged(entries), merged(floors))


def _given(part: Piece, owner: Owner, epoch: int) -> Assignment:
    return Assignment.to(owner, part.first, part.last, epoch)


def _leaving(part: Piece, entry: Assignment, successor: Owner | None) -> Assignment:
    return replace(entry, first=part.first, last=part.last, leaving=True, successor=successor)


@dataclass(frozen=True, slots=True)
class _Crew:
    """The nodes of a scene, by what may be expected of them."""

    willing: Mapping[int, Node]
    draining: frozenset[int]
    registered: frozenset[int]
    given_up: frozenset[int]
    places: Places
    jobs: frozenset[int]

    @classmethod
    def of(cls, scene: Scene) -> "_Crew":
        return cls(
            scene.willing,
            frozenset(node.incarnation for node in scene.nodes if node.draining),
            frozenset(node.incarnation for node in scene.nodes),
            scene.given_up,
            Places(scene),
            scene.jobs,
        )

    def trouble(self, part: Piece) -> str | None:
        """Why these sections need another epoch, owner or successor; None if they do not."""
        entry = part.entry
        if part.highest >= U64_MAX:
            return None
        if entry is None:
            return UNOWNED if self.willing else None
        if entry.incarnation in self.jobs:
            return None
        if self.job(entry) is not None:
            if entry.incarnation in self.given_up:
                return FAILURE
            return REFUSED if part.floor >= entry.epoch else None
        if entry.incarnation in self.given_up:
            return FAILURE if self.willing else None
        if part.floor >= entry.epoch:
            return REFUSED if self.willing or self.keeper(entry) else None
        if entry.leaving:
            return SUCCESSOR if self._misses_successor(entry) else None
        if entry.incarnation in self.draining:
            return DRAIN
        return PINNED if self.places.misplaced(part) else None

    def keeper(self, entry: Assignment, cause: str = REFUSED) -> Owner | None:
        """Who gets such sections under their next epoch, if it is anybody in particular."""
        if self.job(entry) is not None:
            return entry.successor
        if cause != REFUSED:
            return None
        if entry.leaving:
            known = entry.successor is not None and entry.successor.incarnation in self.willing
            return entry.successor if known else None
        lives = entry.incarnation in self.registered and entry.incarnation not in self.draining
        return entry.owner if lives else None

    def job(self, entry: Assignment) -> Owner | None:
        """The job to which these sections are leaving."""
        heir = entry.successor
        return heir if heir is not None and heir.incarnation in self.jobs else None

    def _misses_successor(self, entry: Assignment) -> bool:
        if entry.successor is None:
            return bool(self.willing)
        # One that is not registered, but not given up either, may be back at once.
        return entry.successor.incarnation in self.given_up | self.draining


class _Homeless(NamedTuple):
    """Sections that somebody else is to have."""

    first: int
    last: int
    cause: str
    owner: int | None


def _repairs(parts: Sequence[Piece], scene: Scene, weights: Weights, budget: int) -> list[Move]:
    """All that cannot stay as it is."""
    crew = _Crew.of(scene)
    moves: list[Move] = []
    homeless: list[_Homeless] = []
    totals = dict.fromkeys(crew.places.open, 0)
    for part in parts:
        cause = crew.trouble(part)
        heir = _heir(part)
        if cause and part.entry and (keeper := crew.keeper(part.entry, cause)):
            moves.append(Move(part.first, part.last, cause, keeper))
            heir = keeper.incarnation
        elif cause is not None:
            homeless.append(_Homeless(part.first, part.last, cause, _owner(part)))
            continue
        if heir in totals:
            totals[heir] += weights.weight(part.first, part.last, _owner(part))
    step = grain(scene.spec)
    free: list[_Homeless] = []
    for lost in _affordable(_assignable(homeless, scene.held_back), budget, step):
        home = crew.places.home(lost.first)
        if home is None:
            free.append(lost)
            continue
        moves.append(Move(lost.first, lost.last, lost.cause, home))
        if home.incarnation in totals:
            totals[home.incarnation] += weights.weight(lost.first, lost.last, lost.owner)
    return sorted([*moves, *_shared_out(free, crew.places.open, totals, weights, step)])


def _owner(part: Piece) -> int | None:
    return part.entry.incarnation if part.entry else None


def _heir(part: Piece) -> int | None:
    """Who has these sections once everything under way is done."""
    if part.entry is None or not part.entry.leaving:
        return _owner(part)
    return part.entry.successor.incarnation if part.entry.successor else None


def _assignable(homeless: Sequence[_Homeless], held_back: Sequence[Range]) -> list[_Homeless]:
    """Without the sections of nobody that are held back."""
    unowned = [part for part in homeless if part.cause == UNOWNED]
    free = [_Homeless(*span, UNOWNED, None) for span in minus(unowned, held_back)]
    return sorted([*(part for part in homeless if part.cause != UNOWNED), *free])


def _affordable(homeless: Sequence[_Homeless], budget: int, step: int) -> list[_Homeless]:
    """Without the sections of given up nodes that are above the budget."""
    kept: list[_Homeless] = []
    for part in homeless:
        if part.cause != FAILURE:
            kept.append(part)
            continue
        end = part.first + budget  # the first one that is too much
        if end <= part.last:
            # Cut where everybody cuts; but some progress there must be.
            aligned = end // step * step
            end = aligned if aligned > part.first else (part.first // step + 1) * step
        last = min(part.last, end - 1)
        if budget > 0:
            kept.append(part._replace(last=last))
            budget -= last - part.first + 1
    return kept


def _shared_out(
    homeless: Sequence[_Homeless],
    willing: Mapping[int, Node],
    totals: Mapping[int, int],
    weights: Weights,
    step: int,
) -> list[Move]:
    if not homeless:
        return []
    if not willing:  # then nothing but marks is asked for
        return [Move(part.first, part.last, part.cause, None) for part in homeless]
    segments = [
        segment
        for part in homeless
        for segment in weights.segments(part.first, part.last, part.owner)
    ]
    spans = [Range(part.first, part.last) for part in homeless]
    causes = {part.first: part.cause for part in homeless}
    moves: list[Move] = []
    cause = ""
    for span, receiver in spread(spans, segments, totals, step):
        cause = causes.get(span.first, cause)  # a later part of the same span else
        moves.append(Move(*span, cause, willing[receiver].owner))
    return moves


def _balance(
    parts: Sequence[Piece], scene: Scene, weights: Weights, rounds: int, limits: Limits
) -> tuple[list[Move], int]:
    """What to move for balance, and for how many rounds in a row it has been uneven."""
    places = Places(scene)
    if len(places.open) < 2 or any(part.entry and part.entry.leaving for part in parts):
        return [], 0
    held: dict[int, list[Range]] = {incarnation: [] for incarnation in sorted(places.open)}
    pinned = dict.fromkeys(held, 0)
    for part in parts:
        owner = _owner(part)
        if owner not in held or part.highest >= U64_MAX:
            continue
        if places.home(part.first) is None:
            held[owner].append(Range(part.first, part.last))
        else:
            pinned[owner] += weights.weight(part.first, part.last, owner)
    totals = {
        incarnation: pinned[incarnation] + sum(weights.weight(*span, incarnation) for span in spans)
        for incarnation, spans in held.items()
    }
    if not uneven(totals, limits.hysteresis):
        return [], 0
    if rounds + 1 < limits.balance_rounds:
        return [], rounds + 1
    at_most = ceil(limits.balance_share * scene.spec.sections)
    found = transfers(held, weights, grain(scene.spec), limits.hysteresis, at_most, pinned)
    return [Move(f, last, BALANCE, places.open[to].owner) for f, last, to in found], 0
