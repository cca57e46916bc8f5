"""Whom the load asks numbers for: users of 100 sections that lie apart; always the same. Pure."""

import random

SECTION_SIZE = 100_000
SECTIONS = [429 * index for index in range(100)]
USERS = 10_000


def shares(callers: int) -> list[list[int]]:
    """Distinct uids for each of so many callers, about 10,000 in all, and no uid of two."""
    each = max(1, USERS // callers)
    drawn = _distinct(random.Random(1), each * callers)
    return [drawn[start : start + each] for start in range(0, len(drawn), each)]


def batches(size: int, count: int) -> list[list[int]]:
    """`count` batches of `size` distinct uids each, over all sections."""
    source = random.Random(2)
    return [_distinct(source, size) for _ in range(count)]


def _distinct(source: random.Random, count: int) -> list[int]:
    places = source.sample(range(len(SECTIONS) * SECTION_SIZE), count)
    return [
        SECTIONS[place // SECTION_SIZE] * SECTION_SIZE + place % SECTION_SIZE for place in places
    ]
