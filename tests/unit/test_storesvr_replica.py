"""The rules of one replica, one by one. NRW-1, NRW-2, FENCE-1, LEASE-1."""

from collections.abc import Callable
from typing import Any

import pytest

from clustermap.errors import ReplicaFailed
from seqsvr.invariants import BrokenInvariant
from seqsvr.sections import SEQ_LIMIT
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Identity
from storesvr.records import Record, Snapshot, encode_snapshot
from storesvr.replica import SCAN_BYTES, Replica

A, B = 0xA, 0xB
S = 10**9
STORE = 99


def new_disk() -> Disk:
    return Disk(Identity("c1", "set-0", "store-0", 100, 10_000 * 100, 1, STORE))


def opened(disk: Disk, **options: Any) -> Replica:
    disk.opened = False  # whoever had it open has crashed
    return Replica(MemoryEngine(disk), **{"now_ns": 0, **options})


def commit(replica: Replica) -> None:
    replica._engine.commit(replica.take_staged())
    replica.committed()


def record_of(replica: Replica, section: int) -> Record:
    return replica.scan(section, section, 1, with_snapshots=False)[0][0][0]


@pytest.fixture
def disk() -> Disk:
    return new_disk()


@pytest.fixture
def replica(disk: Disk) -> Replica:
    return opened(disk)


def won(replica: Replica, section: int, epoch: int, who: int, max_seq: int) -> None:
    assert replica.fence([(section, section, epoch)], 0).entries[0][1]
    assert replica.raise_max(who, [(section, epoch, max_seq)]) == {}
    commit(replica)


def test_a_fence_grants_a_higher_epoch_and_refuses_an_equal_or_lower_one(replica: Replica) -> None:
    assert replica.fence([(3, 4, 5)], 0).entries == [
        (Record(3, promised=5, fence_version=1), True),
        (Record(4, promised=5, fence_version=2), True),
    ]
    for epoch in (5, 4, 1):
        ((record, granted),) = replica.fence([(3, 3, epoch)], 0).entries
        assert (record.promised, granted) == (5, False)


def test_a_raise_below_the_promise_is_refused_with_the_promise_fence_1(replica: Replica) -> None:
    replica.fence([(3, 3, 5)], 0)
    assert replica.raise_max(A, [(3, 4, 100), (8, 4, 100)]) == {3: 5}
    commit(replica)
    assert record_of(replica, 3).max_seq == 0
    assert record_of(replica, 8) == Record(8, 4, 4, A, False, 100, 2)


def test_max_seq_never_falls_nrw_1(replica: Replica) -> None:
    won(replica, 3, 5, A, 100)
    for epoch, max_seq in ((5, 50), (6, 0), (7, 99)):
        assert replica.raise_max(A, [(3, epoch, max_seq)]) == {}
        commit(replica)
        assert record_of(replica, 3).max_seq == 100


def test_staged_writes_are_seen_by_the_next_request_of_the_batch(replica: Replica) -> None:
    replica.fence([(3, 3, 5)], 0)
    replica.raise_max(A, [(3, 5, 100)])
    replica.release(A, [(3, 5, b"left")])
    ((record, _),) = replica.fence([(3, 3, 6)], 0).entries
    assert (record.max_seq, record.owner, record.released, record.snapshot_epoch) == (
        100, A, True, 5,
    )  # fmt: skip


def test_a_section_named_twice_in_one_request_is_served_twice_in_order(replica: Replica) -> None:
    assert [granted for _, granted in replica.fence([(3, 3, 5), (3, 3, 6)], 0).entries] == [
        True
    ] * 2
    assert replica.raise_max(A, [(3, 6, 200), (3, 6, 100)]) == {}
    commit(replica)
    assert record_of(replica, 3).max_seq == 200


