"""One connection of a flood: what it may send by the rules of HTTP/2, and what came back."""

import socket
import struct

from flooding import frames
from flooding.frames import HEAD_BYTES, WINDOW


class Stream:
    """window: bytes that may still be sent on it."""

    __slots__ = ("window",)

    def __init__(self, window: int) -> None:
        self.window = window


class Connection:
    """Sends unary calls, or messages of streams; keeps windows and answers what must be answered.

    answered: messages that came; refused: calls that ended without one; reset: by RST_STREAM.
    """

    def __init__(self, address: str, path: str, *, reads: bool = True, window: int = WINDOW):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.answered = self.refused = self.reset = self.sent = 0
        self.ended = False
        self.most_streams = 100
        self.streams: dict[int, Stream] = {}
        self._reads = reads
        self._block = frames.headers(path, address)
        self._next = 1
        self._window = WINDOW
        self._initial = WINDOW
        self._out = bytearray(frames.PREFACE + frames.settings(initial_window=window))
        if reads:  # as much as it likes
            self._out += frames.frame(frames.WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30))
        self._in = bytearray()
        self._has_data: set[int] = set()

    def fileno(self) -> int:
        return self.socket.fileno()

    # -- sending

    def has_room(self, size: int) -> bool:
        """Whether one more message of so many bytes may go out on the connection."""
        return not self.ended and self._window >= size and len(self._out) < 1 << 20

    def call(self, payload: bytes) -> bool:
        """Begin and end a unary call; False: not now."""
        if len(self.streams) >= self.most_streams or not self.has_room(len(payload)):
            return False
        stream = self.open()
        self._out += frames.data(stream, payload, last=True)
        self._window -= len(payload)
        self.sent += 1
        return True

    def open(self) -> int:
        """A stream; its number."""
        stream, self._next = self._next, self._next + 2
        self.streams[stream] = Stream(self._initial)
        self._out += frames.frame(frames.HEADERS, frames.END_HEADERS, stream, self._block)
        return stream

    def say(self, stream: int, payload: bytes) -> bool:
        """A message on a stream; False: not now, or never again."""
        held = self.streams.get(stream)
        if held is None or held.window < len(payload) or not self.has_room(len(payload)):
            return False
        held.window -= len(payload)
        self._window -= len(payload)
        self._out += frames.data(stream, payload, last=False)
        self.sent += 1
        return True

    def flush(self) -> None:
        """Send what the socket takes."""
        if not self._out or self.ended:
            return
        try:
            taken = self.socket.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            self.ended = True
            return
        del self._out[:taken]

    @property
    def wants_to_send(self) -> bool:
        return bool(self._out) and not self.ended

    # -- reading

    def receive(self) -> None:
        """Take what has come."""
        try:
            more = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.ended = True
            return
        self._in += more
        at = 0
        while len(self._in) - at >= HEAD_BYTES:
            length = int.from_bytes(self._in[at : at + 3], "big")
            if len(self._in) - at < HEAD_BYTES + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self._in, at + 3)
            self._frame(kind, flags, stream, bytes(self._in[at + HEAD_BYTES :][:length]))
            at += HEAD_BYTES + length
        del self._in[:at]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._data(stream, payload)
        elif kind == frames.HEADERS and flags & frames.END_STREAM:
            self._closed(stream)
        elif kind == frames.RST_STREAM:
            self.reset += stream in self.streams
            self._closed(stream)
        elif kind == frames.WINDOW_UPDATE:
            more = struct.unpack(">I", payload)[0]
            if stream == 0:
                self._window += more
            elif stream in self.streams:
                self.streams[stream].window += more
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._out += frames.frame(frames.PING, frames.ACK, 0, payload)
        elif kind == frames.GOAWAY:
            self.ended = True

    def _data(self, stream: int, payload: bytes) -> None:
        if not payload:
            return
        # Small answers fit one frame each, so their number is the frames'; of a large one, the
        # later frames are as large as can be or its last, and count as well.
        self.answered += 1
        self._has_data.add(stream)
        if self._reads and stream in self.streams:
            grant = struct.pack(">I", len(payload))
            self._out += frames.frame(frames.WINDOW_UPDATE, 0, stream, grant)

    def _closed(self, stream: int) -> None:
        if self.streams.pop(stream, None) is not None:
            self.refused += stream not in self._has_data
            self._has_data.discard(stream)

    def _settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == frames.MAX_CONCURRENT_STREAMS:
                self.most_streams = min(value, 1 << 20)
            elif key == frames.INITIAL_WINDOW_SIZE:
                for held in self.streams.values():
                    held.window += value - self._initial
                self._initial = value
        self._out += frames.frame(frames.SETTINGS, frames.ACK, 0, b"")

    def close(self) -> None:
        self.socket.close()
