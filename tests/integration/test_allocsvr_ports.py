"""What a node's second port is called, and which ports workers get."""

from itertools import pairwise
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from allocsvr import __main__ as program
from allocsvr.serving import NodeFront
from svrprocess.guarding import Guard, counter
from svrprocess.identities import Identities
from svrprocess.options import parse
from svrprocess.roles import CLIENT_PORT
from svrprocess.security import Port, Security

NEEDED = ("--etcd", "a:1", "--workers", "2")


def last(command: list[str], flag: str) -> str:
    """The last of equal flags counts."""
    return dict(pairwise(command))[flag]


def test_workers_have_consecutive_second_ports_where_they_are_given() -> None:
    argv = [*NEEDED, "--listen", "h:70", "--peer-listen", "h:90", "--peer-advertise", "x:190"]
    args = parse("allocsvr", "", program.OPTIONS, argv, {})
    commands = [program._command(args, argv, index) for index in range(2)]
    assert [last(one, "--listen") for one in commands] == ["h:70", "h:71"]
    assert [last(one, "--peer-listen") for one in commands] == ["h:90", "h:91"]
    assert [last(one, "--peer-advertise") for one in commands] == ["x:190", "x:191"]
    args = parse("allocsvr", "", program.OPTIONS, NEEDED, {})
    assert "--peer-listen" not in program._command(args, NEEDED, 1)


@pytest.mark.parametrize(
    ("peer_listen", "advertise", "peer_advertise", "told"),
    [
        ("", "h:70", "", ""),
        ("127.0.0.1:0", "h:70", "", "127.0.0.1:{port}"),
        ("127.0.0.1:0", "h:70", "x:90", "x:90"),
        ("0.0.0.0:0", "h:70", "", "h:{port}"),
        ("0.0.0.0:0", "[::1]:70", "", "[::1]:{port}"),
    ],
)
async def test_the_map_is_told_where_the_second_port_is_reached(
    peer_listen: str, advertise: str, peer_advertise: str, told: str
) -> None:
    front = NodeFront(Security(peer=Port("peer", insecure=True)))
    front.bind("127.0.0.1:0", peer_listen)
    peer = front.peer_front
    port = peer.address.rpartition(":")[2] if peer is not None else ""
    assert front.peer_address(advertise, peer_advertise) == told.format(port=port)
    for one in (front.front, peer):
        if one is not None:
            await one.aclose(0)


async def test_names_of_methods_that_nobody_has_are_kept_nowhere_before_the_node_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    guard = Guard(CLIENT_PORT, Identities(), counter(registry))
    front = NodeFront(guard=guard, peer_guard=guard)
    address = front.bind("127.0.0.1:0")
    async with front.open(), grpc.aio.insecure_channel(address) as channel:
        for method in ("GetSeq", *(f"Get{index}" for index in range(20))):
            call: Any = channel.unary_unary(f"/seqsvr.v1.Alloc/{method}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"", timeout=20)
            known = method == "GetSeq"
            code = grpc.StatusCode.UNAUTHENTICATED if known else grpc.StatusCode.UNIMPLEMENTED
            assert caught.value.code() is code
    labels = {sample.labels["rpc"] for metric in registry.collect() for sample in metric.samples}
    assert labels == {"GetSeq"}
    assert sum("event=denied" in record.getMessage() for record in caplog.records) == 1
