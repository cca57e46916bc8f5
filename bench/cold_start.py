"""How long one node takes to win a whole Set: 42,950 sections at three StoreSvr processes.

    .venv/bin/python bench/cold_start.py [--runs 3] [--cases fresh,released,crashed,large]

Cases, by what the sections were before: `fresh` never owned; `released` handed over by an owner
that had used one section in ten; `crashed` owned by a node that was killed just now, whose lease
must be waited out; `large` released, 200 of them with 5,000 uids in use.

One row per run: seconds since the node's process was started, and CPU seconds of the node and of
the three stores together. A row's `fence`, `scan` and `raise` are from the first such request to
the last answer, so they overlap; `lag` is the longest that the node's loop kept a timer waiting.
Real LMDB in a temporary directory, no network but loopback, and the disk of that directory.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CASES = ("fresh", "released", "crashed", "large")
SET, CLUSTER = "set-0", "bench"
TTL_S = 2.0
ME = Path(__file__).resolve()
COLUMNS = ("python", "fence", "scan", "raise", "total", "lag", "node_cpu", "stores_cpu")


# -- the parent ------------------------------------------------------------------------------------


class Store:
    """One storesvr process."""

    def __init__(self, directory: Path, name: str, profile: str) -> None:
        self.name = name
        traced = ["-m", "cProfile", "-o", f"{profile}.{name}"] if profile else []
        command = [sys.executable, *traced, "-m", "storesvr", "--data", str(directory / name)]
        command += ["--listen", "127.0.0.1:0", "--cluster", CLUSTER, "--set", SET]
        command += ["--replica", name, "--lease-ttl-s", str(TTL_S), "--create"]
        log = (directory / f"{name}.log").open("wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip().removeprefix("ready ")
        assert self.address, f"{name} does not start"

    def cpu_s(self) -> float:
        """User and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def stores(directory: Path, profile: str) -> Iterator[list[Store]]:
    """Three of them, past their boot grace."""
    running: list[Store] = []
    try:
        for number in range(3):
            running.append(Store(directory, f"store-{number}", profile))
        time.sleep(1.1 * TTL_S)
        yield running
    finally:
        for store in running:
            store.stop()


def assign(directory: Path, running: Sequence[Store], incarnation: int) -> None:
    """Write a map that gives every section to `incarnation`."""
    import grpc

    from clustermap import placement
    from clustermap.embedded import EmbeddedCoordinator
    from clustermap.model import (
        CLUSTER_KEY,
        Assignments,
        Cluster,
        Replica,
        SetSpec,
        assignments_key,
        set_key,
    )
    from clustermap.nodes import Node
    from clustermap.ranges import Range
    from seqsvr.v1 import store_pb2 as pb
    from seqsvr.v1 import store_pb2_grpc

    replicas = []
    for store in running:
        with grpc.insecure_channel(store.address) as channel:
            stub = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]
            info = stub.Info(pb.InfoRequest(), timeout=10)
        replicas.append(Replica(store.name, store.address, info.store_id))
    cluster = Cluster(CLUSTER)
    last = cluster.layout.sections - 1
    key = assignments_key(SET)

    async def write() -> None:
        coordinator = await EmbeddedCoordinator.open(directory)
        held = (await coordinator.get(key)).entries.get(key)
        document = Assignments.from_json(held.value) if held else Assignments(SET)
        document = placement.reassign(document, 0, last, Node(incarnation, "127.0.0.1:1", SET))
        puts = {
            CLUSTER_KEY: cluster.to_json(),
            set_key(SET): SetSpec(SET, (Range(0, last),), tuple(replicas), 2, 2).to_json(),
            key: document.to_json(),
        }
        await coordinator.transact({}, puts)
        await coordinator.aclose()

    asyncio.run(write())


class Run:
    """One Set from its first owner on."""

    def __init__(self, directory: Path, running: Sequence[Store], profile: str) -> None:
        self.directory = directory
        self.running = running
        self.profile = profile
        self.incarnation = 0

    def owner(self, case: str, end: str, **more: int) -> dict[str, Any]:
        """A node that wins everything, and how it went. end: release, or be killed by itself."""
        self.incarnation += 1
        assign(self.directory, self.running, self.incarnation)
        arguments = {"incarnation": self.incarnation, "end": end, **more}
        traced = ["-m", "cProfile", "-o", f"{self.profile}.{case}"] if self.profile else []
        command = [sys.executable, *traced, str(ME), "--node", str(self.directory)]
        before_s = sum(store.cpu_s() for store in self.running)
        arguments["started_ns"] = time.monotonic_ns()
        node = subprocess.Popen(
            [*command, "--arguments", json.dumps(arguments)], stdout=subprocess.PIPE, text=True
        )
        assert node.stdout is not None
        line = node.stdout.readline()
        stores_s = sum(store.cpu_s() for store in self.running) - before_s
        node.wait(120)
        node.stdout.close()
        assert line, "the node did not get there"
        return {"case": case, **json.loads(line), "stores_cpu": round(stores_s, 2)}


