"""A call whose path is no text ends nothing but itself."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Authority
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.tls import Tls
from svrprocess.certificates import Certificate
from svrprocess.front import Front
from svrprocess.security import Port

PATIENCE_S = 20
_SERVING = health_pb2.HealthCheckResponse.SERVING
_ASKED = health_pb2.HealthCheckRequest()


async def spoil(channel: grpc.aio.Channel) -> None:
    """Call a method whose name is no UTF-8."""
    path: Any = b"/seqsvr.v1.Alloc/GetSe\xff"
    call: Any = channel.unary_unary(path)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"", wait_for_ready=True, timeout=PATIENCE_S)


async def answered(stub: health_pb2_grpc.HealthStub) -> int:
    """Asked on until there is an answer: what reaches a server while it ends is cancelled."""
    while True:
        try:
            answer = await stub.Check(_ASKED, wait_for_ready=True, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
            await asyncio.sleep(0.02)
        else:
            return int(answer.status)


@pytest.mark.parametrize("secured", [False, True])
async def test_a_path_that_is_no_text_takes_the_port_from_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, secured: bool
) -> None:
    front = Front(apart=("/seqsvr.v1.Alloc/Session",))
    port, credentials = None, PLAIN
    if secured:
        ca = Authority(tmp_path / "ca")
        ours = ca.issue("server", dns=["localhost"], ips=["127.0.0.1"])
        port = Port("client", Certificate("client", str(ours.crt), str(ours.key)))
        credentials = Credentials(Tls(ca=ca.crt))
    address = front.bind("127.0.0.1:0", port)
    await front.start()
    try:
        async with credentials.channel(address, ()) as channel, asyncio.timeout(PATIENCE_S * 3):
            stub = health_pb2_grpc.HealthStub(channel)
            before = stub.Watch(_ASKED)
            assert (await before.read()).status == _SERVING
            for _ in range(2):
                await spoil(channel)
                assert await answered(stub) == _SERVING
            assert not before.done(), "what was under way goes on"
            assert sum("port_taken_anew" in r.getMessage() for r in caplog.records) == 2
            await front.aclose(0)
            assert await before.code() is not grpc.StatusCode.OK, "until all of it is to end"
    finally:
        await asyncio.wait_for(front.aclose(0), PATIENCE_S)
