"""The documents of the cluster map: what they accept, refuse and say."""

import json
from typing import Any

import pytest

from clustermap import model
from clustermap.errors import MapCorrupt
from clustermap.model import (
    Assignment,
    Assignments,
    Cluster,
    Floor,
    Joint,
    Quorum,
    Replica,
    SetSpec,
    routing_table,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqsvr.sections import Layout

CLUSTER = Cluster("c0ffee")
SPEC = SetSpec("set-0", (Range(0, 99),), (Replica("store-0", "127.0.0.1:7421", 2**64 - 1),), 1, 1)
NODE = Node(0xABC, "127.0.0.1:7420", "set-0", draining=True)
DOCUMENT = Assignments(
    "set-0",
    7,
    (Assignment(0, 9, 1, "a:1", 3), Assignment(20, 29, 2**63, "b:1", 2, leaving=True)),
    (Floor(0, 4, 3), Floor(50, 60, 9)),
)
EVERY = [CLUSTER, SPEC, NODE, DOCUMENT]


def altered(document: Any, **changes: object) -> bytes:
    return json.dumps({**json.loads(document.to_json()), **changes}).encode()


FLAGS = {"draining", "leased"}


@pytest.mark.parametrize("document", EVERY, ids=lambda document: type(document).__name__)
def test_a_document_reads_back_as_it_was_written(document: Any) -> None:
    assert type(document).from_json(document.to_json()) == document


@pytest.mark.parametrize("document", EVERY, ids=lambda document: type(document).__name__)
def test_a_field_that_is_missing_unknown_or_ill_typed_is_named(document: Any) -> None:
    whole = json.loads(document.to_json())
    for name in whole:
        without = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(MapCorrupt, match=name):
            type(document).from_json(json.dumps(without).encode())
        wrongs: list[object] = [None, 1.5, {}, 1 if name in FLAGS else True]
        for wrong in wrongs:
            with pytest.raises(MapCorrupt, match=name):
                type(document).from_json(altered(document, **{name: wrong}))
    with pytest.raises(MapCorrupt, match="surprise"):
        type(document).from_json(altered(document, surprise=1))


@pytest.mark.parametrize("document", EVERY, ids=lambda document: type(document).__name__)
def test_another_format_version_is_refused(document: Any) -> None:
    with pytest.raises(MapCorrupt, match="format 2 is not known here"):
        type(document).from_json(altered(document, format=2))


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"format":NaN}', b"[" * 100_000, b'{"format":1}' * 2],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(MapCorrupt, match="map document 'cluster'"):
        Cluster.from_json(raw)


def test_a_field_that_occurs_twice_is_refused() -> None:
    raw = CLUSTER.to_json().replace(b'"format":1', b'"format":1,"format":1')
    with pytest.raises(MapCorrupt, match="format occurs twice"):
        Cluster.from_json(raw)


def test_a_field_within_a_list_is_named_with_its_place() -> None:
    entries = json.loads(DOCUMENT.to_json())["entries"]
    entries[1]["epoch"] = "2"
    with pytest.raises(MapCorrupt, match=r"'assignments': entries\[1\]\.epoch must be an integer"):
        Assignments.from_json(altered(DOCUMENT, entries=entries))
    entries[1]["epoch"] = 2
    entries[0]["owner"] = "x"
    with pytest.raises(MapCorrupt, match=r"entries\[0\]\.owner is not a field"):
        Assignments.from_json(altered(DOCUMENT, entries=entries))


@pytest.mark.parametrize("incarnation", ["0" * 16, "abc", "G" * 16, "ABCDEF0123456789", " " * 16])
def test_an_incarnation_is_sixteen_hex_digits_and_not_zero(incarnation: str) -> None:
    with pytest.raises(MapCorrupt, match="incarnation"):
        Node.from_json(altered(NODE, incarnation=incarnation))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("section_size", 0),
        ("section_size", 2**32 + 1),
        ("uid_limit", 0),
        ("uid_limit", 2**63 + 1),
        ("seq_limit", 0),
        ("seq_limit", 2**63),
        ("id", ""),
        ("id", "x/z"),
    ],
)
def test_a_cluster_out_of_its_bounds_is_refused(name: str, value: object) -> None:
    with pytest.raises(MapCorrupt, match=name):
        Cluster.from_json(altered(CLUSTER, **{name: value}))


def test_a_cluster_knows_its_layout() -> None:
    assert Cluster("a", 10, 101).layout == Layout(10, 101)


@pytest.mark.parametrize("n", range(1, 8))
def test_a_quorum_is_accepted_exactly_where_every_two_meet(n: int) -> None:
    for r in range(-1, n + 2):
        for w in range(-1, n + 2):
            if 1 <= r <= n and 1 <= w <= n and r + w > n:
                assert Quorum(n, r, w) == Quorum(n, r, w)
            else:
                with pytest.raises(ValueError, match="must be"):
                    Quorum(n, r, w)


def test_a_set_without_a_meeting_quorum_is_refused() -> None:
    replicas = tuple(Replica(f"store-{i}", f"h{i}:1", i + 1) for i in range(3))
    assert SetSpec("s", (Range(0, 1),), replicas, 2, 2).quorum == Quorum(3, 2, 2)
    with pytest.raises(ValueError, match="1 \\+ 2 is not above 3"):
        SetSpec("s", (Range(0, 1),), replicas, 1, 2)
    with pytest.raises(ValueError, match="share a name"):
        SetSpec("s", (Range(0, 1),), (replicas[0], replicas[0]), 2, 2)


