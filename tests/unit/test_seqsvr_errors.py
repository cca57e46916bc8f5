import pytest

import seqsvr
from seqsvr.errors import (
    CLIENT_REASONS,
    TABLE,
    DataLoss,
    SeqError,
    error_for,
    reason_name,
    reason_value,
)
from seqsvr.invariants import BrokenInvariant, require
from seqsvr.v1 import alloc_pb2


def test_every_reason_of_the_wire_has_a_row_and_no_row_is_of_another() -> None:
    names = {name.removeprefix("REASON_") for name in alloc_pb2.Reason.keys()}  # noqa: SIM118
    assert set(TABLE) == names - {"UNSPECIFIED"}


def test_a_reason_survives_the_wire() -> None:
    for name in TABLE:
        assert reason_name(reason_value(name)) == name


def test_a_reason_of_a_later_version_is_a_fault_of_the_server() -> None:
    assert reason_name(9_999) == "INTERNAL"
    assert isinstance(error_for("NEWFANGLED", "text"), DataLoss)


def test_no_reason_is_both_of_the_wire_and_of_the_client() -> None:
    assert not set(TABLE) & set(CLIENT_REASONS)


def test_what_the_client_retries_of_its_own_accord_it_also_calls_retryable() -> None:
    for reason, row in TABLE.items():
        error = error_for(reason, "text", 7)
        assert (error.reason, error.uid, str(error)) == (reason, 7, "text")
        assert error.retryable == row.retry


def test_an_unknown_outcome_may_be_retried_and_a_bad_argument_is_a_value_error() -> None:
    assert error_for("OUTCOME_UNKNOWN", "").retryable
    assert isinstance(error_for("UID_OUT_OF_RANGE", ""), ValueError)


def test_every_error_is_exported() -> None:
    for kind in {row.error for row in TABLE.values()} | set(CLIENT_REASONS.values()):
        assert getattr(seqsvr, kind.__name__) is kind
        assert issubclass(kind, SeqError)
    assert seqsvr.__version__


def test_a_broken_invariant_is_none_of_the_errors_a_caller_handles() -> None:
    require(True, "fine")
    with pytest.raises(BrokenInvariant, match="two owners") as caught:
        require(False, "two owners")
    assert not isinstance(caught.value, SeqError)
