"""Until when a node may answer, and what it never forgets. LEASE-1, LEASE-2, FENCE-1."""

import itertools

import pytest

from allocsvr.lease import Grants, Lease, Promises
from clustermap.drift import wait_ns
from clustermap.membership import Group, one_group

MS = 10**6
TTL = 2000 * MS
DRIFT = 0.01
SAFE = TTL - int(2 * DRIFT * TTL)


def leased(n: int, w: int) -> tuple[Lease, Grants]:
    lease = Lease(TTL, DRIFT)
    return lease, Grants(lease, one_group(n, w))


def test_the_deadline_counts_from_before_the_send_and_gives_twice_the_drift_away() -> None:
    lease, grants = leased(1, 1)
    assert not lease.held(0)
    grants.granted(0, 5000)
    assert lease.deadline_ns <= 5000 + SAFE
    assert lease.deadline_ns >= 5000 + SAFE - 2
    assert lease.held(lease.deadline_ns - 1)
    assert not lease.held(lease.deadline_ns)


@pytest.mark.parametrize(("n", "w"), [(1, 1), (3, 2), (5, 3), (3, 3), (5, 4), (4, 1)])
def test_the_deadline_is_the_wth_greatest_grant_in_every_order(n: int, w: int) -> None:
    for order in itertools.permutations(range(n)):
        lease, grants = leased(n, w)
        sent = [0] * n
        for at, replica in enumerate(order, start=1):
            sent[replica] = at * 100 * MS
            grants.granted(replica, sent[replica])
            enough = sorted(sent, reverse=True)[w - 1]
            if at < w:
                assert lease.deadline_ns == 0
            else:
                assert lease.deadline_ns == enough + SAFE - 1


def test_the_greatest_grant_alone_never_counts_lease_1() -> None:
    lease, grants = leased(3, 2)
    grants.granted(0, 0)
    grants.granted(0, 100 * MS)
    grants.granted(0, 200 * MS)
    assert not lease.held(1)
    grants.granted(1, 0)
    assert lease.deadline_ns == SAFE - 1


def test_every_group_has_to_grant_and_the_least_of_them_is_the_deadline() -> None:
    lease = Lease(TTL, DRIFT)
    old, new = Group(0b0111, 2), Group(0b1110, 2)
    grants = Grants(lease, (old, new))
    for replica, sent in ((0, 300), (1, 200)):
        grants.granted(replica, sent * MS)
    assert lease.deadline_ns == 0, "one of the new ones has granted"
    grants.granted(3, 100 * MS)
    assert lease.deadline_ns == 100 * MS + SAFE - 1
    grants.granted(2, 150 * MS)
    assert lease.deadline_ns == 150 * MS + SAFE - 1


def test_what_another_version_has_granted_is_not_counted_and_not_taken_away() -> None:
    lease, grants = leased(3, 2)
    grants.granted(0, 0)
    grants.granted(1, 0)
    held = lease.deadline_ns
    later = Grants(lease, one_group(3, 2))
    later.granted(2, 500 * MS)
    grants.granted(2, 0)
    assert lease.deadline_ns == held
    later.granted(0, 400 * MS)
    assert lease.deadline_ns == 400 * MS + SAFE - 1


def test_a_grant_that_arrives_late_does_not_shorten_anything() -> None:
    lease, grants = leased(1, 1)
    grants.granted(0, 100 * MS)
    held = lease.deadline_ns
    grants.granted(0, 50 * MS)
    assert lease.deadline_ns == held


def test_a_lapsed_lease_that_is_renewed_is_held_again() -> None:
    lease, grants = leased(3, 2)
    grants.granted(0, 0)
    grants.granted(1, 0)
    assert not lease.held(10 * TTL)
    grants.granted(2, 10 * TTL)
    assert not lease.held(10 * TTL)
    grants.granted(1, 10 * TTL)
    assert lease.held(10 * TTL)


@pytest.mark.parametrize("rates", list(itertools.product([-DRIFT, 0, DRIFT], repeat=3)))
def test_the_wait_outlasts_what_the_old_owner_believes_for_all_clock_rates(
    rates: tuple[float, float, float],
) -> None:
    """LEASE-1, in real time: granted at 0, fenced at `at`, by hosts whose clocks run wrong."""
    owner, replica, successor = rates
    lease, grants = leased(1, 1)
    grants.granted(0, 0)
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
