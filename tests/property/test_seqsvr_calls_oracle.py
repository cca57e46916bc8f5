"""A call of the client: its bounds, its attempts and their doubt, and what its caller is told.

SEQ-1 (a uid's numbers in the order of its entries), SEQ-2 (a call that may have taken numbers never
says that it did not).
"""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqsvr.calls import (
    Entry,
    Failure,
    Op,
    Tally,
    checked_count,
    checked_timeout,
    checked_uid,
    error_of,
    lost,
    refused,
    sort_repeated,
)
from seqsvr.errors import CLIENT_REASONS, TABLE, InvalidArgument, OutcomeUnknown, Unavailable
from seqsvr.retry import FIRST_DELAY_S, LAST_DELAY_S, delay_s
from seqsvr.sections import MAX_COUNT, Layout


class Caller:
    """A future that counts."""

    def __init__(self) -> None:
        self.results = 0
        self.left = False

    def done(self) -> bool:
        return self.left or self.results > 0

    def set_result(self, result: None, /) -> None:
        self.results += 1


class Indexed:
    """An integer that is not an int, as numpy has them."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


VALUES = st.one_of(
    st.integers(-3, 12),
    st.integers(-(2**65), 2**65),
    st.sampled_from([MAX_COUNT, MAX_COUNT + 1]),
    st.integers(-3, 12).map(Indexed),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
    st.none(),
    st.just(Fraction(3)),
)


def as_int(value: object) -> int | None:
    if isinstance(value, Indexed):
        return value.value
    return value if type(value) is int else None


@given(VALUES, st.integers(1, 12))
def test_uids_and_counts_are_whole_numbers_within_their_bounds(value: object, limit: int) -> None:
    number = as_int(value)
    if number is not None and 0 <= number < limit:
        assert checked_uid(value, limit) == number
    else:
        with pytest.raises(InvalidArgument) as caught:
            checked_uid(value, limit)
        assert (caught.value.reason, caught.value.uid) == ("UID_OUT_OF_RANGE", number)
        assert str(limit - 1) in str(caught.value)
    if number is not None and 1 <= number <= MAX_COUNT:
        assert checked_count(value, 7) == number
    else:
        with pytest.raises(InvalidArgument) as caught:
            checked_count(value, 7)
        assert (caught.value.reason, caught.value.uid) == ("COUNT_OUT_OF_RANGE", 7)


@given(VALUES)
def test_a_timeout_is_a_finite_time_that_is_not_negative(value: object) -> None:
    number = float(value) if type(value) is int or type(value) is float else None
    if number is None:
        with pytest.raises(TypeError):
            checked_timeout(value)  # type: ignore[arg-type]
    elif 0 <= number < float("inf"):
        assert checked_timeout(number) == number
    else:
        with pytest.raises(ValueError, match="finite and not negative"):
            checked_timeout(number)


REASONS = st.sampled_from([*TABLE, *CLIENT_REASONS, "SOMETHING_NEW"])


@given(REASONS, st.sampled_from(Op), st.integers(0, 3), st.floats(0, 9))
def test_a_call_in_doubt_never_says_that_it_took_no_effect(
    reason: str, op: Op, doubt: int, after_s: float
) -> None:
    entry = Entry(op, 5, 1, 10.0)
    entry.doubt = doubt
    failure = refused(reason, "why", "a:1", after_s)
    error = error_of(entry, failure)
    assert error.uid == 5
    if isinstance(error, Unavailable):
        assert op is Op.CURRENT or not doubt, "Unavailable promises that nothing was taken"
    else:
        in_doubt = reason in TABLE and issubclass(TABLE[reason].error, Unavailable)
        assert isinstance(error, OutcomeUnknown) == in_doubt
    row = TABLE.get(reason)
    assert failure.reason == (reason if row else "INTERNAL")
    assert (failure.retry, failure.reroute) == ((row.retry, row.reroute) if row else (False, False))
    assert failure.retry_after_s == (after_s if row else 0)
    assert lost("a:1", "why").retry and lost("a:1", "why").reroute


@given(st.lists(st.sampled_from(["settle", "fail", "leave"]), max_size=6), st.integers(1, 4))
def test_a_tally_completes_its_future_once_when_all_are_settled(
    steps: list[str], left: int
) -> None:
    caller = Caller()
    tally = Tally(caller, left)
    settled = 0
    for step in steps[:left]:
        if step == "leave":
            caller.left = True
        elif step == "fail":
            entry = Entry(Op.NEXT, 1, 1, 1.0)
            entry.waiter = tally
            waited = not tally.done()
            entry.fail(Failure("TIMEOUT", "late"))
            assert (entry.failure is not None) == waited
            settled += waited
        else:
            tally.set_result(None)
            settled += 1
        assert caller.results == (settled == left and not caller.left)
        assert tally.done() == (caller.left or settled == left)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50), st.integers(1, 3)), max_size=8))
def test_a_repeated_uid_gets_its_numbers_in_the_order_of_its_entries_seq_1(
    answered: list[tuple[int, int, int]],
) -> None:
    entries = []
    for uid, seq, epoch in answered:
        entry = Entry(Op.NEXT, uid, 1, 1.0)
        entry.seq, entry.epoch = seq, epoch
        entries.append(entry)
    sort_repeated(entries)
    for uid in range(4):
        mine = [(entry.seq, entry.epoch) for entry in entries if entry.uid == uid]
        assert mine == sorted((seq, epoch) for u, seq, epoch in answered if u == uid)
    assert [entry.uid for entry in entries] == [uid for uid, _, _ in answered]


@given(st.integers(0, 2_000), st.floats(0, 1, exclude_max=True), st.floats(0, 100))
def test_pauses_double_up_to_a_cap_and_never_undercut_the_server(
    attempt: int, luck: float, asked_s: float
) -> None:
    pause = delay_s(attempt, luck, asked_s)
    whole = FIRST_DELAY_S
    for _ in range(min(attempt, 20)):
        whole = min(LAST_DELAY_S, 2 * whole)
    jittered = whole * (1 + luck) / 2
    assert pause == pytest.approx(max(jittered, asked_s * (1 + luck / 4)))
    assert pause >= asked_s
    assert delay_s(attempt, luck) <= LAST_DELAY_S
    assert delay_s(attempt, luck) <= delay_s(attempt + 1, luck) + 1e-12


@given(st.integers(1, 9), st.integers(1, 60))
def test_every_uid_lies_in_one_section_and_every_section_has_one(size: int, limit: int) -> None:
    layout = Layout(size, limit)
    of = [layout.section_of(uid) for uid in range(limit)]
    assert sorted(set(of)) == list(range(layout.sections))
    assert of == sorted(of)
    assert max(of.count(section) for section in of) <= size


@given(st.sampled_from([0, -1, 1, 2**32, 2**32 + 1, 2**63, 2**63 + 1]), st.booleans())
def test_layouts_out_of_bounds_are_refused(value: int, is_limit: bool) -> None:
    most = 2**63 if is_limit else 2**32
    sizes = (1, value) if is_limit else (value, 1)
    if 1 <= value <= most:
        assert Layout(*sizes).sections >= 1
    else:
        with pytest.raises(ValueError, match=str(value)):
            Layout(*sizes)
