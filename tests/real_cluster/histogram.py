"""How long calls took, in a size that does not grow with their number.

Pure. Buckets grow by 4.4 %, so a quantile is at most that much above the true one; histograms of
several processes, seconds or faults are added up without loss.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_PER_DOUBLING = 16


@dataclass(slots=True)
class Histogram:
    """counts: bucket -> how many; bucket i holds what is above 2^((i-1)/16) ns, to 2^(i/16) ns."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, ns: int) -> None:
        """One more, of `ns` nanoseconds; below 1 is as 1."""
        bucket = math.ceil(math.log2(max(ns, 1)) * _PER_DOUBLING)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, counts: Mapping[int, int] | Mapping[str, int]) -> None:
        """Add another one's counts; their keys may have become strings on the way through JSON."""
        for bucket, count in counts.items():
            self.counts[int(bucket)] = self.counts.get(int(bucket), 0) + count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile_ns(self, q: float) -> float:
        """The least length that a share `q` of all (0..1) does not exceed; 0 of none."""
        left = q * self.total
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return float(2 ** (bucket / _PER_DOUBLING))
        return 0.0

    def quantile_ms(self, q: float) -> float:
        return self.quantile_ns(q) / 1e6


def merged(all_counts: Iterable[Mapping[int, int]]) -> Histogram:
    together = Histogram()
    for counts in all_counts:
        together.merge(counts)
    return together
