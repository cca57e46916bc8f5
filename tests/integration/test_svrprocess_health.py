"""Those who watch a server's health, and do not do it as they should."""

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flooding import frames
from flooding.connection import Connection
from svrprocess import health
from svrprocess.front import Front
from svrprocess.health import READY

WATCH = "/grpc.health.v1.Health/Watch"
PATIENCE_S = 20
_Status = health_pb2.HealthCheckResponse
_ASKED = health_pb2.HealthCheckRequest(service=READY)


@asynccontextmanager
async def started() -> AsyncIterator[Front]:
    front = Front()
    front.bind("127.0.0.1:0")
    await front.start()
    try:
        yield front
    finally:
        await front.aclose(0)


def exchanged(connection: Connection) -> None:
    for _ in range(20):
        connection.flush()
        if select.select([connection], [], [], 0.02)[0]:
            connection.receive()


async def test_a_watcher_who_does_not_read_holds_up_nobody() -> None:
    async with started() as front:
        one = Connection(front.address, WATCH, reads=False, window=0)
        asked = frames.message(_ASKED.SerializeToString())
        assert one.say(one.open(), asked)
        await asyncio.to_thread(exchanged, one)
        async with asyncio.timeout(PATIENCE_S):
            await front.health.say(READY, True)
            async with grpc.aio.insecure_channel(front.address) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                assert (await stub.Watch(_ASKED).read()).status == _Status.SERVING
        one.close()


async def test_watchers_are_told_of_every_change_and_of_services_that_come_later() -> None:
    async with started() as front, grpc.aio.insecure_channel(front.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        ready, later = stub.Watch(_ASKED), stub.Watch(health_pb2.HealthCheckRequest(service="x"))
        async with asyncio.timeout(PATIENCE_S):
            assert (await ready.read()).status == _Status.NOT_SERVING
            assert (await later.read()).status == _Status.SERVICE_UNKNOWN
            await front.health.say("x", True)
            assert (await later.read()).status == _Status.SERVING
            await front.health.say(READY, True)
            assert (await ready.read()).status == _Status.SERVING


async def test_those_who_only_watch_leave_calls_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "MAX_WATCHERS", 3, raising=False)
    async with started() as front, grpc.aio.insecure_channel(front.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(PATIENCE_S):
            watching = [stub.Watch(_ASKED) for _ in range(3)]
            for one in watching:
                await one.read()
            assert await stub.Watch(_ASKED).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await stub.Check(_ASKED)).status == _Status.NOT_SERVING
            watching[0].cancel()
            while True:
                again = stub.Watch(_ASKED)
                try:
                    await again.read()
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.02)


async def test_bytes_that_are_no_question_are_refused_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started() as front, grpc.aio.insecure_channel(front.address) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        watch: Any = channel.unary_stream(WATCH)
        for call in (check(b"\xff"), watch(b"\xff")):
            async with asyncio.timeout(PATIENCE_S):
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not [one for one in caplog.records if one.exc_info]
