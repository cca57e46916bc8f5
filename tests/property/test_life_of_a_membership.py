"""Replicas are replaced again and again, under owners that are late, crashes and cut links.

SEQ-1, SEQ-2, LEASE-1, FENCE-1. By the rules of clustermap/membership.py no number repeats and no
two owners serve; with one of the rules left out, or one half of the joint quorum, one of these
happens: the seeds below found that, and where they do not any more, look for others.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from life_of_a_membership import PLANTS, Found, life

SEEDS = dict.fromkeys(PLANTS, 0)


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_no_number_repeats_however_replicas_are_replaced(seed: int) -> None:
    life(random.Random(seed))


def test_the_walk_gets_somewhere() -> None:
    worlds = [life(random.Random(seed)) for seed in range(8)]
    assert sum(world.job.done for world in worlds) >= 20, "changes that came to their end"
    assert sum(world.highest for world in worlds) >= 50, "numbers"


@pytest.mark.parametrize("without", PLANTS)
def test_leaving_out_a_rule_is_found(without: str) -> None:
    with pytest.raises(Found):
        life(random.Random(SEEDS[without]), without)
