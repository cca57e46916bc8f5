"""What is said of numbers where they are taken: SEQ-2, SEQ-3, SEQ-5."""

import pytest

from seqcheck import Dense, Durable, HandedOut, Violation

OWN, NEXT, THIRD = (11, 1), (22, 2), (33, 3)  # incarnation, epoch
UID = 105
SECTION = 1


# -- SEQ-2


def test_numbers_that_are_all_different_are_no_violation() -> None:
    checker = HandedOut()
    for first, count in ((1, 1), (2, 3), (10, 5), (5, 5), (15, 1)):
        assert checker.handed(0, UID, first, count, *OWN) is None
    assert checker.handed(0, UID + 1, 1, 15, *NEXT) is None
    assert checker.violations == []
    assert checker.last(UID) == 15
    assert [number for number in range(20) if checker.holds(UID, number)] == list(range(1, 16))


@pytest.mark.parametrize(
    ("first", "count", "repeated"),
    [(10, 1, 10), (14, 9, 14), (5, 6, 10), (1, 99, 10), (12, 1, 12), (14, 1, 14)],
)
def test_a_number_that_is_handed_out_twice_names_both_owners(
    first: int, count: int, repeated: int
) -> None:
    checker = HandedOut()
    checker.handed(7, UID, 10, 5, *OWN)
    violation = checker.handed(9, UID, first, count, *NEXT)
    assert violation is not None
    assert checker.violations == [violation]
    assert (violation.promise, violation.uid, violation.at_ns) == ("SEQ-2", UID, 9)
    assert str(repeated) in violation.text
    before, now = violation.evidence
    assert "incarnation=11" in str(before) and "incarnation=22" in str(now)


def test_numbers_that_were_repeated_once_are_still_known() -> None:
    checker = HandedOut()
    checker.handed(0, UID, 10, 5, *OWN)
    checker.handed(0, UID, 20, 5, *OWN)
    assert checker.handed(0, UID, 12, 10, *NEXT)  # meets both, and fills what lies between
    for number in range(10, 25):
        assert checker.handed(0, UID, number, 1, *THIRD), number
    assert checker.handed(0, UID, 9, 1, *THIRD) is None
    assert checker.handed(0, UID, 25, 1, *THIRD) is None


def test_the_owner_that_is_named_is_the_one_that_had_the_number() -> None:
    checker = HandedOut()
    checker.handed(0, UID, 1, 5, *OWN)
    checker.handed(1, UID, 6, 5, *NEXT)
    for first, incarnation in ((5, 11), (6, 22)):
        violation = checker.handed(2, UID, first, 1, *THIRD)
        assert violation is not None
        assert f"incarnation={incarnation} " in str(violation.evidence[0])


# -- SEQ-3


def covered(*values: int, w: int = 2) -> Violation | None:
    """Number 100 leaves while the replicas have these values."""
    checker = Durable()
    for replica, max_seq in enumerate(values):
        assert checker.stored(1, replica, SECTION, max_seq) is None
    return checker.handed(2, SECTION, 100, w)


@pytest.mark.parametrize("values", [(100, 100, 0), (100, 0, 500), (100, 100, 100)])
def test_a_number_that_w_replicas_cover_may_leave(values: tuple[int, ...]) -> None:
    assert covered(*values) is None


@pytest.mark.parametrize("values", [(), (100,), (100, 99, 99), (99, 99, 99), (0, 0, 5000)])
def test_a_number_that_fewer_than_w_replicas_cover_may_not(values: tuple[int, ...]) -> None:
    violation = covered(*values)
    assert violation is not None
    assert violation.promise == "SEQ-3"


def test_a_replica_that_was_wiped_had_known_the_number() -> None:
    checker = Durable()
    checker.stored(0, "a", SECTION, 100)
    checker.stored(0, "b", SECTION, 100)
    assert checker.lost(1, "a") is None
    checker.stored(2, "a", SECTION, 0)
    assert checker.handed(3, SECTION, 100, 2) is None
    violation = checker.handed(4, SECTION, 101, 2)
    assert violation is not None
    assert any("lost" in str(item) for item in violation.evidence)


