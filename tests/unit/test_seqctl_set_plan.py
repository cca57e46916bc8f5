"""Which Sets may be made and retired, and what is written."""

from dataclasses import replace

import pytest

from clustermap.coordinator import Listing, Versioned
from clustermap.jobs import Job, Move, State, job_key
from clustermap.model import Assignments, Cluster, Replica, SetSpec, assignments_key, set_key
from clustermap.nodes import Node
from clustermap.orders import Orders, orders_key
from clustermap.placement import reassign
from clustermap.ranges import Range
from seqctl.cluster_plan import Wanted, WantedSet
from seqctl.failures import NotDone
from seqctl.map_view import View, view
from seqctl.set_plan import creation, retirement
from seqsvr.v1 import store_pb2 as pb

WHERE = ("s:4", "s:5", "s:6")
A = SetSpec("a", (Range(0, 29),), (Replica("store-0", "s:1", 1),), 1, 1)
EMPTY = SetSpec("b", (), (Replica("store-0", "s:2", 2),), 1, 1)
WANTED = Wanted((WantedSet("new", (), WHERE),))


def seen(
    *specs: SetSpec, documents: tuple[Assignments, ...] = (), jobs: tuple[Job, ...] = ()
) -> View:
    entries = {"cluster": Cluster("c1", 1_000, 30_000).to_json()}
    entries |= {set_key(spec.name): spec.to_json() for spec in specs}
    entries |= {assignments_key(spec.name): Assignments(spec.name).to_json() for spec in specs}
    entries |= {assignments_key(document.set): document.to_json() for document in documents}
    entries |= {job_key(job.id): job.to_json() for job in jobs}
    held = {key: Versioned(raw, at) for at, (key, raw) in enumerate(entries.items(), 1)}
    return view(Listing(100, held))


def infos(**other: object) -> dict[str, pb.InfoResponse]:
    """`other`: what the last replica says otherwise."""
    found = {}
    for at, address in enumerate(WHERE, 4):
        said = {"cluster": "c1", "set": "new", "replica": f"store-{at}", "membership": 1}
        said |= {"section_size": 1_000, "uid_limit": 30_000, "store_id": at}
        more = other if address == WHERE[-1] else {}
        found[address] = pb.InfoResponse(**{**said, **more})  # type: ignore[arg-type]
    return found


def test_a_new_set_has_no_sections_and_expects_that_there_was_none() -> None:
    spec, change = creation(seen(A), WANTED, infos())
    replicas = tuple(Replica(f"store-{i}", f"s:{i}", i) for i in (4, 5, 6))
    assert spec == SetSpec("new", (), replicas, 2, 2)
    assert dict(change.expected) == {"sets/new": 0, "assignments/new": 0}
    assert SetSpec.from_json(change.puts["sets/new"] or b"") == spec
    assert Assignments.from_json(change.puts["assignments/new"] or b"") == Assignments("new")


def test_a_set_of_a_name_that_was_retired_goes_on_above_its_epochs() -> None:
    document = Assignments("new", 40)
    _, change = creation(seen(A, documents=(document,)), WANTED, infos())
    assert set(change.puts) == {"sets/new"}
    assert change.expected["assignments/new"] > 0


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"set": "other"}, "is replica store-6 of Set other, not of new"),
        ({"sections": 3}, "holds 3 sections"),
        ({"out_of_quorum": "a flipped byte"}, "a flipped byte"),
        ({"store_id": 4}, "share store id"),
        ({"cluster": "c2"}, "differ in cluster"),
    ],
)
def test_replicas_that_cannot_be_counted_on_make_no_set(
    other: dict[str, object], named: str
) -> None:
    with pytest.raises(NotDone, match=named):
        creation(seen(A), WANTED, infos(**other))


def test_replicas_of_another_cluster_or_set_make_no_set() -> None:
    strange = {address: infos()[address] for address in WHERE}
    for info in strange.values():
        info.section_size = 500
    with pytest.raises(NotDone, match="section_size 500, the map 1000"):
        creation(seen(A), WANTED, strange)
    taken = replace(A, replicas=(Replica("store-0", "s:5", 1),))
    with pytest.raises(NotDone, match="s:5 is a replica of Set a"):
        creation(seen(taken), WANTED, infos())
    with pytest.raises(NotDone, match="has a Set 'new' already"):
        creation(seen(replace(A, name="new")), WANTED, infos())


def test_a_set_without_sections_is_retired_and_its_epochs_are_kept() -> None:
    spec, change = retirement(seen(A, EMPTY), "b")
    assert spec == EMPTY
    assert dict(change.puts) == {"sets/b": None}
    assert set(change.expected) == {"sets/b", "assignments/b"}


def test_a_set_is_not_retired_while_anything_is_left_of_it() -> None:
    with pytest.raises(NotDone, match="Set a has 30 sections"):
        retirement(seen(A), "a")
    move = Move("a", "b", (Range(0, 1),), 7, 4)
    for state in (State.PLANNED, State.PAUSED, State.FAILED):
        with pytest.raises(NotDone, match="job m concerns a and b"):
            retirement(seen(A, EMPTY, jobs=(Job("m", state, "", 1, move=move),)), "b")
    assert retirement(seen(A, EMPTY, jobs=(Job("m", State.DONE, "", 1, move=move),)), "b")
    left = reassign(Assignments("b"), 3, 4, Node(1, "n:1", "b"))
    with pytest.raises(NotDone, match="its assignments have"):
        retirement(seen(A, EMPTY, documents=(left,)), "b")
    with pytest.raises(NotDone, match="no Set 'x'"):
        retirement(seen(A), "x")


def test_a_retired_set_takes_its_orders_with_it() -> None:
    found = seen(A, EMPTY)
    found.orders["b"] = Orders("b").draining("n:1")
    found.entries = {**found.entries, orders_key("b"): Versioned(b"", 77)}
    _, change = retirement(found, "b")
    assert change.puts == {set_key("b"): None, orders_key("b"): None}
    assert change.expected[orders_key("b")] == 77
