"""NRW-2: nobody counts the answer of a replica that cannot know."""

from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass, field

from seqcheck.violations import Checker, Violation, event


@dataclass(slots=True)
class _Standing:
    """Instants at which it changed, ascending, and why it is unfit from then on ('' : fit)."""

    since: list[int] = field(default_factory=list)
    whys: list[str] = field(default_factory=list)

    def change(self, at_ns: int, why: str) -> None:
        self.since.append(at_ns)
        self.whys.append(why)

    def why(self, at_ns: int) -> tuple[int, str]:
        """(since when, why) it was unfit at an instant; why is '' if it was fit."""
        index = bisect_right(self.since, at_ns) - 1
        return (self.since[index], self.whys[index]) if index >= 0 else (0, "")


class OnlyThoseWhoKnow(Checker):
    """NRW-2 (docs/PROTOCOL.md, section 2): an answer given while unfit is not counted.

    The feeder tells the truth about replicas, which they themselves need not know: blank disk,
    damaged record, foreign identity, old copy. All are fit until something else is said.
    """

    promise = "NRW-2"
    __slots__ = ("_standings",)

    def __init__(self) -> None:
        super().__init__()
        self._standings: dict[tuple[Hashable, int | None], _Standing] = {}

    def unfit(
        self, at_ns: int, replica: Hashable, why: str, *, section: int | None = None
    ) -> Violation | None:
        """From now on the replica cannot know; section: only that one (a damaged record)."""
        self._standings.setdefault((replica, section), _Standing()).change(at_ns, why or "unfit")
        return None

    def fit(self, at_ns: int, replica: Hashable, *, section: int | None = None) -> Violation | None:
        """From now on what `unfit` said, of the same replica and section, is over."""
        self._standings.setdefault((replica, section), _Standing()).change(at_ns, "")
        return None

    def counted(
        self,
        at_ns: int,
        owner: Hashable,
        replica: Hashable,
        section: int | None,
        rpc: str,
        *,
        given_ns: int | None = None,
    ) -> Violation | None:
        """An owner counted a replica's answer, which was given at `given_ns` (now if not said).

        section None: an answer for all sections (Renew). O(log changes).
        """
        given = at_ns if given_ns is None else given_ns
        for of in (None,) if section is None else (None, section):
            standing = self._standings.get((replica, of))
            since, why = standing.why(given) if standing is not None else (0, "")
            if why:
                text = f"{owner} counted what {replica} answered to {rpc}, though it was: {why}"
                before = event(since, "unfit", replica=replica, why=why, section=of)
                given_at = event(given, "answered", replica=replica, rpc=rpc, section=section)
                now = event(at_ns, "counted", owner=owner, replica=replica, rpc=rpc)
                return self._broken(at_ns, text, before, given_at, now)
        return None
