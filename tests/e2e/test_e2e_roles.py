"""A cluster whose servers and callers show each other tokens: second ports, forwarding."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from guarded_ports import entry, written
from guarded_ports.callers import bearer
from one_store import SIZE, Child, OneStore, eventually
from processes import free_port, seqctl
from processes.calls import channel_to
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc
from seqsvr.wire import reason_of

ENTRIES = (
    entry("token-allocator", "allocator"),
    entry("token-operator", "operator"),
    entry("token-internal", "internal"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "auth.toml", *ENTRIES)


@pytest.fixture
def world(tmp_path: Path, file: Path) -> Iterator[OneStore]:
    """Whatever it starts has ended when a test has, without a Traceback."""
    made = OneStore(tmp_path, bearer("token-operator"))
    try:
        yield made.start("--auth-file", file)
    finally:
        made.close()
    assert not made.traces()


def token_file(folder: Path, token: str) -> Path:
    file = folder / token
    file.touch(mode=0o600)
    file.write_text(token)
    return file


def node(world: OneStore, file: Path, *more: object) -> Child:
    token = token_file(world.folder, "token-internal")
    child = world.alloc("--auth-file", file, "--peer-token-file", token, *more)
    child.ready()
    return child


def asked(address: str, method: str, request: Any, token: str) -> Any:
    """The answer; the reason where it is refused."""
    with channel_to(address) as channel:
        stub: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        try:
            return getattr(stub, method)(request, metadata=bearer(token), timeout=20)
        except grpc.RpcError as error:
            return reason_of(error)[0]


def test_servers_know_each_other_by_their_tokens(world: OneStore, file: Path) -> None:
    peer = f"127.0.0.1:{free_port()}"
    node(world, file)
    node(world, file, "--peer-listen", peer)
    nodes = world.wait_nodes(2)
    assert peer in [one.peer_address for one in nodes]
    assert all(one.peer_address not in ("", one.address) for one in nodes)
    first, second = nodes
    world.assign(first, 0, 1)
    world.assign(second, 2, 3)

    def served() -> bool:
        """Both nodes' sections, by the first one, which forwards what is the second's."""
        batch = pb.BatchGetSeqRequest(uids=[0, 3 * SIZE])
        return not asked(first.address, "BatchGetSeq", batch, "token-allocator").errors

    eventually(served, f"numbers from {first.address}")
    assert asked(first.address, "GetSeq", pb.GetSeqRequest(uid=0), "none") == "UNAUTHENTICATED"
    forwarded = pb.GetSeqRequest(uid=0, forwarded=True)
    assert asked(first.address, "GetSeq", forwarded, "token-allocator") == "PERMISSION_DENIED"

    admin = asked(first.address, "GetRoute", pb.GetRouteRequest(admin=True), "token-operator")
    assert sorted(admin.table.addresses) == sorted(one.peer_address for one in nodes)
    operator = token_file(world.folder, "token-operator")
    advance = "advance", 3 * SIZE, "--addr", first.address, "-o", "json", "--at-least"
    done = seqctl(*advance, 500, "--token-file", operator)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seq"] == 500
    allocator = token_file(world.folder, "token-allocator")
    refused = seqctl(*advance, 900, "--token-file", allocator)
    assert refused.returncode == 3
    assert "operator" in refused.stderr, refused.stderr
