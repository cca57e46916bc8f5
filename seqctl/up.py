"""`seqctl up`: the embedded service in the foreground, until a signal.

Exit codes: 0 after SIGTERM or SIGINT and a graceful hand-over, 2 wrong usage, 3 the data directory
or the port cannot be had, 70 a write to the store failed or an invariant broke while serving.
"""

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from allocsvr.answering import Answering
from allocsvr.node import LEASE_TTL_S, AllocNode, Options
from allocsvr.peers import Peers
from allocsvr.service import MAX_MESSAGE_BYTES, SERVICE, AllocService
from seqctl import arguments
from seqctl.embedded import Wanted, serving
from seqctl.failures import CommandFailed, NotDone, WrongUsage
from seqsvr.sections import SECTION_SIZE, STEP, UID_LIMIT

logger = logging.getLogger(__name__)

READY = "seqsvr.ready"
EXIT_FATAL = 70
DRAIN_S = 20.0
CLOSE_S = 0.5
TELL_S = 0.1
MAX_RPCS = 10_000
OPTIONS = [
    ("grpc.so_reuseport", 0),  # or a second server would bind the same port without a word
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]

_Status = health_pb2.HealthCheckResponse.ServingStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option is an environment variable too: SEQSVR_ and its name in capitals."""

    def option(name: str, default: object, text: str, kind: type | None = None) -> None:
        variable = "SEQSVR_" + name.upper().replace("-", "_")
        given = os.environ.get(variable, default)
        parser.add_argument(
            f"--{name}",
            default=given,
            type=kind or str,
            help=f"{text} (default {default}; environment {variable})",
        )

    option("data", "data", "data directory, made if missing; of this process alone")
    option("listen", "127.0.0.1:7420", "HOST:PORT for callers; port 0: any free one")
    option("metrics", "", "HOST:PORT for Prometheus; empty: none")
    option("step", STEP, "numbers by which max_seq is raised ahead", arguments.positive)  # type: ignore[arg-type]
    option(
        "section-size",
        None,
        f"uids per section; fixed by the first start, which takes {SECTION_SIZE}",
        arguments.positive,  # type: ignore[arg-type]
    )
    option(
        "uid-limit",
        None,
        f"uids are below this; fixed by the first start, which takes {UID_LIMIT}",
        arguments.positive,  # type: ignore[arg-type]
    )
    option(
        "lease-ttl-s",
        LEASE_TTL_S,
        "seconds for which a lease is granted",
        arguments.seconds,  # type: ignore[arg-type]
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; the exit code."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    _raise_file_limit()
    return asyncio.run(_serve(args))


async def _serve(args: argparse.Namespace) -> int:
    stop = _signals()
    registry = CollectorRegistry()
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MAX_RPCS)
    address = _bind(server, args.listen)
    try:
        options = Options(step=args.step, lease_ttl_s=args.lease_ttl_s)
    except ValueError as bad:
        raise WrongUsage(str(bad)) from None
    wanted = Wanted(args.section_size, args.uid_limit)
    _serve_metrics(args.metrics, registry)
    try:
        async with serving(Path(args.data), address, wanted, options, registry) as node:
            await _until_stopped(server, node, address, stop)
    except ExceptionGroup as group:
        for error in _leaves(group):
            if isinstance(error, CommandFailed):
                raise error from None
            logger.critical("event=fatal error=%r", error, exc_info=error)
        return EXIT_FATAL
    return 0


async def _until_stopped(
    server: grpc.aio.Server,
    node: AllocNode,
    address: str,
    stop: asyncio.Event,
) -> None:
    peers = Peers()
    service = AllocService(node, Answering(node, peers), node.metrics)
    checks = health.aio.HealthServicer()
    server.add_generic_rpc_handlers((service.handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    await checks.set(READY, _Status.NOT_SERVING)
    await server.start()
    try:
        if await _first(node.ready(), stop):
            gc.collect()
            gc.freeze()
            print(f"ready {address}", flush=True)
            telling = asyncio.create_task(_tell(checks, node))
            await stop.wait()
            telling.cancel()
        await checks.set(READY, _Status.NOT_SERVING)
        await _drain(node)
    finally:
        await server.stop(CLOSE_S)
        await peers.aclose()


async def _tell(checks: health.aio.HealthServicer, node: AllocNode) -> None:
    """Keep the health of READY true to what the node can do."""
    told = None
    while True:
        ready = node.is_ready()
        if ready is not told:
            told = ready
            await checks.set(READY, _Status.SERVING if ready else _Status.NOT_SERVING)
            logger.info("event=%s", "ready" if ready else "not_ready")
        await asyncio.sleep(TELL_S)


async def _drain(node: AllocNode) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            await node.drain()
    except TimeoutError:
        text = f"the store took more than {DRAIN_S} s; numbers will jump at the next start"
        raise NotDone(f"stopped without a hand-over: {text}") from None


async def _first(ready: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Wait for either; whether it was `ready`."""
    waits = [asyncio.create_task(ready), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return not stop.is_set()


def _bind(server: grpc.aio.Server, listen: str) -> str:
    """Take the port before anything else is touched; its address."""
    host, _, port = listen.rpartition(":")
    try:
        # grpc reports a port that it cannot have in its own log only, and at length.
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
        taken = server.add_insecure_port(listen)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotDone(f"cannot listen on {listen}: {why}") from None
    return f"{host}:{taken}"


def _serve_metrics(listen: str, registry: CollectorRegistry) -> None:
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    try:
        start_http_server(int(port), host, registry)
    except (OSError, OverflowError, ValueError) as error:
        raise NotDone(f"cannot serve metrics on {listen}: {error}") from None


def _signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def received(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
    return stop


def _raise_file_limit() -> None:
    """Each connection takes a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
