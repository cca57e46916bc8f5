"""Replays a trace of messages through timeline.py, and proves what its devices end with.

    python examples/timeline/replay.py TRACE --addr HOST:PORT[,...]
    python examples/timeline/replay.py TRACE --local-cluster --kill-every 3

Three processes' worth of the service share one file. Each user has two devices, which pull whenever
they hear of something, later or sooner; answers to them, and to senders, get lost on their way.
The second form starts examples/local-cluster and kills a node that often, meanwhile. At the end
every device must have every message of its user once, in the order of the inbox and of each sender.
"""

import argparse
import asyncio
import gzip
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import timeline
from timeline import Message, Stored, Timeline

import seqsvr

SERVERS = 3
IN_FLIGHT = 1_000
LOST_ACKS = 0.03
LOST_PAGES = 0.1
DELAYS_S = (0.002, 0.3)
"""Of the two devices of a user, from a message to the pull: one is awake, one dozes."""
CLUSTER = Path(__file__).resolve().parents[1] / "local-cluster" / "cluster.py"


class Failed(Exception):
    """Ends the program with one line."""


@dataclass(slots=True, eq=False)
class Device:
    """What it has, and the number of the last of it: all that it knows of the service."""

    uid: int
    delay_s: float
    last: int = 0
    shown: list[Stored] = field(default_factory=list)
    pulling: bool = False

    def pull(self, server: Timeline) -> bool:
        """One page; whether there may be more. An answer that is lost changes nothing."""
        page = server.newer(self.uid, self.last)
        if random.random() < LOST_PAGES:
            return bool(page)
        self.shown += page
        self.last = page[-1].seq if page else self.last
        return len(page) == timeline.PAGE


