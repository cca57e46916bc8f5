"""gRPC around a node: its port answers from the start, though there is no node yet.

Until the node is there, calls are told ACQUIRING, which callers take for "try again". Once it is
there it answers for itself; after `drain` it goes on for a while, so that callers of sections that
have left learn their new route instead of losing their connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from allocsvr.answering import Answering
from allocsvr.messages import Refused
from allocsvr.node import AllocNode
from allocsvr.peers import Peers
from allocsvr.service import MAX_MESSAGE_BYTES, SERVICE, AllocService, abort
from svrprocess import program
from svrprocess.front import Front
from svrprocess.security import Security
from svrprocess.signals import Stop

CLOSE_S = 0.5
MAX_RPCS = 10_000
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class NodeFront:
    """The port of one node. Made on the running loop: `bind`, then `open`, inside it `until`."""

    def __init__(self, security: Security | None = None) -> None:
        self._security = security or Security()
        self.front = Front(OPTIONS, MAX_RPCS)
        self._gate = _Gate()
        self._peers = Peers(self._security.links)

    def bind(self, listen: str) -> str:
        """Take the port, and nothing more; the address. Raises NotDone, WrongUsage."""
        return self.front.bind(listen, self._security.client)

    @asynccontextmanager
    async def open(self, *serving: str) -> AsyncIterator[None]:
        """Answer calls inside the `async with`; `serving`: health services, SERVING throughout."""
        self.front.server.add_generic_rpc_handlers((self._gate,))
        for name in serving:
            await self.front.health.say(name, True)
        await self.front.start(SERVICE)
        try:
            yield
        finally:
            await self.front.aclose(CLOSE_S)
            await self._peers.aclose()

    async def until(
        self,
        stop: Stop,
        node: AllocNode,
        ready: Callable[[], bool],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        """Serve the node, once it is ready say so, and drain it when the program is to stop.

        No call is taken any more once it returns.
        """
        service = AllocService(node, Answering(node, self._peers), node.metrics)
        self._gate.inner = service.handler()
        try:
            await stop.unless(_holds(ready))
            if not stop.asked:
                async with self.front.health.following(ready):
                    program.announce(self.front.address)
                    await stop.wait()
            await drain()
        finally:
            await self.front.aclose(CLOSE_S)


class _Gate(grpc.GenericRpcHandler):
    """Passes calls on to `inner`, and refuses them while there is none."""

    def __init__(self) -> None:
        self.inner: grpc.GenericRpcHandler | None = None
        # To the wire a single call is a stream of one message, so this one does for all of them.
        self._closed: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            _refuse
        )

    def service(self, handler_call_details: Any) -> Any:
        if self.inner is not None:
            return self.inner.service(handler_call_details)
        return self._closed if handler_call_details.method.startswith(f"/{SERVICE}/") else None


async def _refuse(_requests: Any, context: Any) -> None:
    await abort(context, Refused("ACQUIRING", "this node has not found its cluster map yet"))


async def _holds(ready: Callable[[], bool]) -> None:
    while not ready():  # noqa: ASYNC110 - nobody is told when a lease has come to be held
        await asyncio.sleep(0.01)
