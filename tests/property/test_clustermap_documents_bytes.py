"""Documents of the map: any of them comes back as it was, anything else is a clear error.

FENCE-1 and ROUTE-1 rest on epochs, floors and versions that are never misread: several versions of
the software share one map, and people edit it by hand.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.documents import U64_MAX, Fields, decode, encode, hex64
from clustermap.errors import MapCorrupt
from clustermap.jobs import Job, Move, Reform, State
from clustermap.model import (
    Assignment,
    Assignments,
    Cluster,
    Floor,
    Joint,
    Owner,
    Quorum,
    Replica,
    SetSpec,
    node_key,
    nodes_prefix,
    routing_table,
)
from clustermap.nodes import MAX_HOT, Load, Node
from clustermap.orders import Orders, Pin
from clustermap.ranges import SECTION_MAX, Range
from clustermap.spans import union

IDS = st.one_of(st.integers(1, 3), st.integers(1, U64_MAX))
EPOCHS = IDS
NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}", fullmatch=True)
TEXTS = st.text(max_size=12)
ADDRESSES = TEXTS.filter(lambda text: text.isprintable() and " " not in text)
COUNTS = st.one_of(st.integers(0, 3), st.integers(0, U64_MAX))
SECTIONS = st.one_of(st.integers(0, 99), st.integers(0, SECTION_MAX))
OWNERS = st.builds(Owner, IDS, ADDRESSES, st.just("") | ADDRESSES)


@st.composite
def spans(draw: st.DrawFn) -> list[tuple[int, int]]:
    """By rising section, not overlapping."""
    ends = sorted(draw(st.sets(SECTIONS, max_size=8)))
    return list(zip(ends[::2], ends[1::2], strict=False))


@st.composite
def assignments(draw: st.DrawFn) -> Assignments:
    entries = []
    for first, last in draw(spans()):
        leaving = draw(st.booleans())
        heir = draw(st.one_of(st.none(), OWNERS)) if leaving else None
        owner, epoch = draw(OWNERS), draw(EPOCHS)
        entries.append(
            replace(Assignment.to(owner, first, last, epoch), leaving=leaving, successor=heir)
        )
    floors = tuple(Floor(first, last, draw(EPOCHS)) for first, last in draw(spans()))
    return Assignments(draw(NAMES), draw(COUNTS), tuple(entries), floors)


@st.composite
def ranges(draw: st.DrawFn, least: int = 0) -> tuple[Range, ...]:
    """By rising section, apart from each other."""
    count = draw(st.integers(least, 4))
    ends = draw(st.lists(SECTIONS, min_size=2 * count, max_size=2 * count, unique=True))
    spans = [Range(*pair) for pair in batched(sorted(ends))]
    return tuple(Range(*span) for span in union(spans))


def batched(ends: list[int]) -> list[tuple[int, int]]:
    return list(zip(ends[::2], ends[1::2], strict=True))


@st.composite
def sets(draw: st.DrawFn) -> SetSpec:
    ids = st.lists(IDS, min_size=1, max_size=7, unique=True)
    stores = [Replica(f"{draw(NAMES)[:60]}-{n}", draw(ADDRESSES), n) for n in draw(ids)]
    old, r, w = draw(sizes(stores))
    joint = draw(st.none() | sizes(stores).map(lambda sized: Joint(*sized)))
    counted = {*old, *(joint.replicas if joint else ())}
    learners = tuple(store for store in stores if store not in counted)
    return SetSpec(draw(NAMES), draw(ranges()), old, r, w, draw(IDS), joint, learners)


@st.composite
def sizes(draw: st.DrawFn, stores: list[Replica]) -> tuple[tuple[Replica, ...], int, int]:
    """Some of the stores, and quorums of them that meet."""
    some = draw(st.lists(st.sampled_from(stores), min_size=1, max_size=5, unique=True))
    r = draw(st.integers(1, len(some)))
    return tuple(some), r, draw(st.integers(len(some) - r + 1, len(some)))


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    state = draw(st.sampled_from(State))
    head = draw(NAMES), state, draw(TEXTS), draw(COUNTS), draw(TEXTS)
    if draw(st.booleans()):
        spec = draw(sets())
        return Job(*head, reform=Reform(spec.name, spec.replicas, spec.r, spec.w, draw(COUNTS)))
    source, target = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    chunk = draw(st.integers(1, SECTION_MAX))
    count, undo = draw(COUNTS), draw(st.booleans())
    move = Move(source, target, draw(ranges(1)), draw(IDS), chunk, count, undo)
    return Job(*head, move=move)


@st.composite
def orders(draw: st.DrawFn) -> Orders:
    addresses = ADDRESSES.filter(bool)
    drained = tuple(sorted(draw(st.sets(addresses, max_size=3))))
    pins = tuple(Pin(*span, draw(addresses), draw(st.booleans())) for span in draw(spans()))
    return Orders(draw(NAMES), drained, pins, draw(st.booleans()))


HOT = st.lists(st.tuples(SECTIONS, COUNTS), max_size=4).map(tuple)
LOADS = st.builds(Load, COUNTS, HOT, COUNTS, COUNTS, COUNTS)
NODES = st.builds(
    Node,
    IDS,
    ADDRESSES,
    NAMES,
    st.booleans(),
    st.booleans(),
    LOADS,
    st.just("") | ADDRESSES,
)
CLUSTERS = st.builds(
    Cluster, NAMES, st.integers(1, 2**32), st.integers(1, 2**63), st.integers(1, 2**63 - 1)
)
DOCUMENTS = st.one_of(assignments(), sets(), NODES, CLUSTERS, jobs(), orders())


@settings(max_examples=200)
@given(DOCUMENTS)
def test_every_document_comes_back_and_equal_ones_are_equal_bytes(document: Any) -> None:
    raw = document.to_json()
    again = type(document).from_json(raw)
    assert again == document
    assert hash(again) == hash(document), "what is shared by all who read it cannot be changed"
    assert again.to_json() == raw
    assert json.loads(raw)["format"] == 1


@given(st.one_of(assignments(), NODES))
def test_a_second_address_is_written_where_there_is_one_and_nowhere_else(
    document: Assignments | Node,
) -> None:
    """Versions of before know of none, and read nothing that they do not know."""
    if isinstance(document, Node):
        owners = [document.owner]
    else:
        owners = [e.owner for e in document.entries]
        owners += [e.successor for e in document.entries if e.successor is not None]
    again = type(document).from_json(document.to_json())
    found = [again] if isinstance(again, Node) else again.entries
    assert [one.peer_address for one in found] == [
        owner.peer_address for owner in owners[: len(found)]
    ]
    peers = sum(owner.peer_address != "" for owner in owners)
    assert document.to_json().count(b'"peer_address":') == peers
    assert all(owner.reached == (owner.peer_address or owner.address) for owner in owners)


@given(sets())
def test_a_set_of_one_range_is_written_as_before_there_could_be_several(spec: SetSpec) -> None:
    fields = json.loads(spec.to_json())
    if len(spec.ranges) == 1:
        assert (fields["first"], fields["last"]) == spec.ranges[0]
        assert "ranges" not in fields
    else:
        assert "first" not in fields
        assert [(one["first"], one["last"]) for one in fields["ranges"]] == list(spec.ranges)


@given(st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 9)), max_size=4))
def test_ranges_of_a_set_rise_and_do_not_touch_or_are_refused(drawn: list[tuple[int, int]]) -> None:
    held = [set(range(first, last + 1)) for first, last in drawn]
    apart = all(
        min(later) > max(earlier) + 1 for earlier, later in pairwise(held) if earlier and later
    )
    sound = all(held) and all(first >= 0 for first, _ in drawn) and apart
    try:
        spec = SetSpec("s", tuple(Range(*span) for span in drawn), (Replica("r", "", 1),), 1, 1)
    except ValueError:
        assert not sound
        return
    assert sound
    everything = set[int]().union(*held)
    assert spec.sections == len(everything)
    for first in range(10):
        for last in range(first, 10):
            # Whole ranges: between two ranges there always is a section of somebody else.
            assert spec.covers(first, last) == (set(range(first, last + 1)) <= everything)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_every_reader(raw: bytes) -> None:
    for kind in (Assignments, SetSpec, Node, Cluster, Job, Orders):
        with pytest.raises(MapCorrupt, match="map document"):
            kind.from_json(raw)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**65), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, by the keys that lead to it."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [place for key, inner in items for place in [(*path, key), *places(inner, (*path, key))]]


@settings(max_examples=400)
@given(DOCUMENTS, st.data())
def test_a_changed_document_is_refused_or_says_just_what_it_was_changed_to(
    document: Any, data: st.DataObject
) -> None:
    """Nothing is guessed, dropped or rounded on the way, wherever somebody has put his hand in."""
    whole = json.loads(document.to_json())
    *path, key = data.draw(st.sampled_from(places(whole)))
    inside = whole
    for step in path:
        inside = inside[step]
    how = data.draw(st.sampled_from(["remove", "replace", "replace", "add"]))
    if how == "remove" and isinstance(inside, dict):
        del inside[key]
    elif how == "add" and isinstance(inside, dict):
        name = st.text(min_size=1, max_size=4) | st.sampled_from(["alone", "unbalanced", "joint"])
        inside[data.draw(name)] = data.draw(st.booleans() | JSON)
    else:
        inside[key] = data.draw(st.one_of(JSON, st.booleans(), st.integers(0, 5)))
    changed = json.dumps(whole).encode()
    try:
        read = type(document).from_json(changed)
    except MapCorrupt as error:
        assert str(error).startswith("map document '")
        return
    told = json.loads(read.to_json())
    assert (told, kinds(told)) == (whole, kinds(whole))


def kinds(value: Any) -> Any:
    """To Python True is 1 and 1 is 1.0; to JSON they are three things."""
    if isinstance(value, dict):
        return {key: kinds(inner) for key, inner in value.items()}
    return [kinds(inner) for inner in value] if isinstance(value, list) else type(value)


@given(DOCUMENTS, st.data())
def test_a_field_that_occurs_twice_is_refused(document: Any, data: st.DataObject) -> None:
    whole = json.loads(document.to_json())
    name = data.draw(st.sampled_from(sorted(whole)))
    twice = document.to_json().decode().removesuffix("}")
    twice += f",{json.dumps(name)}:{json.dumps(whole[name])}}}"
    with pytest.raises(MapCorrupt, match=f"{name} occurs twice"):
        type(document).from_json(twice.encode())


READERS: list[tuple[Callable[[Fields], object], Callable[[Any], bool]]] = [
    (lambda fields: fields.text("x"), lambda v: isinstance(v, str)),
    (lambda fields: fields.flag("x"), lambda v: isinstance(v, bool)),
    (lambda fields: fields.integer("x", 0, 9), lambda v: type(v) is int and 0 <= v <= 9),
    (lambda fields: fields.many("x", lambda f: f.finish()), lambda v: isinstance(v, list)),
]


@given(JSON)
def test_a_field_is_what_its_reader_says_or_is_named(value: Any) -> None:
    raw = json.dumps({"format": 1, "x": value}).encode()
    for read, fits in READERS:
        try:
            built = decode("thing", raw, read)
        except MapCorrupt as error:
            assert str(error).startswith("map document 'thing': ")
            assert "x" in str(error) or "JSON" in str(error)
            assert not fits(value) or (
                isinstance(value, list) and any(item != {} for item in value)
            )
        else:
            assert fits(value)
            assert built == value or isinstance(value, list)


@given(IDS)
def test_ids_are_written_as_16_hex_digits(value: int) -> None:
    raw = encode({"x": hex64(value)})
    assert decode("thing", raw, lambda fields: fields.hex64("x")) == value
    assert node_key("s", value).removeprefix(nodes_prefix("s")) == hex64(value)


# -- what the values say


@given(assignments(), st.data())
def test_owners_and_epochs_are_found_as_by_looking_at_every_entry(
    document: Assignments, data: st.DataObject
) -> None:
    spans = [(e.first, e.last, e.epoch) for e in document.entries]
    spans += [(f.first, f.last, f.epoch) for f in document.floors]
    ends = [end for first, last, _ in spans for end in (first, last)]
    near = st.sampled_from([0, *ends]).flatmap(lambda end: st.integers(max(0, end - 1), end + 1))
    first, last = sorted([data.draw(near), data.draw(near)])
    owner = [e for e in document.entries if e.first <= first <= e.last]
    assert document.owner(first) == (owner[0] if owner else None)
    known = [epoch for low, high, epoch in spans if low <= last and first <= high]
    assert document.highest_epoch(first, last) == max(known, default=0)


@given(st.integers(-1, 6), st.integers(-1, 6), st.integers(-1, 6))
def test_quorums_that_do_not_meet_are_refused(n: int, r: int, w: int) -> None:
    """By trying: every R replicas must meet every W."""

    def meets() -> bool:
        reads = combinations(range(n), r)
        return all(set(some) & set(more) for some in reads for more in combinations(range(n), w))

    sound = 1 <= r <= n and 1 <= w <= n and meets()
    try:
        Quorum(n, r, w)
    except ValueError:
        assert not sound
    else:
        assert sound


@st.composite
def maps(draw: st.DrawFn) -> tuple[Cluster, dict[str, SetSpec], dict[str, Assignments]]:
    """Two Sets that share the sections, and documents that may reach beyond them."""
    whose = draw(st.lists(st.sampled_from(["a", "b", ""]), min_size=20, max_size=20))
    cut = sorted(draw(st.sets(st.integers(1, 19), max_size=4)) | {0})
    specs = {}
    for name in ("a", "b"):
        parts = zip(cut, [*cut[1:], 20], strict=True)
        held = [Range(first, end - 1) for first, end in parts if whose[first] == name]
        specs[name] = SetSpec(name, tuple(union(held)), (Replica("r", "a:1", 1),), 1, 1)
    documents = {}
    for name in draw(st.sets(st.sampled_from(["a", "a", "b", "b", "c"]))):
        whole = draw(st.sampled_from([False, False, False, True])) or name not in specs
        entries: list[Assignment] = []
        for least, most in [(0, 19)] if whole else specs[name].ranges:
            ends = sorted(draw(st.sets(st.integers(least, most), max_size=6)))
            epoch, leaving = draw(st.integers(1, 5)), draw(st.booleans())
            entries += [
                Assignment(first, last, 1, f"{name}:1", epoch, leaving)
                for first, last in zip(ends[::2], ends[1::2], strict=False)
            ]
        documents[name] = Assignments(name, draw(st.integers(0, 9)), tuple(entries))
    return Cluster("c", 10, 200), specs, documents


@settings(max_examples=200)
@given(maps())
def test_routes_are_those_of_every_section_or_the_map_is_refused_route_1(
    drawn: tuple[Cluster, dict[str, SetSpec], dict[str, Assignments]],
) -> None:
    cluster, specs, documents = drawn
    expected: dict[int, tuple[str, int]] = {}
    sound = True
    for name, document in documents.items():
        for entry in document.entries:
            for section in range(entry.first, entry.last + 1):
                held = specs[name].ranges if name in specs else ()
                inside = any(first <= section <= last for first, last in held)
                sound = sound and inside and section not in expected
                expected[section] = (entry.address, entry.epoch)
    if not sound:
        with pytest.raises(MapCorrupt):
            routing_table(cluster, specs, documents)
        return
    table = routing_table(cluster, specs, documents)
    assert table.version == sum(document.version for document in documents.values())
    for section in range(20):
        route = table.lookup(section)
        assert (route and (route.address, route.epoch)) == expected.get(section)


def test_a_load_names_only_so_many_hot_sections() -> None:
    Load(hot=((1, 1),) * MAX_HOT)
    with pytest.raises(ValueError, match="hot"):
        Load(hot=((1, 1),) * (MAX_HOT + 1))


@given(jobs())
def test_a_job_names_the_sets_it_concerns_and_is_of_one_kind(job: Job) -> None:
    assert job.sets == frozenset(
        {job.move.source, job.move.target} if job.move else {job.reform.set} if job.reform else ()
    )
    for wrong in ({"move": None, "reform": None}, {"move": MOVE, "reform": REFORM}):
        with pytest.raises(ValueError, match="either a move or a reform"):
            replace(job, **wrong)


MOVE = Move("a", "b", (Range(0, 1),), 1, 1)
REFORM = Reform("a", (Replica("r", "a:1", 1),), 1, 1)


@pytest.mark.parametrize(
    ("part", "wrong", "text"),
    [
        (MOVE, {"target": "a"}, "from Set 'a' to itself"),
        (MOVE, {"ranges": ()}, "needs sections"),
        (
            MOVE,
            {"ranges": (Range(0, 3), Range(3, 4))},
            "3..4 is no range of sections, or out of place",
        ),
        (MOVE, {"ranges": (Range(3, 2),)}, "3..2 is no range of sections, or out of place"),
        (REFORM, {"replicas": REFORM.replicas * 2}, "share a name"),
        (REFORM, {"r": 2}, "R = 2 must be"),
    ],
)
def test_a_job_that_cannot_be_done_is_no_job(part: Any, wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(part, **wrong)
