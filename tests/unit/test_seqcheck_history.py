"""Good histories pass; each bad one fails for exactly its reason (SEQ-1, SEQ-2, SEQ-4, ROUTE-1)."""

import pytest

from made_calls import current, handout
from seqcheck.calls import Call
from seqcheck.history import check

GOOD = {
    "no call at all": [],
    "numbers in order": [handout(1, 0, 1), handout(2, 2, 3), handout(3, 4, 5)],
    "gaps": [handout(5, 0, 1), handout(90, 2, 3)],
    "overlapping calls in any order": [handout(2, 0, 5), handout(1, 1, 4)],
    "answer and call at the same instant": [handout(2, 0, 5), handout(1, 5, 9)],
    "ranges side by side": [handout(1, 0, 9, count=10), handout(11, 1, 8, count=10)],
    "a uid of its own": [handout(5, 0, 1, uid=1), handout(5, 2, 3, uid=2)],
    "current equal to the last number": [handout(5, 0, 1), current(5, 2, 3, exact=True)],
    "a ceiling far above": [handout(5, 0, 1), current(10_000, 2, 3), handout(10_001, 4, 5)],
    "current beside a call in flight": [handout(5, 0, 9), current(5, 1, 2), current(5, 3, 4)],
    "current before a call in flight": [handout(5, 0, 9), current(4, 1, 2)],
    "a ceiling in a range in flight": [handout(1, 0, 9, count=9), current(5, 1, 2)],
    "an exact number of a stranger": [handout(5, 0, 1), current(8, 2, 3, exact=True)],
    "epochs that rise": [handout(1, 0, 1, epoch=1), handout(2, 2, 3, epoch=4)],
    "epochs in flight together": [handout(9, 0, 9, epoch=2), handout(1, 1, 8, epoch=1)],
    "an unknown epoch": [handout(1, 0, 1, epoch=4), handout(2, 2, 3, epoch=0)],
    "a failed call says nothing": [
        handout(5, 0, 1, epoch=3),
        handout(5, 2, 3, error="OUTCOME_UNKNOWN", epoch=1),
        current(0, 2, 3, error="TIMEOUT", exact=True),
        handout(6, 4, 5, epoch=3),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: str) -> None:
    assert check(GOOD[name]).violations == []


def a(call: Call) -> Call:
    call.where = ("history", 1)
    return call


def b(call: Call) -> Call:
    call.where = ("history", 2)
    return call


BAD = {
    "a number falls": ("SEQ-1", [a(handout(9, 0, 1)), b(handout(8, 2, 3))]),
    "a number falls behind a call in between": (
        "SEQ-1",
        [a(handout(9, 0, 1)), handout(3, 0, 9), b(handout(8, 3, 4))],
    ),
    "a number falls below the end of a range": (
        "SEQ-1",
        [a(handout(11, 0, 1, count=10)), b(handout(1, 2, 3, count=10))],
    ),
    "a number is handed out twice": ("SEQ-2", [a(handout(5, 0, 9)), b(handout(5, 1, 8))]),
    "ranges overlap by one": (
        "SEQ-2",
        [a(handout(1, 0, 9, count=10)), b(handout(10, 1, 8, count=2))],
    ),
    "a range inside a range, found behind a smaller one": (
        "SEQ-2",
        [a(handout(1, 0, 9, count=99)), b(handout(50, 0, 9))],
    ),
    "current is below a number handed out": ("SEQ-4", [a(handout(5, 0, 1)), b(current(4, 2, 3))]),
    "current is below the end of a range": (
        "SEQ-4",
        [a(handout(1, 0, 1, count=9)), b(current(8, 2, 3))],
    ),
    "a number is handed out again after current": (
        "SEQ-4",
        [a(current(5, 0, 1)), b(handout(5, 2, 3))],
    ),
    "a number is below a ceiling": ("SEQ-4", [a(current(10_000, 0, 1)), b(handout(6, 2, 3))]),
    "current falls": ("SEQ-4", [a(current(5, 0, 1)), b(current(4, 2, 3, exact=True))]),
    "an exact current inside a range in flight": (
        "SEQ-4",
        [a(handout(1, 0, 9, count=9)), b(current(5, 1, 2, exact=True))],
    ),
    "an epoch falls": (
        "ROUTE-1",
        [a(handout(1, 0, 1, epoch=2)), b(handout(2, 2, 3, epoch=2)), handout(3, 4, 5)],
    ),
    "an epoch falls between currents": (
        "ROUTE-1",
        [a(current(5, 0, 1, epoch=2)), b(current(5, 2, 3, epoch=1))],
    ),
    "a higher epoch has a lower number": (
        "ROUTE-1",
        [a(handout(9, 0, 9, epoch=1)), b(handout(3, 1, 8, epoch=2))],
    ),
    "a higher epoch hands out below a ceiling of a lower one": (
        "ROUTE-1",
        [a(current(9, 0, 9, epoch=1)), b(handout(9, 1, 8, epoch=2))],
    ),
    "a higher epoch has a lower current": (
        "ROUTE-1",
        [handout(4, 0, 9, epoch=1), a(current(9, 0, 9, epoch=1)), b(current(8, 1, 8, epoch=2))],
    ),
}
BAD["an epoch falls"][1][1].epoch = 1


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_bad_history_fails_for_exactly_its_reason(name: str, backwards: bool) -> None:
    promise, calls = BAD[name]
    found = check(reversed(calls) if backwards else calls).violations
    assert {violation.promise for violation in found} == {promise}
    assert {call.where for call in found[0].calls} == {("history", 1), ("history", 2)}


def test_a_repeat_in_order_breaks_both_order_and_uniqueness() -> None:
    found = check([handout(5, 0, 1), handout(5, 2, 3)]).violations
    assert [violation.promise for violation in found] == ["SEQ-1", "SEQ-2"]


def test_each_call_that_repeats_numbers_is_reported() -> None:
    wide = handout(1, 0, 9, count=99)
    found = check([wide, handout(5, 0, 9), handout(50, 0, 9)]).violations
    assert [(v.promise, v.calls[0], v.calls[1].seq) for v in found] == [
        ("SEQ-2", wide, 5),
        ("SEQ-2", wide, 50),
    ]


def test_the_offending_calls_stand_in_order_of_time() -> None:
    early, late = handout(9, 0, 1), handout(8, 2, 3)
    (violation,) = check([late, early]).violations
    assert violation.calls == (early, late)
    assert violation.uid == early.uid
    assert "8" in violation.text
    assert "9" in violation.text


def test_uids_are_not_mixed_up() -> None:
    found = check([handout(9, 0, 1, uid=1), handout(8, 2, 3, uid=2), handout(7, 4, 5, uid=2)])
    assert [violation.uid for violation in found.violations] == [2]


def test_an_exact_current_nobody_was_handed_breaks_a_complete_history() -> None:
    calls = [handout(5, 0, 9), current(6, 1, 2, exact=True)]
    assert check(calls).violations == []
    (violation,) = check(calls, complete=True).violations
    assert violation.promise == "SEQ-4"


def test_an_exact_current_before_any_hand_out_breaks_a_complete_history() -> None:
    (violation,) = check([current(1, 1, 2, exact=True)], complete=True).violations
    assert violation.promise == "SEQ-4"
    assert len(violation.calls) == 1


@pytest.mark.parametrize(
    "calls",
    [
        [current(0, 0, 1, exact=True)],
        [current(10_000, 0, 1)],
        [handout(5, 0, 9), current(5, 1, 2, exact=True)],
        [handout(0, 0, 1, error="TIMEOUT"), current(6, 1, 2, exact=True)],
    ],
)
def test_a_complete_history_is_not_blamed_for_what_can_be(calls: list[Call]) -> None:
    assert check(calls, complete=True).violations == []


def test_statistics_count_calls_numbers_uids_failures_and_gaps() -> None:
    figures = check(
        [
            handout(1, 0, 1, count=5),
            handout(6, 2, 3),
            handout(9, 4, 5),
            current(9, 6, 7),
            handout(0, 8, 9, error="TIMEOUT"),
            handout(100, 0, 1, uid=8),
        ]
    ).statistics
    assert (figures.calls, figures.numbers, figures.uids) == (6, 8, 2)
    assert (figures.failed, figures.gaps) == (1, 1)
