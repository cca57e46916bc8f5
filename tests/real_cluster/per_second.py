"""Calls second by second: counted in each process of callers, put together by whoever asks them.

Pure. A second is a whole one of CLOCK_MONOTONIC, which all processes of a machine share, so the
counts of several processes for the same second can be added up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from real_cluster.histogram import Histogram

SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class Tick:
    """Calls that ended in one second."""

    answered: int = 0
    failed: int = 0
    latencies: Histogram = field(default_factory=Histogram)


class Ticker:
    """Of one process. Holds the seconds that nobody has taken yet."""

    def __init__(self) -> None:
        self._ticks: dict[int, Tick] = {}

    def answered(self, return_ns: int, took_ns: int) -> None:
        tick = self._tick(return_ns)
        tick.answered += 1
        tick.latencies.add(took_ns)

    def failed(self, return_ns: int) -> None:
        self._tick(return_ns).failed += 1

    def take(self, now_ns: int) -> dict[str, Any]:
        """The seconds that are over, for Merger.add: they are let go here."""
        until = now_ns // SECOND_NS
        over = sorted(second for second in self._ticks if second < until)
        taken = [(second, self._ticks.pop(second)) for second in over]
        ticks = [[s, tick.answered, tick.failed, tick.latencies.counts] for s, tick in taken]
        return {"until": until, "ticks": ticks}

    def _tick(self, at_ns: int) -> Tick:
        return self._ticks.setdefault(at_ns // SECOND_NS, Tick())


class Merger:
    """Adds up what `processes` tickers were taken, from the second `first` on."""

    def __init__(self, processes: int, first: int) -> None:
        self._until = [first] * processes
        self._next = first
        self._ticks: dict[int, Tick] = {}

    def add(self, process: int, taken: dict[str, Any]) -> None:
        """process: 0.. . Seconds before the first are dropped."""
        for second, answered, failed, counts in taken["ticks"]:
            if second < self._next:
                continue
            tick = self._ticks.setdefault(second, Tick())
            tick.answered += answered
            tick.failed += failed
            tick.latencies.merge(counts)
        self._until[process] = max(self._until[process], taken["until"])

    def whole(self) -> Sequence[tuple[int, Tick]]:
        """The seconds that every process is done with, in order; those without calls too."""
        until = min(self._until)
        seconds = range(self._next, until)
        self._next = max(self._next, until)
        return [(second, self._ticks.pop(second, Tick())) for second in seconds]
