"""`seqctl set` and `seqctl move` as operators type them: a real etcd, stores and a node.

There is no arbiter: what it would do to a job is done by hand. What it does is tested where that is
built.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from clustermap.coordinator import Coordinator
from clustermap.jobs import Job, Move, State, job_key
from clustermap.model import (
    DEFAULT_SET,
    Assignments,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.ranges import Range
from one_store.children import eventually
from one_store.world import SECTIONS, OneStore
from processes import free_port
from seqctl.__main__ import main
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc

A, B = DEFAULT_SET, "b"


@dataclass(slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OneStore, str]]:
    """Set A with its store and sections, the store of a Set that is not in the map yet."""
    world = OneStore(tmp_path_factory.mktemp("moves"))
    try:
        world.start()
        yield world, world.store(B)
    finally:
        world.close()
    assert not world.traces()


@pytest.fixture
def world(running: tuple[OneStore, str]) -> Iterator[OneStore]:
    yield running[0]

    async def clean(coordinator: Coordinator) -> None:
        await coordinator.transact({}, dict.fromkeys((await coordinator.get("jobs/")).entries))
        sets = (await coordinator.get("sets/")).entries
        await coordinator.transact({}, dict.fromkeys(sets.keys() - {set_key(A)}))

    running[0].on_map(clean)


@pytest.fixture
def seqctl(world: OneStore, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command of the map in this process."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([*map(str, arguments), "--etcd", ",".join(world.etcd.endpoints)])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def b(running: tuple[OneStore, str], seqctl: Callable[..., Done]) -> str:
    """The second Set, without sections; its store's address."""
    assert seqctl("set", "create", B, "--replicas", running[1]).code == 0
    return running[1]


def put(world: OneStore, key: str, value: bytes) -> None:
    async def write(coordinator: Coordinator) -> None:
        assert await coordinator.transact({}, {key: value}) is not None

    world.on_map(write)


def keys(world: OneStore, prefix: str) -> dict[str, bytes]:
    async def read(coordinator: Coordinator) -> dict[str, bytes]:
        entries = (await coordinator.get(prefix)).entries
        return {key: held.value for key, held in entries.items()}

    return world.on_map(read)


def job(world: OneStore, name: str = "move-1") -> Job:
    return Job.from_json(keys(world, job_key(name))[job_key(name)])


def end(world: OneStore, state: State, note: str = "", name: str = "move-1") -> None:
    """What the arbiter would write at last."""
    put(world, job_key(name), replace(job(world, name), state=state, note=note).to_json())


def test_a_set_is_made_without_sections_shown_and_retired(
    running: tuple[OneStore, str], world: OneStore, seqctl: Callable[..., Done]
) -> None:
    store = running[1]
    create = ("set", "create", B, "--replicas", store)
    tried = seqctl(*create, "--dry-run", "-o", "json")
    assert (tried.code, tried.json["written"], tried.json["ranges"], tried.err) == (
        0,
        False,
        [],
        "",
    )
    assert set_key(B) not in keys(world, "sets/")

    made = seqctl(*create, "-o", "json")
    assert (made.code, made.json["written"], made.json["name"]) == (0, True, B)
    assert '"outcome": "done"' not in made.err and 'outcome="done"' in made.err
    assert SetSpec.from_json(keys(world, "sets/")[set_key(B)]).ranges == ()
    again = seqctl(*create)
    assert (again.code, again.out) == (3, "")
    assert "has a Set 'b' already" in again.err

    listed = seqctl("set", "list", "-o", "json").json
    assert [(one["name"], one["sections"]) for one in listed] == [(B, 0), (A, SECTIONS)]
    assert "none" in seqctl("set", "list").out
    shown = seqctl("set", "show", B, "-o", "json").json
    assert (shown["sections"], shown["replicas"][0]["reachable"]) == (0, True)
    assert store in seqctl("set", "show", B).out
    assert seqctl("set", "show", "x").code == 3

    assert seqctl("set", "retire", A, "--yes").code == 3
    assert seqctl("set", "retire", B).code == 2  # nobody is there to be asked
    assert seqctl("set", "retire", B, "--dry-run").code == 0
    assert set_key(B) in keys(world, "sets/")
    gone = seqctl("set", "retire", B, "--yes", "-o", "json")
    assert (gone.code, gone.json["written"]) == (0, True)
    assert set_key(B) not in keys(world, "sets/")
    assert assignments_key(B) in keys(world, "assignments/"), "epochs and versions are kept"


