"""Which sections should move because their node has too much, or another too little. Pure.

Hysteresis: nothing moves until somebody is off the mean by more than the bound; then sections move
until everybody is within half of it. No ping-pong: a move takes at most what the donor has above
the mean and the recipient below it, or, where the smallest piece is more than that, a piece of at
most three quarters of what is between the two. Either way the sum of squared weights falls, so with
constant loads there is a last move; a section so hot that it would only turn the tables stays.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from clustermap.ranges import Range
from clustermap.weights import Weights


class Transfer(NamedTuple):
    """Sections `first..last` are better off with `recipient`."""

    first: int
    last: int
    recipient: int


class _Block(NamedTuple):
    """Sections that move together or not at all."""

    weight: int
    first: int
    last: int


def uneven(weights: Mapping[int, int], bound: float) -> bool:
    """Whether one of them is off their mean by more than this fraction of it."""
    mean = sum(weights.values()) / max(1, len(weights))
    return any(abs(weight - mean) > bound * mean for weight in weights.values())


def transfers(
    held: Mapping[int, Sequence[Range]],
    weights: Weights,
    grain: int,
    hysteresis: float,
    at_most: int,
    pinned: Mapping[int, int] | None = None,
) -> list[Transfer]:
    """What to move just now, by rising section; nothing if all are within half of `hysteresis`.

    held: what each willing node has, by rising section; grain: sections are cut at multiples of
    it; at_most: sections to move, although never less than one block; pinned: weight of what each
    has besides, which stays.
    """
    blocks = {key: _blocks(key, spans, weights, grain) for key, spans in held.items()}
    fixed = pinned or {}
    totals = {k: fixed.get(k, 0) + sum(b.weight for b in own) for k, own in blocks.items()}
    found: list[Transfer] = []
    left = max(at_most, grain)
    while left > 0 and uneven(totals, hysteresis / 2):
        low = min(totals, key=lambda key: (totals[key], key))
        for donor in sorted(totals, key=lambda key: (-totals[key], key)):
            taken = _take(blocks[donor], totals, donor, low, left)
            if taken:
                break
        else:
            break
        blocks[donor] = [block for block in blocks[donor] if block not in taken]
        weight = sum(block.weight for block in taken)
        totals[donor] -= weight
        totals[low] += weight
        left -= sum(block.last - block.first + 1 for block in taken)
        found += [Transfer(block.first, block.last, low) for block in taken]
    return sorted(found)


def _blocks(key: int, spans: Sequence[Range], weights: Weights, grain: int) -> list[_Block]:
    """The heaviest first: the fewer sections have to move."""
    found = []
    for first, last in spans:
        while first <= last:
            end = min(last, (first // grain + 1) * grain - 1)
            found.append(_Block(weights.weight(first, end, key), first, end))
            first = end + 1
    return sorted(found, key=lambda block: (-block.weight, block.first))


def _take(
    blocks: Sequence[_Block], totals: Mapping[int, int], donor: int, low: int, at_most: int
) -> set[_Block]:
    """Blocks that `donor` gives to `low`, of at most so many sections."""
    mean = sum(totals.values()) // len(totals)
    wanted = min(totals[donor] - mean, mean - totals[low])
    taken: set[_Block] = set()
    for block in blocks:
        size = block.last - block.first + 1
        if block.weight <= wanted and size <= at_most:
            taken.add(block)
            wanted -= block.weight
            at_most -= size
    if taken:
        return taken
    apart = totals[donor] - totals[low]
    possible = [
        block
        for block in blocks
        if 4 * block.weight <= 3 * apart and block.last - block.first < at_most
    ]
    best = min(possible, key=lambda block: (abs(apart - 2 * block.weight), block), default=None)
    return {best} if best else set()
