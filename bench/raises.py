"""How many sections per second are raised through three StoreSvr replicas, durably.

    .venv/bin/python bench/raises.py [--seconds 5] [--batches 1,16,256,4096] [--rates 500,5000]

Two processes, a core each: the server holds three replicas, each with its own LMDB directory (real
fsync) and port; the driver is what a node raises with (allocsvr.raising and allocsvr.replicas, over
gRPC, W = 2).

One row per greatest number of sections in a request, with every section hungry again as soon as it
has been raised; then one per rate at which sections get hungry, evenly, of any number in a request.
A row is: sections and requests (to all three) per second; milliseconds from a request to its W-th
answer, or, at a rate, from hunger to the end of the raise; durable commits per second of the three
replicas together (each syncs data and then the meta page); CPU milliseconds, user and system, per
1,000 sections of both processes. Before a row there is a second of warm-up.
"""

import argparse
import asyncio
import contextlib
import cProfile
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from allocsvr import raising
from allocsvr.generation import Generation
from allocsvr.metrics import Metrics
from allocsvr.raising import Raising
from allocsvr.replicas import Replicas
from allocsvr.section import Section, State
from clustermap.clock import BootClock
from clustermap.membership import one_group
from seqsvr.sections import SECTION_SIZE, UID_LIMIT
from seqsvr.v1 import store_pb2 as pb
from storesvr.port import Identity
from storesvr.service import add_to_server, open_service
from storesvr.servicer import SERVER_OPTIONS
from svrprocess.store_client import GrpcReplica

CLUSTER, SET = "bench", "set-0"
N, R, W = 3, 2, 2
WARM_UP_S = 1.0
MOST = raising.MAX_SECTIONS
COLUMNS = ("sections/s", "requests/s", "p50", "p99", "commits/s", "driver", "server")

# -- the server: three replicas in one process -----------------------------------------------------


