"""The programs as they run on hosts: the real ones, put together as their `__main__` does.

Only what touches the machine is another: the port (channels.Server), the map's client, the disk and
the clock. A program that ends with an error is what its supervisor would see: the host crashes, the
error is told to the run (a broken invariant is a violation), and the world starts it again.
"""

import asyncio
import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client import CollectorRegistry

from allocsvr import joining
from allocsvr.acquisition import Acquisition
from allocsvr.answering import Answering
from allocsvr.metrics import Metrics
from allocsvr.node import AllocNode, Options
from allocsvr.peers import Peers
from allocsvr.presence import Presence
from allocsvr.section import Section
from allocsvr.service import AllocService
from arbitersvr.arbiter import Arbiter
from arbitersvr.detection import Outcome
from arbitersvr.jobs import Work
from arbitersvr.keeper import Options as ArbiterOptions
from arbitersvr.metrics import Metrics as ArbiterMetrics
from arbitersvr.moving_sets import MovingSets
from arbitersvr.reforming import Reforming
from clustermap.model import Replica as MapReplica
from seqsvr.v1 import store_pb2 as pb
from simsvr.channels import Channel, Server
from simsvr.disks import SimDisk, SimEngine
from simsvr.hosts import Host, HostClock
from simsvr.loop import SimLoop
from storesvr.port import Batch
from storesvr.replica import Replica
from storesvr.service import StoreService, add_to_server
from svrprocess.store_client import GrpcReplica

if TYPE_CHECKING:
    from simsvr.world import World

PROBE = "/seqsvr.sim.Probe/Ask"
PROBE_S = 0.5
DRAIN_S = 20.0


