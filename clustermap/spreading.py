"""Sections without a place, shared out so that everybody ends up with the same weight. Pure.

Each receiver gets one contiguous part of what there is to share, and what weighs more already gets
less: the level to which all are filled is the same. Cuts are rounded from the sum of all parts
before, not part by part, so with equal weights nobody is off by more than one section.

A Set is cut only at multiples of its grain (and where it is cut already): its document, which is
written and read as a whole, has at most about MAX_PARTS entries however often sections move.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction

from clustermap.model import SetSpec
from clustermap.ranges import Range
from clustermap.weights import Segment

MAX_PARTS = 4096


def grain(spec: SetSpec) -> int:
    """Parts of the Set begin at multiples of this many sections; 1 in all but large Sets."""
    return max(1, -(-spec.sections // MAX_PARTS))


def spread(
    pool: Sequence[Range], segments: Sequence[Segment], weights: Mapping[int, int], grain: int
) -> list[tuple[Range, int]]:
    """Who gets which part of `pool`: every section of it once, in order.

    pool: by rising section, not overlapping; segments: the same sections with their weights;
    weights: of the receivers (at least one) as they are. Linear but for the sorting of receivers.
    """
    shares = _shares(weights, sum(segment.weight for segment in segments))
    cuts = _cuts(pool, segments, [share for _, share in shares][:-1], grain)
    return _dealt(pool, cuts, [receiver for receiver, _ in shares])


def _shares(weights: Mapping[int, int], weight: int) -> list[tuple[int, Fraction]]:
    """What each receiver gets of `weight`, by rising receiver; only those that get something."""
    by_weight = sorted(weights.values())
    level, below = Fraction(0), 0
    for count, heaviest in enumerate(by_weight, 1):
        below += heaviest
        level = Fraction(weight + below, count)
        if count == len(by_weight) or level <= by_weight[count]:
            break
    return [(key, level - own) for key, own in sorted(weights.items()) if own < level]


def _cuts(
    pool: Sequence[Range], segments: Sequence[Segment], shares: Sequence[Fraction], grain: int
) -> list[int]:
    """Sections with which the next receiver's part begins, by rising section."""
    cuts: list[int] = []
    firsts = [span.first for span in pool]
    target, passed = Fraction(0), 0
    walk = iter(segments)
    segment = next(walk)
    for share in shares:
        target += share
        while passed + segment.weight < target:
            passed += segment.weight
            segment = next(walk)
        count = _nearest(Fraction(target - passed) / segment.unit)
        span = pool[bisect_right(firsts, segment.first) - 1]
        aligned = _nearest(Fraction(segment.first + count, grain)) * grain
        cut = min(max(aligned, span.first), span.last + 1)
        cuts.append(max(cut, cuts[-1]) if cuts else cut)
    return cuts


def _dealt(
    pool: Sequence[Range], cuts: Sequence[int], receivers: Sequence[int]
) -> list[tuple[Range, int]]:
    dealt: list[tuple[Range, int]] = []
    turn = 0
    for span in pool:
        first = span.first
        while first <= span.last:
            while turn < len(cuts) and cuts[turn] <= first:
                turn += 1
            last = min(span.last, cuts[turn] - 1) if turn < len(cuts) else span.last
            dealt.append((Range(first, last), receivers[turn]))
            first = last + 1
    return dealt


def _nearest(value: Fraction) -> int:
    """Halves go up: sums of shares are rounded all the same way."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
