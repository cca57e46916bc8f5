"""What is said of replicas, whose disks and promises are known: NRW-1, NRW-2, FENCE-1."""

from collections.abc import Mapping

import pytest

from seqcheck import Fencing, NeverFalls, OnlyThoseWhoKnow

A, B, C = "abc"
SECTION = 4


# -- NRW-1


def raised(*replicas: str, max_seq: int = 100) -> NeverFalls:
    """N = 3, W = 2, and a raise that these replicas have."""
    checker = NeverFalls(n=3, w=2)
    for replica in replicas:
        assert checker.stored(1, replica, SECTION, max_seq) is None
    assert checker.acknowledged(2, SECTION, 1, max_seq) is None
    return checker


def left(**values: int) -> Mapping[str, Mapping[int, int]]:
    return {replica: {SECTION: value} for replica, value in values.items()}


def test_max_seq_may_rise_stay_and_be_read_again() -> None:
    checker = NeverFalls(n=3, w=2)
    for max_seq in (1, 1, 5, 5, 9):
        assert checker.stored(0, A, SECTION, max_seq) is None
    assert checker.stored(0, B, SECTION, 2) is None
    assert checker.stored(0, A, SECTION + 1, 2) is None


def test_a_max_seq_that_falls_is_a_violation() -> None:
    checker = NeverFalls(n=3, w=2)
    checker.stored(3, A, SECTION, 9)
    violation = checker.stored(4, A, SECTION, 8)
    assert violation is not None
    assert (violation.promise, violation.at_ns) == ("NRW-1", 4)
    assert "9" in violation.text and "8" in violation.text


def test_a_replica_that_was_wiped_starts_anew() -> None:
    checker = NeverFalls(n=3, w=2)
    checker.stored(3, A, SECTION, 9)
    checker.lost(4, A)
    assert checker.stored(5, A, SECTION, 1) is None
    assert checker.stored(6, A, SECTION, 0)


def test_a_raise_that_one_replica_knows_is_not_acknowledged_by_two() -> None:
    checker = NeverFalls(n=3, w=2)
    checker.stored(1, A, SECTION, 100)
    checker.stored(1, B, SECTION, 99)
    assert checker.acknowledged(2, SECTION, 1, 99) is None
    assert checker.acknowledged(2, SECTION, 1, 100)


def test_a_raise_counts_a_replica_that_had_it_and_was_wiped_since() -> None:
    checker = NeverFalls(n=3, w=2)
    checker.stored(1, A, SECTION, 100)
    checker.lost(2, A)
    checker.stored(3, B, SECTION, 100)
    assert checker.acknowledged(4, SECTION, 1, 100) is None
    assert checker.survivors(5, left(c=0))  # A's loss is the one that must not matter
    checker.lost(6, B)
    assert checker.survivors(7, left(c=0)) is None  # two of three are more than N - W


@pytest.mark.parametrize("held", [left(a=100), left(a=0, b=0, c=100), left(b=5000)])
def test_what_one_survivor_still_holds_has_survived(held: Mapping[str, Mapping[int, int]]) -> None:
    assert raised(A, B).survivors(3, held) is None


def test_a_raise_that_nobody_holds_any_more_is_a_violation() -> None:
    violation = raised(A, B).survivors(3, left(a=99, b=0))
    assert violation is not None
    assert "100" in violation.text
    assert raised(A, B).survivors(3, {})


def test_the_loss_of_one_replica_excuses_nothing_and_of_two_everything() -> None:
    checker = raised(A, B)
    checker.lost(3, A)
    checker.lost(3, A)
    assert checker.survivors(4, left(b=99, c=0))
    checker.lost(5, B)
    assert checker.survivors(6, left(c=0)) is None


def test_a_later_raise_counts_losses_from_then_on() -> None:
    checker = raised(A, B)
    checker.lost(3, A)
    checker.stored(4, B, SECTION, 200)
    checker.stored(4, C, SECTION, 200)
    checker.acknowledged(5, SECTION, 1, 200)
    checker.lost(6, B)
    assert checker.survivors(7, left(c=200)) is None
    violation = checker.survivors(7, left(c=199))
    assert violation is not None
    assert "200" in violation.text


def test_a_later_lower_raise_does_not_excuse_the_higher_one() -> None:
    checker = raised(A, B, max_seq=200)
    checker.lost(3, C)
    checker.acknowledged(4, SECTION, 2, 100)
    assert checker.survivors(5, left(a=150))
    checker.lost(6, A)  # now only the later raise has lost no more than one
    assert checker.survivors(7, left(b=150)) is None
    assert checker.survivors(7, left(b=99))


def test_a_later_raise_that_rests_on_a_loss_does_not_excuse_the_earlier_one() -> None:
    checker = NeverFalls(n=3, w=2)
    checker.stored(1, A, SECTION, 200)
    checker.lost(2, A)
    checker.stored(3, A, SECTION, 150)
    checker.stored(3, B, SECTION, 150)
    checker.acknowledged(4, SECTION, 1, 150)
    checker.stored(5, B, SECTION, 200)
    checker.acknowledged(6, SECTION, 1, 200)  # A had it once
    checker.lost(7, B)
    assert checker.survivors(8, left(a=150)) is None
    assert checker.survivors(8, left(a=149))


def test_no_more_losses_are_asked_of_a_set_than_leave_somebody_who_knows() -> None:
    checker = NeverFalls(n=3, w=1)
    checker.stored(1, A, SECTION, 100)
    checker.acknowledged(2, SECTION, 1, 100)
    checker.lost(3, A)
    assert checker.survivors(4, left(b=0, c=0)) is None


