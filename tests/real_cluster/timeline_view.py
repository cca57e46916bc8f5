"""The part of a run that a timeline shows, as places on a plot of fixed width.

Pure. A timeline is a stack of lanes over one time axis. Each lane draws twice: names and scales in
a gutter that stays where it is, and the plot, which a narrow window scrolls.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from real_cluster.measured import Measured, Second

GUTTER = 116
PLOT = 1040
MOST_BINS = 520
"""So many columns at most, however long the run: two pixels each."""


@dataclass(frozen=True)
class Bin:
    """Some seconds as one column: the median of their p50, the worst of their p99."""

    from_s: float
    to_s: float
    answered_per_s: float
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Lane:
    """gutter and plot: SVG whose y begins at the lane's top."""

    height: float
    gutter: str
    plot: str


@dataclass(frozen=True)
class View:
    """From and to which second of a run."""

    measured: Measured
    from_s: float
    to_s: float

    @property
    def length_s(self) -> float:
        return max(self.to_s - self.from_s, 1.0)

    def x(self, at_s: float) -> float:
        """Inside the plot, also for a time outside the view."""
        return min(max((at_s - self.from_s) / self.length_s, 0.0), 1.0) * PLOT

    def shows(self, from_s: float, to_s: float) -> bool:
        return from_s <= self.to_s and to_s >= self.from_s

    @cached_property
    def bins(self) -> list[Bin]:
        inside = [s for s in self.measured.seconds if self.from_s <= s.at_s < self.to_s]
        size = -(-len(inside) // MOST_BINS) or 1
        return [_bin(inside[i : i + size]) for i in range(0, len(inside), size)]

    def until(self, healed_s: float | None) -> float:
        """When something ended; what never did ends with the run."""
        return self.measured.length_s if healed_s is None else healed_s

    def ticks(self) -> Iterator[float]:
        """Times of an axis: round ones, at most a dozen."""
        step = next((s for s in _STEPS_S if self.length_s / s <= 12), 24 * 3600)
        first = -(-self.from_s // step) * step
        while first <= self.to_s:
            yield first
            first += step


_STEPS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600)


def _bin(seconds: list[Second]) -> Bin:
    p50 = [second.p50_ms for second in seconds if second.p50_ms is not None]
    p99 = [second.p99_ms for second in seconds if second.p99_ms is not None]
    return Bin(
        seconds[0].at_s,
        seconds[-1].at_s + 1,
        sum(second.answered for second in seconds) / len(seconds),
        sum(second.failed for second in seconds),
        statistics.median(p50) if p50 else None,
        max(p99) if p99 else None,
    )


def clock(at_s: float, digits: int = 0) -> str:
    """1:02, 1:02.5 or 2:01:02."""
    tenths = round(at_s, digits)
    hours, rest = divmod(tenths, 3600)
    minutes, seconds = divmod(rest, 60)
    width = 2 if not digits else 3 + digits
    last = f"{seconds:0{width}.{digits}f}"
    return f"{hours:.0f}:{minutes:02.0f}:{last}" if hours else f"{minutes:.0f}:{last}"


def milliseconds(value: float | None) -> str:
    """A latency as a person would say it."""
    if value is None:
        return "none"
    if value >= 995:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 9.95 else f"{value:.1f} ms"
