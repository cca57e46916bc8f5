"""SEQ-3: what leaves is covered by a max_seq that is durable already."""

from collections.abc import Hashable

from seqcheck.membership import Membership
from seqcheck.violations import Checker, Violation, event


class Durable(Checker):
    """SEQ-3 (docs/PROTOCOL.md, section 2): a number leaves only if W replicas know a max_seq >= it.

    "Know" means: have had it durably. A replica that was wiped afterwards had it, and what its loss
    does to the others is NRW-1's business (`NeverFalls`); so the highest value ever counts here.

    Where the membership changes, `adopted` says which versions there are. Then W of each half of
    one of them must know, under which it was acknowledged; and R of each half of the newest one
    must not be able to miss it, since that one may be asked from the instant in which it is begun.
    """

    promise = "SEQ-3"
    __slots__ = ("_covered", "_highest", "_levels", "_lost", "_versions")

    def __init__(self) -> None:
        super().__init__()
        self._highest: dict[int, dict[Hashable, int]] = {}
        self._levels: dict[int, list[int]] = {}  # of each section, descending
        self._lost: dict[Hashable, int] = {}
        self._versions: list[Membership] = []
        self._covered: dict[int, int] = {}  # by section, what all versions together allow

    def adopted(self, membership: Membership) -> None:
        """A newer version of the membership is begun; from the first one on they are judged by."""
        self._versions.append(membership)
        self._covered.clear()

    def stored(self, at_ns: int, replica: Hashable, section: int, max_seq: int) -> Violation | None:
        """The durable value of a replica has changed. O(replicas)."""
        del at_ns
        highest = self._highest.setdefault(section, {})
        if max_seq > highest.get(replica, -1):
            highest[replica] = max_seq
            self._levels[section] = sorted(highest.values(), reverse=True)
            self._covered.pop(section, None)
        return None

    def lost(self, at_ns: int, replica: Hashable) -> Violation | None:
        """The disk of a replica was wiped or replaced: told in the evidence, no more."""
        self._lost[replica] = at_ns
        return None

    def handed(self, at_ns: int, section: int, last: int, w: int) -> Violation | None:
        """A number `last` left, under a write quorum of w where no versions are known. O(1)."""
        if self._versions:
            return self._handed_by_version(at_ns, section, last)
        levels = self._levels.get(section, ())
        if len(levels) >= w and levels[w - 1] >= last:
            return None
        highest = self._highest.get(section, {})
        know = [replica for replica, max_seq in highest.items() if max_seq >= last]
        text = f"{last} of section {section} left with {len(know)} of {w} replicas knowing it"
        reached = event(at_ns, "durable", section=section, max_seq=dict(highest))
        losses = [event(lost_ns, "lost", replica=name) for name, lost_ns in self._lost.items()]
        handed = event(at_ns, "handed", section=section, last=last, w=w)
        return self._broken(at_ns, text, *losses, reached, handed)

    def _handed_by_version(self, at_ns: int, section: int, last: int) -> Violation | None:
        covered = self._covered.get(section)
        highest = self._highest.get(section, {})
        if covered is None:
            reached = max(version.reached(highest) for version in self._versions)
            covered = self._covered[section] = min(reached, self._versions[-1].found(highest))
        if covered >= last:
            return None
        newest = self._versions[-1]
        text = (
            f"{last} of section {section} left, but only what is up to {covered} is known to W of"
            f" a version of the membership and to every R of the newest, {newest.read}"
        )
        durable = event(at_ns, "durable", section=section, max_seq=dict(highest))
        losses = [event(lost_ns, "lost", replica=name) for name, lost_ns in self._lost.items()]
        handed = event(at_ns, "handed", section=section, last=last)
        return self._broken(at_ns, text, *losses, durable, handed)
