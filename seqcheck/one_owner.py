"""LEASE-1: a section has one server at any instant of true time.

Two views. *Able*: who could answer at this instant, if it were asked; sampled by the simulator,
which looks into every process at once. *Served*: who did. An owner's hull reaches from its first to
its last answer; hulls of two incarnations that overlap mean that between two answers of one the
other was able, whether or not anybody sampled it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqcheck.violations import Checker, Event, Violation, event


@dataclass(slots=True)
class _Hull:
    """Answers of one owner, by their place in the order of all answers of the section."""

    incarnation: int
    epoch: int
    first: int
    last: int
    first_ns: int
    last_ns: int

    def as_event(self, section: int) -> Event:
        return event(
            self.last_ns,
            "served",
            section=section,
            incarnation=self.incarnation,
            epoch=self.epoch,
            since_ns=self.first_ns,
        )


@dataclass(slots=True)
class _Section:
    answers: int = 0
    current: _Hull | None = None
    hulls: dict[tuple[int, int], _Hull] = field(default_factory=dict)


class OneOwner(Checker):
    """LEASE-1 (docs/PROTOCOL.md, section 2), in a run whose clocks keep within max_drift.

    The last answer of one owner and the first of another at the same instant are told apart by the
    order in which they are fed. That a lower epoch of another incarnation serves after a higher one
    is a violation too, even if it never did before.
    """

    promise = "LEASE-1"
    __slots__ = ("_sections",)

    def __init__(self) -> None:
        super().__init__()
        self._sections: dict[int, _Section] = {}

    def able(self, at_ns: int, section: int, incarnations: Sequence[int]) -> Violation | None:
        """These could answer for the section at this very instant."""
        if len(incarnations) < 2 or len(set(incarnations)) < 2:
            return None
        able = sorted(set(incarnations))
        text = f"{len(able)} incarnations are able to serve section {section}"
        return self._broken(at_ns, text, event(at_ns, "able", section=section, incarnations=able))

    def served(self, at_ns: int, section: int, incarnation: int, epoch: int) -> Violation | None:
        """An owner took a number, or answered current, for a uid of the section.

        O(1); O(owners of the section) where the owner changes.
        """
        known = self._sections.get(section)
        if known is None:
            known = self._sections[section] = _Section()
        known.answers += 1
        current = known.current
        if current and (current.incarnation, current.epoch) == (incarnation, epoch):
            current.last, current.last_ns = known.answers, at_ns
            return None
        hull = known.hulls.get((incarnation, epoch))
        new = _Hull(incarnation, epoch, known.answers, known.answers, at_ns, at_ns)
        if hull is None:
            hull = known.hulls[incarnation, epoch] = new
        hull.last, hull.last_ns = known.answers, at_ns
        known.current = hull
        return self._clash(at_ns, section, hull, new, known)

    def _clash(
        self, at_ns: int, section: int, hull: _Hull, now: _Hull, known: _Section
    ) -> Violation | None:
        for other in known.hulls.values():
            if other.incarnation == hull.incarnation:
                continue
            if other.last > hull.first:
                text = f"section {section} was served by two incarnations in turn"
                first = event(
                    hull.first_ns,
                    "served",
                    section=section,
                    incarnation=hull.incarnation,
                    epoch=hull.epoch,
                )
                return self._broken(
                    at_ns, text, first, other.as_event(section), now.as_event(section)
                )
            if other.epoch > hull.epoch:
                text = f"section {section} was served under epoch {hull.epoch} after {other.epoch}"
                return self._broken(at_ns, text, other.as_event(section), now.as_event(section))
        return None
