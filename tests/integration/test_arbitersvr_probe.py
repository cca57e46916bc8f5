"""Probes over real sockets: who is alive, who is gone, who is merely silent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from arbitersvr.detection import Outcome
from arbitersvr.probe import HealthProber
from processes.service import free_port
from svrprocess.front import Front
from svrprocess.health import node_service

ME, OTHER = 0xABC, 0xDEF
PATIENT = HealthProber(20.0)
QUICK = HealthProber(0.2)


@asynccontextmanager
async def node(port: int = 0) -> AsyncIterator[tuple[str, Front]]:
    front = Front()
    address = front.bind(f"127.0.0.1:{port}")
    await front.start()
    await front.health.say(node_service(ME), True)
    try:
        yield address, front
    finally:
        await front.aclose(0)


async def test_the_very_incarnation_is_alive_also_when_it_is_not_ready() -> None:
    async with node() as (address, front):
        assert await PATIENT.probe(address, ME) is Outcome.ALIVE
        await front.health.say(node_service(ME), False)
        assert await PATIENT.probe(address, ME) is Outcome.ALIVE


async def test_another_incarnation_at_the_address_means_that_this_one_is_gone() -> None:
    async with node() as (address, _):
        assert await PATIENT.probe(address, OTHER) is Outcome.GONE


async def test_where_nobody_listens_it_is_gone() -> None:
    assert await PATIENT.probe(f"127.0.0.1:{free_port()}", ME) is Outcome.GONE


async def test_nothing_of_an_earlier_probe_is_remembered() -> None:
    port = free_port()
    for _ in range(3):
        assert await PATIENT.probe(f"127.0.0.1:{port}", ME) is Outcome.GONE
        async with node(port) as (address, _):
            assert await PATIENT.probe(address, ME) is Outcome.ALIVE


async def test_one_that_accepts_and_says_nothing_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        assert await QUICK.probe(address, ME) is Outcome.SILENT


async def test_one_that_hangs_up_is_silent() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await HealthProber(2.0).probe(f"127.0.0.1:{port}", ME) is Outcome.SILENT


async def test_a_server_without_health_is_silent() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await PATIENT.probe(f"127.0.0.1:{port}", ME) is Outcome.SILENT
    await server.stop(0)


@pytest.mark.parametrize("address", ["", "nowhere", "host:0", "[::1", "no.such.host.invalid:1"])
async def test_an_address_that_is_none_is_silent(address: str) -> None:
    assert await HealthProber(5.0).probe(address, ME) is Outcome.SILENT
