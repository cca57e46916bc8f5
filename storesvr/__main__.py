"""One StoreSvr process: `storesvr --data DIR ...`.

Exit codes: 0 after SIGTERM or SIGINT, 2 wrong usage, 3 the store or the port cannot be opened, 70 a
write failed while serving (commits.py).
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from seqsvr.sections import SECTION_SIZE, UID_LIMIT
from storesvr.errors import EngineError
from storesvr.port import Identity
from storesvr.service import StoreService, add_to_server, open_service
from storesvr.servicer import SERVER_OPTIONS, SERVICE

_log = logging.getLogger("storesvr")

EXIT_CANNOT_START = 3
GRACE_S = 2.0
READY = "seqsvr.ready"


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; returns the exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        return asyncio.run(_serve(options))
    except (EngineError, RuntimeError, OSError) as error:
        print(f"storesvr: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_CANNOT_START


async def _serve(options: argparse.Namespace) -> int:
    registry = CollectorRegistry()
    ttl_ns = round(options.lease_ttl_s * 1e9)
    service = open_service(
        Path(options.data),
        Identity(
            options.cluster,
            options.set,
            options.replica,
            options.section_size,
            options.uid_limit,
        ),
        create=options.create,
        boot_grace_ns=ttl_ns,
        max_ttl_ns=ttl_ns,
        map_size=round(options.map_size_gb * 2**30),
        registry=registry,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    try:
        port = await _start(server, service, options.listen)
        if options.metrics:
            host, metrics_port = _address(options.metrics)
            pages, _ = start_http_server(metrics_port, host, registry)
            _log.info("metrics=%s:%d", host, pages.server_port)
        print(f"ready {_address(options.listen)[0]}:{port}", flush=True)
        await stop.wait()
    finally:
        await server.stop(GRACE_S)
        await service.aclose()
    return 0


async def _start(server: grpc.aio.Server, service: StoreService, listen: str) -> int:
    """Bind and serve; returns the port. Raises RuntimeError where the port is taken."""
    add_to_server(service, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    port = server.add_insecure_port(listen)
    await server.start()

    def set_ready(serving: bool) -> "asyncio.Task[None]":
        status = health_pb2.HealthCheckResponse.ServingStatus
        state = status.SERVING if serving else status.NOT_SERVING
        return asyncio.ensure_future(checks.set(READY, state))

    def left_quorum(why: str) -> None:
        del why
        tasks.append(set_ready(False))

    tasks: list[asyncio.Task[None]] = []
    service.left_quorum = left_quorum
    await checks.set("", health_pb2.HealthCheckResponse.ServingStatus.SERVING)
    await set_ready(not service.out_of_quorum)
    return port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="storesvr", description="One replica of a Set.")

    def option(name: str, default: object, text: str, kind: type = str) -> None:
        env = "SEQSVR_" + name.upper().replace("-", "_")
        value = os.environ.get(env, default)
        parser.add_argument(
            f"--{name}",
            default=value,
            required=value is None,
            type=kind,
            help=f"{text} (default {default}, environment {env})",
        )

    option("data", None, "data directory, of this process alone")
    option("listen", "127.0.0.1:7421", "HOST:PORT for AllocSvr nodes; port 0: any")
    option("cluster", None, "name of the cluster")
    option("set", "set-0", "name of the Set")
    option("replica", "store-0", "name of this replica")
    option("section-size", SECTION_SIZE, "uids per section, fixed for the cluster's life", int)
    option("uid-limit", UID_LIMIT, "uids are below this, fixed for the cluster's life", int)
    option("lease-ttl-s", 2.0, "longest lease granted, and boot grace, in seconds", float)
    option("metrics", "", "HOST:PORT for Prometheus; empty: none")
    option("map-size-gb", 128.0, "address space for the store, in GiB; no disk is taken", float)
    parser.add_argument(
        "--create",
        action="store_true",
        default=os.environ.get("SEQSVR_CREATE") == "1",
        help="make the store if there is none (environment SEQSVR_CREATE=1)",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
