"""The counters a section leaves behind at a planned hand-over (docs/PROTOCOL.md, section 7).

Form: a fixed header, then zlib over one block per page that was used. Counters are written as
distances below max_seq, so that no reader can take one to be above what is durable:

    header   magic 4s, format u16, page size u16, section u64, max_seq u64, base distance u64
    block    page index u32, item width u8 (2, 4 or 8), page size items, little endian

It is bytes to StoreSvr, which ties them to the epoch of the release and to a checksum. A snapshot
that cannot be read is no disaster: the next owner starts from the ceiling instead.
"""

import struct
import zlib
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allocsvr.section import PAGE_SIZE, Pages, Section, State
from seqsvr.invariants import require
from seqsvr.sections import SEQ_LIMIT

_HEADER = struct.Struct("<4sHHQQQ")
_BLOCK = struct.Struct("<IB")
_MAGIC = b"SQSN"
_FORMAT = 1
_WIDTHS = {2: "<u2", 4: "<u4", 8: "<u8"}


class BadSnapshot(ValueError):
    """Not a snapshot of that section; start from the ceiling."""


def encode(section: Section) -> bytes:
    """The counters of a section that has stopped serving."""
    require(section.state is not State.LOST, "the counters of a lost section are gone")
    room = section.max_seq - section.base
    header = _HEADER.pack(_MAGIC, _FORMAT, PAGE_SIZE, section.id, section.max_seq, room)
    blocks: list[bytes] = []
    for index, page in section.pages():
        below = room - page
        top = int(below.max())
        width = 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
        blocks += (_BLOCK.pack(index, width), below.astype(_WIDTHS[width]).tobytes())
    return header + zlib.compress(b"".join(blocks), 1) if blocks else header


def decode(section: int, size: int, data: bytes) -> tuple[int, int, Pages | None]:
    """(base, max_seq, pages) of a section of `size` uids; raises BadSnapshot."""
    if len(data) < _HEADER.size:
        raise BadSnapshot("shorter than its header")
    magic, form, page_size, owner, max_seq, room = _HEADER.unpack_from(data)
    if (magic, form, page_size, owner) != (_MAGIC, _FORMAT, PAGE_SIZE, section):
        raise BadSnapshot(f"not a snapshot of section {section} in format {_FORMAT}")
    if not room <= max_seq <= SEQ_LIMIT:
        raise BadSnapshot(f"counters from {room} below {max_seq}")
    if len(data) == _HEADER.size:
        return max_seq - room, max_seq, None
    count = -(-size // PAGE_SIZE)
    body = _inflate(data[_HEADER.size :], count * (_BLOCK.size + 8 * PAGE_SIZE))
    pages: Pages = [None] * count
    offset = 0
    while offset < len(body):
        index, below, offset = _block(body, offset)
        if index >= count or pages[index] is not None or int(below.max()) > room:
            raise BadSnapshot(f"page {index} is out of place")
        pages[index] = array("q", (room - below.astype(np.int64)).tobytes())
    return max_seq - room, max_seq, pages


def _inflate(data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, limit)
    except zlib.error as error:
        raise BadSnapshot(f"body: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise BadSnapshot("body is cut short or too long")
    return body


def _block(body: bytes, offset: int) -> "tuple[int, NDArray[np.unsignedinteger[Any]], int]":
    try:
        index, width = _BLOCK.unpack_from(body, offset)
        form = _WIDTHS[width]
    except (struct.error, KeyError):
        raise BadSnapshot(f"block at {offset}") from None
    start = offset + _BLOCK.size
    end = start + width * PAGE_SIZE
    if end > len(body):
        raise BadSnapshot(f"block at {offset} is cut short")
    return index, np.frombuffer(body, form, PAGE_SIZE, start), end
