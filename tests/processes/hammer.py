"""A client process: four clients call overlapping uids without end, and each writes a history.

    python -m processes.hammer --addr HOST:PORT --history FOLDER --name NAME UID...

Two clients are asyncio ones of two tasks each, two are blocking ones of two threads each. Every
call is drawn at random from next, next_range, next_many, current and current_many. A call that
fails is fine if its error says `retryable`. The number of calls that were answered stands in the
file FOLDER/NAME.progress, renewed all the time. Ends when its standard input does, prints one
JSON object with what it did, and leaves with 1 if any call failed in another way.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import seqsvr

PAUSE_S = 0.008
PROGRESS_S = 0.02


class Record:
    """What all clients of this process did."""

    def __init__(self, progress: Path) -> None:
        self.stop = threading.Event()
        self.answered = 0
        self.failed: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._progress = progress

    def note(self, error: Exception | None) -> None:
        if error is None:
            self.answered += 1
        elif isinstance(error, seqsvr.SeqError) and error.retryable:
            self.failed[error.reason] += 1
        else:
            self.wrong.append(repr(error))

    def publish(self) -> None:
        """Replace the progress file as a whole."""
        scratch = self._progress.with_suffix(".tmp")
        scratch.write_text(str(self.answered))
        os.replace(scratch, self._progress)


class Draw:
    """Random calls on some uids: a method of a client, and its arguments."""

    def __init__(self, uids: list[int]) -> None:
        self._uids = uids
        self._random = random.Random()

    def __call__(self) -> tuple[str, tuple[object, ...]]:
        draw, uids = self._random, self._uids
        kind = draw.randrange(100)
        if kind < 45:
            return "next", (draw.choice(uids),)
        if kind < 60:
            return "next_range", (draw.choice(uids), draw.choice((1, 2, 17, 300)))
        if kind < 75:
            return "next_many", (draw.choices(uids, k=draw.randint(1, 6)),)
        if kind < 90:
            return "current", (draw.choice(uids),)
        return "current_many", (draw.sample(uids, k=min(4, len(uids))),)


async def call_on(client: seqsvr.AsyncClient, draw: Draw, record: Record) -> None:
    while not record.stop.is_set():
        name, arguments = draw()
        try:
            await getattr(client, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - judged by note
            record.note(error)
        else:
            record.note(None)
        await asyncio.sleep(random.uniform(0, 2 * PAUSE_S))


def call_blocking(client: seqsvr.Client, draw: Draw, record: Record) -> None:
    while not record.stop.is_set():
        name, arguments = draw()
        try:
            getattr(client, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - judged by note
            record.note(error)
        else:
            record.note(None)
        time.sleep(random.uniform(0, 2 * PAUSE_S))


async def run_async(addr: str, paths: list[Path], draw: Draw, record: Record) -> None:
    clients = [seqsvr.AsyncClient(addr, history=path) for path in paths]
    async with clients[0], clients[1], asyncio.TaskGroup() as group:
        for client in clients * 2:
            group.create_task(call_on(client, draw, record))


def run_blocking(addr: str, path: Path, draw: Draw, record: Record) -> None:
    with seqsvr.Client(addr, history=path) as client:
        second = threading.Thread(target=call_blocking, args=(client, draw, record))
        second.start()
        call_blocking(client, draw, record)
        second.join()


def wait_for_the_end(record: Record) -> None:
    sys.stdin.read()
    record.stop.set()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--addr", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("uids", type=int, nargs="+")
    args = parser.parse_args()
    record, draw = Record(args.history / f"{args.name}.progress"), Draw(args.uids)
    paths = [args.history / f"{args.name}-{index}.jsonl" for index in range(4)]
    threads = [
        threading.Thread(target=run_blocking, args=(args.addr, path, draw, record))
        for path in paths[:2]
    ]
    threads.append(
        threading.Thread(target=lambda: asyncio.run(run_async(args.addr, paths[2:], draw, record)))
    )
    ends = threading.Thread(target=wait_for_the_end, args=(record,), daemon=True)
    for thread in (*threads, ends):
        thread.start()
    while any(thread.is_alive() for thread in threads):
        record.publish()
        time.sleep(PROGRESS_S)
    done = {"answered": record.answered, "failed": record.failed, "wrong": record.wrong[:10]}
    print(json.dumps(done))
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
