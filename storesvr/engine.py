"""The engine over LMDB; only compacting.py knows it, too.  Keeps NRW-1 and NRW-2 on disk.

Three tables: `meta` (identity, totals), `records` and `snapshots` by section. Format 0.9 of LMDB is
pinned; commits are synced, data and meta; `writemap` is off, since on a full disk it kills the
process and lets stray writes into the file.

What a flipped bit can do, and what notices it:

    in a value                          its checksum at load, then its copy in memory at each read
    in an inner page: a record hidden   the totals, at load; likewise
    in an inner page: an old one shown  likewise
    in a meta page: an old state shown  the witness, at open (ledger.py)
    a file cut short                    the witness, before anything is mapped

A page so broken that LMDB itself falls over it ends the process; it never becomes a value.

Memory held: the row committed last of each section, about 0.2 KB, and as bytes, which the garbage
collector need not look at. A value that is read must be those very bytes, which says more than a
checksum and costs less. Reading and committing may overlap, on two threads.
"""

import os
import secrets
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

import lmdb

from seqsvr.invariants import BrokenInvariant
from storesvr.directory import Directory
from storesvr.errors import (
    Blank,
    CannotOpen,
    CorruptRecord,
    EngineCorrupt,
    EngineError,
    EngineFailed,
)
from storesvr.ledger import (
    Totals,
    Witness,
    check_identity,
    decode_identity,
    decode_totals,
    encode_identity,
    encode_totals,
)
from storesvr.metrics import Room
from storesvr.port import Batch, Identity
from storesvr.records import (
    Record,
    Snapshot,
    decode,
    decode_snapshot,
    encode,
    encode_snapshot,
    stored_crc,
    trusted,
)

MAP_SIZE = 128 * 2**30  # address space, not disk: set once, above what any store may grow to
_IDENTITY = b"identity"
_TOTALS = b"totals"
_LIB_0_9 = 0  # py-lmdb's name for the on-disk format of LMDB 0.9

_NOT_A_STORE = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.VersionMismatchError,
    lmdb.PageNotFoundError,
    lmdb.NotFoundError,
    lmdb.IncompatibleError,
    lmdb.BadDbiError,
)

_by_section = itemgetter(0)


