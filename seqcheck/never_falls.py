"""NRW-1: max_seq of a replica never falls, and an acknowledged raise outlives a few losses.

Kept per section: what each replica holds now and the highest it ever held, and of the acknowledged
raises those that are not implied by another: a later one of a greater value is the stronger demand,
since fewer replicas were lost after it. So the raises kept fall in value as they rise in time.

How many losses a raise outlives: any N - W, as the promise says; but no more than W - 1, since W is
all that are known to hold it. (Where W is a majority, N - W is the smaller one.)
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from seqcheck.membership import Half, Membership
from seqcheck.violations import Checker, Event, Violation, event


class _Holding(NamedTuple):
    max_seq: int
    at_ns: int


@dataclass(slots=True)
class _Raise:
    """An acknowledged raise. gone: replicas that had it and were lost before it was acknowledged;
    seen: how many losses there had been by then; outlives: how many later ones it should."""

    max_seq: int
    event: Event
    gone: frozenset[Hashable]
    seen: int
    outlives: int


class NeverFalls(Checker):
    """NRW-1 (docs/PROTOCOL.md, section 2). n: replicas; w: how many acknowledge a raise."""

    promise = "NRW-1"
    __slots__ = ("_ever", "_held", "_losses", "_lost_at", "_raises", "_tolerated", "_write")

    def __init__(self, *, n: int, w: int) -> None:
        super().__init__()
        self._write = Membership((), (Half(None, w),))
        self._tolerated = min(n - w, w - 1)
        self._held: dict[Hashable, dict[int, _Holding]] = {}
        self._ever: dict[int, dict[Hashable, int]] = {}
        self._raises: dict[int, list[_Raise]] = {}
        self._losses = 0
        self._lost_at: dict[Hashable, int] = {}  # the count of losses after the replica's last one

    def stored(self, at_ns: int, replica: Hashable, section: int, max_seq: int) -> Violation | None:
        """The durable value of a replica has changed, or was read again after a start. O(1)."""
        held = self._held.setdefault(replica, {})
        before = held.get(section)
        held[section] = _Holding(max_seq, at_ns)
        ever = self._ever.setdefault(section, {})
        ever[replica] = max(ever.get(replica, 0), max_seq)
        if before is None or before.max_seq <= max_seq:
            return None
        return self._broken(
            at_ns,
            f"max_seq of section {section} fell from {before.max_seq} to {max_seq} at {replica}",
            event(before.at_ns, "stored", replica=replica, section=section, max_seq=before.max_seq),
            event(at_ns, "stored", replica=replica, section=section, max_seq=max_seq),
        )

    def lost(self, at_ns: int, replica: Hashable) -> Violation | None:
        """The disk of a replica was wiped or replaced: it holds nothing."""
        del at_ns
        self._held.pop(replica, None)
        self._losses += 1
        self._lost_at[replica] = self._losses
        return None

    def acknowledged(
        self,
        at_ns: int,
        section: int,
        epoch: int,
        max_seq: int,
        under: Membership | None = None,
    ) -> Violation | None:
        """An owner counts a raise as acknowledged by W, `under` a version. O(replicas)."""
        ever = self._ever.get(section, {})
        had = {replica for replica, highest in ever.items() if highest >= max_seq}
        now = event(at_ns, "acknowledged", section=section, epoch=epoch, max_seq=max_seq)
        if not (under or self._write).acknowledged(had):
            text = f"raise of section {section} to {max_seq} counted with {len(had)} that know it"
            return self._broken(at_ns, text, event(at_ns, "highest", **_named(ever)), now)
        gone = frozenset(name for name in had if self._holds(name, section) < max_seq)
        kept = self._raises.setdefault(section, [])
        outlives = under.tolerated if under else self._tolerated
        while (
            kept
            and kept[-1].max_seq <= max_seq
            and kept[-1].outlives <= outlives
            and gone <= self._lost_since(kept[-1])
        ):
            kept.pop()
        kept.append(_Raise(max_seq, now, gone, self._losses, outlives))
        return None

    def survivors(self, at_ns: int, held: Mapping[Any, Mapping[int, int]]) -> Violation | None:
        """What is really on the disks, of replicas that hold data: replica -> section -> max_seq.

        Where the membership changes: of those who are counted in the end. Returns the first of the
        violations; one per section goes to `violations`.
        """
        first: Violation | None = None
        for section, kept in self._raises.items():
            best = max((values.get(section, 0) for values in held.values()), default=0)
            for raised in kept:
                lost = self._lost_since(raised)
                if best >= raised.max_seq or len(lost) > raised.outlives:
                    continue
                text = f"section {section} was raised to {raised.max_seq}, now {best} is the most"
                found = event(
                    at_ns, "survivors", section=section, max_seq=best, lost=sorted(map(str, lost))
                )
                violation = self._broken(at_ns, text, raised.event, found)
                first = first or violation
                break
        return first

    def _holds(self, replica: Hashable, section: int) -> int:
        held = self._held.get(replica, {}).get(section)
        return held.max_seq if held else 0

    def _lost_since(self, raised: _Raise) -> set[Hashable]:
        later = {name for name, count in self._lost_at.items() if count > raised.seen}
        return later | raised.gone


def _named(values: Mapping[Hashable, int]) -> dict[str, object]:
    return {str(name): value for name, value in values.items()}
