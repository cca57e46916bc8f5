"""Callers without end, as a process of its own on a host of its own, that says what it saw.

    python -m real_cluster.load_program --addr SEEDS --history FOLDER --name NAME UID...

The clients write a history each, and each calls every uid over and over: mostly `next`, also the
other methods. Ends when its standard input does. Reads one JSON object per line from there and
answers each with one:

    {"do": "look"}                  how each uid fares now, and the routes
    {"do": "phase", "name": NAME}   begin a phase; figures of the one that ends
    {"do": "rest"}                  let all calls end, then wait; the histories, which are whole
    {"do": "resume"}                go on with other clients
    {"do": "histories"}             both at once
    {"do": "take"}                  what has not been taken yet: seconds (per_second.Ticker.take)
                                    and routes as they were when they changed: [ns, version, routes]
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

LOOK_S = 0.1
"""How often it is seen whether the routes have changed."""

RANGES = (2, 50, 400)
"""So large that windows are used up and raised again, and below meter.JUMP."""

_MAX_CHANGES = 10_000


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

    def __init__(self, addr: str, folder: Path, name: str, count: int, timeout_s: float) -> None:
        self._addr, self._stem = addr, f"{folder}/{name}"
        self._count, self._timeout_s = count, timeout_s
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

    async def rest(self) -> list[str]:
        """Let all calls end and close the clients. Their files."""
        self._resting = True
        async with self._changed:
            await self._changed.wait_for(lambda: not self._borrowed)
            await self.aclose()
        return self._files

    async def resume(self) -> None:
        """Go on with other clients."""
        async with self._changed:
            self._make()
            self._resting = False
            self._changed.notify_all()

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()

    def _make(self) -> None:
        self._made += 1
        self._files = [f"{self._stem}-{self._made:03}-{i}.jsonl" for i in range(self._count)]
        self._clients = [
            seqsvr.AsyncClient(self._addr, history=file, timeout=self._timeout_s)
            for file in self._files
        ]


class Load:
    def __init__(self, clients: Clients, uids: list[int], count: int, pace_s: float) -> None:
        self._clients = clients
        self._meter = Meter(uids, time.monotonic_ns())
        self._stop = asyncio.Event()
        self._version = 0
        self._changes: list[list[object]] = []
        self._callers = [
            Caller(self._clients, index, self._meter, uid, pace_s)
            for index in range(count)
            for uid in uids
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._obey())
            group.create_task(self._watch())
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
            print(json.dumps(await self._answer(command)), flush=True)
        self._stop.set()

    async def _answer(self, command: dict[str, str]) -> object:
        match command["do"]:
            case "look":
                version, routes = self._routes()
                return {"asked_ns": self._meter.asked_ns, "version": version, "routes": routes}
            case "phase":
                return _summary(self._meter.begin(command["name"], time.monotonic_ns()))
            case "rest":
                return await self._clients.rest()
            case "resume":
                await self._clients.resume()
                return None
            case "histories":
                files = await self._clients.rest()
                await self._clients.resume()
                return files
            case "take":
                changes, self._changes = self._changes, []
                return {"changes": changes, **self._meter.ticker.take(time.monotonic_ns())}
            case other:
                raise ValueError(other)

    async def _watch(self) -> None:
        while not self._stop.is_set():
            version, routes = self._routes()
            if version > self._version:
                self._version = version
                self._changes.append([time.monotonic_ns(), version, routes])
                del self._changes[:-_MAX_CHANGES]
            await asyncio.sleep(LOOK_S)

    def _routes(self) -> tuple[int, list[list[object]]]:
        """The newest that any client knows; version 0: none."""
        tables = [table for client in self._clients.present if (table := client.table())]
        newest = max(tables, key=lambda table: table.version, default=None)
        if newest is None:
            return 0, []
        return newest.version, [[r.first, r.last, r.address] for r in newest.routes]


def _summary(figures: Figures) -> dict[str, object]:
    said = asdict(figures)
    said["latencies"] = figures.latencies.counts
    return said


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--addr", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--pace-s", type=float, default=0.1, help="pause between two calls")
    parser.add_argument("--clients", type=int, default=2, help="each has a caller for each uid")
    parser.add_argument("--timeout-s", type=float, default=2.0, help="of a call")
    parser.add_argument("uids", type=int, nargs="+")
    args = parser.parse_args()

    async def run() -> None:
        clients = Clients(args.addr, args.history, args.name, args.clients, args.timeout_s)
        await Load(clients, args.uids, args.clients, args.pace_s).run()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
