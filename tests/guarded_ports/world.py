"""A node's two ports, a StoreSvr's and the arbiter's, served by this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from allocsvr.node import AllocNode, Options
from allocsvr.serving import NodeFront
from guarded_ports.callers import Somebody
from seqctl.embedded import Wanted, serving
from storesvr import servicer
from storesvr.service import add_to_server, open_service
from storesvr_world import IDENTITY
from svrprocess import program
from svrprocess.front import Front
from svrprocess.options import parse
from svrprocess.rights import Rights
from svrprocess.roles import CLIENT_PORT, EVERYWHERE, PEER_PORT, STORE_PORT
from svrprocess.security import SECURITY_OPTIONS, security
from svrprocess.signals import Stop

HERE = "127.0.0.1:0"


@dataclass
class GuardedPorts:
    """addresses: by port, which is client, peer, store or arbiter; its names are ours alone."""

    addresses: dict[str, str]
    node: AllocNode
    registry: CollectorRegistry

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def channel(self, port: str, somebody: Somebody):  # type: ignore[no-untyped-def]
        return somebody.channel(self.addresses[port])


@asynccontextmanager
async def guarded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *argv: object
) -> AsyncIterator[GuardedPorts]:
    """With these of SECURITY_OPTIONS. Raises WrongUsage as a server's start does."""
    args = parse("ports", "", SECURITY_OPTIONS, list(map(str, argv)), {})
    secured, registry = security(args), CollectorRegistry()
    rights = Rights(args.auth_file, registry)
    guards = rights.guard(CLIENT_PORT, args), rights.guard(PEER_PORT, args, "peer-")
    front = NodeFront(secured, *guards)
    store = Front(servicer.SERVER_OPTIONS, guard=rights.guard(STORE_PORT, args, "peer-"))
    arbiter = Front(guard=rights.guard(EVERYWHERE, args, "peer-"))
    addresses = {
        "client": front.bind(HERE),
        "store": store.bind(HERE, secured.peer),
        "arbiter": arbiter.bind(HERE, secured.peer),
    }
    addresses["peer"] = front.peer_address(addresses["client"]) or addresses["client"]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(secured.kept_fresh())
        await stack.enter_async_context(rights.followed())
        replica = open_service(folder / "replica", IDENTITY, create=True)
        stack.push_async_callback(replica.aclose)
        add_to_server(replica, store.server)
        for other, services in ((store, (servicer.SERVICE,)), (arbiter, ())):
            await other.start(*services)
            stack.push_async_callback(other.aclose, 0)
        node = await stack.enter_async_context(
            serving(
                folder / "data",
                addresses["client"],
                Wanted(1000, 100_000),
                Options(),
                CollectorRegistry(),
                front.peer_address(addresses["client"]),
            )
        )
        await stack.enter_async_context(_serving(front, node, monkeypatch))
        yield GuardedPorts(addresses, node, registry)


@asynccontextmanager
async def _serving(
    front: NodeFront, node: AllocNode, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    stop, ready = Stop(), asyncio.Event()
    monkeypatch.setattr(program, "announce", lambda _: ready.set())
    async with front.open():
        running = asyncio.create_task(front.until(stop, node, node.is_ready, node.drain))
        try:
            await asyncio.wait_for(ready.wait(), 30)
            yield
        finally:
            stop.ask()
            await asyncio.wait_for(running, 30)
