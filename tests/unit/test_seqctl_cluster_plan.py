"""What a new cluster's map is made of, and everything for which none is written."""

from argparse import ArgumentTypeError
from typing import Any

import pytest

from clustermap.model import Assignments, Cluster, Replica, SetSpec
from clustermap.ranges import Range
from seqctl.cluster_plan import (
    Wanted,
    check_wanted,
    described,
    is_what_stands,
    plan,
    wanted_set,
)
from seqctl.failures import NotDone, WrongUsage
from seqsvr.sections import SEQ_LIMIT
from seqsvr.v1 import store_pb2 as pb

A, B, C, D, E, F = (f"10.0.0.{n}:7421" for n in range(1, 7))


def info(number: int, **other: Any) -> pb.InfoResponse:
    """Of a blank replica of 30 sections."""
    said = {
        "store_id": number,
        "cluster": "c1",
        "set": "set-0",
        "replica": f"store-{number}",
        "membership": 1,
        "section_size": 1_000,
        "uid_limit": 30_000,
    }
    return pb.InfoResponse(**{**said, **other})


def infos(**other: Any) -> dict[str, pb.InfoResponse]:
    """Three replicas of one Set; `other`: what the third one says otherwise."""
    return {A: info(1), B: info(2), C: info(3, **other)}


def wanted(*sets: str, **other: Any) -> Wanted:
    return Wanted(tuple(map(wanted_set, sets or (f"set-0={A},{B},{C}",))), **other)


def refusal(asked: Wanted, said: dict[str, pb.InfoResponse]) -> str:
    with pytest.raises(NotDone) as caught:
        plan(asked, said)
    return str(caught.value)


def test_a_plan_holds_what_the_replicas_say_and_majorities() -> None:
    made = plan(wanted(), infos())
    assert made.cluster == Cluster("c1", 1_000, 30_000, SEQ_LIMIT)
    replicas = [Replica(f"store-{n}", where, n) for n, where in enumerate((A, B, C), 1)]
    assert made.specs == (SetSpec("set-0", (Range(0, 29),), tuple(replicas), 2, 2),)
    puts = made.puts()
    assert set(puts) == {"cluster", "sets/set-0", "assignments/set-0"}
    assert Assignments.from_json(puts["assignments/set-0"]) == Assignments("set-0")


def test_quorum_sizes_and_the_limit_of_numbers_may_be_given() -> None:
    made = plan(wanted(r=1, w=3, seq_limit=99), infos())
    assert (made.specs[0].r, made.specs[0].w, made.cluster.seq_limit) == (1, 3, 99)


@pytest.mark.parametrize(
    "text",
    [
        "set-0",
        "=a:1",
        "set-0=",
        "set 0=a:1",
        "set-0:=a:1",
        "set-0:5=a:1",
        "set-0:5-4=a:1",
        "set-0:-1-4=a:1",
        "set-0:a-b=a:1",
        "set-0:1-2,=a:1",
        "set-0=" + ",".join(f"h:{n}" for n in range(1, 17)),
    ],
)
def test_a_set_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((ValueError, ArgumentTypeError), match=r"must be|at most"):
        wanted_set(text)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (wanted(f"a={A}", f"a={B}"), "--set a is given twice"),
        (wanted(f"a={A},{A}"), f"replica {A} is given twice"),
        (wanted(f"a:0-1={A}", f"b:2-29={A}"), f"replica {A} is given twice"),
        (wanted(f"a:0-1={A}", f"b={B}"), "--set b:FIRST-LAST"),
        (wanted(r=1), "R + W must be above N"),
        (wanted(w=4), "W = 4"),
    ],
)
def test_what_can_never_succeed_is_refused_before_anybody_is_asked(
    asked: Wanted, named: str
) -> None:
    with pytest.raises(WrongUsage) as caught:
        check_wanted(asked)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"cluster": "c2"}, "differ in cluster"),
        ({"section_size": 7}, "differ in section_size"),
        ({"uid_limit": 7}, "differ in uid_limit"),
        ({"set": "set-1"}, f"{C} is replica store-3 of Set set-1, not of set-0"),
        ({"replica": "store-1"}, f"{A} and {C} share in Set set-0 the name store-1"),
        ({"store_id": 1}, f"{A} and {C} share store id 0000000000000001"),
        ({"membership": 2}, "differ in membership"),
        ({"sections": 5}, f"{C} holds 5 sections"),
        ({"out_of_quorum": "a flipped byte"}, f"{C} is out of the quorum: a flipped byte"),
    ],
)
def test_a_replica_that_must_not_be_counted_is_refused(other: Any, named: str) -> None:
    assert named in refusal(wanted(), infos(**other))


