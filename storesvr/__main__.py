"""One StoreSvr process: `storesvr --data DIR ...`.

Exit codes: 0 after SIGTERM or SIGINT, 2 wrong usage, 3 the store or the port cannot be opened, 70 a
write failed while serving (commits.py).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from clustermap.logs import bind
from seqsvr.sections import SECTION_SIZE, UID_LIMIT
from storesvr.commits import MAX_WAITING
from storesvr.errors import EngineError
from storesvr.port import Identity
from storesvr.service import StoreService, add_to_server, open_service
from storesvr.servicer import APART, MAX_MESSAGE_BYTES, SERVER_OPTIONS, SERVICE
from svrprocess import program
from svrprocess.failures import OK, NotDone
from svrprocess.front import Front
from svrprocess.limits import counter, grpc_options, port_options, show
from svrprocess.listening import serve_metrics
from svrprocess.measures import new_registry
from svrprocess.options import Option
from svrprocess.rights import Rights
from svrprocess.roles import STORE_PORT
from svrprocess.security import SECURITY_OPTIONS, security
from svrprocess.signals import Stop
from svrprocess.values import (
    LISTEN,
    OPTIONAL_LISTEN,
    PATH,
    SWITCH,
    TEXT,
    integer,
    number,
    seconds,
)

GRACE_S = 2.0
LIMITS = (
    *port_options(MAX_MESSAGE_BYTES),
    Option(
        "max-waiting-requests",
        MAX_WAITING,
        integer(1, 1_000_000),
        "requests that wait for the disk; those beyond are told OVERLOADED",
    ),
)
OPTIONS = (
    Option("data", None, PATH, "data directory, of this process alone", required=True),
    Option("listen", "127.0.0.1:7421", LISTEN, "where AllocSvr nodes reach it; port 0: any"),
    Option("cluster", None, TEXT, "name of the cluster", required=True),
    Option("set", "set-0", TEXT, "name of the Set"),
    Option("replica", "store-0", TEXT, "name of this replica"),
    Option(
        "section-size",
        SECTION_SIZE,
        integer(1, 2**32),
        "uids per section, fixed for the cluster's life",
    ),
    Option(
        "uid-limit",
        UID_LIMIT,
        integer(1, 2**63),
        "uids are below this, fixed for the cluster's life",
    ),
    Option("lease-ttl-s", 2.0, seconds(0.1, 60), "longest lease granted, and boot grace, seconds"),
    Option("metrics", "", OPTIONAL_LISTEN, "where Prometheus reads; empty: nowhere"),
    Option(
        "map-size-gb",
        128.0,
        number(0.001, 2**20, "GiB"),
        "address space for the store, in GiB; no disk is taken",
    ),
    Option("create", False, SWITCH, "make the store if there is none"),
    *LIMITS,
    *SECURITY_OPTIONS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return program.main("storesvr", "One replica of a Set.", OPTIONS, _serve, argv)


async def _serve(args: argparse.Namespace) -> int:
    stop = Stop.on_signals()
    secured = security(args)
    registry = new_registry("storesvr")
    rights = Rights(args.auth_file, registry)
    options = (*SERVER_OPTIONS, *grpc_options(args, strangers=False))
    guard = rights.guard(STORE_PORT, args, "peer-")
    front = Front(options, args.max_calls, guard, APART, args.request_s)
    front.arriving.on_late = counter(registry).labels("request-s").inc
    address = front.bind(args.listen, secured.peer)
    bind(set=args.set, replica=args.replica)
    secured.measure(registry)
    show(LIMITS, args, registry)
    service = _open(args, registry)
    try:
        serve_metrics(args.metrics, registry, secured.metrics)
        add_to_server(service, front.server)
        await front.start(SERVICE)
        ready = front.health.following(lambda: not service.out_of_quorum)
        async with secured.kept_fresh(), rights.followed(), ready:
            program.announce(address)
            await stop.wait()
    finally:
        await front.aclose(GRACE_S)
        await service.aclose()
    return OK


def _open(args: argparse.Namespace, registry: CollectorRegistry) -> StoreService:
    ttl_ns = round(args.lease_ttl_s * 1e9)
    try:
        identity = Identity(args.cluster, args.set, args.replica, args.section_size, args.uid_limit)
        return open_service(
            Path(args.data),
            identity,
            create=args.create,
            boot_grace_ns=ttl_ns,
            max_ttl_ns=ttl_ns,
            map_size=round(args.map_size_gb * 2**30),
            registry=registry,
            max_waiting=args.max_waiting_requests,
        )
    except (EngineError, OSError) as error:
        raise NotDone(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
