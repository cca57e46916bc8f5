"""What is said of owners, clients and whole runs: LEASE-1, LEASE-2, ROUTE-1, LIVE."""

import pytest

from seqcheck import Liveness, OneOwner, Routes, ServesWithoutMap

SECTION = 4
X, Y = 11, 22


# -- LEASE-1


def test_one_that_is_able_and_none_are_both_legal() -> None:
    checker = OneOwner()
    for able in ([], [X], [Y], [X, X]):
        assert checker.able(1, SECTION, able) is None


def test_two_that_are_able_at_one_instant_are_a_violation() -> None:
    violation = OneOwner().able(5, SECTION, [X, Y])
    assert violation is not None
    assert (violation.promise, violation.at_ns) == ("LEASE-1", 5)


def served(*answers: tuple[int, int]) -> list[bool]:
    """Which of these answers, of (incarnation, epoch) one after the other, are violations."""
    checker = OneOwner()
    return [
        checker.served(at_ns, SECTION, incarnation, epoch) is not None
        for at_ns, (incarnation, epoch) in enumerate(answers)
    ]


@pytest.mark.parametrize(
    "answers",
    [
        [(X, 1), (X, 1), (Y, 2), (Y, 2), (X, 3)],
        [(X, 1), (X, 2), (X, 3), (Y, 4)],
        [(X, 1), (Y, 1)],
        [(X, 1), (X, 2), (X, 1)],
    ],
)
def test_owners_that_follow_one_another_are_legal(answers: list[tuple[int, int]]) -> None:
    assert not any(served(*answers))


@pytest.mark.parametrize(
    "answers",
    [
        [(X, 1), (Y, 2), (X, 1)],
        [(X, 1), (Y, 1), (X, 1)],
        [(Y, 2), (X, 1)],
        [(X, 5), (Y, 6), (X, 7), (X, 5)],
        [(Y, 3), (X, 4), (X, 5), (Y, 3)],
    ],
)
def test_the_last_of_these_answers_overlaps_another_owner(answers: list[tuple[int, int]]) -> None:
    assert served(*answers) == [False] * (len(answers) - 1) + [True]


def test_sections_have_owners_of_their_own() -> None:
    checker = OneOwner()
    for at_ns in range(4):
        assert checker.served(at_ns, at_ns % 2, (X, Y)[at_ns % 2], 1) is None


# -- LEASE-2


def test_an_owner_that_stops_without_a_map_is_a_violation() -> None:
    checker = ServesWithoutMap()
    checker.map_down(1)
    violation = checker.stopped(2, SECTION, X, "lease")
    assert violation is not None
    assert violation.promise == "LEASE-2"
    assert "lease" in violation.text


@pytest.mark.parametrize("why", ["drain", "crash", "promise"])
def test_an_owner_may_stop_for_reasons_that_have_nothing_to_do_with_the_map(why: str) -> None:
    checker = ServesWithoutMap()
    checker.map_down(1)
    assert checker.stopped(2, SECTION, X, why) is None


def test_an_owner_may_stop_while_there_is_a_map() -> None:
    checker = ServesWithoutMap()
    assert checker.stopped(1, SECTION, X, "lease") is None
    checker.map_down(2)
    checker.map_up(3)
    assert checker.stopped(4, SECTION, X, "lease") is None


def test_an_owner_may_stop_if_it_does_not_reach_w() -> None:
    checker = ServesWithoutMap()
    checker.map_down(1)
    checker.quorum_lost(2, X)
    assert checker.stopped(3, SECTION, X, "lease") is None
    assert checker.stopped(3, SECTION, Y, "lease")
    checker.quorum_back(4, X)
    assert checker.stopped(5, SECTION, X, "lease")


def test_what_was_under_way_is_not_blamed_on_the_map() -> None:
    checker = ServesWithoutMap(settle_ns=10)
    checker.map_down(100)
    checker.map_down(105)
    assert checker.stopped(109, SECTION, X, "moved") is None
    assert checker.stopped(110, SECTION, X, "moved")
    checker.quorum_lost(120, X)
    checker.quorum_back(130, X)
    assert checker.stopped(139, SECTION, X, "lease") is None
    assert checker.stopped(140, SECTION, X, "lease")


# -- ROUTE-1


def test_a_table_that_rises_or_stays_is_legal_and_one_that_falls_is_not() -> None:
    checker = Routes()
    for version in (1, 1, 5):
        assert checker.installed(version, "client", version) is None
    assert checker.installed(6, "other", 2) is None
    violation = checker.installed(7, "client", 4)
    assert violation is not None
    assert (violation.promise, violation.at_ns) == ("ROUTE-1", 7)


def test_an_epoch_below_one_that_was_seen_is_not_to_be_accepted() -> None:
    checker = Routes()
    for epoch in (1, 3, 3):
        assert checker.accepted(epoch, "client", SECTION, epoch) is None
    assert checker.accepted(4, "client", SECTION + 1, 1) is None
    assert checker.accepted(4, "other", SECTION, 1) is None
    assert checker.accepted(4, "client", SECTION, 0) is None  # not known
    assert checker.accepted(5, "client", SECTION, 2)
    checker.seen(6, "client", SECTION, 9)
    checker.seen(6, "client", SECTION, 8)
    assert checker.accepted(7, "client", SECTION, 8)
    assert checker.accepted(8, "client", SECTION, 9) is None


# -- LIVE


def test_sections_that_serve_in_time_after_the_last_fault_are_alive() -> None:
    checker = Liveness(sections=(1, 2), bound_ns=10)
    checker.serves(1, 1)
    checker.healed(100)
    assert checker.waiting == {1, 2}
    assert checker.serves(105, 1) is None
    assert checker.serves(110, 2) is None
    assert checker.serves(500, 3) is None
    assert checker.waiting == set()
    assert checker.ended(1000) is None


def test_a_section_that_never_serves_again_is_a_violation() -> None:
    checker = Liveness(sections=(1, 2), bound_ns=10)
    checker.serves(50, 2)
    checker.healed(100)
    checker.serves(105, 1)
    violation = checker.ended(111)
    assert violation is not None
    assert violation.promise == "LIVE"
    assert "sections=[2]" in str(violation)


def test_a_section_that_serves_too_late_is_a_violation() -> None:
    checker = Liveness(sections=(1,), bound_ns=10)
    checker.healed(100)
    assert checker.serves(111, 1)
    assert checker.ended(1000) is None


def test_only_the_last_healing_counts_and_a_run_may_end_before_the_bound() -> None:
    checker = Liveness(sections=(1, 2), bound_ns=10)
    assert checker.ended(5) is None
    checker.healed(100)
    checker.serves(105, 1)
    checker.healed(200)
    assert (checker.deadline_ns, checker.waiting) == (210, {1, 2})
    assert checker.ended(210) is None
    assert checker.ended(211)
