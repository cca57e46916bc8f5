"""A flood, as a process of its own.

    python -m flooding.program --addr HOST:PORT --shape unary --per-s 50000 --seconds 20

Open loop: messages fall due at a steady rate, whatever becomes of those before; what connections
may not send for lack of room (HTTP/2's windows, streams, the socket) is lost, and counted as
offered. Prints one JSON object per second, and at the end one for the whole.
"""

import argparse
import json
import random
import selectors
import sys
import time
from collections.abc import Sequence

from flooding import frames
from flooding.connection import Connection
from seqsvr.v1 import alloc_pb2 as pb

TICK_S = 0.005


class Flood:
    """sessions: streams per connection; 0: unary calls. batch: entries of a message."""

    def __init__(
        self, address: str, *, connections: int, sessions: int, batch: int, uids: Sequence[int]
    ) -> None:
        rng = random.Random(7)
        some = [[rng.choice(uids) for _ in range(batch)] for _ in range(8)]
        path = "/seqsvr.v1.Alloc/Session" if sessions else "/seqsvr.v1.Alloc/GetSeq"
        self._payloads = [
            frames.message(_request(one, session=bool(sessions)).SerializeToString())
            for one in some
        ]
        self._address, self._path, self._sessions = address, path, sessions
        self._selector = selectors.DefaultSelector()
        self.connections: list[Connection] = []
        self._lost: list[tuple[int, int, int]] = []
        self.offered = self.made = 0
        for _ in range(connections):
            self._connect()
        self._turn = 0

    def _connect(self) -> None:
        connection = Connection(self._address, self._path)
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self.connections.append(connection)
        self.made += 1
        for _ in range(self._sessions):
            connection.open()

    def run(self, per_s: float, seconds: float) -> None:
        began_s = time.monotonic()
        said_s = began_s
        while (passed_s := time.monotonic() - began_s) < seconds:
            due = int(per_s * passed_s) - self.offered
            self.offered += due
            self._offer(due)
            self._exchange()
            if time.monotonic() - said_s >= 1:
                said_s += 1
                print(json.dumps(self.figures()), flush=True)

    def _offer(self, due: int) -> None:
        """Spread over the connections, round robin; what nobody has room for is lost."""
        full = 0
        while due > 0 and full < len(self.connections):
            self._turn += 1
            connection = self.connections[self._turn % len(self.connections)]
            took = self._some(connection, min(due, 64))
            due -= took
            full = 0 if took else full + 1

    def _some(self, connection: Connection, most: int) -> int:
        payload = self._payloads[self._turn % len(self._payloads)]
        taken = 0
        if not self._sessions:
            while taken < most and connection.call(payload):
                taken += 1
            return taken
        for stream in list(connection.streams):
            if taken < most and connection.say(stream, payload):
                taken += 1
        return taken

    def _exchange(self) -> None:
        for connection in self.connections:
            connection.flush()
        for key, _ in self._selector.select(TICK_S):
            key.data.receive()
        for connection in self.connections:
            if self._sessions and not connection.ended:
                for _ in range(self._sessions - len(connection.streams)):
                    connection.open()
            connection.flush()
        for connection in [one for one in self.connections if one.ended]:
            self._lost.append((connection.sent, connection.answered, connection.refused))
            self._selector.unregister(connection)
            connection.close()
            self.connections.remove(connection)
            try:
                self._connect()
            except OSError:
                time.sleep(TICK_S)

    def figures(self) -> dict[str, float]:
        """So far."""
        sums = [(0, 0, 0), *self._lost]
        sums += [(one.sent, one.answered, one.refused) for one in self.connections]
        sent, answered, refused = (sum(part) for part in zip(*sums, strict=True))
        return {
            "offered": self.offered,
            "sent": sent,
            "answered": answered,
            "refused": refused,
            "connections": self.made,
        }

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def _request(uids: list[int], *, session: bool) -> pb.GetSeqRequest | pb.SessionRequest:
    if session:
        return pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=uids))
    return pb.GetSeqRequest(uid=uids[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addr", required=True)
    parser.add_argument("--per-s", type=float, required=True, help="messages")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--sessions", type=int, default=0, help="per connection; 0: unary calls")
    parser.add_argument("--batch", type=int, default=1, help="entries of a Session's message")
    parser.add_argument("--uids", default="", metavar="UID[,...]", help="else any below 10^6")
    args = parser.parse_args()
    flood = Flood(
        args.addr,
        connections=args.connections,
        sessions=args.sessions,
        batch=args.batch,
        uids=[int(uid) for uid in args.uids.split(",") if uid] or range(1_000_000),
    )
    flood.run(args.per_s, args.seconds)
    print(json.dumps(flood.figures()), flush=True)
    flood.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
