"""Counters and histograms for hot paths: an addition each time, and no lock.

To be observed from one thread only. A scrape, from another one, may miss what is observed
meanwhile; it meets it the next time.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count:
    """A counter, or one label of it."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0

    def inc(self, more: int = 1) -> None:
        self.total += more


class Counts(Collector):
    """A counter `name` (without _total) with a label, or none."""

    def __init__(
        self, name: str, text: str, registry: CollectorRegistry, label: str | None = None
    ) -> None:
        self._name = name
        self._text = text
        self._labels = [] if label is None else [label]
        self._counts: dict[str, Count] = {} if label is not None else {"": Count()}
        registry.register(self)

    def labels(self, value: str = "") -> Count:
        """The counter of one value of the label; the only one, if there is no label."""
        return self._counts.setdefault(value, Count())

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for value, count in list(self._counts.items()):
            family.add_metric([value] if self._labels else [], count.total)
        yield family


class Spread:
    """The observations of one label."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Spreads(Collector):
    """A histogram `name` with one label; bounds: upper ones of its buckets, rising."""

    def __init__(
        self,
        name: str,
        text: str,
        label: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._bounds = bounds
        self._spreads: dict[str, Spread] = {}
        registry.register(self)

    def labels(self, value: str) -> Spread:
        """The histogram of one value of the label."""
        spread = self._spreads.get(value)
        if spread is None:
            spread = self._spreads[value] = Spread(self._bounds)
        return spread

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield HistogramMetricFamily(self._name, self._text, labels=[self._label])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        bounds = (*self._bounds, float("inf"))
        names = [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call]
        for value, spread in list(self._spreads.items()):
            total, buckets = 0, []
            for name, count in zip(names, list(spread.counts), strict=True):
                total += count
                buckets.append((name, total))
            family.add_metric([value], buckets, spread.sum)
        yield family
