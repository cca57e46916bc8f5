"""When a lease ends on its holder's clock, and in which order members are tried."""

import pytest

from clustermap.etcd_liveness import Expiry, Rota, lease_seconds

S = 1_000_000_000


@pytest.mark.parametrize(("ttl_s", "asked"), [(0.1, 2), (1.0, 2), (2.0, 2), (2.1, 3), (5.0, 5)])
def test_the_time_to_live_is_rounded_up_and_at_least_two(ttl_s: float, asked: int) -> None:
    assert lease_seconds(ttl_s) == asked


def test_a_lease_counts_from_before_its_request_was_sent() -> None:
    expiry = Expiry(sent_ns=10 * S, ttl_s=2.0)
    assert expiry.left_s(10 * S) == 2.0
    assert expiry.left_s(11 * S) == 1.0
    assert expiry.left_s(12 * S) == 0.0
    assert expiry.left_s(13 * S) < 0.0


def test_a_renewal_is_due_after_a_third_of_the_lease_and_stays_due() -> None:
    expiry = Expiry(sent_ns=10 * S, ttl_s=3.0)
    assert expiry.renew_in_s(10 * S) == 1.0
    assert expiry.renew_in_s(11 * S) == 0.0
    assert expiry.renew_in_s(20 * S) == 0.0


def test_a_renewal_moves_the_end_and_an_older_one_that_comes_late_does_not() -> None:
    expiry = Expiry(sent_ns=10 * S, ttl_s=3.0)
    expiry.granted(12 * S, 3.0)
    expiry.granted(11 * S, 3.0)
    assert expiry.left_s(12 * S) == 3.0
    assert expiry.renew_in_s(12 * S) == 1.0


def test_members_are_tried_in_turn_beginning_with_the_first() -> None:
    assert Rota(3, 0).order() == [0, 1, 2]
    assert Rota(3, 2).order() == [2, 0, 1]


def test_a_failed_member_is_tried_last_and_the_longest_failed_before_it() -> None:
    rota = Rota(3, 0)
    assert rota.failed(0)
    assert rota.order() == [1, 2, 0]
    assert rota.failed(1)
    assert rota.order() == [2, 0, 1]
    assert not rota.failed(0)
    assert rota.order() == [2, 1, 0]
    assert rota.failed(2)
    assert rota.order() == [1, 0, 2]


def test_who_answers_in_place_of_the_first_one_stays_first_when_that_one_is_back() -> None:
    rota = Rota(3, 0)
    rota.failed(0)
    assert not rota.answered(1)
    assert rota.answered(0)
    assert rota.order() == [1, 2, 0]


def test_an_answer_of_another_does_not_move_away_from_a_first_one_that_is_well() -> None:
    rota = Rota(3, 0)
    rota.failed(2)
    assert rota.answered(2)
    assert rota.order() == [0, 1, 2]
    assert not rota.is_failed(2)
