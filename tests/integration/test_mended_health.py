"""The health that `seqctl up` tells balancers follows what its node can do."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from allocsvr.serving import NodeFront
from cluster_in_a_box import Box, Member, eventually, open_box
from clustermap.placement import mark_leaving, reassign
from seqctl import up
from svrprocess.health import READY
from svrprocess.signals import Stop

TTL_S = 0.6
_Response = health_pb2.HealthCheckResponse


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


@asynccontextmanager
async def up_over(member: Member, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """What `seqctl up` does between start and stop, over a node of the box: its health stub."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
    front, stop = NodeFront(), Stop()
    address = front.bind("127.0.0.1:0")
    running = asyncio.create_task(up.serve_node(front, member.node, stop))
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield health_pb2_grpc.HealthStub(channel)
    finally:
        stop.ask()
        await asyncio.wait_for(running, 20)


async def told(stub: Any, status: str, service: str = READY) -> None:
    """Wait until health says so."""
    async with asyncio.timeout(20):
        while True:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = await stub.Check(request, wait_for_ready=True)
            if _Response.ServingStatus.Name(answer.status) == status:
                return
            await asyncio.sleep(0.01)


async def test_health_goes_and_comes_with_the_lease(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with box.node(lease_ttl_s=TTL_S) as node, up_over(node, monkeypatch) as health:
        await told(health, "NOT_SERVING")
        await box.own(node)
        await told(health, "SERVING")
        for _ in range(2):
            for link in node.links:
                link.fail()
            await told(health, "NOT_SERVING")
            assert not node.node.is_ready()
            for link in node.links:
                link.heal()
            await told(health, "SERVING")


async def test_health_goes_and_comes_with_a_section(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with box.node(lease_ttl_s=TTL_S) as node, up_over(node, monkeypatch) as health:
        await box.own(node)
        await told(health, "SERVING")
        await box.promise(2, 9)  # somebody else wants it
        await told(health, "NOT_SERVING")
        await eventually(lambda: not node.serves(2) and node.serves(1))
        async with asyncio.timeout(20):
            while not (await box.document()).floors:
                await asyncio.sleep(0.01)
        await box.change(lambda d: reassign(d, 2, 2, node.at))
        await told(health, "SERVING")
        await box.change(lambda d: mark_leaving(d, 3, 3))
        await eventually(lambda: 3 not in node.node.ledger.sections)
        assert node.node.is_ready(), "what was given away in order is no failure"


async def test_a_node_is_ready_only_while_all_that_is_its_own_is_served(box: Box) -> None:
    async with box.node(lease_ttl_s=TTL_S) as node:
        assert not node.node.is_ready()
        for link in node.links:
            link.hang("raise_max")
        await box.assign(node, 0, 0)
        await eventually(lambda: node.node.ledger.sections)
        await eventually(node.holds_lease)
        assert not node.node.is_ready()
        for link in node.links:
            link.heal()
        await eventually(node.node.is_ready)
        for link in node.links[1:]:
            link.fail("renew")
        await eventually(lambda: not node.node.is_ready(), "one grant of three is no lease")
        node.links[1].heal()
        await eventually(node.node.is_ready)


async def test_a_node_that_lost_a_section_is_not_ready_though_the_map_is_away(box: Box) -> None:
    async with box.node(lease_ttl_s=TTL_S) as node:
        await box.own(node)
        await eventually(node.node.is_ready)
        await box.coordinator.aclose()
        await box.promise(2, 9)
        await eventually(lambda: not node.serves(2))
        await eventually(node.holds_lease)
        assert not node.node.is_ready()
