"""Targets: what lies on disk. A checksum proves no sense: half of the inputs get a right one."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import google_crc32c

from allocsvr import snapshot
from allocsvr.section import PAGE_SIZE
from clustermap import embedded
from clustermap.coordinator import Versioned
from clustermap.errors import MapCorrupt
from storesvr import ledger, records
from storesvr.errors import CorruptRecord, EngineCorrupt
from storesvr.port import Identity

_SECTION = 7
_SIZE = 2 * PAGE_SIZE + 5
U64 = 2**64 - 1

RECORDS = [
    records.Record(_SECTION),
    records.Record(_SECTION, 5, 4, 9, True, 1_000, 3, True),
    records.Record(_SECTION, U64, U64, U64, True, U64, U64, False, U64),
]
IDENTITIES = [
    Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, 5),
    Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, 5)._replace(learning=True),
]


def sealed(data: bytes) -> bytes:
    """First byte odd: the rest, with the checksum that it ought to have."""
    body = data[1:]
    if data[:1] and data[0] % 2:
        return body[:-4] + int(google_crc32c.value(body[:-4])).to_bytes(4, "big")
    return body


def seeds(*rows: bytes) -> Callable[[], list[bytes]]:
    return lambda: [head + row for row in rows for head in (b"\0", b"\1")]


record_seeds = seeds(*map(records.encode, RECORDS))
snapshot_row_seeds = seeds(
    *(records.encode_snapshot(records.Snapshot(_SECTION, 4, payload)) for payload in (b"", b"x"))
)
note_seeds = seeds(
    *map(ledger.encode_identity, IDENTITIES),
    ledger.encode_totals(ledger.Totals(3, 2, U64)),
    ledger.encode_witness(ledger.Witness(3, 4_096)),
    ledger.encode_outliving(10**9),
)


def record(data: bytes) -> None:
    """Read, it is written again byte for byte: there is one form."""
    value = sealed(data)
    try:
        found = records.decode(_SECTION, value)
    except CorruptRecord:
        return
    assert found.section == _SECTION
    assert records.encode(found) == value


def snapshot_row(data: bytes) -> None:
    value = sealed(data)
    try:
        found = records.decode_snapshot(_SECTION, value)
    except CorruptRecord:
        return
    assert records.encode_snapshot(found) == value


_NOTES: tuple[Callable[[bytes], object], ...] = (
    ledger.decode_identity,
    ledger.decode_totals,
    ledger.decode_witness,
    ledger.decode_outliving,
)


def notes(data: bytes) -> None:
    """What a store notes of itself, each read as each."""
    value = sealed(data)
    for decode in _NOTES:
        try:
            found = decode(value)
        except EngineCorrupt:
            continue
        if isinstance(found, Identity):
            assert ledger.decode_identity(ledger.encode_identity(found)) == found


def counters_seeds() -> list[bytes]:
    """Both widths, one page left out, and all of it empty."""
    head = snapshot._HEADER.pack(b"SQSN", 1, PAGE_SIZE, _SECTION, 10**12, 10**11)
    pages = [
        snapshot._BLOCK.pack(index, width) + (7).to_bytes(width, "little") * PAGE_SIZE
        for index, width in ((0, 2), (2, 8))
    ]
    return [b"\0" + head, *(b"\1" + head + b"".join(pages[:count]) for count in (1, 2))]


def counters(data: bytes) -> None:
    """First byte odd: what follows the head is packed first. Never more than is durable."""
    import zlib

    head, body = data[1:33], data[33:]
    if data[:1] and data[0] % 2:
        body = zlib.compress(body, 1)
    try:
        base, max_seq, pages = snapshot.decode(_SECTION, _SIZE, head + body)
    except snapshot.BadSnapshot:
        return
    assert 0 <= base <= max_seq < 2**63
    for page in pages or ():
        if page is not None:
            # Counters are distances above the base.
            assert len(page) == PAGE_SIZE and min(page) >= 0 and max(page) <= max_seq - base


def embedded_map_seeds() -> list[bytes]:
    entries = {"cluster": Versioned(b"{}", 1), "k": Versioned(b"\xff\0", 2)}
    text = embedded._text(2, entries)
    return [b"\0" + text, b"\1" + text[text.index(b'"map":') + 6 : -2]]


_FOLDER = TemporaryDirectory(prefix="fuzzing-")


def embedded_map(data: bytes) -> None:
    """First byte odd: the content, in a right frame."""
    raw = data[1:]
    if data[:1] and data[0] % 2:
        digest = hashlib.sha256(raw).hexdigest()
        raw = f'{{"format":{embedded.FORMAT},"sha256":"{digest}","map":'.encode() + raw + b"}\n"
    path = Path(_FOLDER.name) / "map"
    path.write_bytes(raw)
    try:
        revision, entries = embedded.load(path)
    except MapCorrupt:
        return
    assert type(revision) is int
    assert all(isinstance(key, str) and type(held.revision) is int for key, held in entries.items())
    json.loads(embedded._text(revision, entries))
