"""The standard gRPC health service: "" the process is alive, READY it may be sent traffic."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from clustermap.documents import hex64
from clustermap.logs import get_logger
from svrprocess import incidents

READY = "seqsvr.ready"
SERVICE = health.SERVICE_NAME
TELL_S = 0.1

_log = get_logger(__name__)
_Status = health_pb2.HealthCheckResponse.ServingStatus


def node_service(incarnation: int) -> str:
    """What is SERVING where, and as long as, the AllocSvr process of this incarnation lives."""
    return f"seqsvr.node.{hex64(incarnation)}"


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]
    """The library's, but what goes wrong in it is an incident."""

    async def Check(self, request: Any, context: Any) -> Any:
        async with incidents.none_leaves(context, f"{SERVICE}/Check", grpc.aio.AbortError):
            return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:
        gone = grpc.aio.AbortError, grpc.aio.InternalError
        async with incidents.none_leaves(context, f"{SERVICE}/Watch", *gone):
            await super().Watch(request, context)

    async def List(self, request: Any, context: Any) -> None:
        """The library has none, and would say so by a traceback in the log for each call."""
        del request
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "List is not served")


class Health:
    """What a server says of itself; "" is SERVING from the start, READY is not."""

    def __init__(self) -> None:
        self.servicer = _Servicer()
        self._ready = False

    async def say(self, service: str, serving: bool) -> None:
        """From now on `service` is SERVING, or NOT_SERVING; one never named is NOT_FOUND."""
        state = _Status.SERVING if serving else _Status.NOT_SERVING
        await self.servicer.set(service, state)

    @asynccontextmanager
    async def following(self, ready: Callable[[], bool]) -> AsyncIterator[None]:
        """Keep READY true to `ready()` inside the `async with`, and NOT_SERVING at its end.

        ready: is asked every TELL_S, so it is cheap, and raises nothing.
        """
        await self._tell(ready())
        task = asyncio.create_task(self._follow(ready))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))
            await self.say(READY, False)

    async def _follow(self, ready: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            now = ready()
            if now is not self._ready:
                await self._tell(now)

    async def _tell(self, ready: bool) -> None:
        self._ready = ready
        await self.say(READY, ready)
        _log.info("ready" if ready else "not_ready")