def test_an_epoch_belongs_to_the_first_incarnation_that_raises_with_it(replica: Replica) -> None:
    won(replica, 3, 5, A, 100)
    assert replica.raise_max(B, [(3, 5, 900)]) == {3: 5}
    replica.release(A, [(3, 5, b"")])
    assert replica.raise_max(B, [(3, 5, 900)]) == {3: 5}
    commit(replica)
    assert record_of(replica, 3).max_seq == 100


def test_an_owner_that_wins_its_section_again_owns_it_at_the_new_epoch(replica: Replica) -> None:
    won(replica, 3, 5, A, 100)
    replica.release(A, [(3, 5, b"left")])
    won(replica, 3, 6, A, 200)
    ((record, payload),), _ = replica.scan(3, 3, 1, with_snapshots=True)
    assert record == Record(3, 6, 6, A, False, 200, 2)
    assert payload == b""


def test_a_late_raise_of_the_released_epoch_counts_but_does_not_bring_the_owner_back(
    replica: Replica,
) -> None:
    won(replica, 3, 5, A, 100)
    replica.release(A, [(3, 5, b"left")])
    commit(replica)
    assert replica.raise_max(A, [(3, 5, 150)]) == {}
    commit(replica)
    ((record, payload),), _ = replica.scan(3, 3, 1, with_snapshots=True)
    assert (record.released, record.max_seq, payload) == (True, 150, b"left")


def test_only_the_owner_at_its_epoch_can_release_and_only_below_no_promise(
    replica: Replica,
) -> None:
    won(replica, 3, 5, A, 100)
    assert replica.release(B, [(3, 5, b"")]) == {3: 5}
    assert replica.release(A, [(3, 4, b"")]) == {3: 5}
    assert replica.release(A, [(4, 5, b"")]) == {4: 0}
    replica.fence([(3, 3, 6)], 0)
    assert replica.release(A, [(3, 5, b"")]) == {3: 6}
    commit(replica)
    assert not record_of(replica, 3).released


def test_a_repeated_release_is_accepted_and_keeps_the_first_snapshot(replica: Replica) -> None:
    won(replica, 3, 5, A, 100)
    for payload in (b"first", b"second"):
        assert replica.release(A, [(3, 5, payload)]) == {}
        commit(replica)
    replica.fence([(3, 3, 6)], 0)
    commit(replica)
    assert replica.release(A, [(3, 5, b"third")]) == {}
    commit(replica)
    ((_, payload),), _ = replica.scan(3, 3, 1, with_snapshots=True)
    assert payload == b"first"


def test_the_next_owners_first_raise_deletes_the_snapshot(replica: Replica, disk: Disk) -> None:
    won(replica, 3, 5, A, 100)
    replica.release(A, [(3, 5, b"left")])
    commit(replica)
    ((record, _),) = replica.fence([(3, 3, 6)], 0).entries
    assert record.snapshot_epoch == 5
    replica.raise_max(B, [(3, 6, 200)])
    commit(replica)
    assert disk.snapshots == {}
    ((record, _),) = replica.fence([(3, 3, 7)], 0).entries
    assert (record.owner, record.owner_epoch, record.snapshot_epoch) == (B, 6, 0)


def test_a_fence_tells_every_live_lease_and_the_boot_grace_lease_1(disk: Disk) -> None:
    replica = opened(disk, now_ns=1_000, boot_grace_ns=2 * S, max_ttl_ns=2 * S)
    replica.renew(A, 2 * S, 0, 0, 1_000 + S)
    replica.renew(B, S, 0, 0, 1_000)
    answer = replica.fence([(3, 3, 5)], 1_000 + S)
    assert answer.leases == [(A, 2 * S)]
    assert answer.boot_grace_ns == S


def test_a_promise_is_told_by_renew_before_it_is_durable(replica: Replica) -> None:
    replica.fence([(3, 4, 5)], 0)
    replica.take_staged()
    assert replica.renew(A, S, 0, STORE, 0) == (0, [(3, 4, 5)])
    replica.committed()
    assert replica.renew(A, S, 0, STORE, 0) == (2, [(3, 4, 5)])
    assert replica.renew(A, S, 2, STORE, 0) == (2, [])


