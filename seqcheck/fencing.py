"""FENCE-1: once R replicas have promised an epoch, no lower raise finds W.

Which acknowledgements are legal is not a matter of time alone. A raise that began before a fence
may find its W-th replica after the R-th promise, and be harmless: if a replica acknowledged it
*before* it promised, then that replica's fence answer carried the raised max_seq, and the new owner
starts above it. Let a raise be (section, epoch e, incarnation, max_seq). A replica is

* a *carrier* of it if it accepted the raise before its first promise above e;
* *deaf* to it if it has promised more than e and is no carrier.

A fence that won rests on R promises. If one of those R is a carrier the fence knows the raise. So
a raise with W acknowledgements is illegal iff some R promisers of higher epochs hold no carrier:

    illegal  <=>  W have acknowledged it, and at least R are deaf to it

The count is taken at each acknowledgement. It need not be taken at promises: if W acknowledged as
carriers, at most N - W < R can ever become deaf. And by R + W > N, W acknowledgements with R deaf
mean that one of them came from a replica that was deaf: it acknowledged below its own promise. That
is the rule for a single replica, checked too, and tells earlier and nearer what went wrong.

Where the membership changes, acknowledgements are counted under the version that they were asked
under, and it is illegal where R of *either half* of that one are deaf, by the same argument. That
says nothing of versions that share no half. There this does, whichever the versions are:

    illegal  <=>  W have acknowledged it, and it was first accepted after W had accepted a raise
                  of a higher epoch (each W under one version)

since the owner of the higher epoch counts on nobody else's raise being acknowledged from then on.

Order: a replica may stage a raise, stage a promise, commit both at once, and only then answer both.
The raise was accepted before the promise. Hence `acked` takes `accepted_ns`, when the replica
decided; a promise that became durable at or after that instant does not forbid the raise.
"""

from bisect import bisect_left
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from seqcheck.membership import Half, Membership
from seqcheck.violations import Checker, Event, Violation, event
from seqsvr.invariants import require

_Raise = tuple[int, int, int]  # epoch, incarnation, max_seq
_Asked = tuple[_Raise, Membership]


@dataclass(slots=True)
class _Promises:
    """Of one replica for one section: rising epochs, and when each became durable."""

    epochs: list[int] = field(default_factory=list)
    at_ns: list[int] = field(default_factory=list)

    def first_above(self, epoch: int) -> tuple[int, int] | None:
        """(epoch, when) of the first promise that forbids `epoch`."""
        index = bisect_left(self.epochs, epoch + 1)
        return (self.epochs[index], self.at_ns[index]) if index < len(self.epochs) else None


@dataclass(slots=True)
class _Section:
    promises: dict[Hashable, _Promises] = field(default_factory=dict)
    carriers: dict[_Raise, set[Hashable]] = field(default_factory=dict)
    acked: dict[_Asked, dict[Hashable, int]] = field(default_factory=dict)
    won_ns: dict[int, int] = field(default_factory=dict)  # by epoch: when W first had one
    begun_ns: dict[int, int] = field(default_factory=dict)  # the last raise that W have: begun


