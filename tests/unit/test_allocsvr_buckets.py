"""What one caller may take per second."""

import pytest

from allocsvr.buckets import BURST_S, Bucket, Purse, Rates


def test_a_bucket_is_full_at_first_and_refills_at_its_rate() -> None:
    bucket = Bucket(10.0, 0.0)
    for _ in range(int(10 * BURST_S)):
        assert bucket.wait_s(0.0) == 0
        bucket.take(1)
    assert bucket.wait_s(0.0) == pytest.approx(0.1)
    assert bucket.wait_s(0.05) == pytest.approx(0.05)
    assert bucket.wait_s(0.1) == 0


def test_what_a_large_request_takes_beyond_the_bucket_is_paid_back_before_the_next() -> None:
    bucket = Bucket(100.0, 0.0)
    bucket.take(1_000)
    assert bucket.wait_s(0.0) == pytest.approx((1_000 - 100 + 1) / 100)
    assert bucket.wait_s(9.0) > 0
    assert bucket.wait_s(9.02) == 0


def test_a_bucket_does_not_gain_from_a_clock_that_goes_back() -> None:
    bucket = Bucket(1.0, 10.0)
    bucket.take(1)
    assert bucket.wait_s(0.0) == bucket.wait_s(0.0) == pytest.approx(1.0)


def test_a_rate_below_one_a_second_lets_a_request_in_now_and_then() -> None:
    bucket = Bucket(0.1, 0.0)
    assert bucket.wait_s(0.0) == 0
    bucket.take(1)
    assert bucket.wait_s(0.0) == pytest.approx(10.0)
    assert bucket.wait_s(10.0) == 0


def test_a_request_is_refused_for_the_rate_that_is_used_up_and_then_costs_nothing() -> None:
    purse = Purse(Rates(requests_per_s=5.0, numbers_per_s=100.0), 0.0)
    assert purse.pay(200, 0.0) == ("", 0.0)
    limit, again_s = purse.pay(1, 0.0)
    assert limit == "numbers-per-s" and again_s == pytest.approx(1.01)
    assert [purse.pay(0, 0.0)[0] for _ in range(5)] == ["", "", "", "", "requests-per-s"]


def test_without_rates_everything_is_let_in() -> None:
    purse = Purse(Rates(), 0.0)
    assert {purse.pay(10_000, 0.0) for _ in range(100)} == {("", 0.0)}
    assert purse.is_full(0.0)


def test_a_purse_may_be_forgotten_once_it_is_full_again() -> None:
    purse = Purse(Rates(numbers_per_s=10.0), 0.0)
    purse.pay(20, 0.0)
    assert not purse.is_full(1.9)
    assert purse.is_full(2.1)
