"""What callers saw: gaps without an answer, failed calls, jumps, and promises broken on the spot.

Pure; times are nanoseconds of CLOCK_MONOTONIC. A *gap* of a uid is the time between one answer of
it and the next. A phase owns the gaps that end in it, or are open at its end, with the whole of
their length, so that a gap across the border of two phases is not halved.
"""

from dataclasses import dataclass, field

from real_cluster.histogram import Histogram
from real_cluster.per_second import Ticker

JUMP = 900
"""Numbers missing before an answer that cannot be explained by what is still on its way."""

_MAX_KEPT = 20


@dataclass
class Gap:
    uid: int
    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass
class Figures:
    """Of one phase. failed: reason -> calls; by uid: its longest gap, its slowest answer."""

    name: str
    began_ns: int
    ended_ns: int = 0
    answered: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    failed_uids: dict[int, int] = field(default_factory=dict)
    first_failed_ns: dict[str, int] = field(default_factory=dict)
    last_failed_ns: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    jumps: int = 0
    largest_jump: int = 0
    longest: dict[int, Gap] = field(default_factory=dict)
    slowest_ns: dict[int, int] = field(default_factory=dict)
    latencies: Histogram = field(default_factory=Histogram)


class Meter:
    """Takes every call's end in the order of time, from all clients."""

    def __init__(self, uids: list[int], now_ns: int) -> None:
        self.answered_ns = dict.fromkeys(uids, now_ns)
        self.asked_ns = dict.fromkeys(uids, 0)  # begin of the latest call that was answered
        self.highest = dict.fromkeys(uids, 0)  # handed out or said by `current`, and answered
        self.handed = dict.fromkeys(uids, 0)
        self.ticker = Ticker()
        self._phase = Figures("start", now_ns)

    def begin(self, name: str, now_ns: int) -> Figures:
        """End the present phase, whose figures are returned, and begin another."""
        ended = self._phase
        for uid, last_ns in self.answered_ns.items():
            _keep(ended, Gap(uid, last_ns, now_ns))
        ended.ended_ns = now_ns
        self._phase = Figures(name, now_ns)
        return ended

    def answered(
        self, uid: int, floor: int, call_ns: int, return_ns: int, seq: int, count: int
    ) -> None:
        """A call for `uid` was answered: `count` numbers from `seq` on; count 0: a current.

        floor: what `highest` said of the uid when the call began.
        """
        phase = self._phase
        phase.answered += 1
        phase.latencies.add(return_ns - call_ns)
        self.ticker.answered(return_ns, return_ns - call_ns)
        phase.slowest_ns[uid] = max(phase.slowest_ns.get(uid, 0), return_ns - call_ns)
        _keep(phase, Gap(uid, self.answered_ns[uid], return_ns))
        self.answered_ns[uid] = return_ns
        self.asked_ns[uid] = max(self.asked_ns[uid], call_ns)
        if (seq <= floor) if count else (seq < floor):
            what = f"handed {seq}" if count else f"current said {seq}"
            _limited(phase.broken, f"uid {uid}: {what} after {floor} had been answered")
        last = seq + count - 1 if count else seq
        self._jumped(uid, seq - self.handed[uid])
        self.handed[uid] = max(self.handed[uid], last)
        self.highest[uid] = max(self.highest[uid], last)

    def failed(self, uid: int, reason: str, return_ns: int) -> None:
        """A call failed with an error that invites to try again later."""
        phase = self._phase
        phase.failed_uids[uid] = phase.failed_uids.get(uid, 0) + 1
        phase.failed[reason] = phase.failed.get(reason, 0) + 1
        phase.first_failed_ns.setdefault(reason, return_ns)
        phase.last_failed_ns[reason] = return_ns
        self.ticker.failed(return_ns)

    def wrong(self, text: str) -> None:
        """A call failed with an error that no fault excuses."""
        _limited(self._phase.wrong, text)

    def _jumped(self, uid: int, distance: int) -> None:
        # The first answer of all is none: where its uid stood before is not known.
        if self.handed[uid] and distance > JUMP:
            self._phase.jumps += 1
            self._phase.largest_jump = max(self._phase.largest_jump, distance)


def _keep(phase: Figures, gap: Gap) -> None:
    held = phase.longest.get(gap.uid)
    if held is None or gap.length_ns > held.length_ns:
        phase.longest[gap.uid] = gap


def _limited(texts: list[str], text: str) -> None:
    if len(texts) < _MAX_KEPT:
        texts.append(text)
