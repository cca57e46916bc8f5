"""What `seqctl cluster` makes of replicas' words and of a map, against looking at each of them.

NRW-2: a replica that does not know, or is another one, is never written into a map beside others;
and a report is well only if every section has somebody to serve it and every replica counts.
"""

import json
from argparse import ArgumentTypeError
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.model import (
    CLUSTER_KEY,
    Assignment,
    Assignments,
    Cluster,
    Owner,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqctl.cluster_plan import (
    Wanted,
    WantedSet,
    check_wanted,
    described,
    is_what_stands,
    plan,
    wanted_set,
)
from seqctl.cluster_report import picture, report
from seqctl.failures import NotDone, WrongUsage
from seqsvr.sections import SEQ_LIMIT
from seqsvr.v1 import store_pb2 as pb

SECTIONS = 10
SPANS = st.one_of(
    st.none(), st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda s: Range(min(s), max(s)))
)


@st.composite
def wanteds(draw: st.DrawFn) -> Wanted:
    count = draw(st.sampled_from([1, 1, 2]))
    cut = draw(st.integers(0, 8))
    good = [Range(0, cut), Range(cut + 1, 9)] if count == 2 else [None]
    sets = []
    for index in range(count):
        span = draw(st.one_of(st.just(good[index]), st.just(good[index]), SPANS))
        n = draw(st.sampled_from([3, 2, 1]))
        addresses = tuple(f"h{index}:{port}" for port in range(1, n + 1))
        sets.append(WantedSet(f"set-{index}", (span,) if span else (), addresses))
    if draw(st.integers(0, 9)) == 9:
        sets.append(sets[0])
    r, w = draw(st.sampled_from([(None, None), (None, None), (2, 2), (1, 3), (1, 2), (3, None)]))
    return Wanted(tuple(sets), r, w, SEQ_LIMIT, draw(st.booleans()))


FLAWS = ["cluster", "set", "uid_limit", "membership", "store_id", "replica", "out"]


@st.composite
def infos(draw: st.DrawFn, wanted: Wanted) -> dict[str, pb.InfoResponse]:
    """What each replica says: as it should, but for a flaw or two."""
    said: dict[str, pb.InfoResponse] = {}
    for one in wanted.sets:
        for address in one.addresses:
            said[address] = pb.InfoResponse(
                store_id=len(said) + 1,
                cluster="c",
                set=one.name,
                replica=f"r-{address[-1]}",
                membership=1,
                section_size=10,
                uid_limit=10 * SECTIONS,
            )
    used = draw(st.sampled_from(["nobody", "nobody", "all", "some"]))
    for info in said.values():
        info.sections = 4 * (used == "all" or (used == "some" and draw(st.booleans())))
    for flaw in draw(st.lists(st.sampled_from(FLAWS), max_size=1)):
        info = said[draw(st.sampled_from(sorted(said)))]
        if flaw in ("cluster", "set"):
            setattr(info, flaw, "other")
        elif flaw == "uid_limit":
            info.uid_limit = 30
        elif flaw == "membership":
            info.membership = 2
        elif flaw == "store_id":
            info.store_id = 1
        elif flaw == "replica":
            info.replica = "r-1"
        else:
            info.out_of_quorum = "corrupt"
    return said


def usable(wanted: Wanted) -> bool:
    names = [one.name for one in wanted.sets]
    if len(set(names)) != len(names):
        return False
    if len(names) > 1 and any(not one.spans for one in wanted.sets):
        return False
    for one in wanted.sets:
        n = len(one.addresses)
        r, w = wanted.r or n // 2 + 1, wanted.w or n // 2 + 1
        if not (r <= n and w <= n and r + w > n):
            return False
    return True


def sound(wanted: Wanted, said: dict[str, pb.InfoResponse]) -> bool:
    """Replica by replica and pair by pair."""
    every = [(one, said[address]) for one in wanted.sets for address in one.addresses]
    for one, info in every:
        if info.set != one.name or info.out_of_quorum or (info.sections and not wanted.adopt):
            return False
    for one, info in every:
        for other, another in every:
            if info is another:
                continue
            if (info.cluster, info.uid_limit) != (another.cluster, another.uid_limit):
                return False
            if info.store_id == another.store_id:
                return False
            if one is other and (
                info.membership != another.membership
                or info.replica == another.replica
                or bool(info.sections) != bool(another.sections)
            ):
                return False
    return True


