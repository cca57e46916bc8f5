"""What `seqctl cluster status` makes of a map and of the answers."""

import json
from dataclasses import replace
from typing import Any

import pytest

from clustermap.jobs import Job, Move, State
from clustermap.model import Assignment, Assignments, Cluster, Owner, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.ranges import Range
from seqctl.cluster_report import Report, picture, report
from seqctl.cluster_tables import print_report
from seqsvr.v1 import store_pb2 as pb

ONE, TWO = Owner(0xA1, "10.0.0.1:7420"), Owner(0xA2, "10.0.0.2:7420")
STORES = [Replica(f"store-{n}", f"10.0.1.{n}:7421", n) for n in (1, 2, 3)]
SPEC = SetSpec("set-0", (Range(0, 29),), tuple(STORES), 2, 2)
LOAD = Load(per_second=70, serving=19, acquiring=1)


def assigned(*entries: Assignment) -> Assignments:
    return Assignments("set-0", 7, entries)


def entry(first: int, last: int, owner: Owner, **other: Any) -> Assignment:
    return Assignment(first, last, owner.incarnation, owner.address, 3, **other)


FULL = assigned(entry(0, 19, ONE), entry(20, 29, TWO))


def node(owner: Owner, **other: Any) -> Node:
    return Node(owner.incarnation, owner.address, "set-0", **other)


def entries(document: Assignments = FULL, *nodes: Node) -> dict[str, tuple[bytes, int]]:
    found = {
        "cluster": Cluster("c1", 1_000, 30_000).to_json(),
        "sets/set-0": SPEC.to_json(),
        "assignments/set-0": document.to_json(),
    }
    for one in nodes or (node(ONE, load=LOAD), node(TWO)):
        found[f"nodes/set-0/{one.incarnation:016x}"] = one.to_json()
    return {key: (raw, 5) for key, raw in found.items()}


def infos(**other: Any) -> dict[str, pb.InfoResponse | str]:
    """`other`: what the third replica says otherwise."""
    found: dict[str, pb.InfoResponse | str] = {}
    for replica in STORES:
        said = {"cluster": "c1", "set": "set-0", "store_id": replica.store_id, "sections": 30}
        more = other if replica.store_id == 3 else {}
        found[replica.address] = pb.InfoResponse(**{**said, **more})
    return found


def made(
    held: dict[str, tuple[bytes, int]] | None = None,
    said: dict[str, pb.InfoResponse | str] | None = None,
    probes: dict[Owner, bool | str] | None = None,
) -> Report:
    alive = {ONE: True, TWO: True}
    found = picture(40, entries() if held is None else held)
    return report(found, infos() if said is None else said, alive if probes is None else probes)


def test_a_healthy_cluster_is_well_and_its_report_is_json() -> None:
    found = made()
    assert found.well
    shown: Any = json.loads(json.dumps(found.shown))
    assert shown["cluster"]["sections"] == 30
    assert (shown["map_revision"], shown["route_version"]) == (40, 7)
    assert shown["sets"] == [
        {
            "name": "set-0",
            "first": 0,
            "last": 29,
            "ranges": [{"first": 0, "last": 29}],
            "n": 3,
            "r": 2,
            "w": 2,
            "membership": 1,
            "sections": 30,
            "assigned": 30,
            "leaving": 0,
            "unassigned": 0,
            "reported": {"serving": 19, "acquiring": 1, "leaving": 0},
        }
    ]
    assert [(one["incarnation"], one["sections"]) for one in shown["nodes"]] == [
        ("00000000000000a1", 20),
        ("00000000000000a2", 10),
    ]
    assert shown["nodes"][0]["per_second"] == 70


def test_leases_are_shown_with_the_time_they_have_left() -> None:
    leases = [pb.LeaseLeft(incarnation=0xA1, left_ns=1_500_000_000)]
    shown: Any = made(said=infos(leases=leases, boot_grace_ns=10**9)).shown
    assert shown["replicas"][2]["leases"] == [{"incarnation": "00000000000000a1", "left_s": 1.5}]
    assert shown["replicas"][2]["boot_grace_s"] == 1.0


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (infos(store_id=9), "another store, 0000000000000009"),
        (infos(set="set-9"), "belongs to Set set-9 of cluster c1"),
        (infos(cluster="c9"), "belongs to Set set-0 of cluster c9"),
        (infos(out_of_quorum="a flipped byte"), "out of the quorum: a flipped byte"),
        ({**infos(), STORES[2].address: "no answer in 5 s"}, "not reachable: no answer in 5 s"),
    ],
)
def test_a_replica_that_does_not_count_is_a_problem(
    said: dict[str, pb.InfoResponse | str], named: str
) -> None:
    found = made(said=said)
    assert len(found.problems) == 1
    assert named in found.problems[0]
    assert "store-3 of Set set-0" in found.problems[0]


def test_sections_of_nobody_are_a_problem() -> None:
    found = made(entries(assigned(entry(5, 9, ONE))))
    assert found.problems == ("Set set-0: 25 sections are assigned to nobody",)


def test_an_owner_must_be_registered_or_answer() -> None:
    held = entries(FULL, node(ONE))
    assert made(held, probes={ONE: False, TWO: True}).well
    for answer in (False, "UNAVAILABLE: refused"):
        found = made(held, probes={ONE: True, TWO: answer})
        assert found.problems == (
            "Set set-0: 10 sections are assigned to 10.0.0.2:7420, which is not registered and "
            "does not answer",
        )


