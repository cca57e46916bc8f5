"""A program's shell: signals, ports, health, metrics, and the line and code that it ends with."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Gauge

from processes import environment
from svrprocess import program
from svrprocess.failures import FATAL, Failed, NotDone, WrongUsage
from svrprocess.front import Front
from svrprocess.health import READY, node_service
from svrprocess.listening import serve_metrics
from svrprocess.options import Option
from svrprocess.security import Port
from svrprocess.signals import Stop
from svrprocess.values import TEXT

_Response = health_pb2.HealthCheckResponse

WAITS = """
import asyncio
from svrprocess import program
from svrprocess.signals import Stop

async def serve(args):
    stop = Stop.on_signals()
    print("up", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.sleep(60 if args.slow else 0)
    return 0

from svrprocess.options import Option
from svrprocess.security import Port
from svrprocess.values import SWITCH
OPTIONS = (Option("slow", False, SWITCH, "whether stopping takes long"),)
raise SystemExit(program.main("waits", "Waits.", OPTIONS, serve))
"""

# What the loop and the interpreter still do once the work has ended takes half a second each.
LINGERS = """
import asyncio, atexit, time
from svrprocess import program
from svrprocess.signals import Stop

async def lingering():
    try:
        await asyncio.sleep(3600)
    finally:
        print("over", flush=True)
        await asyncio.sleep(0.5)

async def serve(args):
    global left
    Stop.on_signals()
    left = asyncio.create_task(lingering())
    await asyncio.sleep(0)
    print("up", flush=True)
    return 0

atexit.register(time.sleep, 0.5)
raise SystemExit(program.main("lingers", "Lingers.", (), serve))
"""


def started(*argv: str, code: str = WAITS, loop: str = "asyncio") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        env={**environment(), "SEQSVR_LOOP": loop},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_a_program_gracefully(number: int) -> None:
    process = started()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopping\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_it_at_once(number: int) -> None:
    process = started("--slow")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_change_nothing_once_the_work_has_ended(number: int, loop: str) -> None:
    process = started(code=LINGERS, loop=loop)
    assert process.stdout is not None
    assert process.stdout.readline() == "over\n"
    while process.poll() is None:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


async def test_being_asked_to_stop_counts_as_no_signal() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = Stop.on_signals()
    try:
        stop.ask()
        stop.ask()
        os.kill(os.getpid(), signal.SIGTERM)  # would end this very process
        await asyncio.sleep(0.05)
        assert stop.asked
    finally:
        for number in before:
            signal.signal(number, before[number])


async def test_work_is_given_up_once_the_program_is_to_stop() -> None:
    stop, given_up = Stop(), asyncio.Event()

    async def endless() -> str:
        try:
            await asyncio.sleep(3600)
        finally:
            given_up.set()
        return "never"

    async def quick() -> str:
        return "done"

    async def broken() -> str:
        raise KeyError("broken")

    assert await stop.unless(quick()) == "done"
    with pytest.raises(KeyError, match="broken"):
        await stop.unless(broken())
    waiting = asyncio.create_task(stop.unless(endless()))
    await asyncio.sleep(0)
    stop.ask()
    assert await waiting is None
    assert given_up.is_set()


async def test_work_is_given_up_with_whoever_waits_for_it() -> None:
    stop, given_up = Stop(), asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            given_up.set()

    waiting = asyncio.create_task(stop.unless(endless()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert given_up.is_set()


# -- ends


def ends_with(error: BaseException | None) -> int:
    async def serve(_: Any) -> int:
        if error is not None:
            raise error
        return 0

    return program.main("prog", "A program.", (), serve, [])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 0, ""),
        (WrongUsage("not\nso"), 2, "prog: not so\n"),
        (NotDone("no port"), 3, "prog: no port\n"),
        (ExceptionGroup("g", [ExceptionGroup("h", [NotDone("no port")])]), 3, "prog: no port\n"),
    ],
)
def test_a_program_ends_with_a_code_and_one_line(
    error: BaseException | None, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(error) == code
    assert capsys.readouterr().err == line


def test_a_fault_is_fatal_and_logged_whatever_else_went_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert ends_with(ExceptionGroup("g", [NotDone("slow"), ZeroDivisionError("why")])) == FATAL
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert "event=fatal error=ZeroDivisionError('why')" in caplog.text


def test_wrong_options_end_it_before_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(_: Any) -> int:
        raise AssertionError("began")

    table = (Option("data", None, TEXT, "needed", required=True),)
    assert program.main("prog", "A program.", table, serve, []) == 2
    assert "--data is missing" in capsys.readouterr().err


# -- ports


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_port_is_taken_by_one_only(host: str) -> None:
    first, second = Front(), Front()
    address = first.bind(f"{host}:0")
    assert address.startswith(f"{host}:") and not address.endswith(":0")
    with pytest.raises(NotDone, match=r"cannot listen on .*: Address already in use") as caught:
        second.bind(address)
    assert address in str(caught.value)
    await first.aclose(0)


async def test_a_port_is_not_shared_by_two_that_take_it_at_one_instant() -> None:
    """Between the look at a port and its taking another process may have had it."""
    first, second = Front(), Front()
    address = first.bind("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        second.server.add_insecure_port(address)
    await first.aclose(0)


@pytest.mark.parametrize("listen", ["203.0.113.1:7420", "no such host:1", "127.0.0.1:99999"])
async def test_an_address_that_is_not_ours_is_refused(listen: str) -> None:
    with pytest.raises(NotDone, match="cannot listen on"):
        Front().bind(listen, Port("client", insecure=True))


def test_metrics_are_served_and_a_taken_port_is_refused() -> None:
    registry = CollectorRegistry()
    Gauge("seqsvr_answer", "An answer.", registry=registry).set(42)
    address = serve_metrics("127.0.0.1:0", registry)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as page:
        assert b"seqsvr_answer 42.0" in page.read()
    with pytest.raises(NotDone, match=f"cannot serve metrics on {address}: Address already"):
        serve_metrics(address, registry)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(NotDone, match="cannot serve metrics"),
    ):
        serve_metrics(f"127.0.0.1:{other.getsockname()[1]}", registry)
    assert serve_metrics("", registry) == ""


# -- health


@asynccontextmanager
async def front() -> AsyncIterator[tuple[Front, Any]]:
    """A started one, and its health stub."""
    made = Front()
    address = made.bind("127.0.0.1:0")
    await made.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield made, health_pb2_grpc.HealthStub(channel)
    finally:
        await made.aclose(0)


async def said(stub: Any, service: str) -> str:
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
    return str(_Response.ServingStatus.Name(answer.status))


async def told(stub: Any, service: str, status: str) -> None:
    async with asyncio.timeout(20):
        while await said(stub, service) != status:
            await asyncio.sleep(0.01)


async def test_health_follows_what_the_program_says_of_itself() -> None:
    state = {"ready": True}
    async with front() as (made, stub):
        assert await said(stub, "") == "SERVING"
        assert await said(stub, READY) == "NOT_SERVING"
        async with made.health.following(lambda: state["ready"]):
            assert await said(stub, READY) == "SERVING"
            state["ready"] = False
            await told(stub, READY, "NOT_SERVING")
            state["ready"] = True
            await told(stub, READY, "SERVING")
        assert await said(stub, READY) == "NOT_SERVING"
        assert await said(stub, "") == "SERVING"


async def test_a_service_that_was_never_named_is_not_found() -> None:
    async with front() as (made, stub):
        await made.health.say(node_service(255), True)
        assert await said(stub, "seqsvr.node.00000000000000ff") == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await said(stub, node_service(254))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_every_failure_has_its_code() -> None:
    assert [kind.code for kind in (Failed, NotDone, WrongUsage)] == [3, 3, 2]