def test_a_set_that_changes_its_replicas_says_so_and_any_other_is_written_as_before() -> None:
    old = tuple(Replica(f"store-{i}", f"h{i}:1", i + 1) for i in range(3))
    new = (*old[:2], Replica("store-3", "h3:1", 4))
    plain = SetSpec("s", (Range(0, 1),), old, 2, 2)
    assert not {"joint", "learners"} & json.loads(plain.to_json()).keys()
    joint = SetSpec("s", (Range(0, 1),), old, 2, 2, 2, Joint(new, 2, 2))
    learning = SetSpec("s", (Range(0, 1),), old, 2, 2, 1, None, new[2:])
    for spec in (joint, learning):
        assert SetSpec.from_json(spec.to_json()) == spec


def test_a_store_that_would_count_twice_or_be_two_replicas_is_refused() -> None:
    old = tuple(Replica(f"store-{i}", f"h{i}:1", i + 1) for i in range(3))
    again, elsewhere = Replica("other", "h9:1", 1), Replica("store-0", "h9:1", 1)
    with pytest.raises(ValueError, match="share a store"):
        SetSpec("s", (Range(0, 1),), (*old, again), 3, 2)
    with pytest.raises(ValueError, match="one store is two replicas"):
        SetSpec("s", (Range(0, 1),), old, 2, 2, 2, Joint((elsewhere,), 1, 1))
    with pytest.raises(ValueError, match="cannot learn and be counted"):
        SetSpec("s", (Range(0, 1),), old, 2, 2, 1, None, old[:1])
    with pytest.raises(ValueError, match="1 \\+ 2 is not above 3"):
        Joint(old, 1, 2)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "é", "a\n", "x" * 64, ".."])
def test_a_name_that_cannot_be_part_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a Set"):
        Assignments(name)


@pytest.mark.parametrize(
    "entries",
    [
        (Assignment(5, 9, 1, "a", 1), Assignment(0, 4, 1, "a", 1)),
        (Assignment(0, 5, 1, "a", 1), Assignment(5, 9, 1, "a", 1)),
    ],
)
def test_assignments_out_of_order_or_overlapping_are_refused(
    entries: tuple[Assignment, ...],
) -> None:
    with pytest.raises(ValueError, match="out of place"):
        Assignments("set-0", 1, entries)
    floors = tuple(Floor(entry.first, entry.last, 1) for entry in entries)
    with pytest.raises(ValueError, match="out of place"):
        Assignments("set-0", 1, (), floors)


def test_the_owner_of_each_section_is_found_and_nobody_between() -> None:
    assert {s for s in range(100) if DOCUMENT.owner(s)} == {*range(10), *range(20, 30)}
    owner = DOCUMENT.owner(29)
    assert owner is not None
    assert owner.address == "b:1"
    assert Assignments("set-0").owner(0) is None


def test_the_highest_epoch_counts_entries_and_floors_that_touch_the_range() -> None:
    assert DOCUMENT.highest_epoch(10, 19) == 0
    assert DOCUMENT.highest_epoch(9, 19) == 3
    assert DOCUMENT.highest_epoch(29, 50) == 9
    assert DOCUMENT.highest_epoch(29, 49) == 2


def test_keys_of_one_set_are_no_prefix_of_anothers() -> None:
    assert model.node_key("set-1", 0xAB) == "nodes/set-1/00000000000000ab"
    assert not model.node_key("set-10", 1).startswith(model.nodes_prefix("set-1"))
    assert model.set_key("x") == "sets/x"
    assert model.assignments_key("x") == "assignments/x"


def test_a_leaving_range_is_still_routed_to_its_present_owner() -> None:
    table = routing_table(CLUSTER, {"set-0": SPEC}, {"set-0": DOCUMENT})
    route = table.lookup(25)
    assert route is not None
    assert (route.address, route.epoch) == ("b:1", 2)
    assert table.cluster == "c0ffee"


def test_the_routing_version_is_the_sum_over_sets() -> None:
    sets = {
        "b": SetSpec("b", (Range(10, 19),), SPEC.replicas, 1, 1),
        "a": SetSpec("a", (Range(0, 9),), SPEC.replicas, 1, 1),
    }
    documents = {
        "b": Assignments("b", 4, (Assignment(10, 19, 1, "b:1", 1),)),
        "a": Assignments("a", 3, (Assignment(0, 9, 2, "a:1", 5),)),
    }
    table = routing_table(CLUSTER, sets, documents)
    assert table.version == 7
    assert [route.address for route in table.routes] == ["a:1", "b:1"]


def test_an_assignment_outside_its_set_makes_no_table() -> None:
    outside = Assignments("set-0", 1, (Assignment(90, 100, 1, "a:1", 1),))
    with pytest.raises(MapCorrupt, match="outside the Set"):
        routing_table(CLUSTER, {"set-0": SPEC}, {"set-0": outside})
    with pytest.raises(MapCorrupt, match="outside the Set"):
        routing_table(CLUSTER, {}, {"set-0": outside})


def test_sets_that_overlap_make_no_table() -> None:
    sets = {name: SetSpec(name, (Range(0, 9),), SPEC.replicas, 1, 1) for name in ("a", "b")}
    documents = {name: Assignments(name, 1, (Assignment(0, 5, 1, "x", 1),)) for name in sets}
    with pytest.raises(MapCorrupt, match="out of place"):
        routing_table(CLUSTER, sets, documents)
