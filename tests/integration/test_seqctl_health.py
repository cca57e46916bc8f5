"""`seqctl health` against a server that is alive and not ready, ready, and not there."""

import json
from collections.abc import AsyncIterator

import pytest

from processes import free_port
from seqctl.__main__ import main
from svrprocess.front import Front
from svrprocess.health import READY


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front()
    made.bind("127.0.0.1:0")
    await made.start()
    yield made
    await made.aclose(0)


async def asked(*argv: str) -> int:
    import asyncio

    return await asyncio.to_thread(main, ["health", *argv, "--timeout", "20"])


async def test_a_server_that_is_not_ready_is_alive(
    front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asked(front.address) == 0
    assert capsys.readouterr().out == "SERVING\n"
    assert await asked(front.address, "--service", READY) == 3
    assert capsys.readouterr().err == f"seqctl health: {front.address}: NOT_SERVING\n"
    await front.health.say(READY, True)
    assert await asked(front.address, "--service", READY, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "address": front.address,
        "service": READY,
        "status": "SERVING",
    }


async def test_nobody_and_an_unknown_service_are_not_healthy(
    front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asked(f"127.0.0.1:{free_port()}") == 3
    assert await asked(front.address, "--service", "nobody") == 3
    assert capsys.readouterr().err.endswith("NOT_FOUND\n")
