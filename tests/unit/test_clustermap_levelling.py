"""What a replica has missed, case by case."""

from typing import Any

from clustermap.levelling import differing, goal, goals, is_behind
from seqsvr.v1 import store_pb2 as pb

A, B = 0xA, 0xB


def record(**fields: Any) -> pb.StoredRecord:
    return pb.StoredRecord(section=7, **fields)


def chunk(first: int, digest: bytes = b"x", records: int = 1) -> pb.ChunkDigest:
    return pb.ChunkDigest(first=first, records=records, digest=digest)


def test_equal_digests_differ_nowhere_and_a_missing_one_is_a_difference() -> None:
    assert differing([[chunk(0), chunk(8)], [chunk(0), chunk(8)], [chunk(0), chunk(8)]]) == []
    assert differing([[chunk(0), chunk(8)], [chunk(0)], [chunk(0), chunk(8)]]) == [8]
    assert differing([[chunk(0, b"y")], [chunk(0)], [chunk(0)]]) == [0]
    assert differing([[chunk(0, records=2)], [chunk(0)]]) == [0]
    assert differing([[chunk(0)]]) == []
    assert differing([]) == []


def test_the_goal_takes_max_seq_and_owner_each_from_where_it_is_greatest() -> None:
    found = [
        record(max_seq=900, owner_epoch=3, owner=A, promised=9),
        record(max_seq=500, owner_epoch=4, owner=B),
        record(max_seq=700),
    ]
    assert goal(found) == record(max_seq=900, owner_epoch=4, owner=B)
    assert all(is_behind(one, goal(found)) for one in found)
    assert is_behind(None, goal(found))


def test_released_is_said_last_and_counts_at_its_own_epoch_only() -> None:
    held = record(max_seq=5, owner_epoch=3, owner=A)
    left = record(
        max_seq=5, owner_epoch=3, owner=A, released=True, snapshot_epoch=3, snapshot=b"counters"
    )
    later = record(max_seq=5, owner_epoch=4, owner=B)
    assert goal([held, left]) == left
    assert is_behind(held, left)
    assert not is_behind(left, goal([held, left]))
    assert goal([held, left, later]) == later


def test_two_owners_of_one_epoch_are_left_to_contradict_each_other() -> None:
    mine = record(max_seq=5, owner_epoch=3, owner=A)
    yours = record(max_seq=9, owner_epoch=3, owner=B, released=True)
    assert goal([mine, yours]) == record(max_seq=9)
    assert is_behind(mine, goal([mine, yours]))
    assert not is_behind(yours, goal([mine, yours]))


def test_a_promise_alone_makes_nobody_behind() -> None:
    assert goals([{7: record(promised=4)}, {}], [7]) == {}
    assert goals([{}, {}], [7]) == {}


def test_only_sections_that_were_asked_for_are_looked_at() -> None:
    found = [{7: record(max_seq=9), 8: pb.StoredRecord(section=8, max_seq=1)}, {}]
    assert goals(found, [8]) == {8: pb.StoredRecord(section=8, max_seq=1)}
