"""Measures the constants of the capacity model, and points that it did not learn from.

Of all points the model predicts one that was no part of a fit: another batch size, another number
of sections, what the kernel counted on the connection.
"""

import asyncio
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from scaling import capacity, traffic
from scaling.capacity import Constants, Line
from scaling.hunger import Raised, hot
from scaling.servers import Cluster
from seqbench.processes import cores, on_core, surroundings
from seqsvr import AsyncClient
from seqsvr.sections import SECTION_SIZE
from seqsvr.v1 import alloc_pb2 as pb

SIZES = (1, 16, 256, 1024)
SMALL, LARGE, CHECKED_SIZES = (1, 8, 32), (64, 1024), (16, 256)
CHECKED_SIZE = 64
ROUNDS = 3
RAISED = (1, 16, 256)
PACES = (1000.0, 5000.0, 15_000.0)

Check = tuple[str, float, float]
"""What; as the model has it; as measured."""
HOT = ((40, 4000.0), (1000, 4000.0), (250, 4000.0), (50, 50_000.0))
"""Sections, and numbers per second of one uid in each: two to learn from, two to check."""


@dataclass(slots=True)
class Measured:
    constants: Constants
    checks: list[Check]


@dataclass(frozen=True, slots=True)
class Points:
    """node_us: by size of a batch; client_us: of a call; waiting: mean batch by how many calls
    waited; network_b: to and from a node, a batch of CHECKED_SIZE; the rest: loads of raises.
    """

    node_us: dict[float, float]
    client_us: float
    waiting: dict[float, float]
    network_b: tuple[float, float]
    slow: Raised
    many: Raised
    between: Raised
    fast: Raised
    etcd: float


def measure(folder: Path, node_b: float, connection_b: float, seconds: float) -> Measured:
    """node_b, connection_b: as memory.py and connections.py found them."""
    up, down = encoded()
    node_raise, store_raise = raise_costs(seconds)
    with Cluster(folder / "constants") as cluster, on_core(cores()[1]):
        found = asyncio.run(_points(cluster, seconds))
    few, many = found.slow, found.many
    constants = Constants(
        small_us=Line.through({size: found.node_us[size] for size in SMALL}),
        large_us=Line.through({size: found.node_us[size] for size in LARGE}),
        client_us=found.client_us,
        up_b=up,
        down_b=down,
        raise_node_us=node_raise,
        raise_store_us=store_raise,
        commit_b=Line.through({r.raises / r.commits: r.disk_b / r.commits for r in (few, many)}),
        commit_s=few.commit_s,
        node_b=node_b,
        connection_b=connection_b,
    )
    return Measured(constants, checks(constants, found))


async def _points(cluster: Cluster, seconds: float) -> Points:
    """One loop for all of it: grpc's threads outlive a loop by a moment."""
    pids = cluster.node_pids
    node: dict[float, float] = {}
    for _, size in product(range(ROUNDS), sorted((*SMALL, *LARGE, *CHECKED_SIZES))):
        spent_us = await traffic.node_us(cluster.address, pids, size, seconds / 2)
        node[size] = min(spent_us, node.get(size, spent_us))  # the least disturbed one
    client_us, waiting = await _coalesced(cluster, seconds)
    network_b = await _network(cluster.address)
    revision, began_s = cluster.revision(), time.monotonic()
    slow, many, between, fast = [
        # Other sections each time: a step that grew takes a minute to shrink.
        await hot(cluster, 3 + 10_000 * index, sections, per_s, seconds)
        for index, (sections, per_s) in enumerate(HOT)
    ]
    etcd = (cluster.revision() - revision) / (time.monotonic() - began_s)
    return Points(node, client_us, waiting, network_b, slow, many, between, fast, etcd)


def checks(constants: Constants, found: Points) -> list[Check]:
    """Points that were no part of a fit."""
    return [
        *(
            (f"CPU of a node, us per batch of {size}", constants.node_us(size), found.node_us[size])
            for size in CHECKED_SIZES
        ),
        *network_checks(constants, found.network_b),
        *(
            (f"mean batch, {waiting:.1f} calls of a client waiting", capacity.gathered(waiting), n)
            for waiting, n in found.waiting.items()
        ),
        *raise_checks(*HOT[2], constants, found.between),
        *raise_checks(*HOT[3], constants, found.fast),
        (
            "etcd writes per second, one node, at most",
            capacity.LOAD_REPORTS_PER_S,
            found.etcd,
        ),
    ]


def encoded() -> tuple[Line, Line]:
    """Bytes of a SessionRequest and its SessionResponse by entries: uids of 32 bits, seqs of 20."""
    up: dict[float, float] = {}
    down: dict[float, float] = {}
    draw = random.Random(6)
    for size in SIZES:
        request, response = messages(draw, size)
        up[size], down[size] = len(request), len(response)
    return Line.through(up), Line.through(down)


