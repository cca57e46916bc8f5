"""Until when a node may answer, and what it never forgets. LEASE-1, LEASE-2, FENCE-1."""

import itertools

import pytest

from allocsvr.lease import Lease, Promises
from clustermap.drift import wait_ns

MS = 10**6
TTL = 2000 * MS
DRIFT = 0.01
SAFE = TTL - int(2 * DRIFT * TTL)


def test_the_deadline_counts_from_before_the_send_and_gives_twice_the_drift_away() -> None:
    lease = Lease(1, 1, TTL, DRIFT)
    assert not lease.held(0)
    lease.granted(0, 5000)
    assert lease.deadline_ns <= 5000 + SAFE
    assert lease.deadline_ns >= 5000 + SAFE - 2
    assert lease.held(lease.deadline_ns - 1)
    assert not lease.held(lease.deadline_ns)


@pytest.mark.parametrize(("n", "w"), [(1, 1), (3, 2), (5, 3), (3, 3), (5, 4), (4, 1)])
def test_the_deadline_is_the_wth_greatest_grant_in_every_order(n: int, w: int) -> None:
    for order in itertools.permutations(range(n)):
        lease = Lease(n, w, TTL, DRIFT)
        sent = [0] * n
        for at, replica in enumerate(order, start=1):
            sent[replica] = at * 100 * MS
            lease.granted(replica, sent[replica])
            enough = sorted(sent, reverse=True)[w - 1]
            if at < w:
                assert lease.deadline_ns == 0
            else:
                assert lease.deadline_ns == enough + SAFE - 1


def test_the_greatest_grant_alone_never_counts_lease_1() -> None:
    lease = Lease(3, 2, TTL, DRIFT)
    lease.granted(0, 0)
    lease.granted(0, 100 * MS)
    lease.granted(0, 200 * MS)
    assert not lease.held(1)
    lease.granted(1, 0)
    assert lease.deadline_ns == SAFE - 1


def test_a_grant_that_arrives_late_does_not_shorten_anything() -> None:
    lease = Lease(1, 1, TTL, DRIFT)
    lease.granted(0, 100 * MS)
    held = lease.deadline_ns
    lease.granted(0, 50 * MS)
    assert lease.deadline_ns == held


def test_a_lapsed_lease_that_is_renewed_is_held_again() -> None:
    lease = Lease(3, 2, TTL, DRIFT)
    lease.granted(0, 0)
    lease.granted(1, 0)
    assert not lease.held(10 * TTL)
    lease.granted(2, 10 * TTL)
    assert not lease.held(10 * TTL)
    lease.granted(1, 10 * TTL)
    assert lease.held(10 * TTL)


@pytest.mark.parametrize("rates", list(itertools.product([-DRIFT, 0, DRIFT], repeat=3)))
def test_the_wait_outlasts_what_the_old_owner_believes_for_all_clock_rates(
    rates: tuple[float, float, float],
) -> None:
    """LEASE-1, in real time: granted at 0, fenced at `at`, by hosts whose clocks run wrong."""
    owner, replica, successor = rates
    lease = Lease(1, 1, TTL, DRIFT)
    lease.granted(0, 0)
    believed = lease.deadline_ns / (1 + owner)
    for tenth in range(11):
        at = TTL * tenth / 10
        left_ns = max(0, int(TTL - at * (1 + replica)))
        served = at + wait_ns(left_ns, DRIFT) / (1 + successor)
        assert served >= believed


def test_there_is_nothing_to_wait_for_where_no_lease_is_left() -> None:
    assert wait_ns(0, DRIFT) == 0
    assert wait_ns(1, DRIFT) > 1


def test_promises_only_rise_and_say_which_rose() -> None:
    promises = Promises()
    assert list(promises.note(3, 5, 7)) == [3, 4, 5]
    assert list(promises.note(4, 6, 7)) == [6]
    assert list(promises.note(3, 6, 6)) == []
    assert list(promises.note(5, 5, 9)) == [5]
    assert [promises.highest(section) for section in range(2, 8)] == [0, 7, 7, 9, 7, 0]