class World:
    """Senders, servers, devices, and all that goes wrong between them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        uids = {uid for one in messages for uid in (one.sender, one.recipient)}
        self.devices = {
            uid: tuple(Device(uid, delay_s) for delay_s in DELAYS_S) for uid in sorted(uids)
        }
        self.servers: list[Timeline] = []
        self.sent = self.resent = self.refused = 0
        self._turns: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def heard(self, uid: int) -> None:
        """An inbox has something new."""
        for device in self.devices[uid]:
            if not device.pulling:
                device.pulling = True
                delay_s = random.uniform(0, 2 * device.delay_s)
                asyncio.get_running_loop().call_later(delay_s, self._pull, device)

    def _pull(self, device: Device) -> None:
        device.pulling = False
        if device.pull(random.choice(self.servers)):
            self.heard(device.uid)

    async def replay(self, rate: float) -> None:
        """Everybody sends what the trace says, one message after the other."""
        left = iter(self.messages)
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(self._send_on(left, time.monotonic(), rate))

    async def _send_on(self, left: Iterable[Message], started_s: float, rate: float) -> None:
        for message in left:
            async with self._turns[message.sender]:
                self.sent += 1
                await asyncio.sleep(started_s + self.sent / rate - time.monotonic())
                while not await self._is_acknowledged(message):
                    self.resent += 1

    async def _is_acknowledged(self, message: Message) -> bool:
        try:
            await random.choice(self.servers).send(message)
        except seqsvr.SeqError as error:
            if not error.retryable:
                raise
            self.refused += 1
            await asyncio.sleep(random.uniform(0, 0.1))
            return False
        return random.random() >= LOST_ACKS

    async def settle(self) -> None:
        """Until no device has anything to hear of."""
        for uid in self.devices:
            self.heard(uid)
        while any(one.pulling for pair in self.devices.values() for one in pair):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def violations(self) -> list[str]:
        """What is not as promised, device by device."""
        due: dict[int, list[Message]] = defaultdict(list)
        for message in self.messages:
            for uid in {message.sender, message.recipient}:
                due[uid].append(message)
        found = []
        for uid, pair in self.devices.items():
            for device in pair:
                wrong = wrong_with(device.shown, due[uid])
                found += [f"a device of {uid} {wrong}"] if wrong else []
            if pair[0].shown != pair[1].shown:
                found.append(f"the devices of {uid} differ")
        return found


def wrong_with(shown: Sequence[Stored], due: Sequence[Message]) -> str:
    """A device against the messages of its user in the order of the trace; "" if all is well."""
    seqs, messages = [one.seq for one in shown], [one.message for one in shown]
    if len(set(messages)) != len(messages):
        return "has a message twice"
    if missing := set(due) - set(messages):
        return f"misses {len(missing)} of {len(due)} messages"
    if len(messages) != len(due):
        return "has messages of others"
    if any(one >= other for one, other in pairwise(seqs)):
        return "has them out of order"
    return "" if by_sender(messages) == by_sender(due) else "has a sender's messages out of order"


def by_sender(messages: Iterable[Message]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for message in messages:
        found[message.sender].append(message.id)
    return found


def read(trace: Path, limit: int | None, spread: int) -> list[Message]:
    """`sender recipient unix_time` in each line."""
    messages: list[Message] = []
    with gzip.open(trace, "rt") if trace.suffix == ".gz" else trace.open() as lines:
        for number, line in enumerate(lines, 1):
            if limit is not None and len(messages) >= limit:
                break
            sender, recipient, at = line.split()
            ends = int(sender) * spread, int(recipient) * spread
            messages.append(Message(f"{trace.name}:{number}", *ends, f"sent at {at}"))
    return messages


@asynccontextmanager
async def local_cluster(options: argparse.Namespace, folder: Path) -> AsyncIterator[str]:
    """The nodes of a cluster of its own, of which one is killed every now and then."""
    command = [str(CLUSTER), "--data", str(folder / "cluster"), "--section-size", "100"]
    command += ["--base-port", str(options.base_port), "--uid-limit", "200000"]
    command += ["--kill-every", str(options.kill_every)] if options.kill_every else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        said = b"" if process.stdout is None else await process.stdout.readline()
        if not said.startswith(b"ready "):
            raise Failed("the cluster has not started")
        yield said.decode().split()[1]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def run(options: argparse.Namespace) -> dict[str, object]:
    """The figures of one replay."""
    world = World(read(options.trace, options.limit, options.spread))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.data)))
        addresses = options.addr
        if options.local_cluster:
            addresses = await stack.enter_async_context(local_cluster(options, folder))
        for _ in range(SERVERS):
            seqs = await stack.enter_async_context(seqsvr.AsyncClient(addresses))
            server = Timeline(seqs, folder / "timeline.db", world.heard)
            stack.push_async_callback(server.aclose)
            world.servers.append(server)
        started_s = time.monotonic()
        await world.replay(options.rate)
        seconds = time.monotonic() - started_s
        await world.settle()
    found = world.violations()
    for text in found[:10]:
        print(text, file=sys.stderr)
    return {
        "messages": len(world.messages),
        "users": len(world.devices),
        "deliveries": sum(len(one.shown) for pair in world.devices.values() for one in pair),
        "seconds": round(seconds, 1),
        "sent_again": world.resent,
        "refused": world.refused,
        "numbers_thrown_away": sum(server.thrown_away for server in world.servers),
        "violations": len(found),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Replays a trace through a message service.")
    parser.add_argument("trace", type=Path, help="sender recipient unix_time in each line; or .gz")
    parser.add_argument("--addr", default="127.0.0.1:7420", help="any nodes of a running service")
    parser.add_argument("--local-cluster", action="store_true", help="start a cluster instead")
    parser.add_argument("--base-port", type=int, default=7420, help="of that cluster")
    parser.add_argument("--kill-every", type=float, metavar="SECONDS", help="kill -9 a node of it")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N messages only")
    parser.add_argument("--spread", type=int, default=1, metavar="K", help="multiply uids by K")
    parser.add_argument("--rate", type=float, default=1e9, help="messages a second at most")
    parser.add_argument("--data", type=Path, help="where its temporary files go")
    parser.add_argument("--naive", action="store_true", help="store under any number: see it fail")
    options = parser.parse_args()
    if options.naive:
        setattr(timeline.Inboxes, "_is_at_its_end", lambda *_: True)  # noqa: B010
    try:
        figures = asyncio.run(run(options))
    except Failed as error:
        print(f"timeline: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    print(json.dumps(figures))
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
