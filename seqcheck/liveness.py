"""LIVE: after the last fault has healed, every section is served again within a bound.

Not one of the promises, which all say what never happens; but a cluster that serves nothing keeps
every one of them. The bound belongs to the run: detection, a lease, a boot grace, a few rounds.
"""

from collections.abc import Iterable

from seqcheck.violations import Checker, Violation, event


class Liveness(Checker):
    """Every section of `sections` serves at some instant from healed to healed + bound_ns."""

    promise = "LIVE"
    __slots__ = ("_bound_ns", "_healed_ns", "_sections", "waiting")

    def __init__(self, *, sections: Iterable[int], bound_ns: int) -> None:
        super().__init__()
        self._sections = frozenset(sections)
        self._bound_ns = bound_ns
        self._healed_ns: int | None = None
        self.waiting: set[int] = set()
        """Sections that have not served since the last fault healed."""

    @property
    def deadline_ns(self) -> int | None:
        """Until when all must have served; None before anything healed."""
        return None if self._healed_ns is None else self._healed_ns + self._bound_ns

    def healed(self, at_ns: int) -> Violation | None:
        """The last fault is over. Said again, only the last time counts."""
        self._healed_ns = at_ns
        self.waiting = set(self._sections)
        return None

    def serves(self, at_ns: int, section: int) -> Violation | None:
        """A section answered. O(1)."""
        if section not in self.waiting:
            return None
        self.waiting.discard(section)
        return self._late(at_ns, [section])

    def ended(self, at_ns: int) -> Violation | None:
        """The run is over. Of a run that ends before the bound nothing is said."""
        return self._late(at_ns, sorted(self.waiting))

    def _late(self, at_ns: int, sections: list[int]) -> Violation | None:
        deadline_ns, healed_ns = self.deadline_ns, self._healed_ns
        if not sections or healed_ns is None or deadline_ns is None or at_ns <= deadline_ns:
            return None
        text = f"{len(sections)} sections not served within {self._bound_ns} ns of the last fault"
        now = event(at_ns, "not served until now", sections=sections)
        return self._broken(at_ns, text, event(healed_ns, "healed"), now)
