"""Asks a node itself whether it lives: gRPC health of a service that is named by its incarnation.

Every probe takes a connection of its own: one that is kept may be in back-off, and then says what
was true a while ago. A plain connect comes first, since it tells a port where nobody listens from
everything else that may be wrong with a connection.
"""

import asyncio
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arbitersvr.detection import Outcome
from seqsvr.credentials import PLAIN, Credentials
from svrprocess.health import node_service
from svrprocess.values import split

PROBE_TIMEOUT_S = 0.5

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # else a channel inherits the back-off of another
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]


class Prober(Protocol):
    """Whoever can reach nodes."""

    async def probe(self, address: str, incarnation: int) -> Outcome:
        """What is at the address just now; raises nothing, and is bounded in time."""
        ...


class HealthProber:
    """Over the network. timeout_s: for a whole probe; credentials: refreshed by who made them."""

    def __init__(
        self, timeout_s: float = PROBE_TIMEOUT_S, credentials: Credentials = PLAIN
    ) -> None:
        self._timeout_s = timeout_s
        self._credentials = credentials

    async def probe(self, address: str, incarnation: int) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                await _connect(address)
                return await self._ask(address, node_service(incarnation))
        except ConnectionRefusedError:
            return Outcome.GONE
        except (TimeoutError, OSError, ValueError):
            return Outcome.SILENT

    async def _ask(self, address: str, service: str) -> Outcome:
        request = health_pb2.HealthCheckRequest(service=service)
        async with self._credentials.channel(address, _OPTIONS) as channel:
            try:
                await health_pb2_grpc.HealthStub(channel).Check(request, timeout=self._timeout_s)
            except grpc.aio.AioRpcError as error:
                return Outcome.GONE if error.code() is grpc.StatusCode.NOT_FOUND else Outcome.SILENT
        # NOT_SERVING too: somebody who knows this incarnation's name is this incarnation.
        return Outcome.ALIVE


async def _connect(address: str) -> None:
    """Raises OSError, ConnectionRefusedError above all, and ValueError for what is no address."""
    host, port = split(address, 1)
    _, writer = await asyncio.open_connection(host.strip("[]"), port)
    writer.close()
