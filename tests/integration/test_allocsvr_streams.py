"""Connections of callers who do not read are closed, however many there are, and no others."""

import asyncio
import socket
import threading
from collections.abc import Collection
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from allocsvr import streams
from allocsvr.limits import Limits
from allocsvr.metrics import Metrics
from allocsvr.streams import Streams
from svrprocess.connections import hang_up

PATIENCE_S = 20


def named(one: socket.socket) -> str:
    """What gRPC calls the other end of what this end has accepted."""
    host, port = one.getsockname()
    return f"ipv4:{host}:{port}"


def test_all_who_are_meant_are_hung_up_on_and_nobody_else() -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ends = [
            stack.enter_context(socket.create_connection(listening.getsockname())) for _ in range(3)
        ]
        for _ in ends:
            stack.enter_context(listening.accept()[0])
        assert hang_up([named(ends[0]), named(ends[2]), "unix:", "ipv4:nonsense"]) == 2
        for one in ends:
            one.settimeout(0.2)
        assert ends[0].recv(1) == ends[2].recv(1) == b""
        with pytest.raises(TimeoutError):
            ends[1].recv(1)
        assert hang_up([]) == 0


async def test_thousands_who_do_not_read_are_looked_for_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[set[str]] = []
    go_on = threading.Event()

    def look(peers: Collection[str]) -> int:
        looks.append(set(peers))
        assert go_on.wait(PATIENCE_S)
        return len(peers)

    monkeypatch.setattr(streams, "hang_up", look)
    made = Streams(Limits(), Metrics(CollectorRegistry()))
    first, later = ({f"ipv4:10.0.0.{host}:{port}" for port in range(2_000)} for host in (1, 2))
    for peer in first:
        made.unread(peer)
    while not looks:
        await asyncio.sleep(0.01)
    for peer in (*later, *later):  # several calls of a connection
        made.unread(peer)
    await asyncio.sleep(0.05)
    assert looks == [first]
    go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        while len(looks) < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert looks == [first, later]
