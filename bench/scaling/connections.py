"""Very many client connections on one node, each with an open Session and a call now and then."""

import asyncio
import random
import resource
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from processes.metrics import scrape
from scaling.servers import Embedded, rss_b
from seqbench.processes import cpu_s
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc

CONNECTIONS = 2000
EVERY_S = 2.0
OPENING = 50
CALL_S = 30.0

Figures = dict[str, float]


def measure(folder: Path, count: int = CONNECTIONS, seconds: float = 10.0) -> Figures:
    """Bytes, seconds and microseconds by name. RuntimeError where anything is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count + 200:
        raise RuntimeError(f"{count} connections need more than {hard} open files (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Embedded(folder / "connections") as up:
            return asyncio.run(_measure(up, count, seconds))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def table(figures: Figures) -> str:
    """Markdown."""
    rows = [
        ("connections, by the sockets of the node", f"{figures['sockets']:,.0f}"),
        ("sessions, by its metrics", f"{figures['sessions']:,.0f}"),
        ("memory of the node per connection", f"{figures['connection_b'] / 1e3:.0f} kB"),
        ("the same, first half of them", f"{figures['half_b'] / 1e3:.0f} kB"),
        ("CPU of the node to open one, with its first call", f"{figures['open_us']:,.0f} us"),
        ("calls per second, all together", f"{figures['per_s']:,.0f}"),
        ("CPU of the node while nobody calls, but for those looks", f"{figures['idle']:.1%}"),
        ("CPU of the node per call, above that", f"{figures['call_us']:,.0f} us"),
        ("call, p50 / p99", f"{figures['p50_ms']:.1f} / {figures['p99_ms']:.1f} ms"),
        ("threads of the node that were kept waiting for a core", f"{figures['waited']:.2f}"),
        ("calls refused or failed", f"{figures['refused']:.0f}"),
        ("health check, ten a second meanwhile, slowest", f"{figures['health_ms']:.0f} ms"),
        ("metrics, once a second meanwhile, slowest", f"{figures['metrics_ms']:.0f} ms"),
    ]
    return "| one node | measured |\n|---|---|\n" + "".join(f"| {a} | {b} |\n" for a, b in rows)


def checks(figures: Figures) -> list[tuple[str, float, float]]:
    """Whether memory is in proportion: (what, as the model has it, as measured)."""
    half = figures["sockets"] // 2
    ask = figures["connection_b"] * half / 1e6, figures["half_b"] * half / 1e6
    return [(f"MB for {half:,.0f} connections", *ask)]


class _Client:
    """A connection of its own with one Session on it."""

    def __init__(self, address: str, uid: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.aio.insecure_channel(address, options=options)
        self._uid, self._id = uid, 0
        self._stream: Any = None

    async def call(self) -> float:
        """Seconds for one number. RuntimeError where it is refused."""
        if self._stream is None:
            stub: Any = alloc_pb2_grpc.AllocStub(self.channel)  # type: ignore[no-untyped-call]
            self._stream = stub.Session()
        self._id += 1
        batch = pb.BatchGetSeqRequest(uids=[self._uid], route_version=1)
        began_s = time.perf_counter()
        async with asyncio.timeout(CALL_S):
            await self._stream.write(pb.SessionRequest(id=self._id, next=batch))
            answer = await self._stream.read()
        if answer is grpc.aio.EOF or not answer.next.seqs or not answer.next.seqs[0]:
            raise RuntimeError(f"refused: {answer}")
        return time.perf_counter() - began_s


async def _measure(up: Embedded, count: int, seconds: float) -> Figures:
    clients = [_Client(up.address, 2_100_000 * index) for index in range(count)]
    figures: Figures = {}
    await _open(clients[:OPENING])
    first, before_s = rss_b(up.pid), cpu_s([up.pid])
    await _open(clients[OPENING : count // 2])
    figures["half_b"] = (rss_b(up.pid) - first) / (count // 2 - OPENING)
    await _open(clients[count // 2 :])
    figures["connection_b"] = (rss_b(up.pid) - first) / (count - OPENING)
    figures["open_us"] = (cpu_s([up.pid]) - before_s) / (count - OPENING) * 1e6
    figures["sockets"] = _sockets(up)
    figures |= await _steady(up, clients, seconds)
    figures["sessions"] = (await asyncio.to_thread(up.scrape)).value("seqsvr_sessions")
    await asyncio.gather(*(client.channel.close() for client in clients))
    return figures


async def _open(clients: list[_Client]) -> None:
    for start in range(0, len(clients), OPENING):
        await asyncio.gather(*(client.call() for client in clients[start : start + OPENING]))


async def _steady(up: Embedded, clients: list[_Client], seconds: float) -> Figures:
    """Everybody calls about every EVERY_S; others look at the node, before and meanwhile."""
    idle_s = cpu_s([up.pid])
    await _watched(up, seconds / 2)
    idle_s = (cpu_s([up.pid]) - idle_s) / (seconds / 2)
    began_s, before_s, waited_s = time.monotonic(), cpu_s([up.pid]), _waited_s(up.pid)
    end_s = began_s + seconds
    times: list[float] = []
    refused: list[BaseException] = []

    async def caller(client: _Client) -> None:
        at_s = began_s + random.uniform(0, 2 * EVERY_S)
        while at_s < end_s:
            await asyncio.sleep(at_s - time.monotonic())
            try:
                times.append(await client.call())
            except (RuntimeError, TimeoutError, grpc.RpcError) as error:
                refused.append(error)
                return
            at_s = max(time.monotonic(), at_s + random.uniform(0, 2 * EVERY_S))

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(caller(client))
        looks = group.create_task(_watched(up, seconds))
    spent_s = time.monotonic() - began_s
    times.sort()
    return {
        "waited": (_waited_s(up.pid) - waited_s) / spent_s,
        "idle": idle_s,
        "per_s": len(times) / spent_s,
        "call_us": (cpu_s([up.pid]) - before_s - idle_s * spent_s) / len(times) * 1e6,
        "p50_ms": 1e3 * times[len(times) // 2],
        "p99_ms": 1e3 * times[len(times) * 99 // 100],
        "refused": len(refused),
        **looks.result(),
    }


async def _watched(up: Embedded, seconds: float) -> Figures:
    """The slowest of many looks."""
    end_s = time.monotonic() + seconds
    health, metrics = await asyncio.gather(
        _slowest(lambda: _health(up.address), 0.1, end_s),
        _slowest(lambda: scrape(up.metrics[0]), 1.0, end_s),
    )
    return {"health_ms": 1e3 * health, "metrics_ms": 1e3 * metrics}


async def _slowest(look: Any, every_s: float, end_s: float) -> float:
    slowest = 0.0
    while time.monotonic() < end_s:
        began_s = time.monotonic()
        await asyncio.to_thread(look)
        slowest = max(slowest, time.monotonic() - began_s)
        await asyncio.sleep(every_s)
    return slowest


def _health(address: str) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service="seqsvr.ready"), timeout=10)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError("the node does not say that it is ready")


def _waited_s(pid: int) -> float:
    """Seconds for which its threads could have run, and others did: a busy machine, not a node."""
    lines = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(line.split()[1]) for line in lines) / 1e9


def _sockets(up: Embedded) -> int:
    """Established connections to the node, in the kernel's table."""
    port = f":{int(up.address.rpartition(':')[2]):04X}"
    found = 0
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            found += fields[1].endswith(port) and fields[3] == "01"
    return found