def measure(cases: Sequence[str], profile: str) -> Iterator[dict[str, Any]]:
    """Each case on stores of its own that went through `fresh` first."""
    for case in cases:
        directory = Path(tempfile.mkdtemp(prefix="cold-start-"))
        try:
            with stores(directory, profile and f"{profile}.{case}") as running:
                run = Run(directory, running, profile)
                if case == "fresh":
                    yield run.owner(case, "kill")
                elif case == "crashed":
                    run.owner("first", "kill", used=4295, uids=1)
                    yield run.owner(case, "kill")
                else:
                    used, uids = (4295, 1) if case == "released" else (200, 5000)
                    run.owner("first", "release", used=used, uids=uids)
                    yield run.owner(case, "kill")
        finally:
            shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--profile", default="", help="write cProfile files of this prefix")
    parser.add_argument("--node", default="", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        asyncio.run(node_main(Path(options.node), **json.loads(options.arguments)))
        return
    print("| case |" + " | ".join(COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for _ in range(options.runs):
        for row in measure(options.cases.split(","), options.profile):
            cells = " | ".join(f"{row[column]:.2f}" for column in COLUMNS)
            print(f"| {row['case']} | {cells} |", flush=True)


# -- the node's process ----------------------------------------------------------------------------


async def node_main(
    directory: Path, *, incarnation: int, end: str, started_ns: int, used: int = 0, uids: int = 0
) -> None:
    """Win everything, say how long it took, use some of it, and end."""
    from prometheus_client import CollectorRegistry

    from allocsvr.metrics import Metrics
    from allocsvr.node import AllocNode, Options
    from clustermap.clock import BootClock
    from clustermap.embedded import EmbeddedCoordinator
    from clustermap.model import CLUSTER_KEY, Cluster, Replica, SetSpec, set_key
    from svrprocess.store_client import GrpcReplica

    def since_start_s() -> float:
        return (time.monotonic_ns() - started_ns) / 1e9

    spans: dict[str, list[float]] = {"fence": [], "scan": [], "raise_max": []}

    def timed(name: str, method: Any) -> Any:
        async def call(*arguments: Any, **more: Any) -> Any:
            spans[name].append(since_start_s())
            answer = await method(*arguments, **more)
            spans[name].append(since_start_s())
            return answer

        return call

    row: dict[str, Any] = {"python": since_start_s()}
    coordinator = await EmbeddedCoordinator.open(directory)
    entries = (await coordinator.get("")).entries
    cluster = Cluster.from_json(entries[CLUSTER_KEY].value)
    spec = SetSpec.from_json(entries[set_key(SET)].value)
    node = AllocNode(
        cluster=cluster,
        spec=spec,
        incarnation=incarnation,
        address="127.0.0.1:1",
        clock=BootClock(),
        coordinator=coordinator,
        metrics=Metrics(CollectorRegistry()),
        options=Options(lease_ttl_s=TTL_S),
    )

    def connect(replica: Replica) -> GrpcReplica:
        transport = GrpcReplica(replica.address)
        for name in spans:
            setattr(transport, name, timed(name, getattr(transport, name)))
        return transport

    async with node.running(connect, GrpcReplica.hang_up):
        watch = asyncio.create_task(longest_lag())
        await node.ready()
        row["total"] = since_start_s()
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        row["lag"] = max(LAGS)
        for name, span in spans.items():
            row[name.removesuffix("_max")] = max(span) - min(span) if span else 0.0
        usage = resource.getrusage(resource.RUSAGE_SELF)
        row["node_cpu"] = usage.ru_utime + usage.ru_stime
        print(json.dumps(row), flush=True)
        size = cluster.section_size
        for section in range(used):
            spread = section * (cluster.layout.sections // used)
            batch = [spread * size + uid for uid in range(uids)]
            node.ledger.next_batch(batch, [], node.clock.now_ns())
        if end == "release":
            await node.drain()
        elif "_lsprof" not in sys.modules:  # a profile is written at the end
            os.kill(os.getpid(), signal.SIGKILL)
    await coordinator.aclose()


LAGS = [0.0]


async def longest_lag() -> None:
    """Timers of 5 ms, and how late the latest of them was."""
    while True:
        due_s = time.monotonic() + 0.005
        await asyncio.sleep(0.005)
        LAGS.append(time.monotonic() - due_s)


if __name__ == "__main__":
    main()
