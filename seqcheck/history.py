"""Does a recorded history keep its promises?  Checks SEQ-1, SEQ-2, SEQ-4 and ROUTE-1.

A history is a set of calls, each with the interval of time in which it took effect. Of two calls
whose intervals overlap nothing is known; A comes *before* B only if A's answer came before B began.

Every call says two things about its uid: no number above `base` was out when it took effect, and
all numbers up to `last` were out after it. A hand-out of `count` numbers from `seq` on moves its
uid from `base = seq - 1` or below to `last = seq + count - 1`. A `current` that answers v is a
hand-out of nothing: base = last = v. So is an `advance`, whose v is where the uid stood after it.
So one rule serves all kinds:

    A before B  =>  last(A) <= base(B)

* SEQ-1 is the rule for two hand-outs;
* SEQ-2: no two hand-outs of a uid share a number, whatever their times;
* SEQ-4 is the rule where one or both are `current` (two of them must not fall), and an exact
  answer never lies inside the range of one hand-out: that range was handed out as a whole, so
  its inner numbers were at no instant the last ones;
* SEQ-4 too: an advance never answers less than the floor that it asked for;
* ROUTE-1: for one uid, A before B => epoch(A) <= epoch(B), and where epoch(A) < epoch(B) the
  rule above holds at any time, since an owner serves only after the one before it has ended.

Nothing else is checked unless the history is said to be complete, because other callers, or calls
from before the recording, may explain it. If it is complete, an exact `current` is also no higher
than any number of a call that had begun before its answer (SEQ-4); an advance counts as a call
that was handed all numbers up to its answer.

A call that failed may have taken effect at any later time and with any numbers: it constrains
nothing. Each check sorts and sweeps once: O(n log n) for n calls of one uid.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from seqcheck.calls import Call, advances, currents, handouts
from seqcheck.sweep import falls, sweep
from seqcheck.violations import Violation


@dataclass(slots=True)
class Statistics:
    """What a history holds. gaps: holes between the numbers of one uid, which are legal."""

    calls: int = 0
    failed: int = 0
    numbers: int = 0
    uids: int = 0
    gaps: int = 0


@dataclass(slots=True)
class Report:
    statistics: Statistics = field(default_factory=Statistics)
    violations: list[Violation] = field(default_factory=list)


def check(calls: Iterable[Call], *, complete: bool = False) -> Report:
    """Check a history of any uids, in any order.

    complete: no other call was ever made on these uids, by anybody, and each one is here.
    """
    by_uid: dict[int, list[Call]] = {}
    for call in calls:
        by_uid.setdefault(call.uid, []).append(call)
    report = Report()
    for uid_calls in by_uid.values():
        _count(uid_calls, report.statistics)
        report.violations += check_uid(uid_calls, complete=complete)
    return report


def check_uid(calls: Sequence[Call], *, complete: bool = False) -> list[Violation]:
    """Every violation among the calls of one uid, at most one per promise, rule and later call."""
    found = [violation for checker in OF_ONE_UID for violation in checker(calls)]
    if complete:
        found += current_was_handed_out(calls)
    return found


def order(calls: Sequence[Call]) -> Iterator[Violation]:
    """SEQ-1: a hand-out that begins after another was answered gets higher numbers."""
    handed = handouts(calls)
    for earlier, later in falls(handed, handed):
        yield _of(
            "SEQ-1", f"handed {later.seq} after {earlier.last} had been handed out", earlier, later
        )


def uniqueness(calls: Sequence[Call]) -> Iterator[Violation]:
    """SEQ-2: no number is handed out twice."""
    highest: Call | None = None
    for call in sorted(handouts(calls), key=attrgetter("base")):
        if highest is not None and call.base < highest.last:
            yield _of("SEQ-2", f"number {call.seq} was handed out twice", highest, call)
        if highest is None or call.last > highest.last:
            highest = call


def current_keeps_order(calls: Sequence[Call]) -> Iterator[Violation]:
    """SEQ-4: a current is not below what came before it, nor at or above what begins after it."""
    handed, said = handouts(calls), currents(calls)
    for earlier, later in falls(handed, said):
        text = f"{later.op} said {later.seq} after {earlier.last} had been handed out"
        yield _of("SEQ-4", text, earlier, later)
    for earlier, later in falls(said, handed):
        text = f"handed {later.seq} after {earlier.op} had said {earlier.seq}"
        yield _of("SEQ-4", text, earlier, later)
    for earlier, later in falls(said, said):
        text = f"{later.op} fell from {earlier.seq} to {later.seq}"
        yield _of("SEQ-4", text, earlier, later)


def current_is_whole(calls: Sequence[Call]) -> Iterator[Violation]:
    """SEQ-4: an exact current does not lie inside the range of one hand-out."""
    handed = sorted(handouts(calls), key=attrgetter("base"))
    bases = [call.base for call in handed]
    for current in currents(calls):
        at = bisect_left(bases, current.seq) - 1
        if current.exact and at >= 0 and current.seq < handed[at].last:
            text = f"exact current {current.seq} lies inside a range handed out as a whole"
            yield _of("SEQ-4", text, handed[at], current)


def advance_reaches_its_floor(calls: Sequence[Call]) -> Iterator[Violation]:
    """SEQ-4: an advance answers no less than it was asked for."""
    for call in advances(calls):
        if call.seq < call.at_least:
            yield _of("SEQ-4", f"advance to {call.at_least} said {call.seq}", call)


def epochs(calls: Sequence[Call]) -> Iterator[Violation]:
    """ROUTE-1: epochs never fall, and a higher epoch means higher numbers."""
    known = [call for call in calls if call.error is None and call.epoch > 0]
    epoch = attrgetter("epoch")
    for earlier, later in sweep(known, known, epoch, epoch):
        text = f"epoch {later.epoch} answered after epoch {earlier.epoch} had"
        yield _of("ROUTE-1", text, earlier, later)
    highest: Call | None = None  # of all lower epochs
    of_this: Call | None = None  # of this epoch and all lower ones
    known.sort(key=epoch)
    for index, call in enumerate(known):
        if index and known[index - 1].epoch < call.epoch:
            highest = of_this
        if highest is not None and call.base < highest.last:
            text = f"epoch {call.epoch} is not above {highest.last} of epoch {highest.epoch}"
            yield _of("ROUTE-1", text, highest, call)
        if of_this is None or call.last > of_this.last:
            of_this = call


def current_was_handed_out(calls: Sequence[Call]) -> Iterator[Violation]:
    """SEQ-4, of a complete history: an exact current is a number somebody could have been handed.

    Not decided where a hand-out of unknown outcome had begun before the answer.
    """
    unknown = [call.call_ns for call in calls if call.op != "current" and call.error is not None]
    first_unknown = min(unknown, default=None)
    began = sorted([*handouts(calls), *advances(calls)], key=attrgetter("call_ns"))
    highest: Call | None = None
    index = 0
    for current in sorted(currents(calls), key=attrgetter("return_ns")):
        if first_unknown is not None and first_unknown <= current.return_ns:
            return
        while index < len(began) and began[index].call_ns <= current.return_ns:
            if highest is None or began[index].last > highest.last:
                highest = began[index]
            index += 1
        if current.exact and current.seq > (highest.last if highest else 0):
            pair = (highest, current) if highest else (current,)
            yield _of("SEQ-4", f"exact current {current.seq} was never handed out", *pair)


OF_ONE_UID: tuple[Callable[[Sequence[Call]], Iterator[Violation]], ...] = (
    order,
    uniqueness,
    current_keeps_order,
    current_is_whole,
    advance_reaches_its_floor,
    epochs,
)


def _of(promise: str, text: str, *calls: Call) -> Violation:
    """What the last of these calls cannot be, together with the others."""
    return Violation(promise, text, calls, max(c.return_ns for c in calls), calls[-1].uid)


def _count(calls: Sequence[Call], statistics: Statistics) -> None:
    """Add the calls of one uid."""
    statistics.uids += 1
    statistics.calls += len(calls)
    statistics.failed += sum(call.error is not None for call in calls)
    reached: int | None = None
    for call in sorted(handouts(calls), key=attrgetter("base")):
        statistics.numbers += call.count
        if reached is not None and call.base > reached:
            statistics.gaps += 1
        reached = call.last if reached is None else max(reached, call.last)
