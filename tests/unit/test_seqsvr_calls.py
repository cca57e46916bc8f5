import pytest

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
from seqsvr.channels import parse_seeds
from seqsvr.errors import (
    InvalidArgument,
    LeaseExpired,
    OutcomeUnknown,
    SequenceExhausted,
    Unavailable,
)
from seqsvr.retry import LAST_DELAY_S, delay_s


class Caller:
    """A future without a loop."""

    def __init__(self) -> None:
        self.results = 0

    def done(self) -> bool:
        return self.results > 0

    def set_result(self, result: None, /) -> None:
        self.results += 1


@pytest.mark.parametrize("uid", [-1, 100, 2**64, True, False, 1.0, "7", None, b"7", [7]])
def test_a_uid_that_is_no_integer_below_the_limit_is_refused_by_name_and_bound(uid: object) -> None:
    with pytest.raises(InvalidArgument, match=r"uid must be an integer in 0\.\.99, not ") as caught:
        checked_uid(uid, 100)
    assert caught.value.reason == "UID_OUT_OF_RANGE"
    assert not caught.value.retryable


@pytest.mark.parametrize("count", [-1, 0, 10_001, 2**32 - 1, True, 1.0, "7", None])
def test_a_count_out_of_bounds_is_refused_by_name_and_bound(count: object) -> None:
    with pytest.raises(InvalidArgument, match=r"count must be an integer in 1\.\.10000") as caught:
        checked_count(count, 5)
    assert caught.value.reason == "COUNT_OUT_OF_RANGE"
    assert caught.value.uid == 5


def test_bounds_themselves_are_in_bounds() -> None:
    assert [checked_uid(uid, 100) for uid in (0, 99)] == [0, 99]
    assert [checked_count(count, 0) for count in (1, 10_000)] == [1, 10_000]


def test_what_counts_as_an_integer_elsewhere_does_here() -> None:
    class Index:
        def __index__(self) -> int:
            return 7

    assert checked_uid(Index(), 100) == 7


def test_the_text_of_a_refusal_is_short_however_long_the_argument() -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_uid("x" * 10_000, 100)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        checked_timeout(timeout)
    with pytest.raises(TypeError, match="timeout"):
        checked_timeout("1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "found"),
    [
        ("h:1", ("h:1",)),
        ("h:1,g:2", ("h:1", "g:2")),
        (" h:1 , g:2,", ("h:1", "g:2")),
        (["h:1", "g:2,h:1"], ("h:1", "g:2")),
        (("[::1]:7420",), ("[::1]:7420",)),
    ],
)
def test_seeds_are_one_string_or_many(seeds: object, found: tuple[str, ...]) -> None:
    assert parse_seeds(seeds) == found


@pytest.mark.parametrize(
    "seeds", ["", ",", [], "host", "host:", ":1", "h:0", "h:65536", "::1:7", "h:x"]
)
def test_a_seed_that_is_no_address_is_refused(seeds: object) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_seeds(seeds)
    for wrong in (None, 7, [7]):
        with pytest.raises(TypeError, match="seed"):
            parse_seeds(wrong)


def test_delays_double_up_to_a_cap_and_are_jittered_within_half() -> None:
    assert [delay_s(n, 1.0) for n in range(4)] == [0.005, 0.01, 0.02, 0.04]
    assert delay_s(10_000, 1.0) == LAST_DELAY_S
    assert delay_s(0, 0.0) == 0.0025


def test_a_delay_asked_for_is_a_floor() -> None:
    assert delay_s(0, 0.0, 3.0) == 3.0
    assert 3.0 < delay_s(0, 0.9, 3.0) < 4.0


def test_doubt_turns_no_effect_into_unknown_for_an_allocation_only() -> None:
    gone = lost("h:1", "broke")
    allocation, reading = Entry(Op.NEXT, 3, 1, 0.0), Entry(Op.CURRENT, 3, 1, 0.0)
    assert type(error_of(allocation, gone)) is Unavailable
    allocation.doubt = reading.doubt = 1
    unknown = error_of(allocation, gone)
    assert isinstance(unknown, OutcomeUnknown)
    assert (unknown.reason, unknown.uid) == ("OUTCOME_UNKNOWN", 3)
    assert type(error_of(reading, gone)) is Unavailable
    assert type(error_of(reading, refused("LEASE_EXPIRED", "", ""))) is LeaseExpired


def test_a_final_refusal_says_more_than_doubt() -> None:
    entry = Entry(Op.NEXT, 3, 1, 0.0)
    entry.doubt = 1
    exhausted = error_of(entry, refused("SEQUENCE_EXHAUSTED", "all gone", "h:1"))
    assert isinstance(exhausted, SequenceExhausted)
    assert not exhausted.retryable


def test_a_tally_is_done_with_its_last_entry_or_with_its_caller() -> None:
    caller = Caller()
    tally = Tally(caller, 3)
    tally.set_result(None)
    tally.set_result(None)
    assert not tally.done()
    tally.set_result(None)
    assert tally.done()
    assert caller.results == 1

    gone = Caller()
    left = Tally(gone, 1)
    gone.set_result(None)
    assert left.done()
    left.set_result(None)
    assert gone.results == 1


def test_an_entry_whose_caller_is_gone_keeps_no_failure() -> None:
    entry = Entry(Op.NEXT, 1, 1, 0.0)
    entry.waiter = Caller()
    entry.waiter.set_result(None)
    entry.fail(Failure("TIMEOUT", ""))
    assert entry.failure is None


def test_a_uid_that_occurs_twice_gets_its_numbers_in_order_seq_1() -> None:
    entries = [Entry(Op.NEXT, uid, 1, 0.0) for uid in (7, 8, 7, 7)]
    for entry, seq in zip(entries, (30, 1, 10, 20), strict=True):
        entry.seq, entry.epoch = seq, seq // 10
    sort_repeated(entries)
    assert [(entry.seq, entry.epoch) for entry in entries] == [(10, 1), (1, 0), (20, 2), (30, 3)]
