"""One AllocSvr node, or several of them: `allocsvr --etcd HOST:PORT ...`.

Everything about cluster and Set comes from the map in etcd; what the node may serve, from the
replicas that the map names. With --workers K it is K nodes on consecutive ports, each a process of
its own (svrprocess/workers.py).

Exit codes: 0 after SIGTERM or SIGINT and a graceful hand-over, 2 wrong usage, 3 the port cannot be
had or the hand-over took too long, 70 a fault or a broken invariant while serving.
"""

import argparse
import asyncio
import math
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from allocsvr import joining, limits
from allocsvr.metrics import Metrics
from allocsvr.node import (
    LEASE_TTL_S,
    MAX_TTL_S,
    MIN_TTL_S,
    REPLICA_TIMEOUT_S,
    AllocNode,
    Options,
)
from allocsvr.presence import Presence
from allocsvr.section import MAX_STEP
from allocsvr.serving import ANY_HOST, PEER_LISTEN, NodeFront
from clustermap.clock import BootClock
from clustermap.coordinator import Coordinator
from clustermap.documents import hex64
from clustermap.drift import MAX_DRIFT
from clustermap.logs import bind, get_logger
from clustermap.model import DEFAULT_SET, Cluster, Replica, SetSpec, check_name
from seqsvr.credentials import Credentials
from seqsvr.sections import STEP
from svrprocess import program
from svrprocess.cluster_map import CLOSE_S, cluster_map
from svrprocess.etcd_options import ETCD_OPTIONS, etcd_options
from svrprocess.failures import OK, NotDone, WrongUsage
from svrprocess.health import node_service
from svrprocess.limits import show
from svrprocess.listening import serve_metrics
from svrprocess.measures import new_registry
from svrprocess.options import Option
from svrprocess.rights import Rights
from svrprocess.roles import CLIENT_PORT, PEER_PORT
from svrprocess.security import SECURITY_OPTIONS, Security, security
from svrprocess.signals import Stop
from svrprocess.store_client import GrpcReplica
from svrprocess.values import (
    LISTEN,
    MAX_PORT,
    OPTIONAL_LISTEN,
    REACHED,
    TEXT,
    integer,
    number,
    seconds,
    split,
)
from svrprocess.workers import Workers, end_with_input

log = get_logger("allocsvr")

LINGER_S = 1.0
MAX_WORKERS = 256

DESCRIPTION = "A node that hands out numbers, of one Set of a cluster."
OPTIONS = (
    *ETCD_OPTIONS,
    Option("set", DEFAULT_SET, TEXT, "name of the Set it is a node of"),
    Option("listen", "127.0.0.1:7420", LISTEN, "where callers reach it; port 0: any free one"),
    Option(
        "advertise",
        "",
        REACHED,
        "what map and routes give as its address; none: as it listens",
    ),
    PEER_LISTEN,
    Option(
        "peer-advertise",
        "",
        REACHED,
        "what the map gives as its address of --peer-listen; none: the host of --advertise where it"
        " listens everywhere, else as it listens",
    ),
    Option(
        "workers",
        1,
        integer(1, MAX_WORKERS),
        "nodes, one process each; the ports that are given are those of the first, and consecutive",
    ),
    Option(
        "lease-ttl-s",
        LEASE_TTL_S,
        seconds(MIN_TTL_S, MAX_TTL_S),
        "seconds for which a lease is granted",
    ),
    Option(
        "max-drift",
        MAX_DRIFT,
        number(0, 0.1),
        "greatest difference between the rates of two hosts' clocks, as a fraction",
    ),
    Option("step", STEP, integer(1, MAX_STEP), "numbers by which max_seq is raised ahead"),
    Option(
        "replica-timeout-s",
        REPLICA_TIMEOUT_S,
        seconds(0.01, 600),
        "seconds within which a replica answers, or counts as failed",
    ),
    Option("metrics", "", OPTIONAL_LISTEN, "where Prometheus reads; empty: nowhere"),
    Option("drain-s", 20.0, seconds(0, 3600), "longest time for handing sections over, in seconds"),
    *limits.OPTIONS,
    *SECURITY_OPTIONS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)

    async def serve(args: argparse.Namespace) -> int:
        return await (serve_node(args) if args.workers == 1 else _serve_workers(args, given))

    return program.main("allocsvr", DESCRIPTION, OPTIONS, serve, given)


# -- one node --------------------------------------------------------------------------------------


