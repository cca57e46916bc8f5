"""What a plan of a Set's assignments is made from, and of. Pure values."""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from clustermap.model import Assignments, Owner, SetSpec
from clustermap.nodes import Node
from clustermap.orders import Pin
from clustermap.ranges import Range

UNOWNED = "unowned"
FAILURE = "failure"
REFUSED = "refused"
DRAIN = "drain"
SUCCESSOR = "successor"
PINNED = "pinned"
BALANCE = "balance"
CAUSES = (UNOWNED, FAILURE, REFUSED, DRAIN, SUCCESSOR, PINNED, BALANCE)
MARKED = (DRAIN, SUCCESSOR, PINNED, BALANCE)
"""Of moves that ask the owner to release; all others assign at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may move, and when. Raises ValueError.

    max_move_share: of a Set's assigned sections, taken from nodes that were given up per round;
    hysteresis: how far off the mean a node may be, as a fraction of it; balance_share: of a Set's
    sections, moved for balance at a time; balance_rounds: for how many rounds in a row it must
    have been uneven.
    """

    max_move_share: float = 0.5
    hysteresis: float = 0.2
    balance_share: float = 0.05
    balance_rounds: int = 6

    def __post_init__(self) -> None:
        for name in ("max_move_share", "hysteresis", "balance_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, not {getattr(self, name)}")
        if self.balance_rounds < 1:
            raise ValueError(f"balance_rounds must be at least 1, not {self.balance_rounds}")

    def budget(self, document: Assignments) -> int:
        """Sections that one round may take from nodes that were given up; at least 1."""
        assigned = sum(entry.last - entry.first + 1 for entry in document.entries)
        return max(1, ceil(self.max_move_share * assigned))


@dataclass(frozen=True, slots=True)
class Scene:
    """What a plan is made for.

    nodes: those registered in the Set, in any state; given_up: incarnations, registered or not;
    held_back: sections of nobody that are not to be assigned yet; pins: as in Orders; balance:
    whether loads are evened out; jobs: incarnations by which jobs that are not finished have
    sections.
    """

    spec: SetSpec
    nodes: tuple[Node, ...]
    given_up: frozenset[int] = frozenset()
    held_back: tuple[Range, ...] = ()
    pins: tuple[Pin, ...] = ()
    balance: bool = True
    jobs: frozenset[int] = frozenset()

    @property
    def homes(self) -> dict[str, Owner]:
        """Address -> who may be given what is pinned there."""
        pinned = {pin.address for pin in self.pins}
        return {n.address: n.owner for n in self.willing.values() if n.address in pinned}

    @property
    def open(self) -> dict[int, Node]:
        """Who may be given what is pinned nowhere: all that are willing, if no others are left."""
        alone = {pin.address for pin in self.pins if pin.alone}
        others = {key: n for key, n in self.willing.items() if n.address not in alone}
        return others or self.willing

    @property
    def willing(self) -> dict[int, Node]:
        """Who may be given sections."""
        return {
            node.incarnation: node
            for node in self.nodes
            if node.leased and not node.draining and node.incarnation not in self.given_up
        }


class Move(NamedTuple):
    """Sections `first..last` are given to `to`, or marked as leaving to it (None: to nobody)."""

    first: int
    last: int
    cause: str
    to: Owner | None

    @property
    def sections(self) -> int:
        return self.last - self.first + 1
