"""What moves are planned, and when they may be started, paused, resumed and aborted."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clustermap.coordinator import Listing, Versioned
from clustermap.errors import MapCorrupt
from clustermap.jobs import Job, Move, Reform, State, job_key
from clustermap.model import Assignments, Cluster, Replica, SetSpec, assignments_key, set_key
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqctl.failures import NotDone
from seqctl.map_view import Change, View, view
from seqctl.move_plan import (
    ALL,
    HALF,
    Asked,
    aborted,
    paused,
    planned,
    resumed,
    started,
    unanswered,
)
from seqsvr.v1 import store_pb2 as pb

STORES = tuple(Replica(f"store-{i}", f"s:{i}", i) for i in (1, 2, 3))
A = SetSpec("a", (Range(0, 9), Range(20, 29)), STORES, 2, 2)
B = SetSpec("b", (), STORES, 2, 2)
C = SetSpec("c", (Range(10, 19),), STORES, 2, 2)
NODE = Node(1, "n:1", "b")
MOVE = Move("a", "b", (Range(5, 9), Range(20, 24)), 0xC0FFEE, 4)


def job(state: State = State.PLANNED, **other: object) -> Job:
    return Job("m", state, "ann", 1_000, "a note", replace(MOVE, **other))  # type: ignore[arg-type]


def seen(
    *jobs: Job, specs: tuple[SetSpec, ...] = (A, B, C), nodes: tuple[Node, ...] = (NODE,)
) -> View:
    entries = {"cluster": Cluster("c1", 1_000, 30_000).to_json()}
    for spec in specs:
        entries[set_key(spec.name)] = spec.to_json()
        entries[assignments_key(spec.name)] = Assignments(spec.name).to_json()
    entries |= {job_key(one.id): one.to_json() for one in jobs}
    for node in nodes:
        entries[f"nodes/{node.set}/{node.incarnation:016x}"] = node.to_json()
    held = {key: Versioned(raw, at) for at, (key, raw) in enumerate(entries.items(), 1)}
    return view(Listing(100, held))


def plan(asked: Asked, found: View | None = None) -> tuple[tuple[Range, ...], Change]:
    made, change = planned(found or seen(), asked, by="ann", created_s=1, incarnation=7)
    return made.move.ranges, change


@pytest.mark.parametrize(
    ("asked", "ranges"),
    [
        (Asked("a", "b", ALL), ((0, 9), (20, 29))),
        (Asked("a", "b", HALF), ((20, 29),)),
        (Asked("c", "b", HALF), ((15, 19),)),
        (Asked("a", "c", (Range(3, 3), Range(21, 22))), ((3, 3), (21, 22))),
    ],
)
def test_what_is_asked_for_becomes_ranges(asked: Asked, ranges: tuple[object, ...]) -> None:
    assert plan(asked)[0] == ranges


def test_a_half_may_be_of_several_ranges_and_an_odd_one_stays() -> None:
    spec = replace(A, ranges=(Range(0, 6), Range(20, 21), Range(30, 31)))
    assert plan(Asked("a", "b", HALF), seen(specs=(spec, B)))[0] == ((6, 6), (20, 21), (30, 31))


def test_a_planned_job_is_written_only_if_nothing_it_rests_on_has_changed() -> None:
    found = seen()
    made, change = planned(found, Asked("a", "b", ALL, 3), by="ann", created_s=1, incarnation=7)
    assert (made.job.id, made.job.state, made.job.by) == ("move-1", State.PLANNED, "ann")
    assert (made.chunks, made.warnings) == (7, ())
    assert dict(change.expected) == {
        "jobs/move-1": 0,
        **{f"sets/{name}": found.entries[f"sets/{name}"].revision for name in "ab"},
    }
    assert dict(change.puts) == {
        "jobs/move-1": made.job.to_json(),
        "sets/a": A.to_json(),  # as they were: so a second job of these Sets is written in vain
        "sets/b": B.to_json(),
    }


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Asked("a", "a", ALL), "itself"),
        (Asked("x", "b", ALL), "the map has no Set 'x'; its Sets: a, b, c"),
        (Asked("a", "x", ALL), "no Set 'x'"),
        (Asked("b", "a", ALL), "Set b has no sections"),
        (Asked("a", "b", (Range(8, 12),)), "sections 10..12 are not of Set a: 0..9,20..29 are"),
    ],
)
def test_what_cannot_be_moved_is_refused(asked: Asked, named: str) -> None:
    with pytest.raises(NotDone) as caught:
        plan(asked)
    assert named in str(caught.value)


def test_one_section_cannot_be_halved() -> None:
    with pytest.raises(NotDone, match="halved"):
        plan(Asked("a", "b", HALF), seen(specs=(replace(A, ranges=(Range(3, 3),)), B)))


@pytest.mark.parametrize("state", State)
def test_two_unfinished_jobs_never_concern_the_same_set(state: State) -> None:
    other = replace(job(state), id="other")
    over = state in (State.DONE, State.ABORTED)
    for asked in (Asked("a", "c", ALL), Asked("c", "b", ALL)):
        if over:
            assert plan(asked, seen(other))
            continue
        with pytest.raises(NotDone, match="job other concerns a and b"):
            plan(asked, seen(other))
    reform = Job("r", state, "", 1, reform=Reform("c", STORES, 2, 2))
    if not over:
        with pytest.raises(NotDone, match="job r concerns c"):
            plan(Asked("a", "c", ALL), seen(reform))
        with pytest.raises(NotDone, match="job other"):
            started(seen(job(), other), "m")


def test_a_name_is_given_once_and_the_next_free_one_by_default() -> None:
    done = replace(job(State.DONE), id="move-1")
    made, _ = planned(seen(done), Asked("a", "b", ALL), by="", created_s=1, incarnation=7)
    assert made.job.id == "move-2"
    with pytest.raises(NotDone, match="a job move-1 already"):
        plan(Asked("a", "b", ALL, name="move-1"), seen(done))


@pytest.mark.parametrize(
    "nodes",
    [
        (),
        (replace(NODE, set="a"),),
        (replace(NODE, draining=True),),
        (replace(NODE, leased=False),),
    ],
)
def test_without_a_live_node_a_plan_warns_and_a_start_is_refused(nodes: tuple[Node, ...]) -> None:
    made, _ = planned(seen(nodes=nodes), Asked("a", "b", ALL), by="", created_s=1, incarnation=7)
    assert "allocsvr --set b" in made.warnings[0]
    with pytest.raises(NotDone, match="no live node"):
        started(seen(job(), nodes=nodes), "m")


def test_a_job_is_started_once_and_again_where_it_failed() -> None:
    running, change = started(seen(job()), "m")
    assert (running.state, running.note, running.by) == (State.RUNNING, "", "ann")
    assert set(change.expected) == {"jobs/m", "sets/a", "sets/b"}
    moved = replace(A, ranges=(Range(0, 9), Range(25, 29))), replace(B, ranges=(Range(20, 24),))
    assert started(seen(job(State.FAILED), specs=moved), "m")[0].state is State.RUNNING


def test_a_job_is_not_started_on_sections_that_the_source_has_not() -> None:
    less = replace(A, ranges=(Range(0, 9), Range(22, 29)))
    for state in (State.PLANNED, State.FAILED):
        with pytest.raises(NotDone, match=r"sections 20\.\.21 are not of Set a"):
            started(seen(job(state), specs=(less, B)), "m")


TURNS: dict[str, tuple[Callable[[View], tuple[Job, Change]], set[State]]] = {
    "started": (lambda found: started(found, "m"), {State.PLANNED, State.FAILED}),
    "paused": (lambda found: paused(found, "m"), {State.RUNNING}),
    "resumed": (lambda found: resumed(found, "m"), {State.PAUSED}),
    "aborted": (
        lambda found: aborted(found, "m", undo=False),
        {State.PLANNED, State.RUNNING, State.PAUSED, State.FAILED},
    ),
}


@pytest.mark.parametrize("how", TURNS)
@pytest.mark.parametrize("state", State)
def test_a_job_turns_only_as_the_states_allow(how: str, state: State) -> None:
    turn, allowed = TURNS[how]
    found = seen(job(state))
    if state not in allowed:
        with pytest.raises(NotDone, match=f"can be {how}"):
            turn(found)
        return
    turned, change = turn(found)
    goal = {"paused": State.PAUSED, "aborted": State.ABORTING}.get(how, State.RUNNING)
    planned_only = how == "aborted" and state is State.PLANNED
    assert turned.state is (State.ABORTED if planned_only else goal)
    assert change.expected["jobs/m"] == found.entries["jobs/m"].revision
    assert change.puts["jobs/m"] == turned.to_json()
    assert turned.move == MOVE


def test_an_abort_may_undo_and_may_be_told_so_later() -> None:
    ending, _ = aborted(seen(job(State.PAUSED)), "m", undo=True)
    assert ending.move == replace(MOVE, undo=True)
    later, _ = aborted(seen(job(State.ABORTING)), "m", undo=True)
    assert later.move == replace(MOVE, undo=True)
    with pytest.raises(NotDone):
        aborted(seen(job(State.ABORTING, undo=True)), "m", undo=True)


def test_a_job_that_moves_nothing_and_one_that_is_not_there_are_named() -> None:
    reform = Job("r", State.RUNNING, "", 1, reform=Reform("c", STORES, 2, 2))
    with pytest.raises(NotDone, match="job r does not move sections"):
        paused(seen(reform), "r")
    with pytest.raises(NotDone, match="no job 'x'; its jobs: m"):
        paused(seen(job()), "x")


def infos(count: int, **other: object) -> dict[str, pb.InfoResponse | str]:
    found: dict[str, pb.InfoResponse | str] = {s.address: "refused" for s in STORES}
    for one in STORES[:count]:
        said = {"store_id": one.store_id, **other}
        found[one.address] = pb.InfoResponse(**said)  # type: ignore[arg-type]
    return found


def test_a_set_needs_a_quorum_of_replicas_that_answer_and_are_its_own() -> None:
    assert unanswered(B, infos(3)) == unanswered(B, infos(2)) == []
    assert "s:2: refused; s:3: refused" in unanswered(B, infos(1))[0]
    assert "another store" in unanswered(B, infos(3, store_id=9))[0]
    assert "a flipped byte" in unanswered(B, infos(3, out_of_quorum="a flipped byte"))[0]


def test_a_map_that_is_not_sound_is_decided_on_by_nobody() -> None:
    with pytest.raises(NotDone, match="cluster init"):
        view(Listing(1, {}))
    broken = {**seen().entries, "jobs/m": Versioned(b"{}", 3)}
    with pytest.raises(MapCorrupt):
        view(Listing(1, broken))
    strange = {**seen().entries, "nodes/b/0000000000000009": Versioned(b"{}", 3)}
    assert view(Listing(1, strange)).nodes == [NODE]
