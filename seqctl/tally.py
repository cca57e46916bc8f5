"""What a replay was handed, and what that amounts to.  Checks SEQ-1, SEQ-2 and SEQ-4.

A `Tally` takes one entry per message while the replay runs (32 bytes each, beside the 24 of the
trace) and turns into `Call`s only afterwards, one uid at a time, so that the memory needed stays
far below 100 bytes per number.

A jump is a hole between two consecutive numbers of one uid. The number the uid stood at before
the replay, its baseline, counts as the first; if it was a ceiling (not exact), numbers may have
been skipped there and that is a jump too. A baseline of 0 is exact by itself: nothing was handed
out before. Where others use the same uids meanwhile, their numbers look like holes.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from seqcheck.calls import Call
from seqcheck.history import check_uid
from seqcheck.violations import Violation
from seqctl.trace import Trace

KEPT_VIOLATIONS = 20


@dataclass(frozen=True, slots=True)
class Baseline:
    """What `current` answered for a uid before the replay, and when (nanoseconds)."""

    seq: int
    exact: bool
    call_ns: int
    return_ns: int


class Tally:
    """Numbers and times of each message of a trace; a message with no numbers has failed."""

    __slots__ = ("baselines", "call_ns", "failed", "recipient_seqs", "return_ns", "sender_seqs")

    def __init__(self, messages: int, baselines: dict[int, Baseline]) -> None:
        """baselines: one for every uid of the trace."""
        blank = bytes(8 * messages)
        self.baselines = baselines
        self.call_ns = array("q", blank)
        self.return_ns = array("q", blank)
        self.recipient_seqs = array("Q", blank)
        self.sender_seqs = array("Q", blank)
        self.failed = 0

    def handed(
        self, message: int, recipient_seq: int, sender_seq: int, call_ns: int, return_ns: int
    ) -> None:
        self.recipient_seqs[message] = recipient_seq
        self.sender_seqs[message] = sender_seq
        self.call_ns[message] = call_ns
        self.return_ns[message] = return_ns

    def latencies_ns(self) -> list[int]:
        """Of the messages that were handed numbers, ascending."""
        return sorted(
            back - there for back, there in zip(self.return_ns, self.call_ns, strict=True) if back
        )


@dataclass(slots=True)
class Summary:
    """Figures of a replay. Latencies are of whole messages, in milliseconds."""

    messages: int = 0
    numbers: int = 0
    per_second: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    jumps: int = 0
    violations: int = 0
    failed: int = 0
    uids: int = 0
    sections: int = 0
    shown: list[Violation] = field(default_factory=list)

    def as_json(self) -> dict[str, int | float]:
        names = [name for name in self.__slots__ if name != "shown"]
        return {name: getattr(self, name) for name in names}


def summarize(trace: Trace, tally: Tally, *, elapsed_ns: int, section_size: int) -> Summary:
    """Verify every number and reckon the figures; `shown` keeps the first few violations."""
    latencies = tally.latencies_ns()
    summary = Summary(messages=len(latencies), numbers=2 * len(latencies), failed=tally.failed)
    summary.per_second = round(summary.numbers * 1e9 / elapsed_ns, 1) if elapsed_ns > 0 else 0.0
    summary.p50_ms = _percentile_ms(latencies, 500)
    summary.p99_ms = _percentile_ms(latencies, 990)
    summary.p999_ms = _percentile_ms(latencies, 999)
    del latencies
    summary.uids = len(tally.baselines)
    summary.sections = len({uid // section_size for uid in tally.baselines})
    for calls in calls_by_uid(trace, tally):
        summary.jumps += jumps(calls)
        violations = check_uid(calls)
        summary.violations += len(violations)
        summary.shown += violations[: KEPT_VIOLATIONS - len(summary.shown)]
    return summary


def calls_by_uid(trace: Trace, tally: Tally) -> Iterator[list[Call]]:
    """The calls of each uid: its baseline first, then its hand-outs in order of the trace."""
    uids = sorted(tally.baselines)
    place = {uid: index for index, uid in enumerate(uids)}
    ends = array("Q", _ends(trace, tally, place))
    halves = array("Q", bytes(8 * (ends[-1] if ends else 0)))
    starts = array("Q", [0, *ends[:-1]])
    free = array("Q", starts)
    for half, uid in _halves(trace, tally):
        at = place[uid]
        halves[free[at]] = half
        free[at] += 1
    for uid, start, end in zip(uids, starts, ends, strict=True):
        handed = (_handout(trace, tally, uid, half) for half in halves[start:end])
        yield [_current(trace.path, uid, tally.baselines[uid]), *handed]


def jumps(calls: Sequence[Call]) -> int:
    """Holes among the numbers of one uid, its baseline being the first call."""
    baseline, *handed = calls
    if not handed:
        return 0
    inexact = not (baseline.exact or baseline.seq == 0)
    numbers = sorted(call.seq for call in handed)
    reached = numbers[0] - 1 if inexact else baseline.seq
    found = int(inexact)
    for number in numbers:
        found += number > reached + 1
        reached = max(reached, number)
    return found


def _halves(trace: Trace, tally: Tally) -> Iterator[tuple[int, int]]:
    """(2 * message, recipient) and (2 * message + 1, sender) of each message with numbers."""
    for message, back in enumerate(tally.return_ns):
        if back:
            yield 2 * message, trace.recipients[message]
            yield 2 * message + 1, trace.senders[message]


def _ends(trace: Trace, tally: Tally, place: dict[int, int]) -> Iterator[int]:
    counts = array("Q", bytes(8 * len(place)))
    for _, uid in _halves(trace, tally):
        counts[place[uid]] += 1
    return accumulate(counts)


def _handout(trace: Trace, tally: Tally, uid: int, half: int) -> Call:
    message = half >> 1
    seqs = tally.sender_seqs if half & 1 else tally.recipient_seqs
    return Call(
        "next",
        uid,
        1,
        tally.call_ns[message],
        tally.return_ns[message],
        seqs[message],
        where=(trace.path, trace.lines[message]),
    )


def _current(path: str, uid: int, baseline: Baseline) -> Call:
    return Call(
        "current",
        uid,
        1,
        baseline.call_ns,
        baseline.return_ns,
        baseline.seq,
        baseline.exact,
        where=(path, 0),
    )


def _percentile_ms(ascending: Sequence[int], per_mille: int) -> float:
    """The smallest value that at least per_mille of the values do not exceed; 0.0 of none."""
    if not ascending:
        return 0.0
    rank = -(-len(ascending) * per_mille // 1000)
    return round(ascending[max(rank, 1) - 1] / 1e6, 3)
