"""Does anybody wait for the store? Full speed against a node, and its seqsvr_raise_waits_total.

    .venv/bin/python bench/never_waits.py [--numbers 100000000] [--nodes embedded,replicas]

Nodes: `embedded` is `seqctl up`; `replicas` a node with three StoreSvr processes. Real LMDB, a port
on loopback; servers on the first core, load on the last. Loads, each of them N numbers and at least
--seconds, in explicit batches over one raw Session stream, eight in flight:

    spread, hot, hot-mixed, hot-most   see explicit_batches.py
    stalls   as `spread`, with a replica stopped for 100 ms in every second (replicas only)

Each has two seconds in which the step may find its size; waits in there stand in a column of their
own. What counts are the waits after them, and entries that failed: with any, the exit code is 1.
Latencies are those of batches, in milliseconds; `in stalls` those that overlap with one.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cold_start import assign, stores
from explicit_batches import LOADS, session

HOST = "127.0.0.1"
WARM_UP_S = 2.0
STALL_S, PERIOD_S = 0.1, 1.0
COLUMNS = ("M/s", "waits", "at first", "failed", "raises/s", "p50", "p99.9", "max")


# -- nodes -----------------------------------------------------------------------------------------


class Node(NamedTuple):
    """A serving node. replicas: pids of its StoreSvr processes, if it has any."""

    address: str
    metrics: str
    replicas: Sequence[int] = ()

    async def waits_and_raises(self) -> tuple[float, float]:
        """Entries that waited for a raise, and raises of sections, so far."""
        lines = (await asyncio.to_thread(self._page)).splitlines()

        def total(name: str) -> float:
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

        return total("seqsvr_raise_waits_total"), total("seqsvr_raises_total")

    def _page(self) -> str:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as page:
            return str(page.read().decode())


@contextlib.contextmanager
def embedded(directory: Path) -> Iterator[Node]:
    metrics = f"{HOST}:{free_port()}"
    command = ["-m", "seqctl", "up", "--data", str(directory / "data")]
    with serving([*command, "--listen", f"{HOST}:0", "--metrics", metrics]) as address:
        yield Node(address, metrics)


@contextlib.contextmanager
def replicas(directory: Path) -> Iterator[Node]:
    metrics = f"{HOST}:{free_port()}"
    with stores(directory, "") as running:
        assign(directory, running, 1)
        command = [__file__, "--serve", str(directory), "--metrics", metrics]
        with serving(command) as address:
            yield Node(address, metrics, [store.process.pid for store in running])


@contextlib.contextmanager
def serving(command: Sequence[str]) -> Iterator[str]:
    """A server program, by the address that it announces."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip().removeprefix("ready ")
        assert address, "the node does not start"
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


async def serve(directory: Path, metrics: str) -> int:
    """The process of a node over the map in `directory`."""
    from prometheus_client import CollectorRegistry

    from allocsvr.metrics import Metrics
    from allocsvr.node import AllocNode
    from allocsvr.serving import NodeFront
    from clustermap.clock import BootClock
    from clustermap.embedded import EmbeddedCoordinator
    from clustermap.model import CLUSTER_KEY, DEFAULT_SET, Cluster, Replica, SetSpec, set_key
    from svrprocess.listening import serve_metrics
    from svrprocess.signals import Stop
    from svrprocess.store_client import GrpcReplica

    stop, front, registry = Stop.on_signals(), NodeFront(), CollectorRegistry()
    serve_metrics(metrics, registry)
    coordinator = await EmbeddedCoordinator.open(directory)
    entries = (await coordinator.get("")).entries
    spec = SetSpec.from_json(entries[set_key(DEFAULT_SET)].value)
    node = AllocNode(
        cluster=Cluster.from_json(entries[CLUSTER_KEY].value),
        spec=spec,
        incarnation=1,
        address=front.bind(f"{HOST}:0"),
        clock=BootClock(),
        coordinator=coordinator,
        metrics=Metrics(registry),
    )

    def connect(replica: Replica) -> GrpcReplica:
        return GrpcReplica(replica.address)

    async with node.running(connect, GrpcReplica.hang_up), front.open():
        await front.until(stop, node, node.is_ready, node.drain)
    await coordinator.aclose()
    return 0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


