"""The map's side of a move, section by section, against rules that look at one section only.

Epochs of a section never fall, in whichever Set it is; the job's entries keep their callers' way;
every section of the two Sets is in exactly one of them afterwards. ROUTE-1, FENCE-1.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.model import Assignment, Assignments, Floor, Owner, Replica, SetSpec
from clustermap.ranges import Range
from clustermap.spans import union
from clustermap.switching import (
    Home,
    as_floors,
    claimed,
    epochs,
    next_chunk,
    spent,
    switched,
    under_way,
)

JOB, LAST = 99, 11
CHUNKS = st.sets(st.integers(0, LAST), min_size=1).map(
    lambda found: union(Range(s, s) for s in found)
)


@st.composite
def documents(draw: st.DrawFn) -> Assignments:
    entries, floors = [], []
    for section in range(LAST + 1):
        if draw(st.booleans()):
            floors.append(Floor(section, section, draw(st.integers(1, 9))))
        if draw(st.booleans()):
            who = draw(st.sampled_from([1, 2, JOB]))
            leaving = who != JOB and draw(st.booleans())
            heir = Owner(draw(st.sampled_from([2, JOB])), f"n:{who}") if leaving else None
            epoch = draw(st.integers(1, 9))
            entries.append(Assignment(section, section, who, f"n:{who}", epoch, leaving, heir))
    return Assignments("a", draw(st.integers(0, 9)), tuple(entries), tuple(floors))


def known(document: Assignments, section: int) -> int:
    return document.highest_epoch(section, section)


@settings(max_examples=200)
@given(documents(), CHUNKS)
def test_claiming_asks_nodes_takes_what_is_nobodys_and_leaves_the_rest_alone(
    old: Assignments, chunk: list[Range]
) -> None:
    new = claimed(old, chunk, JOB, "x:1")
    assert claimed(new, chunk, JOB, "x:1") is new, "done once"
    assert (new is old) == (new.version == old.version)
    inside = {s for span in chunk for s in range(span.first, span.last + 1)}
    for section in range(LAST + 1):
        before, after = old.owner(section), new.owner(section)
        assert known(new, section) >= known(old, section)
        if section not in inside:
            assert (before and (before.incarnation, before.epoch, before.leaving)) == (
                after and (after.incarnation, after.epoch, after.leaving)
            )
        elif before is None or before.incarnation == JOB:
            assert after is not None and after.incarnation == JOB and not after.leaving
            assert after.address == (before.address if before else "x:1")
            fresh = before is None or known(old, section) != before.epoch
            floors = [f.epoch for f in old.floors if f.first <= section <= f.last]
            fresh = fresh or bool(before and max(floors, default=0) >= before.epoch)
            assert (after.epoch > known(old, section)) == fresh
        else:
            assert after is not None and after.leaving
            assert (after.incarnation, after.epoch) == (before.incarnation, before.epoch)
            assert after.successor == Owner(JOB, before.address)
    assert inside <= {s for span in under_way(new, JOB) for s in range(span.first, span.last + 1)}
    won = epochs(new, chunk, JOB)
    owned = {s: e for s in inside if (e := job_epoch(new, s))}
    assert won == (owned if owned.keys() == inside else None)


def job_epoch(document: Assignments, section: int) -> int:
    entry = document.owner(section)
    return entry.epoch if entry is not None and entry.incarnation == JOB else 0


@settings(max_examples=200)
@given(documents(), st.dictionaries(st.integers(0, LAST), st.integers(1, 12), min_size=1))
def test_a_spent_epoch_is_outbid_by_the_next_claim(
    old: Assignments, promised: dict[int, int]
) -> None:
    chunk = union(Range(s, s) for s in promised)
    new = claimed(spent(old, promised), chunk, JOB, "x:1")
    for section, epoch in promised.items():
        if held := job_epoch(new, section):
            assert held > epoch or held > known(old, section) >= epoch or held > epoch
    assert {s: f.epoch for f in as_floors(promised) for s in range(f.first, f.last + 1)} == promised


@settings(max_examples=200)
@given(
    st.sets(st.integers(0, LAST), min_size=1),
    st.sets(st.integers(0, LAST)),
    st.lists(st.integers(1, 3), max_size=3, unique=True),
    st.booleans(),
    st.data(),
)
def test_a_switch_moves_the_chunk_and_nothing_else(
    ours: set[int], wanted: set[int], nodes: list[int], stays: bool, data: st.DataObject
) -> None:
    chunk = sorted(ours & wanted)
    if not chunk:
        return
    theirs = set(range(LAST + 1)) - ours
    won = {s: data.draw(st.integers(5, 7)) for s in chunk}
    entries = tuple(Assignment(s, s, JOB, "n:1", e) for s, e in won.items())
    others = tuple(Floor(s, s, data.draw(st.integers(1, 9))) for s in range(LAST + 1))
    home = Home(spec("a", ours), Assignments("a", 3, entries))
    dest = Home(spec("b", theirs), Assignments("b", 4, (), others))
    heirs = [Owner(n, f"b:{n}") for n in nodes]
    left, gained = switched(home, home if stays else dest, won, heirs)
    target = gained.assignments
    for s in chunk:
        owner = target.owner(s)
        assert (owner is None) == (not heirs)
        if owner is not None:
            assert owner.epoch > won[s] and Owner(owner.incarnation, owner.address) in heirs
            before = 0 if stays else known(dest.assignments, s)
            assert owner.epoch > before
        else:
            assert known(target, s) >= won[s]
    if stays:
        assert left == gained and left.spec == home.spec
        return
    assert sections(left.spec) == ours - set(chunk)
    assert sections(gained.spec) == theirs | set(chunk)
    assert all(left.assignments.owner(s) is None for s in chunk)
    assert all(known(left.assignments, s) >= won[s] for s in chunk)
    assert left.assignments.version > 3 and target.version >= 4, "ROUTE-1: their sum rises"


@given(st.sets(st.integers(0, LAST)), CHUNKS, st.integers(1, 5))
def test_the_next_chunk_is_the_first_of_what_the_set_still_has(
    ours: set[int], ranges: list[Range], count: int
) -> None:
    wanted = {s for span in ranges for s in range(span.first, span.last + 1)}
    found = next_chunk(spec("a", ours), ranges, count)
    flat = [s for span in found for s in range(span.first, span.last + 1)]
    assert flat == sorted(ours & wanted)[:count]


def spec(name: str, owned: set[int]) -> SetSpec:
    ranges = tuple(union(Range(s, s) for s in owned))
    return SetSpec(name, ranges, (Replica("r", f"{name}:1", 1),), 1, 1)


def sections(of: SetSpec) -> set[int]:
    return {s for span in of.ranges for s in range(span.first, span.last + 1)}
