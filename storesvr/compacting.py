"""A data file without the pages that are no longer used, in place of the one that there is.

LMDB gives no page back: after large snapshots, or many records, the file stays as large as it ever
was. Here it is copied without free pages, the copy is compared with the original row by row, and
only then put in its place. The store must not run: its lock is taken.

Order: the copy is synced; the witness (ledger.py) is told the smaller size, which the old file
exceeds, so that it holds for both; the copy is renamed over the old file; the directory is synced.
So whenever it is cut off, the directory holds one whole store that its witness agrees with.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from storesvr.directory import Directory
from storesvr.engine import MAP_SIZE
from storesvr.errors import Blank, CannotOpen, EngineCorrupt, EngineError
from storesvr.ledger import Totals, Witness, decode_identity, decode_totals
from storesvr.port import Identity
from storesvr.records import decode, decode_snapshot, stored_crc

_TABLES = (b"meta", b"records", b"snapshots")
_FORMAT_0_9 = 0
_FOLDER = "compacting"


class Compacted(NamedTuple):
    """identity: whose store it is; before, after: bytes of its data file."""

    identity: Identity
    before: int
    after: int


def compact(path: Path, *, dry_run: bool = False) -> Compacted:
    """Compact the store in a data directory; dry_run: only say how large it would be.

    Every record and snapshot is verified first. Raises EngineError: then nothing has changed.
    """
    directory = Directory(path, create=False)
    folder = path / _FOLDER
    try:
        with _mapped(path):
            witness = directory.recall()
            if not witness.commits:
                raise Blank(f"{path} holds no store")
            before = directory.data_size()
            if directory.free_bytes() < before:
                free = directory.free_bytes()
                raise CannotOpen(f"{path}: a copy may need {before} bytes, {free} are free")
            shutil.rmtree(folder, ignore_errors=True)  # of one that was cut off
            folder.mkdir(mode=0o700)
            identity, totals = _copy(directory, witness, folder)
            copy = folder / "data.mdb"
            after = copy.stat().st_size
            if not dry_run:
                _sync(copy)
                directory.replace_data(copy, Witness(totals.commits, after))
            return Compacted(identity, before, after)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        directory.close()


def _copy(directory: Directory, witness: Witness, folder: Path) -> tuple[Identity, Totals]:
    with _opened(directory.path) as env:
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if directory.data_size() < needed:  # as the engine does
            os.truncate(directory.data_file, needed)
        rows = _rows(env)
        identity, totals = _checked(rows)
        if totals.commits < witness.commits:
            raise EngineCorrupt(f"the store is at commit {totals.commits}, not {witness.commits}")
        env.copy(str(folder), compact=True)
    with _opened(folder) as env:
        if _rows(env) != rows:
            raise EngineCorrupt("the copy is not what was copied")
    return identity, totals


def _rows(env: lmdb.Environment) -> dict[bytes, dict[bytes, bytes]]:
    """All that is stored, by table."""
    found = {}
    for name in _TABLES:
        table = env.open_db(name, create=False)
        with env.begin(db=table) as txn:
            found[name] = {bytes(key): bytes(value) for key, value in txn.cursor()}
    return found


def _checked(rows: dict[bytes, dict[bytes, bytes]]) -> tuple[Identity, Totals]:
    """Raises EngineCorrupt unless everything is sound and all there."""
    meta, records, snapshots = (rows[name] for name in _TABLES)
    if not {b"identity", b"totals"} <= meta.keys():
        raise EngineCorrupt("the store has no identity")
    identity, totals = decode_identity(meta[b"identity"]), decode_totals(meta[b"totals"])
    for key, value in records.items():
        decode(int.from_bytes(key, "big"), value)
    for key, value in snapshots.items():
        decode_snapshot(int.from_bytes(key, "big"), value)
    found = Totals().after((None, stored_crc(value)) for value in records.values())
    if found[1:] != totals[1:]:
        raise EngineCorrupt(f"{found.records} records are not what was stored: {totals.records}")
    return identity, totals


@contextmanager
def _opened(folder: Path) -> Iterator[lmdb.Environment]:
    env = lmdb.open(
        str(folder), lib_version=_FORMAT_0_9, map_size=MAP_SIZE, max_dbs=3, mode=0o600, create=False
    )
    try:
        yield env
    finally:
        env.close()


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except (lmdb.Error, OSError) as error:
        raise CannotOpen(f"{path}: {error}") from error


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
