"""`allocsvr` as a program: waits for its cluster, serves, hands over, leaves nobody behind."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clustermap.documents import hex64
from one_store import SECTIONS, SIZE, Child, OneStore, alive, eventually
from processes import ROOT, environment, free_port
from processes.calls import Plain, channel_to, plain, reason_for
from seqsvr.v1 import alloc_pb2 as pb

UIDS = [section * SIZE for section in range(SECTIONS)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OneStore]:
    """Whatever it starts has ended when a test has, without a Traceback."""
    made = OneStore(tmp_path)
    try:
        yield made
    finally:
        made.close()
    assert not made.traces()


def health(address: str, service: str) -> str:
    """What the server at `address` says of a service."""
    with channel_to(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            status = stub.Check(request, timeout=5, wait_for_ready=True).status
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


def ready(address: str) -> bool:
    return health(address, "seqsvr.ready") == "SERVING"


def serves(calls: Plain) -> bool:
    """Whether every section can be had from here, forwarded or not."""
    try:
        return len(calls.next_many(UIDS)) == SECTIONS
    except (grpc.RpcError, AssertionError):
        return False


def refusal(channel: grpc.Channel) -> str | None:
    """What the node tells a caller with a routing table: the reason, None for a number."""
    try:
        Plain(channel).stub.GetSeq(pb.GetSeqRequest(uid=2, route_version=1), timeout=10)
    except grpc.RpcError as error:
        assert reason_for(error) is not None, "it has gone without a word"
        return reason_for(error)
    return None


def refused(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Code and only line of a start that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "allocsvr", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**environment(), **(environ or {})},
    )
    lines = done.stderr.splitlines()
    assert (done.stdout, len(lines)) == ("", 1), done.stderr
    assert lines[0].startswith("allocsvr: ")
    return done.returncode, lines[0]


# -- starting


@pytest.mark.parametrize(
    ("argv", "environ", "says"),
    [
        ((), {}, "--etcd is missing"),
        (("--etcd", "nowhere"), {}, "--etcd must be HOST:PORT"),
        (("--etcd", "a:1"), {"SEQSVR_STEP": "0"}, "SEQSVR_STEP must be"),
        (("--etcd", "a:1", "--workers", "257"), {}, "1..256"),
        (("--etcd", "a:1", "--set", "no name"), {}, "--set"),
        (("--etcd", "a:1", "--listen", "0.0.0.0:7420"), {}, "--advertise is missing"),
        (("--etcd", "a:1", "--advertise", "me:0"), {}, "--advertise"),
        (("--etcd", "a:1", "--workers", "2", "--listen", "127.0.0.1:0"), {}, "2 consecutive"),
        (("--etcd", "a:1", "--workers", "2", "--listen", "127.0.0.1:65535"), {}, "2 consecutive"),
        (("--etcd", "a:1", "--etcd-ca", "/nowhere"), {}, "--etcd-ca: cannot read"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    argv: tuple[str, ...], environ: dict[str, str], says: str
) -> None:
    code, line = refused(*argv, environ=environ)
    assert code == 2 and says in line


def test_a_taken_port_is_one_line_and_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for flag in ("--listen", "--metrics"):
            listen = ("--listen", "127.0.0.1:0") if flag == "--metrics" else ()
            code, line = refused("--etcd", "127.0.0.1:1", *listen, flag, taken)
            assert code == 3 and taken in line and "Address already in use" in line


def test_a_node_waits_for_etcd_then_for_the_map_then_for_its_set(world: OneStore) -> None:
    node = world.alloc("--listen", f"127.0.0.1:{(port := free_port())}")
    address = f"127.0.0.1:{port}"
    assert health(address, "") == "SERVING"
    assert health(address, "seqsvr.ready") == "NOT_SERVING"
    eventually(lambda: "event=waiting_for_map" in node.log, "a word of etcd")
    with plain(address) as calls:
        for call in (lambda: calls.next(1), lambda: list(calls.stub.Session(iter(())))):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_for(caught.value) == "ACQUIRING"
    world.etcd.start()
    eventually(lambda: "has not been written yet" in node.log, "a word of the map")
    store = world.store()
    world.write_map(store, "set-9")
    text = "has no Set 'set-0'; its Sets: set-9"
    eventually(lambda: node.log.count(text) > 1, "two words of the Set")
    world.write_map(store)
    assert node.ready() == address
    (registered,) = world.wait_nodes(1)
    world.assign(registered)
    with plain(address) as calls:
        eventually(lambda: serves(calls), "its sections")
    assert node.terminate() == 0, node.log


@pytest.mark.parametrize("etcd", [False, True])
def test_a_node_that_is_still_waiting_leaves_with_0(world: OneStore, etcd: bool) -> None:
    if etcd:
        world.etcd.start()
    node = world.alloc()
    eventually(lambda: "event=waiting_for_map" in node.log, "a word of what it waits for")
    assert node.terminate() == 0, node.log
    assert node.out == ""


def test_a_file_says_all_that_a_node_needs(world: OneStore) -> None:
    world.start()
    port, metrics = free_port(), free_port()
    endpoints = ", ".join(f'"{endpoint}"' for endpoint in world.etcd.endpoints)
    path = world.folder / "allocsvr.toml"
    path.write_text(
        f"""
        etcd = [{endpoints}]
        set = "set-0"
        listen = "127.0.0.1:{port}"
        advertise = "localhost:{port}"
        lease-ttl-s = 1
        max_drift = 0.02
        step = 500
        replica-timeout-s = 5
        metrics = "127.0.0.1:{metrics}"
        drain-s = 10.5
        """
    )
    node = world.child("allocsvr", "--config", path)
    assert node.ready() == f"127.0.0.1:{port}"
    (registered,) = world.wait_nodes(1)
    assert registered.address == f"localhost:{port}"
    world.assign(registered)
    with plain(f"127.0.0.1:{port}") as calls:
        eventually(lambda: serves(calls), "its sections")
        assert list(calls.route().addresses) == [f"localhost:{port}"]
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=20) as page:
        said = page.read()
    assert b"seqsvr_window_left 5" in said or b"seqsvr_window_left 4" in said, "its step"
    assert node.terminate() == 0, node.log


# -- health


def test_health_tells_alive_ready_and_which_incarnation(world: OneStore) -> None:
    address = world.start().alloc().ready()
    (first,) = world.wait_nodes(1)
    assert health(address, f"seqsvr.node.{hex64(first.incarnation)}") == "SERVING"
    assert health(address, f"seqsvr.node.{hex64(first.incarnation ^ 1)}") == "NOT_FOUND"
    assert ready(address), "without sections it forwards, and can say who has them"
    # It cannot serve what the map gives it while the store is away; it lives all the same.
    store = world._children[0]
    os.kill(store.pid, signal.SIGSTOP)
    try:
        eventually(lambda: not ready(address), "no lease")
        assert health(address, "") == "SERVING"
        assert health(address, f"seqsvr.node.{hex64(first.incarnation)}") == "SERVING"
    finally:
        os.kill(store.pid, signal.SIGCONT)
    eventually(lambda: ready(address), "the lease again")


def test_a_node_that_leaves_says_so_and_answers_until_its_callers_know(world: OneStore) -> None:
    world.start()
    first, second = world.alloc(), world.alloc()
    addresses = first.ready(), second.ready()
    owner = next(node for node in world.wait_nodes(2) if node.address == addresses[0])
    world.assign(owner)
    with channel_to(addresses[0]) as channel, plain(addresses[1]) as calls:
        eventually(lambda: serves(calls), "sections, through the other node")
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="seqsvr.ready"), timeout=60)
        while next(watched).status != health_pb2.HealthCheckResponse.SERVING:
            pass  # it looks every now and then whether it is ready
        before = calls.next_many(UIDS)
        first.process.terminate()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        eventually(lambda: refusal(channel) == "NOT_OWNER", "a word of where to go")
        assert first.wait() == 0, first.log
        assert world.assigned() == 0
        (other,) = world.wait_nodes(1)
        world.assign(other)
        eventually(lambda: serves(calls), "sections at the other node")
        assert [seq - 1 for seq in calls.next_many(UIDS)] == [seq + 1 for seq in before], "dense"


# -- several workers


def two_workers(world: OneStore) -> tuple[Child, list[str]]:
    """A parent, and the addresses of its workers, each of which has half of the sections."""
    port, metrics = pair_of_ports(), pair_of_ports()
    parent = world.start().alloc(
        *("--workers", "2", "--listen", f"127.0.0.1:{port}"),
        *("--metrics", f"127.0.0.1:{metrics}", "--drain-s", "20"),
    )
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    assert parent.ready() == addresses[0]
    nodes = world.wait_nodes(2)
    assert [node.address for node in nodes] == sorted(addresses)
    world.assign(nodes[0], 0, SECTIONS // 2 - 1)
    world.assign(nodes[1], SECTIONS // 2, SECTIONS - 1)
    for at in (metrics, metrics + 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{at}/metrics", timeout=20) as page:
            assert b"seqsvr_numbers_total" in page.read()
    return parent, addresses


def pair_of_ports() -> int:
    """The first of two that are free; the second may be taken by then, which is 1 in 10,000s."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def test_two_workers_serve_on_two_ports_and_a_killed_one_comes_back(world: OneStore) -> None:
    parent, addresses = two_workers(world)
    with plain(addresses[0]) as one, plain(addresses[1]) as other:
        eventually(lambda: serves(one) and serves(other), "sections at both ports")
        known = world.wait_nodes(2)
        highest = one.next(UIDS[0])
        os.kill(parent.workers()[0], signal.SIGKILL)
        (back,) = world.wait_nodes(1, but=[node.incarnation for node in known])
        assert len(parent.workers()) == 3
        index = addresses.index(back.address)
        world.assign(back, index * SECTIONS // 2, (index + 1) * SECTIONS // 2 - 1)
        eventually(lambda: serves(one) and serves(other), "all sections again")
        assert one.next(UIDS[0]) > highest
    pids = parent.workers()
    assert parent.terminate() == 0, parent.log
    assert not any(map(alive, pids))
    assert parent.out.count("ready") == 1
    assert world.assigned() == 0, "what they had was handed over"


def test_no_worker_outlives_a_parent_that_was_killed(world: OneStore) -> None:
    parent, addresses = two_workers(world)
    with plain(addresses[0]) as calls:
        eventually(lambda: serves(calls), "sections")
    pids = parent.workers()
    assert all(map(alive, pids)) and len(pids) == 2
    parent.process.kill()
    parent.process.wait()
    eventually(lambda: not any(map(alive, pids)), "an end of the workers")
    assert world.assigned() == 0, "they went as they should"


def test_a_worker_whose_port_is_taken_ends_the_parent_with_one_line_each(world: OneStore) -> None:
    port = pair_of_ports()
    world.start().alloc("--listen", f"127.0.0.1:{port + 1}").ready()
    parent = world.alloc("--workers", "2", "--listen", f"127.0.0.1:{port}")
    assert parent.wait() == 3
    assert f"allocsvr: cannot listen on 127.0.0.1:{port + 1}" in parent.log
    assert not any(map(alive, parent.workers()))
    assert ready(f"127.0.0.1:{port + 1}")
