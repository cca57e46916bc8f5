"""Moves beside dumb oracles: which half is moved, what may be made of the map, what is clean.

The verdict on a finished move asks about quorums; the oracle tries every one of them.
"""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.coordinator import Listing, Versioned
from clustermap.jobs import Job, Move, State, job_key
from clustermap.model import Assignments, Cluster, Replica, SetSpec, assignments_key, set_key
from clustermap.nodes import Node
from clustermap.placement import raise_floor, reassign
from clustermap.ranges import Range
from clustermap.spans import union
from seqctl.failures import NotDone
from seqctl.map_view import View, view
from seqctl.move_plan import ALL, HALF, Asked, aborted, paused, planned, resumed, started
from seqctl.move_verdict import Finding, Seen, concerned, findings
from seqctl.set_plan import retirement

SECTIONS = 8
JOB = 0xC0FFEE


def store(n: int) -> tuple[Replica, ...]:
    return tuple(Replica(f"r-{i}", f"s:{i}", i) for i in range(1, n + 1))


def seen(
    specs: dict[str, SetSpec], documents: dict[str, Assignments] | None = None, *jobs: Job
) -> View:
    entries = {"cluster": Cluster("c", 10, 10 * SECTIONS).to_json()}
    for name, spec in specs.items():
        entries[set_key(name)] = spec.to_json()
        entries[assignments_key(name)] = (documents or {}).get(name, Assignments(name)).to_json()
        node = Node(ord(name), f"{name}:1", name)
        entries[f"nodes/{name}/{node.incarnation:016x}"] = node.to_json()
    entries |= {job_key(job.id): job.to_json() for job in jobs}
    return view(Listing(1, {key: Versioned(raw, 1) for key, raw in entries.items()}))


def ranges(sections: set[int]) -> tuple[Range, ...]:
    return tuple(union(Range(section, section) for section in sections))


# -- plans


