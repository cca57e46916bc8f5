"""A gRPC server that goes on where a call has ended the library's.

grpc.aio decodes the path of a call in the one task that takes all calls, so a path that is no UTF-8
ends that task, and with it the server: its port is closed, whoever sent it. What was under way goes
on, so another server takes the port, and the old one is put away when its calls have ended.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc

LOOK_S = 0.1
"""How often it is looked whether the server has ended."""
AGAIN_S = 1.0
"""Between two tries to have the port, if somebody else has taken it."""
DRAIN_S = 60.0
"""What was under way on one that ended has so long."""

END_S = 2.0
"""What a server has beyond its grace, to end."""

_log = logging.getLogger(__name__)


class Enduring(grpc.aio.Server):
    """make: a new server, without handlers and ports. To be made on the running loop."""

    def __init__(self, make: Callable[[], grpc.aio.Server]) -> None:
        self._make = make
        self._server = make()
        self._again: list[Callable[[grpc.aio.Server], object]] = []
        self._watching: asyncio.Task[None] | None = None
        self._ended: dict[asyncio.Task[None], grpc.aio.Server] = {}  # with calls yet, by their end

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]
    ) -> None:
        handlers = tuple(generic_rpc_handlers)
        self._do(lambda server: server.add_generic_rpc_handlers(handlers))

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Any]
    ) -> None:
        self._do(
            lambda server: server.add_registered_method_handlers(service_name, method_handlers)
        )

    def add_insecure_port(self, address: str) -> int:
        return self._port(address, lambda server, at: server.add_insecure_port(at))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        raise NotImplementedError("credentials serve one server: see add_secured_port")

    def add_secured_port(self, address: str, make: Callable[[], grpc.ServerCredentials]) -> int:
        """As add_secure_port, with credentials made for each server."""
        return self._port(address, lambda server, at: server.add_secure_port(at, make()))

    async def start(self) -> None:
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace: float | None) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        servers = {self._server, *self._ended.values()}
        for task in self._ended:
            task.cancel()
        await asyncio.gather(*(_stop(server, grace) for server in servers))

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        return await self._server.wait_for_termination(timeout)

    def _port(self, address: str, take: Callable[[grpc.aio.Server, str], int]) -> int:
        taken = take(self._server, address)
        same = f"{address.rpartition(':')[0]}:{taken}"
        self._again.append(lambda server: take(server, same))
        return taken

    def _do(self, what: Callable[[grpc.aio.Server], object]) -> None:
        what(self._server)
        self._again.append(what)

    async def _watch(self) -> None:
        while True:
            try:
                # It says so when its time is over, and not before the last of its calls.
                if not await self._server.wait_for_termination(LOOK_S):
                    return
            except Exception as error:  # noqa: BLE001 - whatever has ended it, there is to be one
                _log.error("event=port_taken_anew error=%r", error)
                await self._replace()

    async def _replace(self) -> None:
        task = asyncio.create_task(_put_away(self._server))
        self._ended[task] = self._server
        task.add_done_callback(self._ended.pop)
        while True:
            try:
                server = self._make()
                for what in self._again:
                    what(server)
                await server.start()
            except Exception as error:  # noqa: BLE001 - likewise
                _log.error("event=port_not_taken error=%r", error)
                await asyncio.sleep(AGAIN_S)
            else:
                self._server = server
                return


async def _stop(server: grpc.aio.Server, grace_s: float | None) -> None:
    """A spoilt one may end its end by what has spoilt it, or never."""
    try:
        async with asyncio.timeout((grace_s or 0.0) + END_S):
            await server.stop(grace_s)
    except Exception as error:  # noqa: BLE001 - as above
        _log.warning("event=server_not_ended error=%r", error)


async def _put_away(server: grpc.aio.Server) -> None:
    await server.stop(DRAIN_S)
