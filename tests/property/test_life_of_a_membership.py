"""Replicas are replaced again and again, under owners that are late, crashes and cut links.

SEQ-1, SEQ-2, LEASE-1, FENCE-1. By the rules of clustermap/membership.py no number repeats and no
two owners serve; with one of the rules left out, or one half of the joint quorum, one of these
happens: the seeds below found that, and where they do not any more, look for others.
"""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocsvr.acquisition import Acquisition, Stage
from clustermap.membership import counted
from clustermap.model import Joint, SetSpec
from clustermap.ranges import Range
from life_of_a_membership import Found, life
from life_of_a_membership.owners import found_in
from life_of_a_membership.stores import SECTION, Store

SEEDS = {
    "rule 1": (306, 0.6),
    "rule 2": (18, 0.6),
    "rule 3": (122, 0.6),
    "the new half": (14, 0.6),
}


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.6, 0.0, 1.0]))
def test_no_number_repeats_however_replicas_are_replaced(seed: int, one_for_one: float) -> None:
    life(random.Random(seed), "", one_for_one)


def test_the_walk_gets_somewhere() -> None:
    worlds = [life(random.Random(seed)) for seed in range(8)]
    assert sum(world.job.done for world in worlds) >= 20, "changes that came to their end"
    assert sum(world.highest for world in worlds) >= 50, "numbers"


@pytest.mark.parametrize("without", SEEDS)
def test_leaving_out_a_rule_is_found(without: str) -> None:
    seed, one_for_one = SEEDS[without]
    with pytest.raises(Found):
        life(random.Random(seed), without, one_for_one)


def test_without_the_old_half_a_fence_misses_what_was_raised_under_the_version_before() -> None:
    """A Set of three becomes one of one, which has missed the last raise, and adopts first."""
    stores = {n: Store(n, lambda: 10_000, True) for n in (1, 2, 3)}
    named = [store.named for store in stores.values()]
    before = SetSpec("s", (Range(0, 0),), tuple(named), 2, 2)
    joint = replace(before, membership=2, joint=Joint((named[2],), 1, 1))
    for n in (1, 2):
        assert stores[n].ask(1, lambda replica, _: replica.raise_max(7, [(SECTION, 1, 9)])) == {}
    assert stores[3].adopt(2)

    def fenced(attempt: Acquisition, index: int, n: int) -> Stage:
        asked = [(SECTION, SECTION, attempt.epoch)]
        said: Any = stores[n].ask(2, lambda replica, now: replica.fence(asked, now))
        return attempt.fenced(index, found_in(said, said.entries[0][1]), 10_000, 0.1)

    new_half = counted(replace(before, replicas=(named[2],), r=1, w=1))
    half = Acquisition(SECTION, 2, 8, new_half.read, 2)
    assert (fenced(half, 0, 3), half.found) == (Stage.WAITING, 0), "and would begin at 1"
    whole = Acquisition(SECTION, 3, 8, counted(joint).read, 2)
    assert fenced(whole, 2, 3) is Stage.FENCING
    assert stores[1].adopt(2)
    assert (fenced(whole, 0, 1), whole.found) == (Stage.WAITING, 9)