async def serve(directory: Path) -> None:
    """Print the addresses; then, for each line read, commits and CPU seconds so far; until EOF."""
    registries = [CollectorRegistry() for _ in range(N)]
    services, servers, ports = [], [], []
    for number, registry in enumerate(registries):
        identity = Identity(CLUSTER, SET, f"store-{number}", SECTION_SIZE, UID_LIMIT)
        path = directory / f"store-{number}"
        services.append(open_service(path, identity, create=True, registry=registry))
        server = grpc.aio.server(options=SERVER_OPTIONS)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        add_to_server(services[-1], server)
        await server.start()
        servers.append(server)
    gc.freeze()
    print(json.dumps([f"127.0.0.1:{port}" for port in ports]), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        commits = [r.get_sample_value("seqsvr_store_commit_seconds_count") or 0 for r in registries]
        print(json.dumps({"commits": sum(commits), "cpu_s": cpu_s()}), flush=True)
    for server in servers:
        await server.stop(None)
    for service in services:
        await service.aclose()


@contextlib.contextmanager
def server_process(directory: Path, core: int, profile: str) -> Iterator["Server"]:
    traced = ["-m", "cProfile", "-o", f"{profile}.server"] if profile else []
    command = [sys.executable, *traced, __file__, "--serve", str(directory), "--core", str(core)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.communicate(timeout=30)


class Server:
    """The process with the replicas, asked over its standard input."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.addresses: list[str] = self._read()

    def so_far(self) -> dict[str, float]:
        """commits, cpu_s."""
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return dict(self._read())

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


# -- the driver: what a node raises with -----------------------------------------------------------


class Timed(GrpcReplica):
    """Notes when each request was sent and answered."""

    def __init__(self, address: str, answers: "Answers") -> None:
        super().__init__(address)
        self._answers = answers

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        began = time.perf_counter()
        answer = await super().raise_max(request)
        self._answers.note(request, time.perf_counter() - began)
        return answer


class Answers:
    """Seconds to the W-th answer of each request."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._open: dict[int, tuple[int, pb.RaiseRequest]] = {}

    def note(self, request: pb.RaiseRequest, seconds: float) -> None:
        count = self._open.get(id(request), (0, request))[0] + 1
        if count == W:
            self.seconds.append(seconds)
        self._open[id(request)] = (count, request)
        if count == N:
            del self._open[id(request)]


class Driver:
    """Sections that are always hungry."""

    def __init__(self, addresses: Sequence[str], sections: int, rate: int, found: int) -> None:
        """`found`: max_seq to begin at, above all that was raised before, or nothing is written."""
        self.answers = Answers()
        self.raised = 0
        self.waits: list[float] = []
        self._rate = rate
        self._ended = False
        self.settled = asyncio.Event()
        self._since: dict[Section, float] = {}
        self._transports = [Timed(address, self.answers) for address in addresses]
        self._sections = [_section(number, found) for number in range(sections)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            replicas = Replicas(self._transports, group.create_task, 10.0, 1.0)
            header = pb.StoreHeader(cluster=CLUSTER, set=SET, membership=1)
            asked = Generation(header, replicas, one_group(N, R), one_group(N, W))
            self._raising = Raising(
                BootClock(),
                lambda: asked,
                1,
                self._on_raised,
                self._on_promise,
                self._on_outdone,
                self._on_overtaken,
                Metrics(CollectorRegistry()),
            )
            running = group.create_task(self._raising.run())
            for section in self._sections:
                self._want(section)
            hunger = group.create_task(self._get_hungry())
            yield
            hunger.cancel()
            self._ended = True
            await self._raising.quiesce(self._sections)
            running.cancel()
        for transport in self._transports:
            await transport.aclose()

    async def _get_hungry(self) -> None:
        """At a rate, in turn, as far as they are not hungry already; all had their first raise."""
        await self.settled.wait()
        began, asked = time.perf_counter(), 0
        while self._rate:
            await asyncio.sleep(0.001)
            due = int((time.perf_counter() - began) * self._rate)
            for number in range(asked, due):
                self._want(self._sections[number % len(self._sections)])
            asked = due

    def _want(self, section: Section) -> None:
        if section not in self._since:
            self._since[section] = time.perf_counter()
            self._raising.want(section)

    def _on_raised(self, section: Section, max_seq: int) -> None:
        section.raised(max_seq)
        section.state = State.SERVING
        self.raised += 1
        if self._rate:
            self.waits.append(time.perf_counter() - self._since.pop(section))
            if not self._since:
                self.settled.set()
        elif not self._ended:
            self._raising.want(section)

    def _on_promise(self, first: int, last: int, epoch: int) -> None:
        raise AssertionError(f"sections {first}..{last} are promised to {epoch}")

    def _on_overtaken(self, sections: list[Section]) -> None:
        raise AssertionError(f"another membership, before {len(sections)} first raises")

    def _on_outdone(self, section: Section) -> None:
        raise AssertionError(f"section {section.id} is somebody else's")


def _section(number: int, found: int) -> Section:
    return Section(number, 1, found, found=found, size=SECTION_SIZE, on_hungry=print)


async def drive(
    server: Server, options: argparse.Namespace, batch: int, rate: int, found: int
) -> dict[str, float]:
    raising.MAX_SECTIONS = batch
    driver = Driver(server.addresses, options.sections, rate, found)
    async with driver.running():
        if rate:
            await driver.settled.wait()
        await asyncio.sleep(WARM_UP_S)
        driver.answers.seconds.clear()
        driver.waits.clear()
        raised, before, own_s, began = driver.raised, server.so_far(), cpu_s(), time.perf_counter()
        await asyncio.sleep(options.seconds)
        spent, own_s, after = time.perf_counter() - began, cpu_s() - own_s, server.so_far()
        raised, requests = driver.raised - raised, len(driver.answers.seconds)
        waits = sorted(driver.waits if rate else driver.answers.seconds)
    return {
        "sections/s": raised / spent,
        "requests/s": requests / spent,
        "p50": 1e3 * waits[len(waits) // 2],
        "p99": 1e3 * waits[len(waits) * 99 // 100],
        "commits/s": (after["commits"] - before["commits"]) / spent,
        "driver": 1e6 * own_s / raised,
        "server": 1e6 * (after["cpu_s"] - before["cpu_s"]) / raised,
    }


def cpu_s() -> float:
    """User and system, of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--batches", default="1,16,256,4096", help="most sections in a request")
    parser.add_argument("--rates", default="500,5000", help="sections that get hungry a second")
    parser.add_argument("--sections", type=int, default=16_384, help="that there are")
    parser.add_argument("--data", default=None, help="where the replicas' directories are made")
    parser.add_argument("--profile", default="", help="write cProfile files of this prefix")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[options.core % len(cores)]})
    if options.serve:
        asyncio.run(serve(Path(options.serve)))
        return
    print("| load | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    rows = [(f"by {batch}", int(batch), 0) for batch in options.batches.split(",") if batch]
    rows += [(f"{rate}/s", MOST, int(rate)) for rate in options.rates.split(",") if rate]
    directory = Path(tempfile.mkdtemp(prefix="raises-", dir=options.data))
    profile = cProfile.Profile() if options.profile else contextlib.nullcontext()
    try:
        os.sched_setaffinity(0, set(cores))
        with server_process(directory, 1, options.profile) as server:
            os.sched_setaffinity(0, {cores[0]})
            for number, (load, batch, rate) in enumerate(rows):
                with profile:
                    row = asyncio.run(drive(server, options, batch, rate, number << 50))
                cells = " | ".join(f"{row[c]:,.1f}" for c in COLUMNS)
                print(f"| {load} | {cells} |", flush=True)
    finally:
        shutil.rmtree(directory)
        if isinstance(profile, cProfile.Profile):
            profile.dump_stats(f"{options.profile}.driver")


if __name__ == "__main__":
    main()