def test_a_node_that_is_registered_and_owns_nothing_may_be_dead() -> None:
    held = entries(assigned(entry(0, 29, ONE)), node(ONE), node(TWO))
    assert made(held, probes={ONE: True, TWO: "refused"}).well


def test_sections_that_leave_are_counted_and_are_no_problem() -> None:
    moving = assigned(entry(0, 9, ONE), entry(10, 29, ONE, leaving=True, successor=TWO))
    found = made(entries(moving))
    assert found.well
    sets: Any = found.shown["sets"]
    assert (sets[0]["leaving"], sets[0]["assigned"]) == (20, 30)


def test_the_oldest_candidate_leads() -> None:
    held = entries() | {
        "elections/arbiter/11": (b"late", 9),
        "elections/arbiter/77": (b"early", 8),
        "elections/other": (b"alone", 30),
    }
    assert made(held).shown["leaders"] == {"arbiter": "early", "other": "alone"}


def test_what_cannot_be_read_is_a_problem_and_hides_nothing_else() -> None:
    held = entries() | {"nodes/set-0/00000000000000a2": (b"{}", 5)}
    found = made(held)
    assert any("nodes/set-0/00000000000000a2" in problem for problem in found.problems)
    nodes: Any = found.shown["nodes"]
    assert len(nodes) == 2  # it still owns sections
    assert len(made(entries() | {"cluster": (b"?", 5)}).shown["replicas"]) == 3  # type: ignore[arg-type]


def test_an_empty_map_names_the_command_that_fills_it() -> None:
    found = made({}, {}, {})
    assert "seqctl cluster init" in found.problems[0]


def test_overlapping_sets_are_a_problem() -> None:
    other = SetSpec("set-1", (Range(0, 29),), tuple(STORES), 2, 2)
    document = Assignments("set-1", 1, (entry(0, 29, ONE),))
    held = entries() | {
        "sets/set-1": (other.to_json(), 5),
        "assignments/set-1": (document.to_json(), 5),
    }
    assert not made(held).well


@pytest.mark.parametrize(
    ("ours", "others", "named"),
    [
        ((Range(0, 9),), (Range(10, 29),), None),
        ((Range(0, 3), Range(20, 29)), (Range(4, 19),), None),
        ((Range(0, 29),), (), None),
        ((Range(0, 9), Range(12, 29)), (), "sections 10..11 are in no Set"),
        ((Range(0, 9),), (Range(12, 20),), "sections 21..29 are in no Set"),
        ((Range(0, 9), Range(12, 29)), (Range(8, 15),), "sections 8..9 are in Sets set-0 and a"),
        ((Range(0, 29),), (Range(3, 4),), "sections 3..4 are in Sets set-0 and a"),
    ],
)
def test_each_section_is_in_one_set(
    ours: tuple[Range, ...], others: tuple[Range, ...], named: str | None
) -> None:
    held = entries() | {
        "sets/set-0": (replace(SPEC, ranges=ours).to_json(), 5),
        "sets/a": (replace(SPEC, name="a", ranges=others).to_json(), 5),
    }
    misplaced = list(picture(40, held).misplaced())
    assert (named in misplaced) if named else not misplaced
    assert set(misplaced) <= set(made(held).problems)


def test_a_set_without_sections_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    empty = replace(SPEC, name="empty", ranges=())
    found = made(entries() | {"sets/empty": (empty.to_json(), 5)})
    shown: Any = found.shown["sets"]
    assert (shown[0]["first"], shown[0]["last"], shown[0]["sections"]) == (None, None, 0)
    print_report(found.shown)
    assert "none" in capsys.readouterr().out


def test_unfinished_jobs_are_shown_and_a_failed_one_is_a_problem(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = Job("m", State.RUNNING, "ann", 1, "waits", Move("set-0", "b", (Range(0, 1),), 7, 4))
    done, failed = replace(job, id="d", state=State.DONE), replace(job, state=State.FAILED)
    found = made(entries() | {"jobs/m": (job.to_json(), 5), "jobs/d": (done.to_json(), 5)})
    assert found.well
    shown: Any = found.shown["jobs"]
    assert [(one["id"], one["state"], one["sets"]) for one in shown] == [
        ("m", "running", ["b", "set-0"])
    ]
    print_report(found.shown)
    assert "job m of Set b and set-0 is running: waits" in capsys.readouterr().out
    assert "job m failed: waits" in made(entries() | {"jobs/m": (failed.to_json(), 5)}).problems


def test_tables_show_every_replica_and_node(capsys: pytest.CaptureFixture[str]) -> None:
    dead: dict[str, pb.InfoResponse | str] = {**infos(), STORES[2].address: "refused"}
    print_report(made(entries(FULL, node(ONE, load=LOAD)), dead).shown)
    out = capsys.readouterr().out
    assert "cluster c1, 30 sections of 1000 uids" in out
    for text in ("10.0.1.3:7421", "00000000000000a2", "problem: replica store-3", "3/2/2"):
        assert text in out
    print_report(made().shown)
    assert "all is well" in capsys.readouterr().out
