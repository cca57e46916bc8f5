"""What replicas compare and copy when one of them has missed something.  Keeps NRW-1.

Repair carries max_seq and the owner record, each by the greatest, and never a promise: a promise
says what this replica has answered to a fence, and it has answered nothing. So a merged record may
have an owner_epoch above its promise; the rules of replica.py hold for such a record too.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from storesvr.records import Record

DIGEST_SIZE = 16

_ROW = struct.Struct(">QQQQ?")


class ChunkDigest(NamedTuple):
    """The records of one chunk of sections; `first` is the chunk's first section."""

    first: int
    records: int
    digest: bytes


def merge(ours: Record, theirs: Record) -> Record:
    """Ours, raised to what theirs says; has_snapshot means that a snapshot of its epoch is held.

    The greater owner_epoch wins. At equal epochs of one owner "released" wins, since an owner says
    it last; two owners of one epoch contradict each other, and then ours is kept, which at worst
    makes the next owner wait.
    """
    max_seq = max(ours.max_seq, theirs.max_seq)
    if theirs.owner_epoch > ours.owner_epoch:
        return _owned_as(theirs, ours, max_seq)
    same_owner = (theirs.owner_epoch, theirs.owner) == (ours.owner_epoch, ours.owner)
    if same_owner and theirs.released and not ours.has_snapshot:
        return _owned_as(theirs, ours, max_seq)
    return ours._replace(max_seq=max_seq)


def _owned_as(owned: Record, ours: Record, max_seq: int) -> Record:
    return ours._replace(
        owner_epoch=owned.owner_epoch,
        owner=owned.owner,
        released=owned.released,
        has_snapshot=owned.released and owned.has_snapshot,
        max_seq=max_seq,
    )


def digests(records: Iterable[Record], first: int, chunk: int) -> list[ChunkDigest]:
    """One per chunk `first + k * chunk` that holds a record; records come by rising section."""
    found: list[ChunkDigest] = []
    start, rows = first, bytearray()
    for record in records:
        if record.section >= start + chunk:
            _close(found, start, rows)
            start, rows = first + (record.section - first) // chunk * chunk, bytearray()
        rows += _ROW.pack(
            record.section, record.max_seq, record.owner_epoch, record.owner, record.released
        )
    _close(found, start, rows)
    return found


def _close(found: list[ChunkDigest], start: int, rows: bytearray) -> None:
    if rows:
        digest = hashlib.blake2b(rows, digest_size=DIGEST_SIZE).digest()
        found.append(ChunkDigest(start, len(rows) // _ROW.size, digest))