def test_a_version_lost_in_a_crash_hides_no_later_promise(replica: Replica, disk: Disk) -> None:
    replica.fence([(3, 3, 5)], 0)
    commit(replica)
    replica.fence([(4, 4, 5)], 0)
    version, _ = replica.renew(A, S, 0, STORE, 0)
    replica = opened(disk)
    replica.fence([(9, 9, 7)], 0)
    assert (9, 9, 7) in replica.renew(A, S, version, STORE, 0)[1]


def test_since_is_not_believed_from_another_store_or_from_the_future(replica: Replica) -> None:
    replica.fence([(3, 3, 5)], 0)
    commit(replica)
    assert replica.renew(A, S, 1, STORE + 1, 0) == (1, [(3, 3, 5)])
    assert replica.renew(A, S, 2, STORE, 0) == (1, [(3, 3, 5)])
    assert replica.renew(A, S, 1, STORE, 0) == (1, [])


def test_a_rise_of_the_promise_by_a_raise_is_told_too(replica: Replica) -> None:
    replica.raise_max(A, [(3, 5, 100)])
    commit(replica)
    assert replica.renew(B, S, 0, STORE, 0) == (1, [(3, 3, 5)])


def test_the_promise_counter_goes_on_after_a_restart(replica: Replica, disk: Disk) -> None:
    replica.fence([(0, 9, 1)], 0)
    commit(replica)
    replica.fence([(2, 2, 2)], 0)
    commit(replica)
    replica = opened(disk)
    assert (replica.fence_version, replica.sections) == (11, 10)
    assert replica.renew(A, S, 10, STORE, 0) == (11, [(2, 2, 2)])


def test_repair_raises_and_never_lowers_and_carries_no_promise(replica: Replica) -> None:
    won(replica, 3, 5, A, 100)
    lower = Record(3, 9, 4, B, False, 50)
    assert replica.put_at_least([(lower, b"")]) == 0
    higher = Record(3, 9, 7, B, False, 300)
    assert replica.put_at_least([(higher, b"")]) == 1
    commit(replica)
    assert record_of(replica, 3) == Record(3, 5, 7, B, False, 300, 1)
    assert replica.renew(A, S, 1, STORE, 0) == (1, [])


def test_repair_lets_released_win_at_equal_epochs_of_one_owner_only(replica: Replica) -> None:
    won(replica, 3, 5, A, 100)
    assert replica.put_at_least([(Record(3, 0, 5, B, True, 100, 0, True), b"b's")]) == 0
    assert replica.put_at_least([(Record(3, 0, 5, A, True, 100, 0, True), b"a's")]) == 1
    commit(replica)
    ((record, payload),), _ = replica.scan(3, 3, 1, with_snapshots=True)
    assert (record.released, record.snapshot_epoch, payload) == (True, 5, b"a's")
    assert replica.put_at_least([(Record(3, 0, 5, A, False, 100), b"")]) == 0


def test_repair_replaces_the_snapshot_of_an_older_epoch(replica: Replica, disk: Disk) -> None:
    won(replica, 3, 5, A, 100)
    replica.release(A, [(3, 5, b"old")])
    commit(replica)
    replica.put_at_least([(Record(3, 0, 7, B, True, 100, 0, True), b"new")])
    commit(replica)
    ((record, payload),), _ = replica.scan(3, 3, 1, with_snapshots=True)
    assert (record.snapshot_epoch, payload) == (7, b"new")
    replica.put_at_least([(Record(3, 0, 8, A, False, 100), b"")])
    commit(replica)
    assert disk.snapshots == {}


