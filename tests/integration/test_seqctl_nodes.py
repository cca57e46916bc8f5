"""`seqctl node`, `section`, `rebalance` and `top` as operators type them, on a cluster that serves.

An etcd, a store, an arbiter and three nodes; callers go on all the while, and none of them fails.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import seqsvr
from clustermap.coordinator import Coordinator
from clustermap.model import Assignments, assignments_key
from clustermap.orders import Orders, orders_key
from one_store.children import Child, eventually
from one_store.world import SECTIONS, SIZE, TTL, OneStore
from processes import ROOT, environment, free_port
from seqctl.__main__ import main

SET = "set-0"


@dataclass(slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cluster(OneStore):
    """With an arbiter, and nodes at addresses that they come back to."""

    def begin(self) -> "Cluster":
        self.start()
        etcd = ",".join(self.etcd.endpoints)
        listen = ("--listen", f"127.0.0.1:{free_port()}")
        self.child("arbitersvr", "--etcd", etcd, *TTL, *listen, "--round-s", "0.2").ready()
        self.where = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.running = {where: self.alloc("--listen", where) for where in self.where}
        for child in self.running.values():
            child.ready()
        return self

    def again(self, where: str) -> Child:
        """Start the node at an address anew."""
        self.running[where] = self.alloc("--listen", where)
        self.running[where].ready()
        return self.running[where]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    world = Cluster(tmp_path_factory.mktemp("nodes"))
    try:
        yield world.begin()
    finally:
        world.close()
    assert not world.traces()


@pytest.fixture
def seqctl(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """Run a command of the map in this process; every node is up, and no order stands before."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([*map(str, arguments), "--etcd", ",".join(cluster.etcd.endpoints)])
        return Done(code, *capsys.readouterr())

    eventually(lambda: served(run) == SECTIONS, "all sections served")
    yield run

    async def clean(coordinator: Coordinator) -> None:
        await coordinator.transact({}, {orders_key(SET): None})

    cluster.on_map(clean)


def rows(seqctl: Callable[..., Done]) -> dict[str, dict[str, Any]]:
    return {row["address"]: row for row in seqctl("node", "list", "-o", "json").json}


def served(seqctl: Callable[..., Done]) -> int:
    return sum(row["serving"] or 0 for row in rows(seqctl).values())


def owner(seqctl: Callable[..., Done], cluster: Cluster, section: int) -> str:
    async def read(coordinator: Coordinator) -> str:
        key = assignments_key(SET)
        held = Assignments.from_json((await coordinator.get(key)).entries[key].value)
        entry = held.owner(section)
        return entry.address if entry and not entry.leaving else ""

    return cluster.on_map(read)


