"""What is stored of one section, and its fixed binary form.  Keeps NRW-2.

A record is 60 or 68 bytes, a snapshot row 28 bytes and its payload; all integers are big-endian
and the last four bytes are the CRC32C of everything before them:

    record    "SQRC" version:2 flags:2 section:8 promised:8 owner_epoch:8 owner:8 max_seq:8
              fence_version:8 [sealed:8] crc:4
    snapshot  "SQSN" version:2 zero:2 section:8 epoch:8 payload crc:4

A section that was never sealed has a record of version 1, without `sealed`, as all had before there
were seals: those directories open as they are, and what is written to them is still read by the
software of then. Version 2 has it, and it is not 0 there: one record has one form.

The section stands in the value too, so that a value found under the wrong key is noticed. Decoding
either gives exactly what was encoded or raises `CorruptRecord`; there is no third outcome, and in
particular no value that reads as 0.
"""

import struct
from typing import NamedTuple

import google_crc32c

from storesvr.errors import CorruptRecord

VERSION = 1
SEALED_VERSION = 2
RECORD_SIZE = 60
SEALED_SIZE = 68
SNAPSHOT_OVERHEAD = 28

_RELEASED = 1
_SNAPSHOT = 2

_RECORD_MAGIC = b"SQRC"
_RECORD = struct.Struct(">4sHHQQQQQQ")
_RECORD_HEAD = struct.Struct(">4sHHQ")
_RECORD_BODY = struct.Struct(">6xHQQQQQQ4x")
_SEALED = struct.Struct(">4sHHQQQQQQQ")
_SEALED_BODY = struct.Struct(">6xHQQQQQQQ4x")
_SNAPSHOT_MAGIC = b"SQSN"
_SNAPSHOT_HEAD = struct.Struct(">4sHHQQ")
_CRC = struct.Struct(">I")

_crc32c = google_crc32c.value
_new = tuple.__new__


class Record(NamedTuple):
    """One section as a replica remembers it. A tuple, because thousands are made per request.

    promised: highest epoch promised, 0: none; owner_epoch, owner: who raised last, 0: nobody;
    released: that owner has given the section up; max_seq: NRW-1; fence_version: the replica's
    counter when `promised` last rose, 0 if it never did; has_snapshot: a snapshot of owner_epoch
    is stored beside it; sealed: epoch at which the section was last sealed, 0: never.
    """

    section: int
    promised: int = 0
    owner_epoch: int = 0
    owner: int = 0
    released: bool = False
    max_seq: int = 0
    fence_version: int = 0
    has_snapshot: bool = False
    sealed: int = 0

    def at(self, max_seq: int) -> "Record":
        """The same with another max_seq; half the price of `_replace`."""
        section, promised, owner_epoch, owner, released, _, version, has_snapshot, sealed = self
        return _new(
            Record,
            (
                section,
                promised,
                owner_epoch,
                owner,
                released,
                max_seq,
                version,
                has_snapshot,
                sealed,
            ),
        )

    @property
    def is_sealed(self) -> bool:
        """Whether the section has gone to another Set, and has not come back since."""
        return self.sealed >= 1 and self.sealed >= self.owner_epoch

    @property
    def snapshot_epoch(self) -> int:
        """Epoch of the snapshot that the next owner may start from, 0: there is none."""
        return self.owner_epoch if self.released and self.has_snapshot else 0


class Snapshot(NamedTuple):
    """What the owner of `epoch` left when it released the section; opaque here."""

    section: int
    epoch: int
    payload: bytes


def encode(record: Record) -> bytes:
    """The row of a record."""
    section, promised, owner_epoch, owner, released, max_seq, version, has_snapshot, sealed = record
    flags = (_RELEASED if released else 0) | (_SNAPSHOT if has_snapshot else 0)
    fields = flags, section, promised, owner_epoch, owner, max_seq, version
    if sealed:
        body = _SEALED.pack(_RECORD_MAGIC, SEALED_VERSION, *fields, sealed)
    else:
        body = _RECORD.pack(_RECORD_MAGIC, VERSION, *fields)
    return body + _CRC.pack(_crc32c(body))


def decode(section: int, value: bytes) -> Record:
    """The record stored under the key `section`. Raises CorruptRecord."""
    if len(value) not in (RECORD_SIZE, SEALED_SIZE):
        raise CorruptRecord(section, f"record of {len(value)} bytes, not {RECORD_SIZE}")
    _check_crc(section, value, "record")
    magic, version, flags, inside = _RECORD_HEAD.unpack_from(value)
    wanted = VERSION if len(value) == RECORD_SIZE else SEALED_VERSION
    _check_head(section, inside, (magic, version), (_RECORD_MAGIC, wanted))
    if flags & ~(_RELEASED | _SNAPSHOT):
        raise CorruptRecord(section, f"record with unknown flags {flags:#x}")
    record = trusted(value)
    if wanted == SEALED_VERSION and not record.sealed:
        raise CorruptRecord(section, "record with a seal of epoch 0")
    return record


def trusted(value: bytes) -> Record:
    """The record of a row that has been encoded here, or decoded before."""
    if len(value) == RECORD_SIZE:
        flags, section, promised, owner_epoch, owner, max_seq, version = _RECORD_BODY.unpack(value)
        sealed = 0
    else:
        fields = _SEALED_BODY.unpack(value)
        flags, section, promised, owner_epoch, owner, max_seq, version, sealed = fields
    released, has_snapshot = flags & _RELEASED != 0, flags & _SNAPSHOT != 0
    return _new(
        Record,
        (section, promised, owner_epoch, owner, released, max_seq, version, has_snapshot, sealed),
    )


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The row of a snapshot."""
    head = _SNAPSHOT_HEAD.pack(_SNAPSHOT_MAGIC, VERSION, 0, snapshot.section, snapshot.epoch)
    body = head + snapshot.payload
    return body + _CRC.pack(_crc32c(body))


def decode_snapshot(section: int, value: bytes) -> Snapshot:
    """The snapshot stored under the key `section`. Raises CorruptRecord."""
    if len(value) < SNAPSHOT_OVERHEAD:
        raise CorruptRecord(section, f"snapshot row of {len(value)} bytes")
    _check_crc(section, value, "snapshot")
    magic, version, zero, inside, epoch = _SNAPSHOT_HEAD.unpack_from(value)
    _check_head(section, inside, (magic, version, zero), (_SNAPSHOT_MAGIC, VERSION, 0))
    return Snapshot(section, epoch, value[_SNAPSHOT_HEAD.size : -_CRC.size])


def stored_crc(value: bytes) -> int:
    """The checksum that a value carries; only for values that have been verified or encoded."""
    return int.from_bytes(value[-4:], "big")


def _check_crc(section: int, value: bytes, what: str) -> None:
    if _crc32c(value[:-4]) != int.from_bytes(value[-4:], "big"):
        raise CorruptRecord(section, f"{what} with a wrong checksum")


def _check_head(
    section: int, inside: int, head: tuple[object, ...], wanted: tuple[object, ...]
) -> None:
    if head != wanted:
        raise CorruptRecord(section, f"head {head} is not {wanted}")
    if inside != section:
        raise CorruptRecord(section, f"value of section {inside}")