def test_a_sealed_section_is_won_by_nobody_at_any_epoch_fence_1(replica: Replica) -> None:
    won(replica, 7, 5, A, 100)
    assert replica.seal([(7, 6)]) == {}
    for epoch in (6, 7, 10**6):
        assert replica.fence([(7, 7, epoch)], 0).entries[0][1] is False
        assert replica.raise_max(A, [(7, epoch, 200)]) == {7: 6}
    assert replica.fence([(7, 7, 9)], 0, through_seal=True).entries[0][1] is True
    assert replica.raise_max(A, [(7, 9, 200)]) == {7: 9}, "who goes through does not raise"
    assert record_of(replica, 7).max_seq == 100


def test_a_seal_below_the_promise_or_the_owner_is_refused(replica: Replica) -> None:
    assert replica.fence([(7, 7, 5)], 0).entries[0][1]
    assert replica.seal([(7, 4)]) == {7: 5}
    assert replica.seal([(7, 5)]) == {}
    replica.put_at_least([(Record(8, 0, 9, A, False, 10), b"")])  # its promise was not copied
    assert replica.seal([(8, 6)]) == {8: 9}


def test_a_seal_promises_its_epoch_also_where_a_copy_has_brought_the_seal_before(
    replica: Replica,
) -> None:
    """A repair carries seals and no promises; what is acknowledged must be promised."""
    replica.put_at_least([(Record(7, 0, 5, A, True, 100, sealed=6), b"")])
    assert replica.seal([(7, 6)]) == {}
    record, granted = replica.fence([(7, 7, 6)], 0, through_seal=True).entries[0]
    assert (record.promised, granted) == (6, False)


def test_whole_records_of_a_later_epoch_lift_a_seal_and_late_ones_do_not(replica: Replica) -> None:
    won(replica, 7, 5, A, 100)
    replica.seal([(7, 6)])
    early = Record(7, 6, 6, B, True, 90, has_snapshot=True)
    late = Record(7, 8, 8, B, True, 120, has_snapshot=True)
    replica.put_at_least([(early, b"old")], with_promises=True)
    assert replica.fence([(7, 7, 9)], 0).entries[0][1] is False
    replica.put_at_least([(late, b"new")], with_promises=True)
    replica.put_at_least([(early, b"old")], with_promises=True)
    assert replica.seal([(7, 6)]) == {7: 8}, "a late seal of the earlier move"
    record, granted = replica.fence([(7, 7, 9)], 0).entries[0]
    assert (granted, record.snapshot_epoch, record.max_seq) == (True, 8, 120)


def test_a_promise_that_comes_with_a_copy_is_told_by_renew(replica: Replica) -> None:
    won(replica, 7, 5, A, 100)
    version, _ = replica.renew(A, S, 0, STORE, 0)
    theirs = Record(7, 8, 8, B, True, 120)
    assert replica.put_at_least([(theirs, b"")], with_promises=True) == 1
    assert replica.renew(A, S, version, STORE, 0)[1] == [(7, 7, 8)]
    replica.seal([(8, 3)])
    assert replica.renew(A, S, version, STORE, 0)[1] == [(7, 7, 8), (8, 8, 3)]


def test_a_scan_goes_on_where_it_stopped(replica: Replica) -> None:
    replica.fence([(0, 9, 1)], 0)
    commit(replica)
    found, start = [], 0
    while True:
        page, start = replica.scan(start, 2**64 - 1, 3, with_snapshots=False)
        assert len(page) <= 3
        found += [record.section for record, _ in page]
        if not start:
            break
    assert found == list(range(10))


def test_a_scan_is_bounded_in_bytes(disk: Disk) -> None:
    disk.identity = disk.identity._replace(section_size=100_000, uid_limit=10**9)
    replica = opened(disk)
    size = SCAN_BYTES // 3 + 1
    for section in range(5):
        won(replica, section, 1, A, 10)
        replica.release(A, [(section, 1, bytes(size))])
    commit(replica)
    page, following = replica.scan(0, 4, 0, with_snapshots=True)
    assert (len(page), following) == (3, 3)
    assert replica.scan(0, 4, 0, with_snapshots=False)[1] == 0


