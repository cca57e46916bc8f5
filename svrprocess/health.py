"""The standard gRPC health service: "" the process is alive, READY it may be sent traffic.

It is for anybody, so nobody who watches may hold up another, or the server: the library's Watch has
a lock while it writes, and one watcher who does not read keeps every change of a status waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from clustermap.documents import hex64
from clustermap.logs import get_logger
from svrprocess import ending, incidents

READY = "seqsvr.ready"
SERVICE = health.SERVICE_NAME
TELL_S = 0.1
MAX_WATCHERS = 100
"""Of a port, at a time: they stay for as long as they like, and calls are for others, too."""

_log = get_logger(__name__)
_Status = health_pb2.HealthCheckResponse.ServingStatus


def node_service(incarnation: int) -> str:
    """What is SERVING where, and as long as, the AllocSvr process of this incarnation lives."""
    return f"seqsvr.node.{hex64(incarnation)}"


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]
    """The library's, but for Watch, and what goes wrong in it is an incident."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()
        self._watchers = 0

    async def set(self, service: str, status: int) -> None:
        self._server_status[service] = status
        self._news.set()
        self._news = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:
        async with incidents.none_leaves(context, f"{SERVICE}/Check"):
            return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:
        async with incidents.none_leaves(context, f"{SERVICE}/Watch"):
            if self._watchers >= MAX_WATCHERS:
                await ending.abort(
                    context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch already"
                )
            self._watchers += 1
            try:
                await self._watched(request.service, context)
            finally:
                self._watchers -= 1

    async def _watched(self, service: str, context: Any) -> None:
        last = None
        while True:
            news = self._news
            status = self._server_status.get(service, _Status.SERVICE_UNKNOWN)
            if status != last:
                last = status  # and what changes while this is written comes next
                await context.write(health_pb2.HealthCheckResponse(status=status))
            else:
                await news.wait()

    async def List(self, request: Any, context: Any) -> None:
        """The library has none, and would say so by a traceback in the log for each call."""
        del request
        await ending.abort(context, grpc.StatusCode.UNIMPLEMENTED, "List is not served")


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
