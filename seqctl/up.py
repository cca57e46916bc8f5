"""`seqctl up`: the embedded service in the foreground, until a signal.

Exit codes: 0 after SIGTERM or SIGINT and a graceful hand-over, 2 wrong usage, 3 the data directory
or the port cannot be had, 70 a write to the store failed or an invariant broke while serving.
"""

import argparse
import asyncio
from pathlib import Path

from allocsvr import limits
from allocsvr.node import LEASE_TTL_S, MAX_TTL_S, MIN_TTL_S, AllocNode, Options
from allocsvr.section import MAX_STEP
from allocsvr.serving import PEER_LISTEN, NodeFront
from seqctl.embedded import Wanted, serving
from seqsvr.sections import SECTION_SIZE, STEP, UID_LIMIT
from svrprocess import program
from svrprocess.failures import OK, NotDone, WrongUsage
from svrprocess.limits import show
from svrprocess.listening import serve_metrics
from svrprocess.logs import LOG_OPTIONS
from svrprocess.measures import new_registry
from svrprocess.options import CONFIG, Option, add_flags, resolve
from svrprocess.rights import Rights
from svrprocess.roles import CLIENT_PORT, PEER_PORT
from svrprocess.security import SECURITY_OPTIONS, security
from svrprocess.signals import Stop
from svrprocess.values import LISTEN, OPTIONAL_LISTEN, PATH, integer, seconds

DRAIN_S = 20.0
OPTIONS = (
    Option("data", "data", PATH, "data directory, made if missing; of this process alone"),
    Option("listen", "127.0.0.1:7420", LISTEN, "where callers reach it; port 0: any free one"),
    PEER_LISTEN,
    Option("metrics", "", OPTIONAL_LISTEN, "where Prometheus reads; empty: nowhere"),
    Option("step", STEP, integer(1, MAX_STEP), "numbers by which max_seq is raised ahead"),
    Option(
        "section-size",
        None,
        integer(1, 2**32),
        f"uids per section; fixed by the first start, which takes {SECTION_SIZE}",
    ),
    Option(
        "uid-limit",
        None,
        integer(1, 2**63),
        f"uids are below this; fixed by the first start, which takes {UID_LIMIT}",
    ),
    Option(
        "lease-ttl-s",
        LEASE_TTL_S,
        seconds(MIN_TTL_S, MAX_TTL_S),
        "seconds for which a lease is granted",
    ),
    *limits.OPTIONS,
    *SECURITY_OPTIONS,
    *LOG_OPTIONS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option is an environment variable and a key of the --config file, too."""
    add_flags(parser, (*OPTIONS, CONFIG))


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; the exit code."""
    resolved = resolve(args, OPTIONS)
    return program.run(_serve(resolved), resolved.log_format, resolved.log_level)


async def _serve(args: argparse.Namespace) -> int:
    stop = Stop.on_signals()
    secured = security(args)
    registry = new_registry("seqctl up")
    rights = Rights(args.auth_file, registry)
    guards = rights.guard(CLIENT_PORT, args), rights.guard(PEER_PORT, args, "peer-")
    front = NodeFront(secured, *guards, args)
    address = front.bind(args.listen, args.peer_listen)  # before anything else is touched
    peer_address = front.peer_address(address)
    try:
        options = Options(step=args.step, lease_ttl_s=args.lease_ttl_s)
    except ValueError as bad:
        raise WrongUsage(str(bad)) from None
    wanted = Wanted(args.section_size, args.uid_limit)
    secured.measure(registry)
    show(limits.OPTIONS, args, registry)
    serve_metrics(args.metrics, registry, secured.metrics)
    embedded = serving(Path(args.data), address, wanted, options, registry, peer_address)
    async with secured.kept_fresh(), rights.followed(), embedded as node:
        await serve_node(front, node, stop)
    return OK


async def serve_node(front: NodeFront, node: AllocNode, stop: Stop) -> None:
    """Answer for `node` until `stop`, and hand its sections over."""
    async with front.open():
        await front.until(stop, node, node.is_ready, lambda: _drain(node))


async def _drain(node: AllocNode) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            await node.drain()
    except TimeoutError:
        text = f"the store took more than {DRAIN_S} s; numbers will jump at the next start"
        raise NotDone(f"stopped without a hand-over: {text}") from None