def test_everything_wrong_is_said_at_once() -> None:
    text = refusal(wanted(), infos(cluster="c2", sections=5))
    assert "differ in cluster" in text
    assert "holds 5 sections" in text


def test_a_layout_that_a_replica_does_not_tell_is_no_layout() -> None:
    assert "uid_limit" in refusal(wanted(f"set-0={A}"), {A: info(1, uid_limit=0)})


def test_stores_with_sections_are_adopted_only_together_and_only_if_asked() -> None:
    used = {where: info(n, sections=n) for n, where in enumerate((A, B, C), 1)}
    assert "--adopt" in refusal(wanted(), used)
    assert plan(wanted(adopt=True), used).specs[0].replicas[2].store_id == 3
    blanked = {**used, B: info(2)}
    assert f"{B} is blank" in refusal(wanted(adopt=True), blanked)


def test_all_blank_stores_may_be_adopted() -> None:
    assert plan(wanted(adopt=True), infos()).cluster.id == "c1"


def two_sets(spans: tuple[str, str]) -> tuple[Wanted, dict[str, pb.InfoResponse]]:
    said = {
        where: info(n, set="a" if n < 4 else "b", replica=f"store-{n % 3}")
        for n, where in enumerate((A, B, C, D, E, F), 1)
    }
    return wanted(f"a:{spans[0]}={A},{B},{C}", f"b:{spans[1]}={D},{E},{F}"), said


def test_several_sets_share_the_sections() -> None:
    made = plan(*two_sets(("10-29", "0-9")))
    assert [(spec.name, *spec.ranges[0]) for spec in made.specs] == [
        ("a", 10, 29),
        ("b", 0, 9),
    ]


def test_a_set_may_have_several_ranges() -> None:
    asked, said = two_sets(("10-14,20-29", "0-9,15-19"))
    made = plan(asked, said)
    assert [spec.ranges for spec in made.specs] == [
        (Range(10, 14), Range(20, 29)),
        (Range(0, 9), Range(15, 19)),
    ]
    assert is_what_stands(asked, made.puts())
    asked, said = two_sets(("10-14,15-29", "0-9"))
    assert plan(asked, said).specs[0].ranges == (Range(10, 29),)


@pytest.mark.parametrize(
    ("spans", "named"),
    [
        (("0-9", "11-29"), "sections 10..10 are in no Set"),
        (("1-9", "10-29"), "sections 0..0 are in no Set"),
        (("0-9", "10-28"), "sections 29..29 are in no Set"),
        (("0-9", "9-29"), "section 9 is in both Set a and Set b"),
        (("0-9,5-6", "10-29"), "section 5 is in both Set a and Set a"),
        (("0-29", "3-4"), "section 3 is in both Set a and Set b"),
        (("0-9", "10-30"), "Set b goes up to 30, the last is 29"),
    ],
)
def test_each_section_must_be_in_one_set(spans: tuple[str, str], named: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        plan(*two_sets(spans))
    assert named in str(caught.value)


def test_a_map_is_described_by_its_cluster_and_sets() -> None:
    text = described(plan(wanted(), infos()).puts())
    assert text == (
        f"cluster c1 (30 sections of 1000 uids), Set set-0 (sections 0..29 at {A},{B},{C})"
    )
    assert described({"assignments/set-0": b""}) == "assignments/set-0"


def test_a_map_is_what_is_asked_for_only_if_all_of_it_is() -> None:
    stands = plan(wanted(), infos()).puts()
    assert is_what_stands(wanted(), stands)
    assert is_what_stands(wanted(f"set-0:0-29={C},{B},{A}"), stands)
    others = (
        wanted(f"set-0={A},{B}"),
        wanted(f"set-1={A},{B},{C}"),
        wanted(f"set-0:0-28={A},{B},{C}"),
        wanted(r=1, w=3),
        wanted(seq_limit=5),
    )
    assert not any(is_what_stands(other, stands) for other in others)
    assert not is_what_stands(wanted(), {})