def test_digests_agree_exactly_where_max_seq_and_owners_do(disk: Disk) -> None:
    one, two = opened(disk), opened(new_disk())
    for replica in (one, two):
        for section in (0, 1, 5, 25):
            won(replica, section, 1, A, 10)
    two.fence([(0, 25, 9)], 0)  # promises are not compared, but records count
    commit(two)
    assert [(c.first, c.records) for c in one.digest(0, 99, 10)] == [(0, 3), (20, 1)]
    assert one.digest(20, 29, 10)[0].records == 1
    won(one, 1, 10, A, 11)
    won(one, 25, 10, B, 10)
    other = opened(new_disk())
    for section in (0, 1, 5, 25):
        won(other, section, 1, A, 10)
    pairs = zip(one.digest(0, 99, 10), other.digest(0, 99, 10), strict=True)
    assert [mine.digest == theirs.digest for mine, theirs in pairs] == [False, False]
    assert other.digest(2, 9, 1) == other.digest(5, 9, 1)


Call = Callable[[Replica], object]


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.fence([(5, 4, 1)], 0),
        lambda r: r.fence([(0, 4_096, 1)], 0),
        lambda r: r.fence([(0, 4_000, 1), (0, 96, 2)], 0),
        lambda r: r.fence([(0, 2**64 - 1, 1)], 0),
        lambda r: r.fence([(9_999, 10_000, 1)], 0),
        lambda r: r.fence([(0, 0, 0)], 0),
        lambda r: r.fence([(0, 0, 2**63)], 0),
        lambda r: r.raise_max(0, [(0, 1, 1)]),
        lambda r: r.raise_max(A, [(0, 0, 1)]),
        lambda r: r.raise_max(A, [(0, 1, 1), (10_000, 1, 1)]),
        lambda r: r.raise_max(A, [(1, 1, 1), (0, 1, SEQ_LIMIT + 1)]),
        lambda r: r.raise_max(A, [(0, 1, 1)] * 4_097),
        lambda r: r.release(0, [(0, 1, b"")]),
        lambda r: r.release(A, [(0, 0, b"")]),
        lambda r: r.release(A, [(0, 1, bytes(r.bounds.max_snapshot + 1))]),
        lambda r: r.renew(0, S, 0, 0, 0),
        lambda r: r.renew(A, 0, 0, 0, 0),
        lambda r: r.renew(A, 61 * S, 0, 0, 0),
        lambda r: r.scan(1, 0, 1, with_snapshots=False),
        lambda r: r.scan(10_000, 10_000, 1, with_snapshots=False),
        lambda r: r.digest(0, 1, 0),
        lambda r: r.put_at_least([(Record(10_000), b"")]),
        lambda r: r.put_at_least([(Record(0, owner_epoch=1), b"")]),
        lambda r: r.put_at_least([(Record(0, owner=1), b"")]),
        lambda r: r.put_at_least([(Record(0, released=True), b"")]),
        lambda r: r.put_at_least([(Record(0, max_seq=2**63), b"")]),
        lambda r: r.put_at_least([(Record(0, 0, 2**63, A), b"")]),
        lambda r: r.put_at_least([(Record(0), b"")] * 4_097),
    ],
)
def test_what_is_out_of_bounds_is_malformed_and_stages_nothing(
    replica: Replica, call: Call
) -> None:
    with pytest.raises(ReplicaFailed) as caught:
        call(replica)
    assert caught.value.reason == "MALFORMED"
    assert replica.take_staged().records == []


def test_the_bounds_themselves_are_accepted(replica: Replica) -> None:
    assert len(replica.fence([(0, 4_095, 1)], 0).entries) == 4_096
    assert replica.raise_max(A, [(9_999, 2**63 - 1, SEQ_LIMIT)]) == {}
    assert replica.release(A, [(9_999, 2**63 - 1, bytes(replica.bounds.max_snapshot))]) == {}
    replica.renew(A, 60 * S, 0, 0, 0)
    commit(replica)


