"""The gRPC server of a program: its port, its services, health and reflection."""

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from svrprocess import health, listening
from svrprocess.arriving import REQUEST_S, Arriving
from svrprocess.enduring import Enduring
from svrprocess.guarding import Guard
from svrprocess.security import Port

KEEPALIVE: tuple[tuple[str, int], ...] = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # callers ask every 10 s
    ("grpc.keepalive_permit_without_calls", 1),
)


class Front:
    """Made on the running loop: `bind`, `start`, and in the end `aclose`.

    options: of the gRPC server; ports are never shared. max_rpcs: calls at a time, None for any
    number. guard: stands before every rpc; None: everybody may do everything. apart: rpcs, by their
    whole paths, that wait in queues of their own to be begun, whatever floods the others.
    request_s: within which the request of a single call has to come.
    """

    def __init__(
        self,
        options: Sequence[tuple[str, int]] = KEEPALIVE,
        max_rpcs: int | None = None,
        guard: Guard | None = None,
        apart: Iterable[str] = (),
        request_s: float = REQUEST_S,
    ) -> None:
        self.arriving = Arriving(request_s)
        whole = {"grpc.so_reuseport": 0, **dict(options)}  # the last of equal ones counts
        self.server = Enduring(
            lambda: grpc.aio.server(
                options=list(whole.items()),
                maximum_concurrent_rpcs=max_rpcs,
                interceptors=(self.arriving,) if guard is None else (guard, self.arriving),
            )
        )
        for path in apart:
            _, service, method = path.split("/")
            # Without a handler: gRPC then asks for one as it does for all others.
            nobody: dict[str, Any] = {method: None}
            self.server.add_registered_method_handlers(service, nobody)
        self.health = health.Health()
        self.address = ""

    def bind(self, listen: str, port: Port | None = None) -> str:
        """Take the port of HOST:PORT, and nothing more; the address. Raises NotDone, WrongUsage.

        port: how it is protected; None: not at all, so it has to be loopback.
        """
        self.address = listening.bind(self.server, listen, port or Port("client"))
        return self.address

    async def start(self, *services: str) -> None:
        """Answer calls. Handlers must have been added; services: their names, for reflection."""
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, self.server)
        names = (*services, health.SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.server)
        await self.health.say(health.READY, False)
        await self.server.start()

    async def aclose(self, grace_s: float) -> None:
        """Take no more calls, and give those in flight `grace_s` seconds."""
        await self.server.stop(grace_s)
