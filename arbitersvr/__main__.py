"""An arbiter: `arbitersvr --etcd HOST:PORT ...`. Run two, the map elects one.

It listens for nothing but questions about its health: "" that the process lives, seqsvr.ready that
it reaches the map, and so leads or stands by.

Exit codes: 0 after SIGTERM or SIGINT, 2 wrong usage, 3 the port cannot be had, 70 a fault or a
broken invariant.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from arbitersvr.arbiter import Arbiter
from arbitersvr.jobs import Work
from arbitersvr.keeper import Options
from arbitersvr.metrics import Metrics
from arbitersvr.moving_sets import MovingSets
from arbitersvr.probe import PROBE_TIMEOUT_S, HealthProber
from arbitersvr.reforming import Reforming
from arbitersvr.stores import connecting
from clustermap.clock import BootClock
from clustermap.scene import Limits
from svrprocess import program
from svrprocess.cluster_map import cluster_map
from svrprocess.etcd_options import ETCD_OPTIONS, etcd_options
from svrprocess.failures import OK, WrongUsage
from svrprocess.front import KEEPALIVE, Front
from svrprocess.health import READY
from svrprocess.limits import counter, grpc_options, port_options, show
from svrprocess.listening import serve_metrics
from svrprocess.measures import new_registry
from svrprocess.options import Option
from svrprocess.rights import Rights
from svrprocess.roles import EVERYWHERE
from svrprocess.security import SECURITY_OPTIONS, security
from svrprocess.signals import Stop
from svrprocess.values import LISTEN, OPTIONAL_LISTEN, integer, number, seconds

_log = logging.getLogger("arbitersvr")

GRACE_S = 1.0
LIMITS = port_options(max_message_bytes=64 << 10, max_calls=1_000)
_TIMES = Options()
_LIMITS = Limits()
_SHARE = number(0.001, 1)

DESCRIPTION = "Decides which node should serve which sections; one of several leads."
OPTIONS = (
    *ETCD_OPTIONS,
    Option("listen", "127.0.0.1:7422", LISTEN, "where it answers for its health; port 0: any"),
    Option("metrics", "", OPTIONAL_LISTEN, "where Prometheus reads; empty: nowhere"),
    Option("lease-ttl-s", _TIMES.lease_ttl_s, seconds(0.1, 60), "seconds the nodes' leases last"),
    Option(
        "probe-timeout-s", PROBE_TIMEOUT_S, seconds(0.01, 60), "seconds a node has for an answer"
    ),
    Option(
        "round-s",
        _TIMES.round_s,
        seconds(0.01, 60),
        "seconds between two probes of a node, and two looks at the loads",
    ),
    Option(
        "max-move-share",
        _LIMITS.max_move_share,
        _SHARE,
        "fraction of a Set's sections taken from failed nodes per round at most",
    ),
    Option(
        "balance-hysteresis",
        _LIMITS.hysteresis,
        _SHARE,
        "fraction of the mean load that a node may be off before sections move",
    ),
    Option(
        "balance-share",
        _LIMITS.balance_share,
        _SHARE,
        "fraction of a Set's sections moved for balance at a time",
    ),
    Option(
        "balance-rounds",
        _LIMITS.balance_rounds,
        integer(1, 10_000),
        "rounds in a row that loads must be off",
    ),
    *LIMITS,
    *SECURITY_OPTIONS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return program.main("arbitersvr", DESCRIPTION, OPTIONS, _serve, argv)


async def _serve(args: argparse.Namespace) -> int:
    stop = Stop.on_signals()
    options, etcd, secured = _options(args), etcd_options(args), security(args)
    registry = new_registry("arbitersvr")
    rights = Rights(args.auth_file, registry)
    guard = rights.guard(EVERYWHERE, args, "peer-")
    front = Front(
        (*KEEPALIVE, *grpc_options(args)), args.max_calls, guard, request_s=args.request_s
    )
    front.arriving.on_late = counter(registry).labels("request-s").inc
    address = front.bind(args.listen, secured.peer)  # before anything else is touched
    secured.measure(registry)
    show(LIMITS, args, registry)
    serve_metrics(args.metrics, registry, secured.metrics)
    prober = HealthProber(args.probe_timeout_s, secured.links)
    fresh, followed = secured.kept_fresh(), rights.followed()
    async with fresh, followed, cluster_map(etcd, registry, secured.etcd) as coordinator:
        candidate = address.encode()
        clock = BootClock()
        moves = MovingSets(clock, connecting(secured.links))
        kinds: dict[str, Work] = {"move": moves, "reform": Reforming(credentials=secured.links)}
        metrics = Metrics(registry)
        arbiter = Arbiter(coordinator, clock, prober, metrics, options, candidate, kinds)
        try:
            await front.start()
            await _until(stop, front, arbiter, address)
        finally:
            await moves.aclose()
            await front.aclose(GRACE_S)
    return OK


async def _until(stop: Stop, front: Front, arbiter: Arbiter, address: str) -> None:
    """Lead or stand by until `stop`; then resign first of all, for the other to take over."""
    running = asyncio.create_task(arbiter.run())
    stopped = asyncio.create_task(stop.wait())
    announcing = asyncio.create_task(_announce(front, arbiter, address))
    tasks = (running, stopped, announcing)
    try:
        async with front.health.following(arbiter.reachable.is_set):
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not running.cancelled():
        running.result()


async def _announce(front: Front, arbiter: Arbiter, address: str) -> None:
    await arbiter.reachable.wait()
    await front.health.say(READY, True)  # who reads the line may ask at once
    program.announce(address)


def _options(args: argparse.Namespace) -> Options:
    try:
        return Options(
            lease_ttl_s=args.lease_ttl_s,
            round_s=args.round_s,
            limits=Limits(
                max_move_share=args.max_move_share,
                hysteresis=args.balance_hysteresis,
                balance_share=args.balance_share,
                balance_rounds=args.balance_rounds,
            ),
        )
    except ValueError as error:
        raise WrongUsage(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