def test_a_dense_snapshot_of_a_default_section_fits() -> None:
    disk = Disk(Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, STORE))
    assert 100_000 * 8 + 1_000 < opened(disk).bounds.max_snapshot < 2 * 2**20


def spoil(values: dict[int, bytes], section: int) -> None:
    value = bytearray(values[section])
    value[-10] ^= 1
    values[section] = bytes(value)


def test_a_corrupt_record_takes_the_whole_replica_out_of_the_quorum_nrw_2(
    replica: Replica, disk: Disk
) -> None:
    replica.fence([(0, 9, 1)], 0)
    commit(replica)
    spoil(disk.records, 4)
    calls: list[Call] = [
        lambda r: r.fence([(4, 4, 2)], 0),
        lambda r: r.fence([(9, 9, 2)], 0),
        lambda r: r.raise_max(A, [(9, 2, 5)]),
        lambda r: r.release(A, [(9, 2, b"")]),
        lambda r: r.renew(A, S, 0, STORE, 0),
        lambda r: r.put_at_least([(Record(9, max_seq=4), b"")]),
        lambda r: r.scan(0, 9, 0, with_snapshots=False),
        lambda r: r.digest(0, 9, 10),
    ]
    for call in calls:
        with pytest.raises(ReplicaFailed) as caught:
            call(replica)
        assert caught.value.reason == "CORRUPT"
        assert "section 4" in replica.out_of_quorum
    assert replica.take_staged().records == []
    assert len(replica.digest(5, 9, 10)) == 1
    assert len(replica.scan(5, 9, 0, with_snapshots=False)[0]) == 5


@pytest.mark.parametrize("harm", ["spoilt", "missing"])
def test_a_record_spoilt_or_lost_before_the_start_is_found_at_the_start(
    replica: Replica, disk: Disk, harm: str
) -> None:
    replica.fence([(0, 9, 1)], 0)
    commit(replica)
    if harm == "spoilt":
        spoil(disk.records, 4)
    else:
        del disk.records[4]
    replica = opened(disk)
    assert replica.out_of_quorum
    with pytest.raises(ReplicaFailed, match="CORRUPT"):
        replica.fence([(9, 9, 2)], 0)


@pytest.mark.parametrize("harm", ["spoilt", "missing", "of another epoch"])
def test_a_snapshot_that_is_not_what_the_record_says_is_corrupt(
    replica: Replica, disk: Disk, harm: str
) -> None:
    for section, epoch in ((3, 5), (4, 6)):
        won(replica, section, epoch, A, 100)
        replica.release(A, [(section, epoch, b"left by its owner")])
    commit(replica)
    if harm == "spoilt":
        spoil(disk.snapshots, 3)
    elif harm == "missing":
        del disk.snapshots[3]
    else:
        disk.snapshots[3] = encode_snapshot(Snapshot(3, 4, b"older"))
    with pytest.raises(ReplicaFailed, match="CORRUPT"):
        replica.scan(3, 3, 1, with_snapshots=True)
    assert "section 3" in replica.out_of_quorum
    assert replica.scan(4, 4, 1, with_snapshots=True)[0][0][1] == b"left by its owner"


def test_nothing_is_staged_while_a_commit_runs(replica: Replica) -> None:
    replica.take_staged()
    for call in (lambda: replica.fence([(0, 0, 1)], 0), replica.take_staged):
        with pytest.raises(BrokenInvariant):
            call()
    replica.committed()
    with pytest.raises(BrokenInvariant):
        replica.committed()


def test_boot_grace_must_cover_the_longest_lease(disk: Disk) -> None:
    with pytest.raises(BrokenInvariant):
        opened(disk, boot_grace_ns=S, max_ttl_ns=2 * S)
