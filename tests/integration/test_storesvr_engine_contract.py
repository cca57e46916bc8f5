"""What every engine does, run on LMDB and on the one in memory. NRW-1, NRW-2."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from seqsvr.invariants import BrokenInvariant
from storesvr.engine import LmdbEngine
from storesvr.errors import DirectoryInUse, EngineFailed
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Batch, Engine, Identity
from storesvr.records import Record, Snapshot
from storesvr.replica import Replica

IDENTITY = Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, 7)


class Opener(Protocol):
    def __call__(self) -> Engine: ...


@pytest.fixture(params=["lmdb", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    opened: list[Engine] = []
    disk = Disk(IDENTITY)
    kinds: dict[str, Callable[[], Engine]] = {
        "lmdb": lambda: LmdbEngine(tmp_path / "store", IDENTITY, create=True),
        "memory": lambda: MemoryEngine(disk),
    }

    def open_one() -> Engine:
        opened.append(kinds[request.param]())
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(opener: Opener) -> Engine:
    engine = opener()
    assert engine.load() == []
    return engine


def test_a_new_store_is_empty_and_knows_who_it_is(engine: Engine) -> None:
    assert engine.identity == IDENTITY
    assert engine.read([0, 42_949]) == [None, None]
    assert engine.scan(0, 2**64 - 1, 10) == []
    assert list(engine.read_snapshots([0])) == [None]


def test_what_was_committed_is_read_back_in_the_order_asked_for(engine: Engine) -> None:
    records = [Record(s, 1, 1, 7, False, s, s) for s in (300, 2, 1)]
    engine.commit(Batch(records))
    assert engine.read([2, 5, 300, 2]) == [records[1], None, records[0], records[1]]


def test_a_later_commit_replaces_and_survives_a_reopening(engine: Engine, opener: Opener) -> None:
    for max_seq in (5, 9, 7):
        engine.commit(Batch([Record(1, 1, 1, 7, False, max_seq, 1)]))
    engine.close()
    again = opener()
    assert [record.max_seq for record in again.load()] == [7]
    assert again.read([1]) == [Record(1, 1, 1, 7, False, 7, 1)]
    again.commit(Batch([Record(2)]))


def test_what_was_not_committed_is_lost_at_a_crash(engine: Engine, opener: Opener) -> None:
    replica = Replica(engine, now_ns=0)
    replica.fence([(0, 0, 1)], 0)
    engine.commit(replica.take_staged())
    replica.committed()
    replica.fence([(0, 1, 2)], 0)
    replica.take_staged()
    engine.close()
    assert opener().load() == [Record(0, promised=1, fence_version=1)]


def test_a_scan_is_ordered_and_bounded_by_its_span_and_limit(engine: Engine) -> None:
    engine.commit(Batch([Record(s) for s in (256, 1, 65_536, 255, 0)]))
    everything = [record.section for record in engine.scan(0, 2**64 - 1, 10)]
    assert everything == [0, 1, 255, 256, 65_536]
    assert [record.section for record in engine.scan(1, 256, 10)] == [1, 255, 256]
    assert [record.section for record in engine.scan(1, 256, 2)] == [1, 255]
    assert [record.section for record in engine.scan(2, 2, 10)] == []
    assert engine.load() == engine.scan(0, 2**64 - 1, 10)


def test_snapshots_are_replaced_and_dropped_with_the_records(engine: Engine) -> None:
    engine.commit(Batch([Record(1)], [Snapshot(1, 3, b"three"), Snapshot(2, 3, bytes(900_000))]))
    held = [Snapshot(2, 3, bytes(900_000)), None, Snapshot(1, 3, b"three")]
    assert list(engine.read_snapshots([2, 3, 1])) == held
    engine.commit(Batch([Record(1)], [Snapshot(1, 4, b"four")], [2, 3]))
    assert list(engine.read_snapshots([1, 2])) == [Snapshot(1, 4, b"four"), None]


def test_what_was_adopted_is_committed_alone_or_with_records_and_outlives_a_reopening(
    engine: Engine, opener: Opener
) -> None:
    learning = IDENTITY._replace(membership=2, learning=True)
    engine.commit(Batch([], identity=learning))
    assert engine.identity == learning
    engine.close()
    again = opener()
    assert (again.identity, again.load()) == (learning, [])
    counted = IDENTITY._replace(membership=2)
    again.commit(Batch([Record(1, 1)], identity=counted))
    again.commit(Batch([Record(2, 1)]))
    again.close()
    last = opener()
    assert (last.identity, len(last.load())) == (counted, 2)


def test_nothing_is_committed_before_load(opener: Opener) -> None:
    with pytest.raises(BrokenInvariant):
        opener().commit(Batch([Record(1)]))


def test_a_store_that_is_open_cannot_be_opened_again(engine: Engine, opener: Opener) -> None:
    with pytest.raises(DirectoryInUse):
        opener()
    engine.close()
    engine.close()
    opener()


def test_a_closed_engine_commits_nothing(engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineFailed):
        engine.commit(Batch([Record(1)]))