# -- loads -----------------------------------------------------------------------------------------


async def stall(pid: int, stalls: list[tuple[float, float]]) -> None:
    """Stop a process for STALL_S in every PERIOD_S, until cancelled."""
    while True:
        await asyncio.sleep(PERIOD_S - STALL_S)
        began = time.perf_counter()
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(STALL_S)
        finally:
            os.kill(pid, signal.SIGCONT)
            stalls.append((began, time.perf_counter()))


async def measured(node: Node, load: str, numbers: int, seconds: float) -> int:
    """Print the rows of one load; how many entries had to wait, or failed."""
    stalls: list[tuple[float, float]] = []
    async with session(node.address, load) as caller, asyncio.TaskGroup() as group:
        before, _ = await node.waits_and_raises()
        running = group.create_task(caller.run())
        staller = group.create_task(stall(node.replicas[2], stalls)) if load == "stalls" else None
        await asyncio.wait([running], timeout=WARM_UP_S)
        warm, raises = await node.waits_and_raises()
        began, first, at = time.perf_counter(), caller.numbers, len(caller.times)
        await asyncio.wait([running], timeout=seconds)
        while not running.done() and caller.numbers - first < numbers:
            await asyncio.wait([running], timeout=0.1)
        spent, taken, times = time.perf_counter() - began, caller.numbers, caller.times[at:]
        caller.stopping = True
        await asyncio.wait([running])
        if staller is not None:
            staller.cancel()
        after, raised = await node.waits_and_raises()
    speed, pace = (taken - first) / spent / 1e6, (raised - raises) / spent
    figures = [f"{x:,.2f}" for x in (speed, after - warm, warm - before, caller.failed, pace)]
    for name, part in parts(load, times, stalls):
        cells = [*figures, *(f"{1e3 * x:.2f}" for x in part)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return int(after - warm) + caller.failed


def parts(
    load: str, times: Sequence[tuple[float, float]], stalls: Sequence[tuple[float, float]]
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """p50, p99.9 and max in seconds, of all batches; with stalls, of those inside and outside."""
    inside: list[float] = []
    outside: list[float] = []
    held = list(stalls)
    for sent, answered in times:
        while held and held[0][1] < sent - PERIOD_S:
            held.pop(0)
        stalled = any(sent < end and answered > begin for begin, end in held[:3])
        (inside if stalled else outside).append(answered - sent)
    for name, waits in ((f"{load}, in stalls", inside), (load, outside)):
        if waits:
            waits.sort()
            yield name, (waits[len(waits) // 2], waits[len(waits) * 999 // 1000], waits[-1])


# -- the command -----------------------------------------------------------------------------------


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=10**8, help="of each load")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load, at least")
    parser.add_argument("--nodes", default="embedded,replicas")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--metrics", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parsed()
    if options.serve:
        from svrprocess import program

        return program.run(serve(Path(options.serve), options.metrics))
    cores, waited = sorted(os.sched_getaffinity(0)), 0
    for kind in options.nodes.split(","):
        directory = Path(tempfile.mkdtemp(prefix="never-waits-"))
        os.sched_setaffinity(0, {cores[0]})
        try:
            with {"embedded": embedded, "replicas": replicas}[kind](directory) as node:
                os.sched_setaffinity(0, {cores[-1]})
                gc.freeze()
                print(
                    f"\n| {kind} | "
                    + " | ".join(COLUMNS)
                    + " |\n"
                    + "|---" * (len(COLUMNS) + 1)
                    + "|",
                    flush=True,
                )
                for load in options.loads.split(","):
                    if node.replicas or load != "stalls":
                        waited += asyncio.run(
                            measured(node, load, options.numbers, options.seconds)
                        )
        finally:
            shutil.rmtree(directory)
    print(f"\nentries that waited for a raise in steady load, or failed: {waited}")
    return 1 if waited else 0


if __name__ == "__main__":
    sys.exit(main())
