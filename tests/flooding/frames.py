"""HTTP/2 as far as a flood needs it: frames of gRPC calls, made once and sent thousands of times.

A gRPC client costs as much as a server, so one that offers ten times what a server can do would
take ten times its CPU. Header blocks here are literals, never indexed, so every call's bytes are
the same but for the stream's number (RFC 9113, RFC 7541).
"""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
WINDOW = 65_535
MAX_FRAME = 16_384
HEAD_BYTES = 9


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(path: str, authority: str) -> bytes:
    """The header block of a gRPC call without a deadline."""
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(path.encode()),
            b"\x01" + _text(authority.encode()),
            b"\x0f\x10" + _text(b"application/grpc"),  # content-type
            b"\x00" + _text(b"te") + _text(b"trailers"),
        )
    )


def message(raw: bytes) -> bytes:
    """A gRPC message, uncompressed."""
    return struct.pack(">BI", 0, len(raw)) + raw


def data(stream: int, payload: bytes, *, last: bool) -> bytes:
    """As many DATA frames as a payload needs."""
    parts = [payload[at : at + MAX_FRAME] for at in range(0, len(payload), MAX_FRAME)]
    flags = [0] * (len(parts) - 1) + [END_STREAM if last else 0]
    return b"".join(
        frame(DATA, flag, stream, part) for flag, part in zip(flags, parts, strict=True)
    )


def settings(**values: int) -> bytes:
    """Ours: initial_window (bytes that may be sent to us on a stream), if not as usual."""
    payload = b""
    if "initial_window" in values:
        payload = struct.pack(">HI", INITIAL_WINDOW_SIZE, values["initial_window"])
    return frame(SETTINGS, 0, 0, payload)


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes((len(value),)) + value