async def serve_node(args: argparse.Namespace, *, is_worker: bool = False) -> int:
    """One node from its port to its drain; OK, or it raises."""
    stop = Stop.on_signals()
    _check(args)
    secured = security(args)
    registry = new_registry("allocsvr")
    rights = Rights(args.auth_file, registry)
    guards = rights.guard(CLIENT_PORT, args), rights.guard(PEER_PORT, args, "peer-")
    front = NodeFront(secured, *guards, args)
    address = front.bind(args.listen, args.peer_listen)  # before anything else is touched
    secured.measure(registry)
    show(limits.OPTIONS, args, registry)
    serve_metrics(args.metrics, registry, secured.metrics)
    incarnation = secrets.randbits(64) or 1
    bind(set=args.set, incarnation=hex64(incarnation))
    log.info("started", listen=address)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(secured.kept_fresh())
        if is_worker:
            parent = asyncio.create_task(end_with_input(stop))
            stack.callback(parent.cancel)
        await stack.enter_async_context(rights.followed())
        await stack.enter_async_context(front.open(node_service(incarnation)))
        joined = await stop.unless(_join(args, secured, registry, stack))
        if joined is None:
            return OK
        coordinator, (cluster, spec) = joined
        node = AllocNode(
            cluster=cluster,
            spec=spec,
            incarnation=incarnation,
            address=args.advertise or address,
            peer_address=front.peer_address(args.advertise or address, args.peer_advertise),
            clock=BootClock(),
            coordinator=coordinator,
            metrics=Metrics(registry),
            options=_options(args),
        )
        await _live(front, node, coordinator, stop, args, secured.links)
    return OK


async def _join(
    args: argparse.Namespace,
    secured: Security,
    registry: CollectorRegistry,
    stack: AsyncExitStack,
) -> tuple[Coordinator, tuple[Cluster, SetSpec]]:
    """The map, and what it says of our Set, however long that takes."""
    opened = cluster_map(etcd_options(args), registry, secured.etcd)
    coordinator = await stack.enter_async_context(opened)
    return coordinator, await joining.patiently(lambda: joining.read(coordinator, args.set))


async def _live(
    front: NodeFront,
    node: AllocNode,
    coordinator: Coordinator,
    stop: Stop,
    args: argparse.Namespace,
    links: Credentials,
) -> None:
    """Registered and serving until `stop`, then drained."""
    async with AsyncExitStack() as stack:
        timeout_s, quick_s = args.replica_timeout_s, args.lease_ttl_s / 2

        def connect(replica: Replica) -> GrpcReplica:
            return GrpcReplica(
                replica.address, timeout_s=timeout_s, quick_s=quick_s, credentials=links
            )

        presence = Presence(node, coordinator, node.address, math.ceil(args.lease_ttl_s))
        await stack.enter_async_context(node.running(connect, GrpcReplica.hang_up))
        async with asyncio.TaskGroup() as group:
            registered = group.create_task(presence.run())
            await front.until(
                stop, node, node.has_joined, lambda: _drain(node, presence, args.drain_s)
            )
            registered.cancel()


async def _drain(node: AllocNode, presence: Presence, drain_s: float) -> None:
    had_sections = bool(node.assigned or node.ledger.sections)
    try:
        await presence.drain(drain_s)
    except TimeoutError:
        text = f"handing its sections over took more than {drain_s:g} s"
        raise NotDone(f"stopped without a hand-over: {text}") from None
    if had_sections:
        await asyncio.sleep(LINGER_S)


def _check(args: argparse.Namespace) -> None:
    """What only several options together, or other rooms, can tell. Raises WrongUsage."""
    etcd_options(args)
    _options(args)
    try:
        check_name("Set", args.set)
    except ValueError as error:
        raise WrongUsage(f"--set: {error}") from None
    if not args.advertise and split(args.listen)[0] in ANY_HOST:
        raise WrongUsage(f"--advertise is missing: nobody can be sent to {args.listen}")
    if args.peer_advertise and not args.peer_listen:
        raise WrongUsage("--peer-advertise is of no use without --peer-listen")


def _options(args: argparse.Namespace) -> Options:
    try:
        return Options(
            step=args.step,
            lease_ttl_s=args.lease_ttl_s,
            max_drift=args.max_drift,
            replica_timeout_s=args.replica_timeout_s,
        )
    except ValueError as error:
        raise WrongUsage(str(error)) from None


# -- several ---------------------------------------------------------------------------------------


async def _serve_workers(args: argparse.Namespace, argv: Sequence[str]) -> int:
    _check(args)
    security(args)
    workers = Workers(
        [_command(args, argv, index) for index in range(args.workers)],
        args.drain_s + LINGER_S + 2 * CLOSE_S,
    )
    stop = Stop.on_signals(workers.kill)
    return await workers.run(stop, lambda: program.announce(args.listen))


def _command(args: argparse.Namespace, argv: Sequence[str], index: int) -> list[str]:
    """As we were called, with addresses of its own: the last of equal flags counts."""
    command = [sys.executable, "-m", "allocsvr.worker", *argv]
    for name in ("listen", "advertise", "peer-listen", "peer-advertise", "metrics"):
        given = getattr(args, name.replace("-", "_"))
        if given:
            command += [f"--{name}", _shifted(f"--{name}", given, index, args.workers)]
    return command


def _shifted(flag: str, address: str, index: int, workers: int) -> str:
    host, port = split(address)
    if not 1 <= port <= MAX_PORT - (workers - 1):
        raise WrongUsage(f"{flag} {address} leaves no {workers} consecutive ports for --workers")
    return f"{host}:{port + index}"


if __name__ == "__main__":
    sys.exit(main())