def test_replicas_of_another_set_or_not_there_make_no_set(
    running: tuple[OneStore, str], world: OneStore, seqctl: Callable[..., Done]
) -> None:
    other = seqctl("set", "create", "c", "--replicas", running[1])
    assert (other.code, "of Set b, not of c" in other.err) == (3, True)
    nobody = seqctl("set", "create", B, "--replicas", f"127.0.0.1:{free_port()}")
    assert (nobody.code, "not every replica answers" in nobody.err) == (3, True)
    assert seqctl("set", "create", B, "--replicas", running[1], "-r", 1, "-w", 2).code == 2
    assert set(keys(world, "sets/")) == {set_key(A)}


def test_a_move_is_planned_before_there_are_nodes_and_started_after(
    world: OneStore, seqctl: Callable[..., Done], b: str
) -> None:
    assert b
    plan = ("move", "plan", "--from", A, "--to", B, "--half", "--chunk", 1)
    tried = seqctl(*plan, "--dry-run", "-o", "json")
    assert (tried.code, tried.json["written"], tried.json["chunks"]) == (0, False, 2)
    assert tried.json["ranges"] == [{"first": 2, "last": 3}]
    assert "no live node" in tried.json["warnings"][0]
    assert not keys(world, "jobs/")

    made = seqctl(*plan)
    assert made.code == 0
    assert "warning: Set b has no live node" in made.out
    assert "about" in made.out and "seqctl move start move-1" in made.out
    assert job(world).state is State.PLANNED
    second = seqctl(*plan)
    assert (second.code, "job move-1 concerns" in second.err) == (3, True)
    refused = seqctl("move", "start", "move-1", "--yes")
    assert (refused.code, "no live node" in refused.err) == (3, True)

    node = world.alloc("--set", B)
    node.ready()  # idle, and ready for what comes; it registers in its own time
    eventually(lambda: seqctl("move", "start", "move-1", "--dry-run").code == 0, "a live node")
    assert seqctl("move", "start", "move-1").code == 2  # not confirmed
    assert seqctl("move", "start", "move-1", "--dry-run").code == 0
    assert job(world).state is State.PLANNED
    started = seqctl("move", "start", "move-1", "--yes", "-o", "json")
    assert (started.code, started.json["state"]) == (0, "running")
    node.close()

    assert seqctl("move", "pause", "move-1").code == 0
    assert job(world).state is State.PAUSED
    assert seqctl("move", "pause", "move-1").code == 3
    assert seqctl("move", "resume", "move-1").code == 0
    assert seqctl("set", "retire", B, "--yes").code == 3
    aborted = seqctl("move", "abort", "move-1", "--undo", "--yes", "-o", "json")
    assert (aborted.json["state"], aborted.json["undo"]) == ("aborting", True)
    end(world, State.ABORTED)
    assert seqctl("set", "retire", B, "--yes").code == 0
    audit = seqctl("audit", "-o", "json").json
    said = [(line["what"], line["outcome"]) for line in audit]
    assert ("move move-1: running", "done") in said
    assert ("move move-1: paused", "done") in said
    assert ("move move-1: aborting", "done") in said
    assert ("set retire b", "done") in said


@pytest.mark.parametrize(
    ("state", "code"), [(State.DONE, 0), (State.FAILED, 3), (State.PAUSED, 3), (State.ABORTED, 3)]
)
def test_waiting_ends_with_the_job_and_says_how(
    world: OneStore, seqctl: Callable[..., Done], b: str, state: State, code: int
) -> None:
    assert b
    move = Move(A, B, (Range(2, 3),), 7, 1)
    put(world, job_key("m"), Job("m", State.PAUSED, "ann", 1, move=move).to_json())

    def end_it() -> None:
        eventually(lambda: job(world, "m").state is State.RUNNING, "the job to run")
        end(world, state, "the reason", "m")

    ending = threading.Thread(target=end_it)
    ending.start()
    waited = seqctl("move", "resume", "m", "--wait", "-o", "json")
    ending.join()
    assert (waited.code, waited.json["state"]) == (code, state.value)
    assert code == 0 or "the reason" in waited.err


