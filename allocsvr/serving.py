"""gRPC around a node: its ports answer from the start, though there is no node yet.

There is one for callers and, where roles are in use or it is asked for, a second one for other
nodes, the arbiter and operators, on a server of its own: a flood at the first is none at the other.

Until the node is there, calls are told ACQUIRING, which callers take for "try again". Once it is
there it answers for itself; after `drain` it goes on for a while, so that callers of sections that
have left learn their new route instead of losing their connection.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from allocsvr import limits
from allocsvr.answering import Answering
from allocsvr.messages import Refused
from allocsvr.node import AllocNode
from allocsvr.peers import Peers
from allocsvr.service import METHODS, SERVICE, AllocService, abort
from svrprocess import program
from svrprocess.front import Front
from svrprocess.guarding import Guard
from svrprocess.limits import defaults, grpc_options
from svrprocess.options import Option
from svrprocess.security import Security
from svrprocess.signals import Stop
from svrprocess.values import OPTIONAL_LISTEN, split

ANY_HOST = ("0.0.0.0", "[::]", "[::0]")
PEER_LISTEN = Option(
    "peer-listen",
    "",
    OPTIONAL_LISTEN,
    "where other nodes, the arbiter and operators reach it; none: any free port of the host of"
    " --listen where roles are in use, else there is one port for all",
)
CLOSE_S = 0.5
# Whoever has a Session goes on whatever single calls flood the port; so whoever wants one gets it.
APART = tuple(f"/{SERVICE}/{rpc}" for rpc in ("Session", "GetRoute", "AdvanceSeq"))
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class NodeFront:
    """The ports of one node. Made on the running loop: `bind`, then `open`, inside it `until`.

    security: of both ports and of the links to other nodes; guards: of the two ports; None:
    everybody may do everything there. args: of limits.OPTIONS, None: their defaults.
    """

    def __init__(
        self,
        security: Security | None = None,
        guard: Guard | None = None,
        peer_guard: Guard | None = None,
        args: argparse.Namespace | None = None,
    ) -> None:
        self._args = defaults(limits.OPTIONS) if args is None else args
        self._security = security or Security()
        self.front = self._front(guard)
        self.peer_front: Front | None = None
        self._peer_guard = peer_guard
        self._is_guarded = guard is not None or peer_guard is not None
        self._gate, self._peer_gate = _Gate(), _Gate()
        self._peers = Peers(self._security.links)

    def bind(self, listen: str, peer_listen: str = "") -> str:
        """Take the ports, and nothing more; the first one's address. Raises NotDone, WrongUsage.

        peer_listen: of the second port; empty: any free one of the same host where there are
        guards, else there is none.
        """
        address = self.front.bind(listen, self._security.client)
        if not peer_listen and self._is_guarded:
            peer_listen = f"{split(listen)[0]}:0"
        if peer_listen:
            self.peer_front = self._front(self._peer_guard)
            self.peer_front.bind(peer_listen, self._security.peer)
        return address

    def peer_address(self, advertise: str, peer_advertise: str = "") -> str:
        """What the map is told of the second port; empty where there is none.

        advertise: what it is told of the first one, whose host counts where the second listens
        at every address; peer_advertise: this and nothing else, unless it is empty.
        """
        if self.peer_front is None or peer_advertise:
            return peer_advertise if self.peer_front else ""
        host, port = split(self.peer_front.address)
        return f"{split(advertise)[0] if host in ANY_HOST else host}:{port}"

    def _front(self, guard: Guard | None) -> Front:
        options = (*OPTIONS, *grpc_options(self._args))
        return Front(options, self._args.max_calls, guard, APART, self._args.request_s)

    @property
    def _fronts(self) -> Sequence[Front]:
        return [self.front] if self.peer_front is None else [self.front, self.peer_front]

    @asynccontextmanager
    async def open(self, *serving: str) -> AsyncIterator[None]:
        """Answer calls inside the `async with`; `serving`: health services, SERVING throughout."""
        for front, gate in zip(self._fronts, (self._gate, self._peer_gate), strict=False):
            front.server.add_generic_rpc_handlers((gate,))
            for name in serving:
                await front.health.say(name, True)
            await front.start(SERVICE)
        try:
            yield
        finally:
            await self._close()
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
        answering = Answering(node, self._peers)
        own = limits.limits(self._args)
        self._gate.inner = AllocService(node, answering, node.metrics, own).handler()
        theirs = limits.for_peers(own)
        for_peers = AllocService(node, answering, node.metrics, theirs, for_peers=True)
        self._peer_gate.inner = for_peers.handler()
        for front in self._fronts:
            front.arriving.on_late = node.metrics.limited.labels("request-s").inc
        try:
            await stop.unless(_holds(ready))
            if not stop.asked:
                async with AsyncExitStack() as stack:
                    for front in self._fronts:
                        await stack.enter_async_context(front.health.following(ready))
                    program.announce(self.front.address)
                    await stop.wait()
            await drain()
        finally:
            await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(front.aclose(CLOSE_S) for front in self._fronts))


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
        return self._closed if handler_call_details.method in METHODS else None


async def _refuse(_requests: Any, context: Any) -> None:
    await abort(context, Refused("ACQUIRING", "this node has not found its cluster map yet"))


async def _holds(ready: Callable[[], bool]) -> None:
    while not ready():  # noqa: ASYNC110 - nobody is told when a lease has come to be held
        await asyncio.sleep(0.01)
