"""What a store remembers about itself: who it is, and how much it must hold.  Keeps NRW-2.

LMDB has no checksums of its own. A flipped bit in one of its inner pages can hide records, and one
in a meta page can bring back the state before the last commit, both without an error. Against the
first there is, in every commit, a row of totals over all records; against the second a witness in
a file of its own, written after each commit, of how far the store had got:

    identity  "SQID" version:2 length:2 JSON crc:4
    totals    "SQTT" version:2 zero:2 commits:8 records:8 crc_sum:8 crc:4
    witness   "SQWT" version:2 zero:2 commits:8 file_size:8 crc:4

The witness is not synced at each commit. After a loss of power it may be older than the store,
which proves nothing; it is never newer, unless the store has lost something.

Leases are not stored, so that Renew waits for no disk. What is, in a file of its own, is how long a
lease may outlive the process that granted it, synced before the first grant: that is how long the
next process must take every lease to be alive (LEASE-1).

    outliving "SQLO" version:2 zero:2 nanoseconds:8 crc:4
"""

import json
import struct
from collections.abc import Iterable
from typing import NamedTuple

import google_crc32c

from storesvr.errors import EngineCorrupt, Foreign
from storesvr.port import Identity

FORMAT = 1

_HEAD = struct.Struct(">4sHH")
_TOTALS = struct.Struct(">4sHHQQQ")
_WITNESS = struct.Struct(">4sHHQQ")
_OUTLIVING = struct.Struct(">4sHHQ")
WITNESS_SIZE = _WITNESS.size + 4

_U64 = 2**64
_SINCE_ADOPT = ("learning", "retired")
_BLANK = Identity("", "", "", 1, 1)


class Totals(NamedTuple):
    """commits: how many there were; records: how many are stored; crc_sum: of their CRCs, 64 bit.

    The sum does not depend on order, so a commit changes it by what it writes.
    """

    commits: int = 0
    records: int = 0
    crc_sum: int = 0

    def after(self, changed: Iterable[tuple[int | None, int]]) -> "Totals":
        """The next ones; changed: (old CRC or None, new CRC) of each record written."""
        records, crc_sum = self.records, self.crc_sum
        for old, new in changed:
            records += old is None
            crc_sum += new - (old or 0)
        return Totals(self.commits + 1, records, crc_sum % _U64)


class Witness(NamedTuple):
    """commits: as in Totals, 0: creation has begun; file_size: of the data file, in bytes."""

    commits: int = 0
    file_size: int = 0


def encode_identity(identity: Identity) -> bytes:
    fields = identity._asdict()
    for name in _SINCE_ADOPT:
        if not fields[name]:
            del fields[name]  # as it was written before there was Adopt
    text = json.dumps(fields, sort_keys=True).encode()
    return _sealed(_HEAD.pack(b"SQID", FORMAT, len(text)) + text)


def decode_identity(value: bytes) -> Identity:
    """Raises EngineCorrupt."""
    body = _opened(value, "identity")
    magic, version, length = _HEAD.unpack_from(body)
    if (magic, length) != (b"SQID", len(body) - _HEAD.size):
        raise EngineCorrupt("the identity is no identity")
    if version != FORMAT:
        raise EngineCorrupt(f"format {version} of the store is not {FORMAT}")
    try:
        fields = json.loads(body[_HEAD.size :])
        return _checked(Identity(**fields))
    except (ValueError, TypeError, RecursionError) as error:
        raise EngineCorrupt(f"the identity cannot be read: {error}") from None


def _checked(identity: Identity) -> Identity:
    """Raises TypeError where a field is of another type."""
    for value, blank in zip(identity, _BLANK, strict=True):
        if type(value) is not type(blank):
            raise TypeError(f"{value!r} where it should be {type(blank).__name__}")
    return identity


def encode_totals(totals: Totals) -> bytes:
    return _sealed(_TOTALS.pack(b"SQTT", FORMAT, 0, *totals))


def decode_totals(value: bytes) -> Totals:
    """Raises EngineCorrupt."""
    return Totals(*_fields(_TOTALS, b"SQTT", value, "totals"))


def encode_witness(witness: Witness) -> bytes:
    return _sealed(_WITNESS.pack(b"SQWT", FORMAT, 0, *witness))


def decode_witness(value: bytes) -> Witness:
    """Raises EngineCorrupt."""
    return Witness(*_fields(_WITNESS, b"SQWT", value, "witness"))


def encode_outliving(lease_ns: int) -> bytes:
    return _sealed(_OUTLIVING.pack(b"SQLO", FORMAT, 0, lease_ns))


def decode_outliving(value: bytes) -> int:
    """Raises EngineCorrupt."""
    return _fields(_OUTLIVING, b"SQLO", value, "longest lease")[0]


def check_identity(found: Identity, wanted: Identity) -> None:
    """Raises Foreign with both sides, unless they agree; a store_id of 0 agrees with any.

    What the store has adopted is its own, and nobody else's to say.
    """
    if wanted.store_id == 0:
        wanted = wanted._replace(store_id=found.store_id)
    adopted = (found.membership, found.learning, found.retired)
    wanted = wanted._replace(membership=adopted[0], learning=adopted[1], retired=adopted[2])
    differing = [
        f"{name} is {getattr(found, name)!r} here, asked for {getattr(wanted, name)!r}"
        for name in Identity._fields
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differing:
        raise Foreign("; ".join(differing))


def _sealed(body: bytes) -> bytes:
    return body + int(google_crc32c.value(body)).to_bytes(4, "big")


def _opened(value: bytes, what: str) -> bytes:
    body = value[:-4]
    if len(body) < _HEAD.size or google_crc32c.value(body) != int.from_bytes(value[-4:], "big"):
        raise EngineCorrupt(f"the {what} fails its checksum")
    return body


def _fields(form: struct.Struct, magic: bytes, value: bytes, what: str) -> tuple[int, ...]:
    body = _opened(value, what)
    if len(body) != form.size:
        raise EngineCorrupt(f"the {what} has {len(value)} bytes")
    found, version, zero, *fields = form.unpack(body)
    if (found, version, zero) != (magic, FORMAT, 0):
        raise EngineCorrupt(f"the {what} has the head {(found, version, zero)}")
    return tuple(fields)
