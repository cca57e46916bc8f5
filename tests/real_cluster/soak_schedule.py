"""What the soak does, and when: a pure function of the seed.

A deck of all kinds of fault is shuffled and dealt one to a round, then shuffled again, so that
every kind has its turn before any has its second. Now and then another kind joins the first.
Whatever a fault hits is drawn from dice of its own: how many draws one fault makes depends on what
it finds, and must not change any later one.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

SECOND = 0.3
"""How often a second fault joins the first, where both allow it."""

CALM_S = (1.0, 2.5)
"""From and to: how long callers are left alone before a round."""


class Kind(Protocol):
    """What the schedule must know of a kind of fault.

    hold_s: from and to how many seconds it lasts. alone: never together with another one.
    """

    @property
    def name(self) -> str: ...
    @property
    def hold_s(self) -> tuple[float, float]: ...
    @property
    def alone(self) -> bool: ...


@dataclass(frozen=True)
class Blow:
    """One fault. hold_s: how long until the next one or the end of the round; dice: a seed."""

    kind: str
    hold_s: float
    dice: int


@dataclass(frozen=True)
class Plan:
    """One round: calm, then the blows one after the other, then all of them undone."""

    number: int
    calm_s: float
    blows: tuple[Blow, ...]


def schedule(seed: int, kinds: Sequence[Kind]) -> Iterator[Plan]:
    """Rounds without end, numbered from 1; the same ones for the same seed and kinds."""
    draw = random.Random(seed)
    company = [kind for kind in kinds if not kind.alone]
    for number, first in enumerate(_dealt(draw, kinds), start=1):
        calm_s = draw.uniform(*CALM_S)
        struck = [first]
        if draw.random() < SECOND and not first.alone:
            struck.append(draw.choice(company))
        yield Plan(number, calm_s, tuple(_blow(draw, kind) for kind in struck))


def last(seed: int, kind: Kind) -> Plan:
    """The round that ends a run: of a kind that leaves a cluster nothing more can be done to.

    Its number is 0: which one it is, is known only then.
    """
    draw = random.Random(f"last of {seed}")
    return Plan(0, draw.uniform(*CALM_S), (_blow(draw, kind),))


def _dealt(draw: random.Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    while True:
        yield from draw.sample(kinds, len(kinds))


def _blow(draw: random.Random, kind: Kind) -> Blow:
    return Blow(kind.name, draw.uniform(*kind.hold_s), draw.getrandbits(32))
