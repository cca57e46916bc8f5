"""Latencies to percentiles, rounds to medians. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

QUANTILES = {"p50_ms": 50.0, "p99_ms": 99.0, "p999_ms": 99.9}


def percentiles(latencies_ns: Sequence[int]) -> dict[str, float]:
    """p50, p99, p99.9 and the greatest, in milliseconds; nothing of none."""
    if not latencies_ns:
        return {}
    sorted_ms = np.sort(np.asarray(latencies_ns, dtype=np.float64)) / 1e6
    values = np.percentile(sorted_ms, list(QUANTILES.values()), method="higher")
    found = {name: float(value) for name, value in zip(QUANTILES, values, strict=True)}
    return {**found, "max_ms": float(sorted_ms[-1])}


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """ValueError of none."""
        if not values:
            raise ValueError("no round has this figure")
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)}..{short(self.high)})"


def short(value: float) -> str:
    """Three digits that mean something, with commas."""
    if value >= 1_000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
