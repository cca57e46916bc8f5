"""How much each section weighs, from what the nodes say of their load. Pure.

A weight is in thousandths of a number per second, an integer, so that equal inputs give equal plans
on every machine. A section weighs a little even where nobody asks for it: a constant, so that
counts even out while a Set is idle. All of a Set's constants together are at least IDLE_SET, so
load begins to matter where it is no longer small beside what a node can do.

A section's rate is its own where a node names it among its hot ones, else its owner's rate for each
of the others. A hot section's rate belongs to the section, and goes with it when it moves. It is
the sum of what all nodes report of it: what the old owner's smoothed rate still has of it is just
what the new owner's has not yet.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from clustermap.nodes import Load, Node

MILLI = 1_000
IDLE_SECTION = 1 * MILLI
IDLE_SET = 10_000 * MILLI
_PERCENT = 100
_SMOOTHING = 30  # percent of what is new that one round takes over


class Segment(NamedTuple):
    """Sections `first..last`, each of weight `unit` (above 0)."""

    first: int
    last: int
    unit: int

    @property
    def weight(self) -> int:
        return (self.last - self.first + 1) * self.unit


@dataclass(frozen=True, slots=True)
class Rates:
    """Smoothed rates, in thousandths of a number per second.

    each: incarnation -> rate of each of its sections that is not hot; hot: section -> rate.
    """

    each: Mapping[int, int] = field(default_factory=dict)
    hot: Mapping[int, int] = field(default_factory=dict)

    def smoothed(self, nodes: Iterable[Node], kept: Collection[int]) -> "Rates":
        """With one more round of reports. A node that is new is taken at its word.

        kept: incarnations whose rates are still of use although they are registered no more.
        """
        each = {incarnation: rate for incarnation, rate in self.each.items() if incarnation in kept}
        seen = dict.fromkeys(self.hot, 0)
        before: dict[int, int] = {}
        for node in nodes:
            known = node.incarnation in self.each
            rate = _rest(node.load)
            each[node.incarnation] = _toward(self.each.get(node.incarnation, rate), rate)
            for section, per_second in node.load.hot:
                rate = per_second * MILLI
                seen[section] = seen.get(section, 0) + rate
                before[section] = before.get(section, 0) + (0 if known else rate)
        before |= self.hot
        hot = {section: _toward(before[section], rate) for section, rate in seen.items()}
        return Rates(each, {section: rate for section, rate in hot.items() if rate >= MILLI})


class Weights:
    """The weight of any range of a Set of `sections` sections."""

    def __init__(self, rates: Rates, sections: int) -> None:
        self._rates = rates
        self._idle = max(IDLE_SECTION, IDLE_SET // max(1, sections))
        self._hot = sorted(rates.hot)
        self._sums = list(accumulate((rates.hot[section] for section in self._hot), initial=0))

    def segments(self, first: int, last: int, owner: int | None) -> Iterator[Segment]:
        """`first..last`, sections of `owner` (None: nobody), cut into parts of one weight."""
        unit = self._idle + (self._rates.each.get(owner, 0) if owner is not None else 0)
        for section in self._hot[bisect_left(self._hot, first) : bisect_right(self._hot, last)]:
            if first < section:
                yield Segment(first, section - 1, unit)
            yield Segment(section, section, self._idle + self._rates.hot[section])
            first = section + 1
        if first <= last:
            yield Segment(first, last, unit)

    def weight(self, first: int, last: int, owner: int | None) -> int:
        """Of `first..last`, all of them `owner`'s."""
        low, high = bisect_left(self._hot, first), bisect_right(self._hot, last)
        each = self._rates.each.get(owner, 0) if owner is not None else 0
        count = last - first + 1
        hot = self._sums[high] - self._sums[low]
        return count * self._idle + (count - (high - low)) * each + hot


def _rest(load: Load) -> int:
    """The rate of each section of a node that it does not name as hot."""
    rate = load.per_second - sum(rate for _, rate in load.hot)
    sections = load.serving + load.leaving - len(load.hot)
    return max(0, rate) * MILLI // max(1, sections)


def _toward(before: int, seen: int) -> int:
    return before + (seen - before) * _SMOOTHING // _PERCENT