@settings(max_examples=400)
@given(st.data())
def test_a_map_names_only_replicas_that_know_and_gives_each_section_one_set_nrw_2(
    data: st.DataObject,
) -> None:
    wanted = data.draw(wanteds())
    try:
        check_wanted(wanted)
    except WrongUsage:
        assert not usable(wanted)
        return
    assert usable(wanted)
    said = data.draw(infos(wanted))
    sections = next(iter(said.values())).uid_limit // 10
    covered = [s for one in wanted.sets for s in range(*span_of(one, sections))]
    try:
        made = plan(wanted, said)
    except NotDone as error:
        assert not sound(wanted, said)
        assert "nothing was written" in str(error)
        return
    except WrongUsage:
        assert sound(wanted, said)
        assert sorted(covered) != list(range(sections))
        return
    assert sound(wanted, said)
    assert sorted(covered) == list(range(sections))
    for one, spec in zip(wanted.sets, made.specs, strict=True):
        stores = [(said[a].replica, a, said[a].store_id) for a in one.addresses]
        assert spec.replicas == tuple(Replica(*store) for store in stores)
    puts = made.puts()
    assert Cluster.from_json(puts[CLUSTER_KEY]) == made.cluster
    assert is_what_stands(wanted, puts)
    assert not is_what_stands(replace(wanted, seq_limit=9), puts)
    assert not is_what_stands(wanted, {})
    for one in wanted.sets:
        assert Assignments.from_json(puts[assignments_key(one.name)]).entries == ()
        assert f"Set {one.name} " in described(puts)


def span_of(one: WantedSet, sections: int) -> tuple[int, int]:
    ((first, last),) = one.spans or (Range(0, sections - 1),)
    return first, last + 1


SET_TEXTS = st.one_of(
    st.text(max_size=20),
    st.text("set-0:19=h,", max_size=20),
    st.builds(
        lambda name, span, where: f"{name}{span}={where}",
        st.sampled_from(["set-0", "a", "a b", ""]),
        st.sampled_from(["", ":0-9", ":3-3", ":3-3,5-9", ":9-0", ":-", ":1"]),
        st.lists(st.sampled_from(["h:1", "[::1]:2", "h", ":3"]), max_size=2).map(",".join),
    ),
)


@given(SET_TEXTS)
def test_a_set_is_read_as_it_was_written_or_refused(text: str) -> None:
    try:
        read = wanted_set(text)
    except (ValueError, ArgumentTypeError):
        return
    span = ":" * bool(read.spans) + ",".join(f"{first}-{last}" for first, last in read.spans)
    parts = text.partition("=")
    assert tuple(part.strip() for part in parts[2].split(",")) == read.addresses
    assert wanted_set(f"{read.name}{span}={parts[2]}") == read


# -- reports

ONE, TWO = Owner(1, "n:1"), Owner(2, "n:2")
STORES = tuple(Replica(f"r-{i}", f"s:{i}", i) for i in (1, 2, 3))
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), STORES, 2, 2)


@settings(max_examples=200)
@given(st.data())
def test_a_report_is_well_if_and_only_if_nothing_is_missing(data: st.DataObject) -> None:
    cut, owned = sorted([data.draw(st.integers(1, 8)), data.draw(st.sampled_from([5, 9, 9]))])
    entries = [Assignment(0, cut - 1, 1, "n:1", 1), Assignment(cut, owned, 2, "n:2", 1, True)]
    document = Assignments("s", 3, tuple(entries[: 1 + (owned >= cut)]))
    registered = data.draw(st.sets(st.sampled_from([ONE, TWO])))
    stored = {
        CLUSTER_KEY: Cluster("c", 10, 10 * SECTIONS).to_json(),
        set_key("s"): SPEC.to_json(),
        assignments_key("s"): document.to_json(),
    }
    for owner in registered:
        node = Node(owner.incarnation, owner.address, "s")
        stored[node_key("s", owner.incarnation)] = node.to_json()
    spoilt = data.draw(st.sampled_from(["", "", *sorted(stored)]))
    if spoilt:
        stored[spoilt] = b"{}"
    answers: st.SearchStrategy[bool | str] = st.sampled_from([True, False, "refused"])
    probes = {owner: data.draw(answers) for owner in (ONE, TWO)}
    said: dict[str, pb.InfoResponse | str] = {}
    for store in STORES:
        how = data.draw(st.sampled_from(["well", "well", "well", "silent", "anew", "out"]))
        said[store.address] = pb.InfoResponse(
            cluster="c",
            set="s",
            store_id=9 if how == "anew" else store.store_id,
            out_of_quorum="corrupt" if how == "out" else "",
        )
        if how == "silent":
            said[store.address] = "no answer"
    told = report(picture(7, {key: (raw, 1) for key, raw in stored.items()}), said, probes)
    replicas_well = all(
        not isinstance(info, str) and info.store_id == store.store_id and not info.out_of_quorum
        for store, info in ((store, said[store.address]) for store in STORES)
    )
    there = {owner for owner in (ONE, TWO) if owner in registered or probes[owner] is True}
    holders = {Owner(entry.incarnation, entry.address) for entry in document.entries}
    served = owned == SECTIONS - 1 and holders <= there
    assert told.well == (not spoilt and replicas_well and served)
    assert told.well == (not told.problems)
    assert json.loads(json.dumps(told.shown)) == told.shown
