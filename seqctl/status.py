"""`seqctl status`: is every node there, and ready?

Each address is asked by itself, without the client's retries and re-routing: what one node says.
"""

import argparse
import asyncio
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from seqctl.credentials import credentials_of
from seqctl.failures import NOT_DONE, OK
from seqctl.handshake import expiry
from seqctl.output import print_json, print_table
from seqsvr.channels import explained
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import alloc_pb2, alloc_pb2_grpc

_READY = "seqsvr.ready"
_COLUMNS = ("address", "reachable", "alive", "ready", "route", "latency", "certificate", "error")
_OPTIONS = [("grpc.enable_http_proxy", 0)]


@dataclass(slots=True)
class NodeStatus:
    """What one address answered. latency_ms: of the route call; None where not reachable.

    certificate: when the one that it shows expires, RFC 3339; None in the clear.
    """

    address: str
    reachable: bool = False
    alive: bool = False
    ready: bool = False
    route_version: int | None = None
    latency_ms: float | None = None
    certificate: str | None = None
    error: str | None = None


def run(args: argparse.Namespace) -> int:
    """The command: 0 if every seed and every node of their tables is ready, else 3."""
    nodes = asyncio.run(survey(args.addr, args.timeout, credentials_of(args)))
    if args.output == "json":
        print_json([asdict(node) for node in nodes])
    else:
        print_table(_COLUMNS, (_row(node) for node in nodes))
    return OK if all(node.ready for node in nodes) else NOT_DONE


async def survey(
    seeds: Iterable[str], timeout_s: float, credentials: Credentials = PLAIN
) -> list[NodeStatus]:
    """Ask the seeds, then every address that their tables name; in order of appearance."""
    asked: dict[str, NodeStatus] = {}
    to_ask = list(dict.fromkeys(seeds))
    for _ in range(2):
        asking = (ask(address, timeout_s, credentials) for address in to_ask)
        answers = await asyncio.gather(*asking)
        asked.update((status.address, status) for status, _ in answers)
        named = dict.fromkeys(address for _, addresses in answers for address in addresses)
        to_ask = [address for address in named if address not in asked]
    return list(asked.values())


async def ask(
    address: str, timeout_s: float, credentials: Credentials
) -> tuple[NodeStatus, list[str]]:
    """The status of one address, and the addresses in its routing table."""
    if credentials.tls is None:
        return await _answered(address, timeout_s, credentials)
    (status, addresses), ends = await asyncio.gather(
        _answered(address, timeout_s, credentials), expiry(address, credentials.tls, timeout_s)
    )
    if ends is not None:
        status.certificate = ends.isoformat()
    return status, addresses


async def _answered(
    address: str, timeout_s: float, credentials: Credentials
) -> tuple[NodeStatus, list[str]]:
    status = NodeStatus(address)
    async with credentials.channel(address, _OPTIONS) as channel:
        alloc = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(timeout_s):
                status.alive = await _serving(channel, "")
                started = time.monotonic_ns()
                answer = await alloc.GetRoute(
                    alloc_pb2.GetRouteRequest(), metadata=credentials.metadata()
                )
                status.latency_ms = round((time.monotonic_ns() - started) / 1e6, 3)
                status.reachable = True
                status.route_version = answer.table.version
                status.ready = await _serving(channel, _READY)
        except TimeoutError:
            status.error = f"no answer in {timeout_s:g} s"
            return status, []
        except grpc.aio.AioRpcError as error:
            status.error = _one_line(error, credentials)
            return status, []
    return status, list(answer.table.addresses)


async def _serving(channel: grpc.aio.Channel, service: str) -> bool:
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _row(node: NodeStatus) -> tuple[str, ...]:
    flags = ("yes" if flag else "no" for flag in (node.reachable, node.alive, node.ready))
    version = "" if node.route_version is None else str(node.route_version)
    latency = "" if node.latency_ms is None else f"{node.latency_ms:.3f} ms"
    return (node.address, *flags, version, latency, node.certificate or "", node.error or "")


def _one_line(error: grpc.aio.AioRpcError, credentials: Credentials) -> str:
    details = " ".join(explained(error.details() or "", credentials).split())
    return f"{error.code().name}: {details}"