def messages(draw: random.Random, size: int) -> tuple[bytes, bytes]:
    uids = [draw.randrange(2**32) for _ in range(size)]
    request = pb.SessionRequest(
        id=draw.randrange(2**20), next=pb.BatchGetSeqRequest(uids=uids, route_version=1000)
    )
    seqs = [draw.randrange(2**20) for _ in range(size)]
    response = pb.SessionResponse(
        id=request.id, next=pb.BatchGetSeqResponse(seqs=seqs, epochs=[1000])
    )
    return request.SerializeToString(), response.SerializeToString()


def raise_costs(seconds: float) -> tuple[Line, Line]:
    """CPU microseconds of a raise request, by its sections: of a node, and of one replica."""
    sizes = ",".join(map(str, RAISED))
    script = Path(__file__).resolve().parents[1] / "raises.py"
    command = [
        sys.executable,
        str(script),
        "--seconds",
        f"{seconds}",
        "--batches",
        sizes,
        "--rates",
        "",
    ]
    done = subprocess.run(
        command, env=surroundings(), capture_output=True, text=True, check=True, timeout=300
    )
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()
        if line.startswith("|")
    )
    node, store = {}, {}
    for row in rows:
        named = {
            name: float(cell.replace(",", "")) for name, cell in zip(head[1:], row[1:], strict=True)
        }
        size = named["sections/s"] / named["requests/s"]
        node[size] = named["driver"] * size
        store[size] = named["server"] * size / capacity.REPLICAS
    return Line.through(node), Line.through(store)


async def _coalesced(cluster: Cluster, seconds: float) -> tuple[float, dict[float, float]]:
    """CPU microseconds of a client per call, at the highest rate; mean batch by calls waiting.

    Of each rate the round in which the fewest waited, which is the least disturbed one.
    """
    best = []
    async with AsyncClient(cluster.address) as client:
        for per_s in PACES:
            await traffic.paced(client, per_s, seconds / 4)
            best.append(min([await _paced(cluster, client, per_s, seconds) for _ in range(ROUNDS)]))
    return best[-1][2], {waiting: batch for waiting, batch, _ in best}


async def _paced(
    cluster: Cluster, client: AsyncClient, per_s: float, seconds: float
) -> tuple[float, float, float]:
    """Calls waiting and entries of a batch, on average; CPU microseconds of a call."""
    before, began_s, cpu_s = await _entries(cluster), time.monotonic(), time.process_time()
    call_s, done = await traffic.paced(client, per_s, seconds)
    cpu_s, spent_s = time.process_time() - cpu_s, time.monotonic() - began_s
    after = await _entries(cluster)
    batch = (after[0] - before[0]) / (after[1] - before[1])
    return call_s * done / spent_s, batch, cpu_s / done * 1e6


async def _entries(cluster: Cluster) -> tuple[float, float]:
    """Entries, and batches, so far."""
    scraped = await asyncio.to_thread(cluster.scrape)
    name = "seqsvr_batch_entries"
    return scraped.total(f"{name}_sum"), scraped.total(f"{name}_count")


async def _network(address: str) -> tuple[float, float]:
    """Bytes to and from a node per batch of CHECKED_SIZE, as the kernel counts them."""
    port = int(address.split(",")[0].rpartition(":")[2])
    size, last = CHECKED_SIZE, 42_000 * SECTION_SIZE  # uids of 32 bits
    made = [[last + size * n + i for i in range(size)] for n in range(16)]
    async with traffic.stream(address) as one:
        for _ in range(2):  # numbers of 15 bits at least, as those of `encoded`
            for uids in made:
                await one.ask(uids, [9000] * size)
                await one.answer()
        sent, received = traffic.sent_and_received_b(port)
        await one.push(made * 30)
        await asyncio.sleep(0.3)
        sent_now, received_now = traffic.sent_and_received_b(port)
    return (sent_now - sent) / len(made * 30), (received_now - received) / len(made * 30)


def network_checks(constants: Constants, measured: tuple[float, float]) -> list[Check]:
    return [
        (f"bytes {way} per batch of {CHECKED_SIZE}", capacity.framed_b(line(CHECKED_SIZE)), found)
        for way, line, found in zip(
            ("to a node", "from a node"), (constants.up_b, constants.down_b), measured, strict=True
        )
    ]


def raise_checks(sections: int, per_s: float, constants: Constants, found: Raised) -> list[Check]:
    what = f"{sections} sections, {per_s:,.0f}/s each"
    raised = sections * capacity.raises(per_s)
    asked = capacity.requests(raised)
    committed = capacity.commits(asked, constants.commit_s)
    disk_b = constants.commit_b(raised / committed) * committed
    return [
        (f"raises per second, {what}", raised, found.raises),
        (f"raise requests per second, {what}", asked, found.requests),
        (f"commits per second of a replica, {what}", committed, found.commits),
        (f"kB per second to its disk, {what}", disk_b / 1e3, found.disk_b / 1e3),
    ]