class Handlers:
    """What `add_to_server` and friends are given in the place of a grpc.aio server."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.all += handlers


# -- storesvr --------------------------------------------------------------------------------------


class WatchedReplica(Replica):
    """Remembers when it accepted which raise: a promise of the same commit may have followed."""

    def __init__(self, loop: SimLoop, *args: Any, **options: Any) -> None:
        self._loop = loop
        self.accepted: dict[tuple[int, int, int, int], int] = {}
        self.on_staged: Callable[[], None] = lambda: None
        super().__init__(*args, **options)

    def take_staged(self) -> Batch:
        self.on_staged()
        return super().take_staged()

    def raise_max(
        self, incarnation: int, entries: Sequence[tuple[int, int, int]]
    ) -> dict[int, int]:
        refused = super().raise_max(incarnation, entries)
        for section, epoch, max_seq in entries:
            if section in refused:
                continue
            self.accepted[incarnation, section, epoch, max_seq] = self._loop.now_ns
        return refused


class WatchedStore(StoreService):
    """A replica whose acknowledgements are seen by the checkers in the instant they are given."""

    world: "World"
    index: int
    replica: WatchedReplica

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        answer = await super().fence(request)
        self.world.watch.gave(answer)
        return answer

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        answer = await super().raise_max(request)
        self.world.watch.raise_acked(self.index, request, answer, self.replica.accepted)
        return answer


async def store(world: "World", host: Host, index: int, disk: SimDisk) -> None:
    """One replica, until its host ends."""
    ttl_ns = int(world.plan.lease_ttl_s * 1e9)
    world.watch.started(index)
    engine = SimEngine(disk)
    replica = WatchedReplica(
        world.loop, engine, now_ns=host.boot_ns, boot_grace_ns=ttl_ns, max_ttl_ns=ttl_ns
    )
    handlers = Handlers()

    def fatal(text: str) -> None:
        world.note(host.name, f"exits: {text}")
        world.ended(host)

    service = WatchedStore(replica, engine, now_ns=lambda: host.boot_ns, fatal=fatal)
    service.world, service.index, service.replica = world, index, replica
    replica.on_staged = lambda: world.watch.staged(index)
    world.services[host.name] = service
    add_to_server(service, handlers)  # type: ignore[arg-type]
    Server(world.wires, host, world.store_address(index), *handlers.all)
    await asyncio.Event().wait()


# -- allocsvr --------------------------------------------------------------------------------------


class WatchedNode(AllocNode):
    """A node whose first serving of a section, and whose every number, is seen by the checkers."""

    world: "World"
    host: Host

    def _new_section(
        self, attempt: Acquisition, base: int, pages: "list[array[int] | None] | None"
    ) -> Section:
        section = super()._new_section(attempt, base, pages)
        planned = pages is not None or (self.world.undisturbed and bool(attempt.snapshot_from))
        self.world.watch.starting(section, planned)
        return section

    def _stop(self, sections: Iterable[Section]) -> None:
        stopped = list(sections)
        going = self.world.places[self.host.name].stop.is_set()
        self.world.watch.stopped(self, stopped, "drain" if going else "map")
        super()._stop(stopped)

    def _drop(self, sections: Sequence[Section]) -> None:
        serving = [section for section in sections if section.serving]
        self.world.watch.stopped(self, serving, "map")
        super()._drop(sections)

    def _raised(self, section: Section, max_seq: int) -> None:
        self.world.watch.acknowledged(self, section, max_seq)
        before = section.serving
        super()._raised(section, max_seq)
        if section.serving and not before:
            self.world.watch.began(self, section)


async def node(
    world: "World", host: Host, address: str, stop: asyncio.Event, set_name: str
) -> None:
    """One node from its registration to its drain."""
    coordinator = world.map_client(host)
    cluster, spec = await joining.patiently(lambda: joining.read(coordinator, set_name))
    own = WatchedNode(
        cluster=cluster,
        spec=spec,
        incarnation=world.incarnation(),
        address=address,
        clock=HostClock(host),
        coordinator=coordinator,
        metrics=Metrics(CollectorRegistry()),
        options=Options(
            step=world.plan.step,
            lease_ttl_s=world.plan.lease_ttl_s,
            replica_timeout_s=world.plan.replica_timeout_s,
            repair_period_s=world.plan.repair_period_s,
            vector_from=world.plan.vector_from,
        ),
    )
    own.world, own.host = world, host
    world.watch.watch_ledger(own)
    world.nodes[host.name] = own
    timeout_s, quick_s = world.plan.replica_timeout_s, world.plan.lease_ttl_s / 2

    def connect(replica: MapReplica) -> GrpcReplica:
        return GrpcReplica(replica.address, timeout_s=timeout_s, quick_s=quick_s)

    presence = Presence(own, coordinator, address, math.ceil(world.plan.lease_ttl_s))
    service = AllocService(own, Answering(own, Peers()), own.metrics)
    server = Server(world.wires, host, address, service.handler(), _ProbeHandler(own.incarnation))
    async with own.running(connect, GrpcReplica.hang_up), asyncio.TaskGroup() as group:
        registered = group.create_task(presence.run())
        await stop.wait()
        try:
            await presence.drain(DRAIN_S)
            await asyncio.sleep(1.0)
        except TimeoutError:
            world.note(host.name, "stopped without a hand-over")
        registered.cancel()
    server.close()
    await coordinator.aclose()


class _ProbeHandler:
    """Tells who is there, to arbiters."""

    def __init__(self, incarnation: int) -> None:
        self._said = incarnation.to_bytes(8, "big")
        self._method: Any = grpc.unary_unary_rpc_method_handler(self._answer)

    def service(self, details: Any) -> Any:
        return self._method if details.method == PROBE else None

    async def _answer(self, request: bytes, context: Any) -> bytes:
        del request, context
        return self._said


# -- arbitersvr ------------------------------------------------------------------------------------


class SimProber:
    """arbitersvr.probe.Prober over the simulated network."""

    def __init__(self, world: "World", host: Host) -> None:
        self._world = world
        self._host = host

    async def probe(self, address: str, incarnation: int) -> Outcome:
        channel = Channel(self._world.wires, self._host, address)
        ask: Callable[..., Any] = channel.unary_unary(PROBE, _same, _same)
        try:
            said = await ask(b"", timeout=PROBE_S)
        except grpc.aio.AioRpcError as error:
            refused = error.code() is grpc.StatusCode.UNAVAILABLE
            return Outcome.GONE if refused else Outcome.SILENT
        return Outcome.ALIVE if int.from_bytes(said, "big") == incarnation else Outcome.GONE


async def arbiter(world: "World", host: Host) -> None:
    """One arbiter, until its host ends."""
    coordinator = world.map_client(host)
    options = ArbiterOptions(lease_ttl_s=world.plan.lease_ttl_s)
    prober = SimProber(world, host)
    metrics = ArbiterMetrics(CollectorRegistry())
    clock = HostClock(host)
    kinds: dict[str, Work] = {"move": MovingSets(clock), "reform": Reforming()}
    own = Arbiter(coordinator, clock, prober, metrics, options, host.name.encode(), kinds)
    await own.run()


def _same(raw: bytes) -> bytes:
    return raw
