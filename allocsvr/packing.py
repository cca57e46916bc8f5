"""Large answers as bytes, without an object for each number. Pure.

A SessionResponse as protobuf would write it (proto/seqsvr/v1/alloc.proto), but for one thing: every
number takes as many bytes as the greatest of them. A varint may be longer than it has to be; every
reader of protobuf takes it, and all of them are made in a few steps.
"""

import numpy as np
from numpy.typing import NDArray

from allocsvr.counters import Cells, Taken

_SHIFTS = np.arange(0, 63, 7, dtype=np.int64)
# Field number << 3 | wire type (0: varint, 2: bytes).
_ID, _NEXT = b"\x08", b"\x22"
_SEQS, _EPOCHS = b"\x0a", b"\x1a"


def session_response(id_: int, taken: Taken) -> bytes:
    """The whole answer to the request `id_` for numbers."""
    seqs, epochs = varints(taken.seqs), taken.epochs
    packed = varint(epochs) if isinstance(epochs, int) else varints(epochs)
    lengths = varint(len(seqs)), varint(len(packed))
    answer = b"".join((_SEQS, lengths[0], seqs, _EPOCHS, lengths[1], packed))
    return b"".join((_ID, varint(id_), _NEXT, varint(len(answer)), answer))


def varint(value: int) -> bytes:
    """One value, 0..2^64-1."""
    if value < 128:
        return bytes((value,))
    parts = bytearray()
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def varints(values: Cells) -> bytes:
    """Values 0..2^63-1, at least one, all of the same length."""
    width = max(1, (int(np.maximum.reduce(values)).bit_length() + 6) // 7)
    parts: NDArray[np.uint8] = (values[:, None] >> _SHIFTS[:width]).astype(np.uint8)
    parts[:, :-1] |= 128
    return parts.tobytes()
