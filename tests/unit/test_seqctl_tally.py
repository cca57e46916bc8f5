"""What a replay amounts to: figures, jumps and violations (SEQ-1, SEQ-2, SEQ-4)."""

from typing import Any

import pytest

from made_calls import current, handout
from seqcheck.calls import Call
from seqctl.tally import KEPT_VIOLATIONS, Baseline, Summary, Tally, jumps, summarize
from seqctl.trace import Trace

FRESH = Baseline(0, True, 1, 2)


def trace_of(*messages: tuple[int, int]) -> Trace:
    trace = Trace("trace")
    for line, (sender, recipient) in enumerate(messages, start=1):
        trace._append(line, sender, recipient)
    return trace


def summary_of(trace: Trace, tally: Tally, **more: Any) -> Summary:
    return summarize(trace, tally, **{"elapsed_ns": 10**9, "section_size": 100, **more})


def test_a_dense_replay_from_nothing_has_no_jumps_and_no_violations() -> None:
    trace = trace_of((1, 2), (2, 1), (205, 1))
    tally = Tally(3, dict.fromkeys((1, 2, 205), FRESH))
    tally.handed(0, 1, 1, 10, 20)
    tally.handed(1, 2, 2, 30, 40)
    tally.handed(2, 3, 1, 50, 60)
    assert summary_of(trace, tally).as_json() == {
        "messages": 3,
        "numbers": 6,
        "per_second": 6.0,
        "p50_ms": 0.0,
        "p99_ms": 0.0,
        "p999_ms": 0.0,
        "jumps": 0,
        "violations": 0,
        "failed": 0,
        "uids": 3,
        "sections": 2,
    }


def test_a_message_to_oneself_takes_two_numbers_of_one_uid() -> None:
    trace, tally = trace_of((1, 1)), Tally(1, {1: FRESH})
    tally.handed(0, 1, 2, 10, 20)
    summary = summary_of(trace, tally)
    assert (summary.numbers, summary.jumps, summary.violations) == (2, 0, 0)


@pytest.mark.parametrize(
    ("baseline", "numbers", "expected"),
    [
        (current(0, 0, 1, exact=True), [1, 2, 3], 0),
        (current(0, 0, 1, exact=False), [1, 2], 0),
        (current(0, 0, 1, exact=True), [2], 1),
        (current(7, 0, 1, exact=True), [8, 9], 0),
        (current(7, 0, 1, exact=True), [9, 10, 20], 2),
        (current(7, 0, 1, exact=False), [8, 9], 1),
        (current(7, 0, 1, exact=False), [9, 11], 2),
        (current(7, 0, 1, exact=False), [], 0),
        (current(7, 0, 1, exact=True), [8, 8, 9], 0),
    ],
)
def test_jumps_are_holes_and_a_ceiling_is_one(
    baseline: Call, numbers: list[int], expected: int
) -> None:
    assert jumps([baseline, *(handout(seq, 2, 3) for seq in reversed(numbers))]) == expected


def test_numbers_that_fall_name_the_lines_of_the_trace() -> None:
    trace = trace_of((1, 2), (3, 2))
    tally = Tally(2, dict.fromkeys((1, 2, 3), FRESH))
    tally.handed(0, 5, 1, 10, 20)
    tally.handed(1, 4, 1, 30, 40)
    summary = summary_of(trace, tally)
    assert summary.violations == 1
    (violation,) = summary.shown
    assert violation.promise == "SEQ-1"
    assert violation.uid == 2
    assert [call.where for call in violation.calls] == [("trace", 1), ("trace", 2)]


def test_a_number_that_the_baseline_had_already_is_a_violation() -> None:
    trace = trace_of((1, 2))
    tally = Tally(1, {1: FRESH, 2: Baseline(9, True, 1, 2)})
    tally.handed(0, 9, 1, 10, 20)
    assert [violation.promise for violation in summary_of(trace, tally).shown] == ["SEQ-4"]


def test_all_violations_are_counted_and_the_first_ones_kept() -> None:
    trace, tally = trace_of(*[(1, 2)] * 50), Tally(50, dict.fromkeys((1, 2), FRESH))
    for message in range(50):
        tally.handed(message, 1, message + 1, 10, 20)
    summary = summary_of(trace, tally)
    assert summary.violations == 49
    assert len(summary.shown) == KEPT_VIOLATIONS


def test_failed_messages_count_for_nothing_but_themselves() -> None:
    trace, tally = trace_of((1, 2), (1, 2)), Tally(2, dict.fromkeys((1, 2), FRESH))
    tally.handed(1, 1, 1, 10, 20)
    tally.failed = 1
    summary = summary_of(trace, tally)
    assert (summary.messages, summary.numbers, summary.failed) == (1, 2, 1)
    assert (summary.jumps, summary.violations) == (0, 0)


def test_percentiles_are_of_whole_messages() -> None:
    messages = 1000
    trace, tally = trace_of(*[(1, 2)] * messages), Tally(messages, {1: FRESH, 2: FRESH})
    for message in range(messages):
        tally.handed(message, message + 1, message + 1, 10, 10 + (message + 1) * 1_000_000)
    summary = summary_of(trace, tally)
    assert (summary.p50_ms, summary.p99_ms, summary.p999_ms) == (500.0, 990.0, 999.0)