def test_moves_are_shown_all_or_one(world: OneStore, seqctl: Callable[..., Done], b: str) -> None:
    assert b
    assert seqctl("move", "status", "-o", "json").json == []
    made = seqctl("move", "plan", "--from", A, "--to", B, "--sections", "3,0-1", "--name", "mine")
    assert made.code == 0
    shown = seqctl("move", "status", "-o", "json").json
    assert [(one["id"], one["state"], one["sections"]) for one in shown] == [("mine", "planned", 3)]
    one = seqctl("move", "status", "mine", "-o", "json").json
    assert one["ranges"] == [{"first": 0, "last": 1}, {"first": 3, "last": 3}]
    assert "0..1,3..3" in seqctl("move", "status", "mine").out
    assert seqctl("move", "status", "x").code == 3
    assert seqctl("move", "abort", "mine", "--yes").code == 0
    assert job(world, "mine").state is State.ABORTED


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "--from", A, "--to", B),
        ("plan", "--from", A, "--to", B, "--half", "--all"),
        ("plan", "--from", A, "--to", B, "--sections", "3-1"),
        ("plan", "--from", A, "--to", B, "--sections", "1-3,2"),
        ("plan", "--from", A, "--to", "b c", "--all"),
        ("plan", "--from", A, "--to", B, "--all", "--chunk", "0"),
        ("start",),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    seqctl: Callable[..., Done], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as left:
        seqctl("move", *arguments)
    assert left.value.code == 2


def test_what_is_not_in_the_map_is_code_3(seqctl: Callable[..., Done]) -> None:
    for command in ("start", "abort"):
        assert seqctl("move", command, "x", "--yes").code == 3
    for command in ("pause", "resume", "verify"):
        assert seqctl("move", command, "x").code == 3
    assert seqctl("move", "plan", "--from", A, "--to", "x", "--all").code == 3


def test_a_section_that_two_sets_could_serve_is_found(
    world: OneStore, seqctl: Callable[..., Done], b: str
) -> None:
    """The last one of those that make Set b: its store is not blank afterwards."""
    assert seqctl("move", "plan", "--from", A, "--to", B, "--all").code == 0
    clean = seqctl("move", "verify", "move-1", "-o", "json")
    assert (clean.code, clean.json["clean"], clean.json["sections"]) == (0, True, SECTIONS)
    assert "clean" in seqctl("move", "verify", "move-1").out

    header = pb.StoreHeader(cluster="c1", set=B, membership=1)
    entries = [pb.RaiseEntry(section=s, epoch=3, max_seq=10) for s in (1, 2)]
    with store(b) as stub:
        stub.Raise(pb.RaiseRequest(header=header, incarnation=9, entries=entries), timeout=20)
    found = seqctl("move", "verify", "move-1", "-o", "json")
    assert (found.code, found.json["clean"]) == (1, False)
    assert {(one["first"], one["last"]) for one in found.json["findings"]} == {(1, 2)}
    table = seqctl("move", "verify", "move-1")
    assert (table.code, "1..2" in table.out) == (1, True)
    assert "not sealed in Set b" in table.out

    sealed = [pb.SealEntry(section=s, epoch=4) for s in (1, 2)]
    with store(b) as stub:
        assert not stub.Seal(pb.SealRequest(header=header, entries=sealed), timeout=20).refused
    lower = seqctl("move", "verify", "move-1")
    assert "not sealed" not in lower.out
    assert "max_seq in Set set-0 may be found below 10" in lower.out
    header.set = A
    spec = SetSpec.from_json(keys(world, set_key(A))[set_key(A)])
    with store(spec.replicas[0].address) as stub:
        stub.Raise(pb.RaiseRequest(header=header, incarnation=9, entries=entries), timeout=20)
    assert seqctl("move", "verify", "move-1").code == 0


@contextmanager
def store(address: str) -> Iterator[Any]:
    """A replica, to be asked as nodes and arbiters do."""
    with grpc.insecure_channel(address) as channel:
        yield store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]


def test_too_few_replicas_are_no_verdict(
    world: OneStore, seqctl: Callable[..., Done], tmp_path: Path
) -> None:
    assert tmp_path
    spec = SetSpec.from_json(keys(world, set_key(A))[set_key(A)])
    gone = replace(spec.replicas[0], address=f"127.0.0.1:{free_port()}")
    put(world, set_key("x"), replace(spec, name="x", ranges=(), replicas=(gone,)).to_json())
    put(world, assignments_key("x"), Assignments("x").to_json())
    move = Move(A, "x", (Range(2, 3),), 7, 1)
    put(world, job_key("m"), Job("m", State.DONE, "ann", 1, move=move).to_json())
    told = seqctl("move", "verify", "m", "--timeout", "1")
    assert (told.code, "fewer than 1 replicas of Set x answer" in told.err) == (3, True)
