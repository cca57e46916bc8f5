"""LEASE-2: the map's absence stops nobody who reaches W replicas."""

from collections.abc import Collection

from seqcheck.violations import Checker, Violation, event

LAWFUL = frozenset({"drain", "crash", "pause", "promise", "stop"})


class ServesWithoutMap(Checker):
    """LEASE-2 (docs/PROTOCOL.md, sections 2 and 4).

    settle_ns: how long the map must have been down, and W reachable, before a stop is blamed on the
    map: what was decided before may still be under way. A lease time plus a round of calls is
    enough. lawful: reasons for stopping that have nothing to do with the map.
    """

    promise = "LEASE-2"
    __slots__ = ("_down_ns", "_lawful", "_lost", "_reaches", "_settle_ns")

    def __init__(self, *, settle_ns: int = 0, lawful: Collection[str] = LAWFUL) -> None:
        super().__init__()
        self._settle_ns = settle_ns
        self._lawful = frozenset(lawful)
        self._down_ns: int | None = None
        self._lost: dict[int, int] = {}  # incarnations without W, and since when
        self._reaches: dict[int, int] = {}  # since when they reach W again

    def map_down(self, at_ns: int) -> Violation | None:
        """Nobody reaches the map from now on. Said again, it changes nothing."""
        if self._down_ns is None:
            self._down_ns = at_ns
        return None

    def map_up(self, at_ns: int) -> Violation | None:
        """The map can be reached again, by some at least."""
        del at_ns
        self._down_ns = None
        return None

    def quorum_lost(self, at_ns: int, incarnation: int) -> Violation | None:
        """An owner does not reach W replicas from now on (or not both ways)."""
        self._lost.setdefault(incarnation, at_ns)
        return None

    def quorum_back(self, at_ns: int, incarnation: int) -> Violation | None:
        """An owner reaches W replicas again. It is taken to at first."""
        if self._lost.pop(incarnation, None) is not None:
            self._reaches[incarnation] = at_ns
        return None

    def stopped(self, at_ns: int, section: int, incarnation: int, why: str) -> Violation | None:
        """An owner stopped serving a section."""
        down_ns = self._down_ns
        if down_ns is None or why in self._lawful or incarnation in self._lost:
            return None
        reaches_ns = self._reaches.get(incarnation)
        if at_ns - max(down_ns, reaches_ns or down_ns) < self._settle_ns:
            return None
        before = [event(down_ns, "map_down")]
        if reaches_ns is not None:
            before.append(event(reaches_ns, "quorum_back", incarnation=incarnation))
        before.sort(key=lambda item: item.at_ns)
        now = event(at_ns, "stopped", section=section, incarnation=incarnation, why=why)
        text = f"section {section} stopped without a map, though its owner reached W: {why}"
        return self._broken(at_ns, text, *before, now)
