"""Which promises are told since which version, and the leases they go with."""

from storesvr import leases
from storesvr.leases import Leases
from storesvr.notices import Notices, merged


def test_only_the_newest_promise_of_a_section_is_told() -> None:
    notices = Notices()
    for version, (section, epoch) in enumerate([(1, 5), (2, 5), (1, 6)], start=1):
        notices.add(section, epoch, version)
    assert notices.since(0) == [(1, 1, 6), (2, 2, 5)]
    assert notices.since(2) == [(1, 1, 6)]
    assert notices.since(3) == []


def test_neighbours_of_one_epoch_are_one_range() -> None:
    assert merged([(0, 1), (1, 1), (2, 2), (4, 2), (5, 2)]) == [(0, 1, 1), (2, 2, 2), (4, 5, 2)]
    assert merged([]) == []


def test_the_index_does_not_grow_with_the_number_of_promises() -> None:
    notices = Notices()
    for version in range(1, 20_001):
        notices.add(version % 3, version, version)
    assert len(notices) < 2_000
    assert notices.since(19_998) == [(1, 1, 19_999), (2, 2, 20_000)]
    assert notices.since(0) == [(0, 0, 19_998), (1, 1, 19_999), (2, 2, 20_000)]


def test_a_lease_ends_at_its_deadline_and_is_then_not_reported() -> None:
    held = Leases(boot_now_ns=0, boot_grace_ns=0)
    assert held.grant(7, 10, now_ns=100)
    assert held.left(109) == [(7, 1)]
    assert held.left(110) == []
    assert held.left(109) == []


def test_a_shorter_grant_does_not_cut_a_longer_one() -> None:
    held = Leases(boot_now_ns=0, boot_grace_ns=0)
    held.grant(7, 100, now_ns=0)
    held.grant(7, 10, now_ns=5)
    assert held.left(50) == [(7, 50)]


def test_boot_grace_counts_from_the_start() -> None:
    held = Leases(boot_now_ns=1_000, boot_grace_ns=50)
    assert [held.grace_left_ns(now) for now in (1_000, 1_049, 1_050, 9_999)] == [50, 1, 0, 0]


def test_the_number_of_lease_holders_is_bounded_but_dead_ones_make_room() -> None:
    held = Leases(boot_now_ns=0, boot_grace_ns=0)
    for incarnation in range(1, leases.MAX_HOLDERS + 1):
        assert held.grant(incarnation, 10, now_ns=0)
    assert not held.grant(2**40, 10, now_ns=9)
    assert held.grant(1, 10, now_ns=9)
    assert held.grant(2**40, 10, now_ns=10)