def test_another_section_covers_nothing() -> None:
    checker = Durable()
    checker.stored(0, "a", SECTION, 100)
    assert checker.handed(1, SECTION, 100, 1) is None
    assert checker.handed(1, SECTION + 1, 1, 1)


# -- SEQ-5


def begun(*owners: tuple[tuple[int, int], int, bool]) -> Dense:
    """Owners with their ceilings, planned or not."""
    checker = Dense(section_size=100)
    for at_ns, ((incarnation, epoch), ceiling, planned) in enumerate(owners):
        assert checker.began(at_ns, SECTION, incarnation, epoch, ceiling, planned) is None
    return checker


def test_numbers_that_follow_one_another_are_dense() -> None:
    checker = begun((OWN, 0, False))
    for first, count in ((1, 1), (2, 10), (12, 1)):
        assert checker.handed(5, UID, first, count, *OWN) is None
    assert checker.handed(5, UID + 1, 1, 1, *OWN) is None


@pytest.mark.parametrize("first", [1, 2, 4, 9])
def test_a_hole_or_a_step_back_within_one_owner_is_a_violation(first: int) -> None:
    checker = begun((OWN, 0, False))
    checker.handed(5, UID, 1, 2, *OWN)
    violation = checker.handed(6, UID, first, 1, *OWN)
    assert violation is not None
    assert (violation.promise, violation.uid) == ("SEQ-5", UID)


def test_a_new_owner_may_start_right_above_all_that_was_durable() -> None:
    checker = begun((OWN, 0, False))
    checker.handed(5, UID, 1, 2, *OWN)
    checker.began(6, SECTION, *NEXT, 50, False)
    assert checker.handed(7, UID, 51, 1, *NEXT) is None
    assert checker.handed(7, UID + 1, 51, 1, *NEXT) is None


def test_a_new_owner_that_starts_higher_is_a_violation() -> None:
    checker = begun((OWN, 0, False), (NEXT, 50, False))
    violation = checker.handed(7, UID, 52, 1, *NEXT)
    assert violation is not None
    assert "50" in violation.text


def test_all_uids_of_an_owner_start_at_one_base() -> None:
    checker = begun((OWN, 50, False))
    assert checker.handed(7, UID, 31, 1, *OWN) is None  # not all replicas were asked
    assert checker.handed(7, UID + 1, 31, 1, *OWN) is None
    assert checker.handed(7, UID + 2, 51, 1, *OWN)


def test_a_planned_owner_goes_on_exactly_where_the_one_before_stood() -> None:
    checker = begun((OWN, 20, False))
    checker.handed(5, UID, 21, 5, *OWN)
    checker.began(6, SECTION, *NEXT, 90, True)
    assert checker.handed(7, UID, 26, 1, *NEXT) is None
    assert checker.handed(7, UID + 1, 21, 1, *NEXT) is None  # untouched: at the base
    checker.began(8, SECTION, *THIRD, 90, True)
    assert checker.handed(9, UID, 27, 1, *THIRD) is None
    assert checker.handed(9, UID + 2, 21, 1, *THIRD) is None


@pytest.mark.parametrize(("uid", "first"), [(UID, 91), (UID, 27), (UID + 1, 22), (UID + 1, 91)])
def test_a_planned_change_that_makes_numbers_jump_is_a_violation(uid: int, first: int) -> None:
    checker = begun((OWN, 20, False))
    checker.handed(5, UID, 21, 5, *OWN)
    checker.began(6, SECTION, *NEXT, 90, True)
    assert checker.handed(7, uid, first, 1, *NEXT)


def test_an_unplanned_change_forgets_where_uids_stood() -> None:
    checker = begun((OWN, 0, False))
    checker.handed(5, UID, 1, 5, *OWN)
    checker.began(6, SECTION, *NEXT, 90, False)
    checker.began(7, SECTION, *THIRD, 190, True)
    assert checker.handed(8, UID, 91, 1, *THIRD) is None
    assert checker.handed(8, UID + 1, 91, 1, *THIRD) is None


def test_an_owner_that_never_began_hands_out_nothing() -> None:
    assert begun().handed(5, UID, 1, 1, *OWN)
    assert begun((OWN, 0, False)).handed(5, UID, 1, 1, OWN[0], OWN[1] + 1)
