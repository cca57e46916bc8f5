"""SEQ-1 and SEQ-4 while calls happen."""

import pytest

from seqcheck import Current, HandedOut, Order, Violation
from seqsvr.invariants import BrokenInvariant

UID = 7


def test_numbers_that_rise_are_in_order_and_overlapping_ones_in_any() -> None:
    checker = Order()
    checker.began(0, "a", UID)
    checker.began(0, "b", UID)
    assert checker.answered(1, "b", 9, 1) is None
    assert checker.answered(2, "a", 1, 8) is None
    checker.began(2, "c", UID)
    assert checker.answered(3, "c", 10, 1) is None


def test_a_lower_number_after_an_answer_is_a_violation_that_tells_the_story() -> None:
    checker = Order()
    checker.began(0, "a", UID)
    checker.answered(1, "a", 5, 4)
    checker.began(1, "b", UID)  # the same instant, but after
    checker.began(1, "other", UID + 1)
    violation = checker.answered(2, "b", 8, 1)
    assert violation is not None
    assert (violation.promise, violation.uid, violation.at_ns) == ("SEQ-1", UID, 2)
    assert [item.at_ns for item in violation.evidence if not hasattr(item, "seq")] == [1, 1, 2]
    assert checker.answered(2, "other", 1, 1) is None
    assert checker.violations == [violation]


def test_a_call_that_failed_binds_nobody() -> None:
    checker = Order()
    checker.began(0, "a", UID)
    checker.failed(1, "a")
    checker.began(2, "b", UID)
    assert checker.answered(3, "b", 1, 1) is None


@pytest.mark.parametrize("checker", [Order(), Current()])
def test_a_feeder_that_contradicts_itself_is_stopped(checker: Order | Current) -> None:
    checker.began(0, "a", UID)
    with pytest.raises(BrokenInvariant):
        checker.began(0, "a", UID)
    checker.failed(1, "a")
    with pytest.raises(BrokenInvariant):
        checker.answered(2, "a", 1, 1)


class Calls:
    """Calls one after the other, none overlapping."""

    def __init__(self, handed_out: HandedOut | None = None) -> None:
        self.checker = Current(handed_out)
        self.at_ns = 0

    def _began(self, uid: int) -> int:
        self.at_ns += 2
        self.checker.began(self.at_ns, self.at_ns, uid)
        return self.at_ns

    def next(self, first: int, count: int = 1, uid: int = UID) -> Violation | None:
        call = self._began(uid)
        return self.checker.answered(call + 1, call, first, count)

    def current(self, value: int, exact: bool = False, uid: int = UID) -> Violation | None:
        call = self._began(uid)
        return self.checker.answered_current(call + 1, call, value, exact)


def test_current_between_its_neighbours_is_legal() -> None:
    calls = Calls()
    assert calls.current(0, exact=True) is None
    assert calls.next(1, 5) is None
    assert calls.current(5, exact=True) is None
    assert calls.current(900) is None
    assert calls.current(1, uid=UID + 1) is None
    assert calls.next(901) is None


def test_current_below_a_number_that_was_handed_out_is_a_violation() -> None:
    calls = Calls()
    calls.next(5)
    violation = calls.current(4)
    assert violation is not None
    assert (violation.promise, violation.uid) == ("SEQ-4", UID)
    assert "handed out" in violation.text


def test_the_highest_number_binds_not_the_latest_answer() -> None:
    checker = Current()
    checker.began(0, "low", UID)
    checker.began(0, "high", UID)
    checker.answered(1, "high", 9, 1)
    checker.answered(2, "low", 1, 1)
    checker.began(3, "current", UID)
    assert checker.answered_current(4, "current", 8, False)


def test_current_that_falls_is_a_violation() -> None:
    calls = Calls()
    calls.current(900)
    violation = calls.current(899)
    assert violation is not None
    assert "it said 900" in violation.text


@pytest.mark.parametrize("first", [899, 900])
def test_a_number_not_above_a_current_that_was_answered_is_a_violation(first: int) -> None:
    calls = Calls()
    calls.current(900)
    assert calls.next(first)


@pytest.mark.parametrize("current_first", [True, False])
def test_an_exact_current_inside_a_range_is_a_violation_in_either_order(
    current_first: bool,
) -> None:
    for value, inside in ((4, False), (5, True), (8, True), (9, False)):
        checker = Current()
        checker.began(0, "range", UID)
        checker.began(0, "current", UID)
        found = []
        for op in ("current", "range") if current_first else ("range", "current"):
            if op == "range":
                found.append(checker.answered(1, op, 5, 5))
            else:
                found.append(checker.answered_current(1, op, value, True))
        assert [violation is not None for violation in found] == [False, inside], value


def test_a_ceiling_inside_a_range_in_flight_is_legal() -> None:
    checker = Current()
    checker.began(0, "range", UID)
    checker.began(0, "current", UID)
    assert checker.answered_current(1, "current", 6, False) is None
    assert checker.answered(2, "range", 5, 5) is None


def test_an_exact_current_is_a_number_that_really_went_out() -> None:
    handed_out = HandedOut()
    handed_out.handed(0, UID, 1, 5, 11, 1)
    calls = Calls(handed_out)
    assert calls.current(0, exact=True) is None
    assert calls.current(5, exact=True) is None
    assert calls.current(6) is None
    violation = calls.current(7, exact=True)
    assert violation is not None
    assert "never handed out" in violation.text


def test_a_current_that_failed_binds_nobody() -> None:
    calls = Calls()
    calls.checker.began(0, "lost", UID)
    calls.checker.failed(1, "lost")
    assert calls.next(1) is None
