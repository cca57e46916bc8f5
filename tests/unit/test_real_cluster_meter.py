"""The meter of the cluster tests: what it does not see would never fail a test."""

from real_cluster.meter import Figures, Meter

S = 1_000_000_000


def metered() -> Meter:
    meter = Meter([7, 8], 0)
    meter.begin("fault", 0)
    return meter


def answer(meter: Meter, at_ns: int, seq: int, count: int = 1, uid: int = 7) -> None:
    meter.answered(uid, meter.highest[uid], at_ns - 1, at_ns, seq, count)


def ended(meter: Meter, at_ns: int) -> Figures:
    return meter.begin("after", at_ns)


def test_the_longest_gap_of_each_uid_is_kept() -> None:
    meter = metered()
    for at_s, seq in ((1, 1), (4, 2), (5, 3)):
        answer(meter, at_s * S, seq)
        answer(meter, at_s * S, seq, uid=8)
    answer(meter, 11 * S, 4, uid=8)
    gaps = ended(meter, 11 * S).longest
    assert (gaps[7].start_ns, gaps[7].end_ns) == (5 * S, 11 * S), "it is open at the end"
    assert (gaps[8].start_ns, gaps[8].end_ns) == (5 * S, 11 * S)


def test_a_gap_across_the_border_of_phases_is_not_halved() -> None:
    meter = metered()
    answer(meter, 1 * S, 1)
    ended(meter, 4 * S)
    answer(meter, 9 * S, 2)
    assert ended(meter, 9 * S).longest[7].length_ns == 8 * S


def test_a_number_at_or_below_an_answered_one_is_a_broken_promise() -> None:
    for seq, count, broken in ((6, 1, 0), (5, 1, 1), (4, 1, 1), (5, 0, 0), (4, 0, 1)):
        meter = metered()
        answer(meter, S, 1, 5)
        answer(meter, 2 * S, seq, count)
        assert len(ended(meter, 3 * S).broken) == broken, (seq, count)


def test_a_call_that_began_before_the_other_was_answered_may_get_less() -> None:
    meter = metered()
    floor = meter.highest[7]
    answer(meter, 2 * S, 2)
    meter.answered(7, floor, S, 3 * S, 1, 1)
    assert not ended(meter, 4 * S).broken


def test_a_jump_is_seen_once_and_with_its_size() -> None:
    meter = metered()
    answer(meter, S, 90_000)  # where it stood before is not known
    answer(meter, 2 * S, 90_001, 100)
    answer(meter, 3 * S, 90_101)
    answer(meter, 4 * S, 100_001)
    answer(meter, 5 * S, 100_002)
    phase = ended(meter, 6 * S)
    assert (phase.jumps, phase.largest_jump) == (1, 100_001 - 90_101)


def test_failed_calls_are_counted_by_reason_and_uid_with_their_times() -> None:
    meter = metered()
    for at_s, uid, reason in ((1, 7, "TIMEOUT"), (2, 7, "TIMEOUT"), (3, 8, "NOT_OWNER")):
        meter.failed(uid, reason, at_s * S)
    phase = ended(meter, 4 * S)
    assert phase.failed == {"TIMEOUT": 2, "NOT_OWNER": 1}
    assert phase.failed_uids == {7: 2, 8: 1}
    assert phase.first_failed_ns["TIMEOUT"] == S and phase.last_failed_ns["TIMEOUT"] == 2 * S
    assert not ended(meter, 5 * S).failed