@contextmanager
def callers(cluster: Cluster) -> Iterator[None]:
    """One call after the other on every section; none fails, and numbers rise."""
    stop, wrong = threading.Event(), list[str]()
    with seqsvr.Client(list(cluster.where)) as client:

        def call(uid: int) -> None:
            before = client.next(uid, timeout=30)
            while not stop.wait(0.01):
                try:
                    now = client.next(uid, timeout=30)
                except seqsvr.SeqError as error:
                    wrong.append(repr(error))
                    return
                if now <= before:
                    wrong.append(f"{uid}: {before} and then {now}")
                before = now

        threads = [
            threading.Thread(target=call, args=(section * SIZE + 3,)) for section in range(SECTIONS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert wrong == []


def test_a_drain_is_of_the_address_and_outlives_the_process(
    cluster: Cluster, seqctl: Callable[..., Done]
) -> None:
    first = cluster.where[0]
    with callers(cluster):
        tried = seqctl("node", "drain", first, "--dry-run")
        assert (tried.code, tried.err) == (0, "")
        assert "nothing was written" in tried.out
        done = seqctl("node", "drain", first, "--wait", "-o", "json")
        assert done.code == 0, done.err
        assert done.json["address"] == first
        assert f"node drain {first} of Set {SET}" in done.err
        assert rows(seqctl)[first]["state"] == "drained"
        assert cluster.running[first].terminate() == 0
        cluster.again(first)
        time.sleep(1)
        row = rows(seqctl)[first]
        assert (row["state"], row["sections"]) == ("drained", 0), "though it is another process"
        assert seqctl("node", "undrain", row["incarnation"]).code == 0
        eventually(lambda: rows(seqctl)[first]["sections"], "a share for who is back")
    assert "node undrain" in seqctl("audit").out


def test_the_last_node_that_serves_is_not_drained(
    cluster: Cluster, seqctl: Callable[..., Done]
) -> None:
    for where in cluster.where[:2]:
        assert seqctl("node", "drain", where).code == 0
    refused = seqctl("node", "drain", cluster.where[2])
    assert refused.code == 3
    assert "no other node" in refused.err


def test_a_section_is_given_a_node_of_its_own(
    cluster: Cluster, seqctl: Callable[..., Done]
) -> None:
    last = cluster.where[2]
    with callers(cluster):
        done = seqctl("section", "pin", 1, "--node", last, "--alone")
        assert done.code == 0, done.err

        def alone() -> bool:
            others = [owner(seqctl, cluster, section) for section in (0, 2, 3)]
            return owner(seqctl, cluster, 1) == last and last not in others and all(others)

        eventually(alone, "section 1, and nothing else, at the last node")
        assert seqctl("section", "pins", "-o", "json").json == [
            {"set": SET, "first": 1, "last": 1, "address": last, "alone": True}
        ]
        assert last in seqctl("section", "pins").out
        row = rows(seqctl)[last]
        assert (row["pinned"], row["alone"], row["sections"]) == (1, True, 1)
        eventually(lambda: seqctl("section", "top", "-o", "json").json, "loads")
        assert "numbers/s" in seqctl("section", "top", "-n", 2, "--set", SET).out
        assert seqctl("section", "unpin", 1).code == 0
    assert seqctl("section", "unpin", 1).code == 3


def test_loads_are_evened_out_by_hand_after_a_plan_was_shown(
    cluster: Cluster, seqctl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqctl.rebalance._SETTLE_S", 0.5)
    assert seqctl("rebalance", "auto", "off", "--set", SET).code == 0
    assert seqctl("node", "drain", cluster.where[0], "--wait").code == 0
    assert seqctl("node", "undrain", cluster.where[0]).code == 0
    time.sleep(2)
    assert rows(seqctl)[cluster.where[0]]["sections"] == 0, "nobody balances"
    plan = seqctl("rebalance", "plan", "--set", SET, "-o", "json")
    assert {move["to"] for move in plan.json["moves"]} == {cluster.where[0]}
    assert "sections to move" in seqctl("rebalance", "plan", "--set", SET).out
    with callers(cluster):
        done = seqctl("rebalance", "run", "--set", SET, "--share", 0.3)
    assert done.code == 0, done.err
    assert "rebalance run" in done.err
    assert rows(seqctl)[cluster.where[0]]["sections"] > 0
    assert seqctl("rebalance", "run", "--set", SET, "--dry-run").out.endswith("even enough\n")


def test_what_a_dead_node_has_left_can_be_removed(
    cluster: Cluster, seqctl: Callable[..., Done]
) -> None:
    first, second, _ = cluster.where
    assert seqctl("section", "pin", 0, "--node", first).code == 0
    alive = seqctl("node", "remove", first, "--yes")
    assert (alive.code, "is alive" in alive.err) == (3, True)
    dead = cluster.running[first]
    dead.process.kill()
    dead.process.wait()
    unasked = None

    def removed() -> bool:
        nonlocal unasked
        unasked = seqctl("node", "remove", first)
        return "is registered" not in unasked.err

    eventually(removed, "the registration ends")
    assert unasked is not None
    assert (unasked.code, "--yes" in unasked.err) == (2, True), "it is asked for"
    eventually(lambda: owner(seqctl, cluster, 0) not in ("", first), "the arbiter takes over")
    assert seqctl("node", "remove", first, "--yes").code == 0
    assert first not in rows(seqctl)
    assert seqctl("section", "pins", "-o", "json").json == []
    assert seqctl("node", "remove", first, "--yes").code == 3, "nobody knows it any more"
    assert second in rows(seqctl)
    cluster.again(first)


# -- top


def test_a_single_frame_shows_the_cluster(cluster: Cluster, seqctl: Callable[..., Done]) -> None:
    seen = seqctl("top", "--once")
    assert seen.code == 0, seen.err
    for word in (*cluster.where, "store-0", "in quorum", "numbers/s", f"{SECTIONS} sections"):
        assert word in seen.out
    shown = seqctl("top", "-o", "json").json
    assert {node["address"] for node in shown["nodes"]} == set(cluster.where)
    assert shown["report"]["cluster"]["id"] == "c1"


def top(cluster: Cluster, *more: str) -> list[str]:
    etcd = ",".join(cluster.etcd.endpoints)
    return [sys.executable, "-m", "seqctl", "top", "--etcd", etcd, "--interval", "0.2", *more]


def test_without_a_terminal_it_prints_frames_until_it_is_interrupted(
    cluster: Cluster, seqctl: Callable[..., Done], tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            top(cluster), stdout=out, stdin=subprocess.DEVNULL, env=environment(), cwd=ROOT
        )
    try:
        eventually(lambda: (tmp_path / "out").read_text().count("seqsvr c1") > 2, "frames")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "\x1b" not in (tmp_path / "out").read_text()


def test_on_a_terminal_q_leaves_and_the_terminal_is_as_it_was(
    cluster: Cluster, seqctl: Callable[..., Done]
) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(sys.executable, top(cluster), {**environment(), "TERM": "xterm"})
    said = b""
    try:

        def shown() -> bool:
            nonlocal said
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 65_536)
            return b"REPLICA" in said

        eventually(shown, "a frame")
        os.write(terminal, b"q")
        while True:
            try:
                more = os.read(terminal, 65_536)
            except OSError:  # how Linux says that nobody has the other end any more
                break
            if not more:
                break
            said += more
        _, status = os.waitpid(pid, 0)
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert said.count(b"\x1b[?1049h") == said.count(b"\x1b[?1049l") == 1, (
        "the screen before is back"
    )


def test_orders_stand_in_the_map_only_while_there_are_any(
    cluster: Cluster, seqctl: Callable[..., Done]
) -> None:
    async def read(coordinator: Coordinator) -> list[Orders]:
        entries = (await coordinator.get("orders/")).entries
        return [Orders.from_json(held.value) for held in entries.values()]

    assert cluster.on_map(read) == []
    assert seqctl("node", "drain", cluster.where[1]).code == 0
    assert cluster.on_map(read) == [Orders(SET).draining(cluster.where[1])]
    assert seqctl("node", "undrain", cluster.where[1]).code == 0
    assert cluster.on_map(read) == []
