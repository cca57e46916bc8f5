"""What replicas compare and copy when one of them has missed something.  Keeps NRW-1.

Repair carries max_seq, the owner record and the seal, each by the greatest, and never a promise: a
promise says what this replica has answered to a fence, and it has answered nothing. So a merged
record may have an owner_epoch above its promise; the rules of replica.py hold for such a record
too. Copies between Sets and memberships do carry promises, by the greatest as well (section 7).

Since seal and owner_epoch only rise, whether a section is sealed depends on neither the order in
which records are merged nor on how often.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from storesvr.records import Record

DIGEST_SIZE = 16

_ROW = struct.Struct(">QQQQ?")
_SEAL = struct.Struct(">Q")


class ChunkDigest(NamedTuple):
    """The records of one chunk of sections; `first` is the chunk's first section."""

    first: int
    records: int
    digest: bytes


def merge(ours: Record, theirs: Record) -> Record:
    """Ours, raised to what theirs says; has_snapshot means that a snapshot of its epoch is held.

    The fence_version is ours, also where the promise rose: its new one is for the caller to give.

    The greater owner_epoch wins. At equal epochs of one owner "released" wins, since an owner says
    it last; two owners of one epoch contradict each other, and then ours is kept, which at worst
    makes the next owner wait.
    """
    ours = ours._replace(
        promised=max(ours.promised, theirs.promised),
        max_seq=max(ours.max_seq, theirs.max_seq),
        sealed=max(ours.sealed, theirs.sealed),
    )
    if theirs.owner_epoch > ours.owner_epoch:
        return _owned_as(theirs, ours)
    same_owner = (theirs.owner_epoch, theirs.owner) == (ours.owner_epoch, ours.owner)
    if same_owner and theirs.released and not ours.has_snapshot:
        return _owned_as(theirs, ours)
    return ours


def _owned_as(owned: Record, ours: Record) -> Record:
    return ours._replace(
        owner_epoch=owned.owner_epoch,
        owner=owned.owner,
        released=owned.released,
        has_snapshot=owned.released and owned.has_snapshot,
    )


def digests(records: Iterable[Record], first: int, chunk: int) -> list[ChunkDigest]:
    """One per chunk `first + k * chunk` that holds a record; records come by rising section."""
    found: list[ChunkDigest] = []
    start, rows, count = first, bytearray(), 0
    for record in records:
        if record.section >= start + chunk:
            _close(found, start, rows, count)
            start = first + (record.section - first) // chunk * chunk
            rows, count = bytearray(), 0
        rows += _ROW.pack(
            record.section, record.max_seq, record.owner_epoch, record.owner, record.released
        )
        if record.sealed:  # else as versions that know of no seals have it
            rows += _SEAL.pack(record.sealed)
        count += 1
    _close(found, start, rows, count)
    return found


def _close(found: list[ChunkDigest], start: int, rows: bytearray, count: int) -> None:
    if rows:
        digest = hashlib.blake2b(rows, digest_size=DIGEST_SIZE).digest()
        found.append(ChunkDigest(start, count, digest))
