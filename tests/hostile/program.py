"""One attack, as a process of its own.

    python -m hostile.program --addr HOST:PORT --attack settled --connections 10000 --seconds 20

Whatever is closed is opened again, at most as often as --again-per-s. Once all are open it prints
"ready"; at the end, one JSON object. --tls-ca: the handshake of TLS comes first.
"""

import argparse
import contextlib
import json
import resource
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator

from flooding import frames
from hostile.attacks import ATTACKS, CHUNK, Attack

TICK_S = 0.02
CONNECT_S = 20.0


class Hostile:
    """One connection, made on construction. Raises OSError."""

    def __init__(self, address: tuple[str, int], attack: Attack, tls: ssl.SSLContext | None):
        self.attack = attack
        plain = socket.create_connection(address, timeout=CONNECT_S)
        self.socket: socket.socket = plain
        try:
            if tls is not None and not attack.raw:
                self.socket = tls.wrap_socket(plain, server_hostname="localhost")
            self.socket.setblocking(False)
        except BaseException:
            plain.close()
            raise
        self._out = bytearray(attack.first)
        self._in = b""
        self._more: Iterator[bytes] | None = attack.more() if attack.more else None
        self.closed = False

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, *, more: bool) -> int:
        """What the socket takes; how many frames of more were begun."""
        begun = 0
        if not self._out and more and self._more is not None:
            self._out += next(self._more, b"")
            begun = CHUNK
        if self._out:
            try:
                del self._out[: self.socket.send(self._out)]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                self.closed = True
        return begun

    def receive(self) -> None:
        """Take what has come, and answer what keeps the connection open."""
        try:
            got = self.socket.recv(1 << 16)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            got = b""
        if not got:
            self.closed = True
        elif not self.attack.raw:
            self._in += got
            self._answer()

    def _answer(self) -> None:
        while len(self._in) >= frames.HEAD_BYTES:
            length = int.from_bytes(self._in[:3], "big")
            whole = frames.HEAD_BYTES + length
            if len(self._in) < whole:
                return
            kind, flags, _ = struct.unpack_from(">BBI", self._in, 3)
            if kind in (frames.PING, frames.SETTINGS) and not flags & frames.ACK:
                payload = self._in[frames.HEAD_BYTES : whole] if kind == frames.PING else b""
                # Between frames of ours, or it would be one of them.
                if not self._out:
                    self._out += frames.frame(kind, frames.ACK, 0, payload)
            self._in = self._in[whole:]


class Crowd:
    """All connections of an attack."""

    def __init__(self, args: argparse.Namespace) -> None:
        host, _, port = args.addr.rpartition(":")
        self._address, self._attack = (host, int(port)), ATTACKS[args.attack]
        self._tls = _context(args.tls_ca, args.tls_cert, args.tls_key) if args.tls_ca else None
        self._wanted, self._per_s, self._again_per_s = (
            args.connections,
            args.per_s,
            args.again_per_s,
        )
        self._selector = selectors.DefaultSelector()
        self._open: list[Hostile] = []
        self.figures = {"opened": 0, "closed": 0, "refused": 0, "frames": 0, "most_open": 0}

    def connect(self, most: int) -> None:
        """Up to so many of those that are missing."""
        for _ in range(min(most, self._wanted - len(self._open))):
            try:
                one = Hostile(self._address, self._attack, self._tls)
            except OSError:
                self.figures["refused"] += 1
                return
            self._open.append(one)
            self._selector.register(one, selectors.EVENT_READ, one)
            one.send(more=False)
            self.figures["opened"] += 1
        self.figures["most_open"] = max(self.figures["most_open"], len(self._open))

    def run(self, seconds: float) -> None:
        began_s, turn, again = time.monotonic(), 0, 0
        while (passed_s := time.monotonic() - began_s) < seconds:
            ticked_s = time.monotonic()
            due = int(self._again_per_s * passed_s) - again
            again += due
            self.connect(due)
            while self._open and self.figures["frames"] < self._per_s * passed_s:
                turn += 1
                sent = self._open[turn % len(self._open)].send(more=True)
                self.figures["frames"] += sent
                if not sent and not turn % len(self._open):
                    break
            self._take()
            time.sleep(max(0.0, TICK_S - (time.monotonic() - ticked_s)))
        self.figures["left"] = len(self._open)

    def _take(self) -> None:
        if self._attack.reads:
            for key, _ in self._selector.select(0):
                key.data.receive()
                key.data.send(more=False)
        else:
            for one in self._open:
                one.send(more=False)
        for one in [one for one in self._open if one.closed]:
            self._selector.unregister(one)
            one.socket.close()
            self._open.remove(one)
            self.figures["closed"] += 1


def _context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    if cert:
        context.load_cert_chain(cert, key)
    return context


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addr", required=True)
    parser.add_argument("--attack", choices=ATTACKS, required=True)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--per-s", type=float, default=20_000, help="frames, of all together")
    parser.add_argument("--again-per-s", type=float, default=50)
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--tls-{name}", default="")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(args)
    crowd.connect(args.connections)
    print("ready", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        crowd.run(args.seconds)
    print(json.dumps(crowd.figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
