"""Callers without end, as a process of its own on a host of its own, that says what it saw.

    python -m real_cluster.load_program --addr SEEDS --history FOLDER --name NAME UID...

CLIENTS clients write a history each, and call every uid over and over with the client's default
timeout: mostly `next`, also the other methods. Ends when its standard input does. Reads one JSON
object per line from there and answers each with one:

    {"do": "look"}                  how each uid fares now, and the routes
    {"do": "phase", "name": NAME}   begin a phase; figures of the one that ends
    {"do": "histories"}             go on with other clients; the histories of those that ended
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import seqsvr
from real_cluster.meter import Figures, Meter

CLIENTS = 2
RANGES = (2, 50, 400)
"""So large that windows are used up and raised again, and below meter.JUMP."""


class Caller:
    """Calls on one uid, one after the other, by the present one of its clients."""

    def __init__(self, clients: "Clients", index: int, meter: Meter, uid: int, pace_s: float):
        self._clients, self._index = clients, index
        self._meter, self._uid, self._uids = meter, uid, list(meter.highest)
        self._pace_s = pace_s
        self._random = random.Random()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self._pace_s)
            async with self._clients.borrowed(self._index) as client:
                await self._once(client)

    async def _once(self, client: seqsvr.AsyncClient) -> None:
        call_ns = time.monotonic_ns()
        try:
            await self._call(client, self._random.randrange(100), call_ns)
        except seqsvr.SeqError as error:
            if error.retryable:
                uid = self._uid if error.uid is None else error.uid
                self._meter.failed(uid, error.reason, time.monotonic_ns())
            else:
                self._meter.wrong(repr(error))
        except Exception as error:  # noqa: BLE001 - nothing else may come out of a client
            self._meter.wrong(repr(error))

    async def _call(self, client: seqsvr.AsyncClient, kind: int, call_ns: int) -> None:
        uid = self._uid
        if kind < 70:
            floor = self._meter.highest[uid]
            self._note(uid, floor, call_ns, await client.next(uid), 1)
        elif kind < 80:
            floor, count = self._meter.highest[uid], self._random.choice(RANGES)
            self._note(uid, floor, call_ns, (await client.next_range(uid, count))[0], count)
        elif kind < 95:
            floor = self._meter.highest[uid]
            self._note(uid, floor, call_ns, (await client.current(uid)).value, 0)
        else:
            several = list({uid, *self._random.choices(self._uids, k=3)})
            floors = [self._meter.highest[one] for one in several]
            numbers = await client.next_many(several)
            for one, floor, number in zip(several, floors, numbers, strict=True):
                self._note(one, floor, call_ns, number, 1)

    def _note(self, uid: int, floor: int, call_ns: int, seq: int, count: int) -> None:
        self._meter.answered(uid, floor, call_ns, time.monotonic_ns(), seq, count)


class Clients:
    """The clients that callers share, replaced as a whole; a closed one's history is complete."""

    def __init__(self, addr: str, folder: Path, name: str) -> None:
        self._addr, self._stem = addr, f"{folder}/{name}"
        self._clients: list[seqsvr.AsyncClient] = []
        self._files: list[str] = []
        self._made = 0
        self._changed = asyncio.Condition()
        self._borrowed = 0
        self._resting = False
        self._make()

    @property
    def present(self) -> list[seqsvr.AsyncClient]:
        return self._clients

    @asynccontextmanager
    async def borrowed(self, index: int) -> AsyncIterator[seqsvr.AsyncClient]:
        """A client for one call; waits while they are being replaced."""
        if self._resting:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._resting)
        self._borrowed += 1
        try:
            yield self._clients[index]
        finally:
            self._borrowed -= 1
            if self._resting and not self._borrowed:
                async with self._changed:
                    self._changed.notify_all()

    async def replace(self) -> list[str]:
        """Let all calls end, close the clients, make others. The files of the closed ones."""
        self._resting = True
        async with self._changed:
            await self._changed.wait_for(lambda: not self._borrowed)
            files = self._files
            await self.aclose()
            self._make()
            self._resting = False
            self._changed.notify_all()
        return files

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()

    def _make(self) -> None:
        self._made += 1
        self._files = [f"{self._stem}-{self._made:03}-{i}.jsonl" for i in range(CLIENTS)]
        self._clients = [seqsvr.AsyncClient(self._addr, history=file) for file in self._files]


class Load:
    def __init__(self, addr: str, uids: list[int], folder: Path, name: str, pace_s: float) -> None:
        self._clients = Clients(addr, folder, name)
        self._meter = Meter(uids, time.monotonic_ns())
        self._stop = asyncio.Event()
        self._callers = [
            Caller(self._clients, index, self._meter, uid, pace_s)
            for index in range(CLIENTS)
            for uid in uids
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._obey())
            for caller in self._callers:
                group.create_task(caller.run(self._stop))
        await self._clients.aclose()

    async def _obey(self) -> None:
        """Until nobody is there to give a command."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            if command["do"] == "look":
                print(json.dumps(self._look()), flush=True)
            elif command["do"] == "phase":
                ended = self._meter.begin(command["name"], time.monotonic_ns())
                print(json.dumps(_summary(ended)), flush=True)
            else:
                print(json.dumps(await self._clients.replace()), flush=True)
        self._stop.set()

    def _look(self) -> dict[str, object]:
        meter, table = self._meter, None
        for client in self._clients.present:
            seen = client.table()
            if seen is not None and (table is None or seen.version > table.version):
                table = seen
        return {
            "asked_ns": meter.asked_ns,
            "version": table.version if table else 0,
            "routes": [[r.first, r.last, r.address] for r in table.routes] if table else [],
        }


def _summary(figures: Figures) -> dict[str, object]:
    latencies = sorted(figures.latencies_ns) or [0]
    figures.latencies_ns = []
    said = asdict(figures)
    said["p50_ns"] = latencies[len(latencies) // 2]
    said["p99_ns"] = latencies[len(latencies) * 99 // 100]
    said["max_ns"] = latencies[-1]
    return said


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--addr", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--pace-s", type=float, default=0.1, help="pause between two calls")
    parser.add_argument("uids", type=int, nargs="+")
    args = parser.parse_args()

    async def run() -> None:
        await Load(args.addr, args.uids, args.history, args.name, args.pace_s).run()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
