"""An engine that lives in memory, for tests and the simulator.

`Disk` is what survives: a crash is a new engine on the same disk. It keeps the encoded values, so
that a test can spoil them.
"""

from collections.abc import Generator, Iterable

from seqsvr.invariants import require
from storesvr.errors import DirectoryInUse, EngineCorrupt, EngineFailed
from storesvr.port import Batch, Identity
from storesvr.records import (
    Record,
    Snapshot,
    decode,
    decode_snapshot,
    encode,
    encode_snapshot,
)


class Disk:
    """The encoded values of one store. `count` is what a whole store must hold."""

    def __init__(self, identity: Identity) -> None:
        require(identity.store_id != 0, "a store has an id")
        self.identity = identity
        self.records: dict[int, bytes] = {}
        self.snapshots: dict[int, bytes] = {}
        self.count = 0
        self.opened = False
        self.fails = ""  # why the next commit fails


class MemoryEngine:
    """storesvr.port.Engine over a Disk. Raises DirectoryInUse if another engine is open on it."""

    def __init__(self, disk: Disk) -> None:
        if disk.opened:
            raise DirectoryInUse("the disk is open already")
        disk.opened = True
        self._disk = disk
        self._loaded = self._closed = False

    @property
    def identity(self) -> Identity:
        return self._disk.identity

    def load(self) -> list[Record]:
        records = self._range(0, 2**64 - 1)
        if len(records) != self._disk.count:
            raise EngineCorrupt(f"{len(records)} records, not {self._disk.count}")
        self._loaded = True
        return records

    def read(self, sections: Iterable[int]) -> list[Record | None]:
        values = self._disk.records
        return [decode(s, values[s]) if s in values else None for s in sections]

    def scan(self, first: int, last: int, limit: int) -> list[Record]:
        return self._range(first, last)[:limit]

    def read_snapshots(self, sections: Iterable[int]) -> Generator[Snapshot | None, None, None]:
        for section in sections:
            value = self._disk.snapshots.get(section)
            yield None if value is None else decode_snapshot(section, value)

    def commit(self, batch: Batch) -> None:
        require(self._loaded, "nothing is committed before load")
        if self._closed or self._disk.fails:
            raise EngineFailed(self._disk.fails or "the engine is closed")
        self._disk.records.update((r.section, encode(r)) for r in batch.records)
        for section in batch.dropped:
            self._disk.snapshots.pop(section, None)
        self._disk.snapshots.update((s.section, encode_snapshot(s)) for s in batch.snapshots)
        self._disk.count = len(self._disk.records)
        self._disk.identity = batch.identity or self._disk.identity

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._disk.opened = False

    def _range(self, first: int, last: int) -> list[Record]:
        values = self._disk.records
        return [decode(s, values[s]) for s in sorted(values) if first <= s <= last]