# -- NRW-2


def test_answers_of_replicas_that_know_are_counted() -> None:
    checker = OnlyThoseWhoKnow()
    assert checker.counted(1, "node", A, SECTION, "Fence") is None
    checker.unfit(2, A, "blank disk")
    assert checker.counted(3, "node", B, SECTION, "Fence") is None
    checker.fit(4, A)
    assert checker.counted(5, "node", A, SECTION, "Fence") is None


def test_an_answer_of_a_blank_replica_is_not_to_be_counted() -> None:
    checker = OnlyThoseWhoKnow()
    checker.unfit(2, A, "blank disk")
    violation = checker.counted(3, "node", A, SECTION, "Fence")
    assert violation is not None
    assert violation.promise == "NRW-2"
    assert "blank disk" in violation.text
    assert checker.counted(3, "node", A, None, "Renew")


def test_it_is_the_instant_of_the_answer_that_matters() -> None:
    checker = OnlyThoseWhoKnow()
    checker.unfit(10, A, "old copy")
    checker.fit(20, A)
    assert checker.counted(15, "node", A, SECTION, "Fence", given_ns=9) is None
    assert checker.counted(25, "node", A, SECTION, "Fence", given_ns=20) is None
    for given_ns in (10, 19):
        assert checker.counted(25, "node", A, SECTION, "Fence", given_ns=given_ns)


def test_a_damaged_record_spoils_its_section_only() -> None:
    checker = OnlyThoseWhoKnow()
    checker.unfit(1, A, "damaged record", section=SECTION)
    assert checker.counted(2, "node", A, SECTION + 1, "Raise") is None
    assert checker.counted(2, "node", A, None, "Renew") is None
    assert checker.counted(2, "node", A, SECTION, "Raise")
    checker.fit(3, A, section=SECTION)
    assert checker.counted(4, "node", A, SECTION, "Raise") is None


# -- FENCE-1

OLD = (SECTION, 1, 11, 500)  # section, epoch, incarnation, max_seq


def fencing() -> Fencing:
    return Fencing(n=3, r=2, w=2)


def test_raises_at_or_above_the_promise_are_legal() -> None:
    checker = fencing()
    for replica in (A, B):
        assert checker.promised(1, replica, SECTION, 1) is None
        assert checker.acked(2, replica, *OLD) is None
        assert checker.promised(3, replica, SECTION, 2) is None
        assert checker.acked(4, replica, SECTION, 2, 22, 900) is None
    assert checker.violations == []


def test_a_replica_that_acknowledges_below_its_promise_is_a_violation() -> None:
    checker = fencing()
    checker.promised(1, A, SECTION, 2)
    assert checker.acked(2, A, SECTION + 1, 1, 11, 500) is None
    assert checker.acked(2, B, *OLD) is None
    violation = checker.acked(2, A, *OLD)
    assert violation is not None
    assert violation.promise == "FENCE-1"


def test_a_promise_that_falls_is_a_violation_and_the_higher_one_still_binds() -> None:
    checker = fencing()
    checker.promised(1, A, SECTION, 5)
    assert checker.promised(2, A, SECTION, 5) is None
    violation = checker.promised(3, A, SECTION, 4)
    assert violation is not None
    assert "5" in violation.text and "4" in violation.text
    assert checker.acked(4, A, SECTION, 4, 11, 500)


def test_a_raise_may_find_its_second_replica_after_two_promises_if_one_of_them_carried_it() -> None:
    checker = fencing()
    checker.acked(1, A, *OLD)
    checker.promised(2, A, SECTION, 2)
    checker.promised(2, B, SECTION, 2)
    assert checker.acked(3, C, *OLD) is None


def test_an_acknowledgement_that_leaves_late_was_still_accepted_before_the_promise() -> None:
    checker = fencing()
    checker.promised(5, A, SECTION, 2)
    assert checker.acked(6, A, *OLD, accepted_ns=5) is None  # one commit for both
    assert checker.acked(7, A, *OLD) is None  # the same one, told again
    assert checker.acked(8, A, SECTION, 1, 11, 600, accepted_ns=6)


def test_two_acknowledgements_after_two_promises_are_a_violation_of_the_whole_set() -> None:
    checker = fencing()
    checker.promised(1, A, SECTION, 2)
    checker.promised(1, B, SECTION, 3)
    assert checker.acked(2, C, *OLD) is None
    violation = checker.acked(3, B, *OLD)
    assert violation is not None
    assert "acknowledged by 2 after 2" in violation.text


def test_a_set_is_overtaken_even_where_a_wiped_replica_forgot_its_promise() -> None:
    checker = fencing()
    checker.promised(1, A, SECTION, 2)
    checker.promised(1, B, SECTION, 2)
    checker.lost(2, B)
    assert checker.promised(3, B, SECTION, 1) is None  # another store, which nobody counts
    assert checker.acked(3, B, *OLD) is None
    assert checker.acked(4, C, *OLD) is None
    assert checker.acked(5, "d", *OLD)  # a member that never promised: two of the old ones had


def test_raises_of_other_incarnations_and_values_are_counted_apart() -> None:
    checker = fencing()
    checker.promised(1, A, SECTION, 2)
    checker.promised(1, B, SECTION, 2)
    assert checker.acked(2, C, SECTION, 1, 11, 500) is None
    assert checker.acked(3, C, SECTION, 1, 11, 600) is None
    assert checker.acked(4, C, SECTION, 1, 12, 500) is None