class LmdbEngine:
    """storesvr.port.Engine over one data directory.

    wanted: who the store must be (store_id 0: whichever); create: make one where there is none;
    map_size: bytes of address space. Raises Blank, Foreign, DirectoryInUse, CannotOpen,
    EngineCorrupt, EngineFailed.
    """

    def __init__(
        self, path: Path, wanted: Identity, *, create: bool = False, map_size: int = MAP_SIZE
    ) -> None:
        self._directory = Directory(path, create=create)
        self._env: lmdb.Environment | None = None
        self._guard = threading.Lock()
        self._held: dict[int, bytes] | None = None  # what is committed; None: not loaded
        self._pending: Mapping[int, bytes] = {}  # what is being committed
        self._identity, self._totals = wanted, Totals()
        self._failed = ""
        self._map_size = map_size
        try:
            with _mapped_at_open(self._directory):
                self._open(wanted, create=create, map_size=map_size)
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> Identity:
        return self._identity

    def load(self) -> list[Record]:
        with _mapped_at_read(), self._opened().begin(db=self._records) as txn:
            held = {int.from_bytes(key, "big"): value for key, value in txn.cursor()}
        records = [decode(section, value) for section, value in held.items()]
        found = Totals().after((None, stored_crc(value)) for value in held.values())
        if found[1:] != self._totals[1:]:
            raise EngineCorrupt(
                f"{found.records} records (CRC sum {found.crc_sum:#x}) are not what was stored: "
                f"{self._totals.records} ({self._totals.crc_sum:#x})"
            )
        self._held = held
        return records

    def read(self, sections: Iterable[int]) -> list[Record | None]:
        wanted = list(sections)
        keys = [section.to_bytes(8, "big") for section in wanted]
        with self._guard, _mapped_at_read(), self._opened().begin(db=self._records) as txn:
            values = dict(txn.cursor().getmulti(keys))
            held = self._held or {}
            return [
                trusted(value)
                if (value := values.get(key)) is not None and held.get(section) == value
                else self._checked(section, value)
                for section, key in zip(wanted, keys, strict=True)
            ]

    def scan(self, first: int, last: int, limit: int) -> list[Record]:
        found: list[Record] = []
        with self._guard, _mapped_at_read(), self._opened().begin(db=self._records) as txn:
            for section, value in _walk(txn.cursor(), first, last, limit):
                record = self._checked(section, value)
                if record is not None:
                    found.append(record)
            reached = found[-1].section if found and len(found) == limit else last
            self._check_whole(found, first, reached)
        return found

    def read_snapshots(self, sections: Iterable[int]) -> Generator[Snapshot | None, None, None]:
        with _mapped_at_read(), self._opened().begin(db=self._snapshots) as txn:
            for section in sections:
                value = txn.get(section.to_bytes(8, "big"))
                yield None if value is None else decode_snapshot(section, value)

    def commit(self, batch: Batch) -> None:
        if self._failed:
            raise EngineFailed(self._failed)
        held = self._held
        if held is None:
            raise BrokenInvariant("nothing is committed before load")
        ordered = sorted(batch.records, key=_by_section)
        pending = {record.section: encode(record) for record in ordered}
        rows = [(section.to_bytes(8, "big"), value) for section, value in pending.items()]
        before = map(held.get, pending)
        totals = self._totals.after(
            (None if old is None else stored_crc(old), stored_crc(new))
            for old, new in zip(before, pending.values(), strict=True)
        )
        with self._guard:
            self._pending = pending
        try:
            self._write(rows, batch, totals)
            self._note(totals)
        except (lmdb.Error, OSError) as error:
            self._failed = f"commit {totals.commits} failed: {self._directory.blamed(error)}"
            raise EngineFailed(self._failed) from error
        with self._guard:
            held.update(pending)
            self._pending = {}
        self._totals = totals
        self._identity = batch.identity or self._identity

    def room(self) -> Room:
        """How large the store is, and may get; from any thread."""
        return Room(self._directory.data_size(), self._map_size, self._directory.free_bytes())

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        self._directory.close()

    def _open(self, wanted: Identity, *, create: bool, map_size: int) -> None:
        witness = self._directory.recall()
        if witness.commits == 0:
            if not create:
                raise Blank(f"{self._directory.path} holds no store")
            self._directory.begin_creation()
        env = self._env = lmdb.open(
            str(self._directory.path),
            lib_version=_LIB_0_9,
            map_size=map_size,
            max_dbs=3,
            mode=0o600,
            writemap=False,
            sync=True,
            metasync=True,
            create=witness.commits == 0,
        )
        self._make_whole()
        tables = [
            env.open_db(name, create=witness.commits == 0)
            for name in (b"meta", b"records", b"snapshots")
        ]
        self._meta, self._records, self._snapshots = tables
        if witness.commits == 0:
            self._create(wanted)
        self._recall(wanted, witness)

    def _create(self, wanted: Identity) -> None:
        store_id = wanted.store_id or secrets.randbits(64) or 1
        totals = Totals().after(())
        with self._opened().begin(write=True, db=self._meta) as txn:
            txn.put(_IDENTITY, encode_identity(wanted._replace(store_id=store_id)))
            txn.put(_TOTALS, encode_totals(totals))
        self._directory.end_creation(Witness(totals.commits, self._grown()))

    def _recall(self, wanted: Identity, witness: Witness) -> None:
        with self._opened().begin(db=self._meta) as txn:
            identity, totals = txn.get(_IDENTITY), txn.get(_TOTALS)
        if identity is None or totals is None:
            raise EngineCorrupt("the store has no identity")
        self._identity, self._totals = decode_identity(identity), decode_totals(totals)
        check_identity(self._identity, wanted)
        if self._totals.commits < witness.commits:
            raise EngineCorrupt(
                f"the store is at commit {self._totals.commits} and had been at "
                f"{witness.commits}: an old copy, or a damaged meta page"
            )

    def _make_whole(self) -> None:
        """Grow a file that ends before LMDB's last page.

        LMDB does not write a page that was allocated and given up in one transaction, and the
        process may have died before `_grown`. A file that lost more than that is shorter than its
        witness, or has zeros where `load` finds none of the records.
        """
        needed = self._needed()
        if needed > self._opened().info()["map_size"]:
            raise EngineCorrupt(f"the last page of {self._directory.data_file} is out of bounds")
        self._grown()

    def _write(self, rows: list[tuple[bytes, bytes]], batch: Batch, totals: Totals) -> None:
        with self._opened().begin(write=True) as txn:
            txn.cursor(self._records).putmulti(rows)
            for section in batch.dropped:
                txn.delete(section.to_bytes(8, "big"), db=self._snapshots)
            for snapshot in batch.snapshots:
                key = snapshot.section.to_bytes(8, "big")
                txn.put(key, encode_snapshot(snapshot), db=self._snapshots)
            if batch.identity is not None:
                txn.put(_IDENTITY, encode_identity(batch.identity), db=self._meta)
            txn.put(_TOTALS, encode_totals(totals), db=self._meta)

    def _note(self, totals: Totals) -> None:
        self._directory.note(Witness(totals.commits, self._grown()))

    def _grown(self) -> int:
        """Size of the data file, grown to LMDB's last page where that one was never written."""
        size, needed = self._directory.data_size(), self._needed()
        if size < needed:
            os.truncate(self._directory.data_file, needed)
        return max(size, needed)

    def _needed(self) -> int:
        env = self._opened()
        return int((env.info()["last_pgno"] + 1) * env.stat()["psize"])

    def _opened(self) -> lmdb.Environment:
        if self._env is None:
            raise EngineFailed("the engine is closed")
        return self._env

    def _checked(self, section: int, value: bytes | None) -> Record | None:
        """The record that `value` is, given that it stands under the key of `section`.

        While a commit is in progress it may be the one of before or the one of after.
        """
        held = self._held
        if held is None:
            return None if value is None else decode(section, value)
        before = held.get(section)
        if value is not None and value in (before, self._pending.get(section)):
            return trusted(value)
        if value is None and before is None:
            return None
        if value is not None:
            decode(section, value)  # which says better what is wrong with it
        raise CorruptRecord(section, "its record is not the last one committed")

    def _check_whole(self, found: list[Record], first: int, last: int) -> None:
        """That no record of first..last is missing."""
        held = self._held or {}
        met = {record.section for record in found}
        span = range(first, last + 1)
        least = span if last - first < len(held) else held
        missing = next((s for s in least if s in held and s in span and s not in met), None)
        if missing is not None:
            raise CorruptRecord(missing, "its record is missing")


def _walk(cursor: lmdb.Cursor, first: int, last: int, limit: int) -> Iterator[tuple[int, bytes]]:
    if not cursor.set_range(first.to_bytes(8, "big")):
        return
    for count, (key, value) in enumerate(cursor):
        section = int.from_bytes(key, "big")
        if section > last or count >= limit:
            return
        yield section, bytes(value)


@contextmanager
def _mapped_at_open(directory: Directory) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except _NOT_A_STORE as error:
        raise EngineCorrupt(f"{directory.path}: {error}") from error
    except (lmdb.Error, OSError) as error:
        raise CannotOpen(f"{directory.path}: {directory.blamed(error)}") from error


@contextmanager
def _mapped_at_read() -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, MemoryError, OverflowError, SystemError) as error:
        raise EngineCorrupt(f"reading failed: {error}") from error