class Fencing(Checker):
    """FENCE-1 (docs/PROTOCOL.md, sections 2 and 3). n, r, w: of the Set; r + w > n.

    A replica that is `lost` is another store afterwards, which owners do not count (NRW-2): what it
    promised and acknowledged before stands, what it says later is ignored. Where a new store takes
    part lawfully, give it a name of its own.
    """

    promise = "FENCE-1"
    __slots__ = ("_fixed", "_lost", "_sections")

    def __init__(self, *, n: int, r: int, w: int) -> None:
        super().__init__()
        require(r + w > n, "every R replicas share one with every W")
        self._fixed = Membership((Half(None, r),), (Half(None, w),))
        self._sections: dict[int, _Section] = {}
        self._lost: set[Hashable] = set()

    def lost(self, at_ns: int, replica: Hashable) -> Violation | None:
        """The disk of a replica was wiped, replaced, or put back to an older state."""
        del at_ns
        self._lost.add(replica)
        return None

    def promised(self, at_ns: int, replica: Hashable, section: int, epoch: int) -> Violation | None:
        """A promise is durable at a replica (also: was read again after a start). O(1)."""
        if replica in self._lost:
            return None
        known = self._sections.setdefault(section, _Section())
        promises = known.promises.setdefault(replica, _Promises())
        before = promises.epochs[-1] if promises.epochs else 0
        if epoch > before:
            promises.epochs.append(epoch)
            promises.at_ns.append(at_ns)
        if epoch >= before:
            return None
        text = f"the promise of {replica} for section {section} fell from {before} to {epoch}"
        return self._broken(
            at_ns,
            text,
            _promised(promises.at_ns[-1], replica, section, before),
            _promised(at_ns, replica, section, epoch),
        )

    def acked(
        self,
        at_ns: int,
        replica: Hashable,
        section: int,
        epoch: int,
        incarnation: int,
        max_seq: int,
        *,
        accepted_ns: int | None = None,
        under: Membership | None = None,
    ) -> Violation | None:
        """A replica acknowledges a raise, having accepted it at `accepted_ns`.

        Where that is not said, what was fed earlier happened earlier. under: the version of the
        membership that it was asked under, where there are several. O(n log promises).
        """
        if replica in self._lost:
            return None
        known = self._sections.setdefault(section, _Section())
        forbidding = self._forbids(known, replica, epoch, accepted_ns)
        raised = (epoch, incarnation, max_seq)
        membership = under or self._fixed
        acked = known.acked.setdefault((raised, membership), {})
        carriers = known.carriers.setdefault(raised, set())
        acked.setdefault(replica, at_ns if accepted_ns is None else accepted_ns)
        if forbidding is None:
            carriers.add(replica)
        now = event(
            at_ns,
            "acked",
            replica=replica,
            section=section,
            epoch=epoch,
            incarnation=incarnation,
            max_seq=max_seq,
        )
        illegal = self._overtaken(at_ns, known, section, raised, membership, now)
        if illegal is None and under is not None and membership.acknowledged(acked):
            illegal = self._outdone(at_ns, known, section, epoch, acked, now)
        if illegal is None and forbidding is not None and replica not in carriers:
            text = f"{replica} acknowledged epoch {epoch} below its promise of {forbidding[0]}"
            before = _promised(forbidding[1], replica, section, forbidding[0])
            illegal = self._broken(at_ns, text, before, now)
        return illegal

    @staticmethod
    def _forbids(
        known: _Section, replica: Hashable, epoch: int, accepted_ns: int | None
    ) -> tuple[int, int] | None:
        promises = known.promises.get(replica)
        first = promises.first_above(epoch) if promises is not None else None
        if first is None or (accepted_ns is not None and first[1] >= accepted_ns):
            return None
        return first

    def _overtaken(
        self,
        at_ns: int,
        known: _Section,
        section: int,
        raised: _Raise,
        membership: Membership,
        now: Event,
    ) -> Violation | None:
        """W acknowledged what R are deaf to."""
        acked, carriers = known.acked[raised, membership], known.carriers[raised]
        if not membership.acknowledged(acked):
            return None
        deaf = {}
        for replica, promises in known.promises.items():
            first = promises.first_above(raised[0])
            if first is not None and replica not in carriers:
                deaf[replica] = _promised(first[1], replica, section, first[0])
        if all(half.agreeing(deaf) < half.need for half in membership.read):
            return None
        text = (
            f"a raise of section {section} under epoch {raised[0]} was acknowledged by"
            f" {len(acked)} after {len(deaf)} had promised more"
        )
        return self._broken(at_ns, text, *deaf.values(), now)

    def _outdone(
        self,
        at_ns: int,
        known: _Section,
        section: int,
        epoch: int,
        acked: Mapping[Hashable, int],
        now: Event,
    ) -> Violation | None:
        """W have accepted a raise; W of some version had accepted one of a higher epoch before."""
        began_ns, won_ns = min(acked.values()), max(acked.values())
        won_ns = known.won_ns[epoch] = min(won_ns, known.won_ns.get(epoch, won_ns))
        began_ns = known.begun_ns[epoch] = max(began_ns, known.begun_ns.get(epoch, 0))
        pairs = [(lower, epoch) for lower in known.begun_ns if lower < epoch]
        pairs += [(epoch, higher) for higher in known.won_ns if higher > epoch]
        for lower, higher in pairs:
            if known.begun_ns[lower] > known.won_ns[higher]:
                text = (
                    f"a raise of section {section} under epoch {lower} was begun after one of"
                    f" epoch {higher} had been acknowledged, and was acknowledged too"
                )
                won = event(known.won_ns[higher], "acknowledged", section=section, epoch=higher)
                begun = event(known.begun_ns[lower], "begun", section=section, epoch=lower)
                return self._broken(at_ns, text, won, begun, now)
        return None


def _promised(at_ns: int, replica: Hashable, section: int, epoch: int) -> Event:
    return event(at_ns, "promised", replica=replica, section=section, epoch=epoch)