@given(st.sets(st.integers(0, 40), max_size=20), st.sets(st.integers(0, 40), max_size=8))
def test_a_move_is_of_what_the_source_has_and_a_half_is_the_upper_one(
    held: set[int], asked: set[int]
) -> None:
    spec = SetSpec("a", ranges(held), store(3), 2, 2)
    found = seen({"a": spec, "b": replace(spec, name="b", ranges=())})
    upper = sorted(held)[len(held) - len(held) // 2 :]
    for which, wanted in ((ALL, held), (HALF, set(upper)), (ranges(asked), asked)):
        try:
            made, _ = planned(found, Asked("a", "b", which, 3), by="", created_s=1, incarnation=JOB)
        except (NotDone, ValueError):
            assert not wanted or not wanted <= held
            continue
        assert wanted and wanted <= held
        told = {s for span in made.move.ranges for s in range(span.first, span.last + 1)}
        assert told == wanted
        assert (made.chunks - 1) * 3 < len(wanted) <= made.chunks * 3


STEPS = ("start", "pause", "resume", "abort", "retire a", "retire b", "plan")


@given(st.lists(st.sampled_from(STEPS), max_size=8), st.sets(st.integers(0, SECTIONS - 1)))
def test_no_set_of_an_unfinished_job_is_retired_or_given_another_job(
    steps: list[str], held: set[int]
) -> None:
    """Whatever operators do, in any order."""
    specs = {
        "a": SetSpec("a", ranges(held), store(1), 1, 1),
        "b": SetSpec("b", (), store(1), 1, 1),
    }
    jobs: dict[str, Job] = {}
    for step in steps:
        found = seen(specs, None, *jobs.values())
        last = next(reversed(jobs), "none")
        try:
            if step == "plan":
                asked = Asked("a", "b", ALL)
                job = planned(found, asked, by="", created_s=1, incarnation=JOB)[0].job
            elif step.startswith("retire"):
                del specs[retirement(found, step[-1])[0].name]
                assert all(job.state is State.ABORTED for job in jobs.values())
                continue
            elif step == "abort":
                job = aborted(found, last, undo=False)[0]
            else:
                turn = {"start": started, "pause": paused, "resume": resumed}[step]
                job = turn(found, last)[0]
        except NotDone:
            continue
        jobs[job.id] = job
        unfinished = [job for job in jobs.values() if job.state is not State.ABORTED]
        assert len(unfinished) <= 1
        assert all(name in specs for job in unfinished for name in job.sets)


# -- verdicts

SEEN = st.builds(Seen, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
HAVING = Seen(3, 3, 0)
LOST = Seen(3, 1, 2)


@st.composite
def sides(draw: st.DrawFn) -> tuple[dict[str, SetSpec], dict[str, list[dict[int, Seen]]]]:
    """Two Sets that share the sections, and what the replicas that answer have."""
    owners = draw(st.lists(st.sampled_from("ab"), min_size=SECTIONS, max_size=SECTIONS))
    specs: dict[str, SetSpec] = {}
    answers: dict[str, list[dict[int, Seen]]] = {}
    for name in "ab":
        n = draw(st.integers(1, 3))
        r = draw(st.integers(1, n))
        w = draw(st.integers(n - r + 1, n))
        own = {section for section in range(SECTIONS) if owners[section] == name}
        specs[name] = SetSpec(name, ranges(own), store(n), r, w)
        answers[name] = []
        for _ in range(draw(st.integers(r, n))):
            usual = {s: HAVING if s in own else LOST for s in range(SECTIONS)}
            changed = draw(st.dictionaries(st.integers(0, SECTIONS - 1), SEEN, max_size=4))
            answers[name].append({s: one for s, one in {**usual, **changed}.items() if any(one)})
    return specs, answers


def is_clean(spec: SetSpec, own: list[Seen], other: SetSpec, theirs: list[Seen]) -> bool:
    """By trying every quorum."""
    unknown = len(spec.replicas) - len(own)
    may_serve = any(
        not any(one.shut for one in some)
        for count in range(max(0, spec.w - unknown), len(own) + 1)
        for some in combinations(own, count)
    )
    all_blank = all(one.blank for one in theirs)
    lost = all(any(one.shut for one in some) for some in combinations(theirs, other.r))
    greatest = max(one.max_seq for one in theirs)
    known = all(max(one.max_seq for one in some) >= greatest for some in combinations(own, spec.r))
    return may_serve and (all_blank or lost) and known


def at(found: list[Finding]) -> set[int]:
    return {section for one in found for section in range(one.first, one.last + 1)}


@settings(max_examples=300)
@given(sides())
def test_a_move_is_clean_if_every_quorum_says_so(
    drawn: tuple[dict[str, SetSpec], dict[str, list[dict[int, Seen]]]],
) -> None:
    specs, answers = drawn
    move = Move("a", "b", (Range(1, 5), Range(7, 7)), JOB, 4)
    wrong = set()
    for section in (1, 2, 3, 4, 5, 7):
        a, b = specs["a"], specs["b"]
        if b.covers(section, section):
            a, b = b, a
        own, theirs = (
            [records.get(section, Seen()) for records in answers[spec.name]] for spec in (a, b)
        )
        if not is_clean(a, own, b, theirs):
            wrong.add(section)
    assert at(findings(seen(specs), move, answers)) == wrong


@given(st.integers(0, 7), st.sampled_from(["entry", "job", "heir", "epoch", "two", "none"]))
def test_a_map_that_contradicts_itself_is_not_clean(section: int, what: str) -> None:
    spec = SetSpec("a", (Range(0, 3),), store(1), 1, 1)
    specs = {"a": spec, "b": replace(spec, name="b", ranges=(Range(4, 7),))}
    documents = {
        "a": reassign(Assignments("a"), 0, 3, Node(9, "a:1", "a")),
        "b": reassign(Assignments("b"), 4, 7, Node(9, "b:1", "b")),
    }
    move = Move("a", "b", (Range(0, 7),), JOB, 4)
    records = [{s: HAVING if (s < 4) == (name == "a") else LOST for s in range(8)} for name in "ab"]
    answers = {"a": [records[0]], "b": [records[1]]}
    assert findings(seen(specs, documents), move, answers) == []
    owner, other = ("a", "b") if section < 4 else ("b", "a")
    if what == "entry":
        node = Node(9, "x:1", other)
        documents[other] = reassign(documents[other], section, section, node)
        documents[owner] = raise_floor(documents[owner], section, section, 9)
    elif what == "job":
        node = Node(JOB, "x:1", owner)
        documents[owner] = reassign(documents[owner], section, section, node)
    elif what == "heir":
        changed = [
            replace(e, leaving=True, successor=Node(JOB, "", owner).owner)
            for e in documents[owner].entries
        ]
        documents[owner] = replace(documents[owner], entries=tuple(changed))
    elif what == "epoch":
        documents[other] = raise_floor(documents[other], section, section, 9)
    else:
        mine = {*range(4)} if other == "a" else {*range(4, 8)}
        theirs = {*range(8)} - mine
        more = mine | {section} if what == "two" else mine
        less = theirs if what == "two" else theirs - {section}
        specs[other] = replace(specs[other], ranges=ranges(more))
        specs[owner] = replace(specs[owner], ranges=ranges(less))
    wrong = at(findings(seen(specs, documents), move, answers))
    whole = set(range(4)) if section < 4 else set(range(4, 8))
    assert wrong == (whole if what == "heir" else {section})


def test_whoever_has_the_sections_by_now_is_asked_too() -> None:
    spec = SetSpec("a", (Range(0, 3),), store(1), 1, 1)
    specs = {
        "a": spec,
        "b": replace(spec, name="b", ranges=()),
        "c": replace(spec, name="c", ranges=(Range(4, 7),)),
    }
    found = seen(specs)
    names = [one.name for one in concerned(found, Move("a", "b", (Range(4, 5),), JOB, 4))]
    assert names == ["a", "b", "c"]
    assert [s.name for s in concerned(found, Move("a", "b", (Range(0, 0),), JOB, 4))] == ["a", "b"]
    with pytest.raises(KeyError):
        findings(found, Move("a", "b", (Range(4, 5),), JOB, 4), {"a": [], "b": []})


@given(SEEN)
def test_a_seal_holds_until_an_owner_of_its_epoch_or_a_later_one_is_recorded(seen: Seen) -> None:
    assert seen.shut == (seen.sealed >= 1 and not seen.owner_epoch > seen.sealed)
