"""The soak's schedule is its seed's, and leaves no kind of fault out."""

from collections import Counter
from itertools import islice

from real_cluster.faults import BY_NAME, FAULTS, LAST
from real_cluster.soak_schedule import Plan, last, schedule
from real_cluster.timeline_bands import GROUPS


def plans(seed: int, count: int) -> list[Plan]:
    return list(islice(schedule(seed, FAULTS), count))


def test_the_same_seed_plans_the_same_rounds_and_another_one_others() -> None:
    assert plans(7, 200) == plans(7, 200)
    assert last(7, LAST) == last(7, LAST)
    kinds = [[plan.blows[0].kind for plan in plans(seed, 10)] for seed in range(20)]
    assert len({tuple(names) for names in kinds}) == 20


def test_a_longer_run_of_a_seed_begins_as_a_shorter_one() -> None:
    assert plans(3, 500)[:50] == plans(3, 50)


def test_every_kind_occurs_in_every_deal_first_or_with_another() -> None:
    dealt = plans(11, 5 * len(FAULTS))
    for start in range(0, len(dealt), len(FAULTS)):
        first = Counter(plan.blows[0].kind for plan in dealt[start : start + len(FAULTS)])
        assert first == Counter(fault.name for fault in FAULTS)


def test_two_at_once_happen_and_only_of_kinds_that_allow_it() -> None:
    several = [plan for plan in plans(1, 2_000) if len(plan.blows) > 1]
    assert several
    struck = {blow.kind for plan in several for blow in plan.blows}
    assert struck == {fault.name for fault in FAULTS if not fault.alone}


def test_lengths_are_those_of_the_kind_and_dice_differ() -> None:
    blows = [blow for plan in plans(5, 1_000) for blow in plan.blows]
    for blow in blows:
        least, most = BY_NAME[blow.kind].hold_s
        assert least <= blow.hold_s <= most
    assert len({blow.dice for blow in blows}) > 0.99 * len(blows)


def test_what_nothing_can_follow_is_never_among_the_rounds_but_is_the_last() -> None:
    assert LAST not in FAULTS
    assert [blow.kind for blow in last(1, LAST).blows] == [LAST.name]


def test_no_two_kinds_share_a_name_and_each_has_a_lane() -> None:
    assert len(BY_NAME) == len(FAULTS) + 1
    assert {fault.group for fault in (*FAULTS, LAST)} == set(GROUPS)
