"""Checkers that follow states over time, beside oracles that keep the whole story. Pure.

NRW-2, LEASE-2, ROUTE-1, liveness, and what these are made of; the numbers themselves are checked
by test_seqcheck_online_oracles.py.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from seqcheck.calls import Call
from seqcheck.knowing import OnlyThoseWhoKnow
from seqcheck.liveness import Liveness
from seqcheck.routes import Routes
from seqcheck.runs import Runs
from seqcheck.sweep import falls
from seqcheck.violations import Violation, event
from seqcheck.without_map import LAWFUL, ServesWithoutMap

SMALL = st.integers(1, 4)
SECTION = st.sampled_from([None, 1, 2])
STEP_NS = 10


def stories(*kinds: tuple[Any, ...]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """(name, values...) of each step; steps are STEP_NS apart."""
    steps = [st.tuples(st.just(name), *values) for name, *values in kinds]
    return st.lists(st.one_of(*steps), max_size=14)


def agreed(promise: str, said: list[Violation | None], kept: list[Violation]) -> None:
    """All that was said is kept, in order, and tells its evidence in order of time."""
    assert [one for one in said if one is not None] == kept
    for violation in kept:
        times = [item.at_ns for item in violation.evidence if not isinstance(item, Call)]
        assert times == sorted(times) and times[-1] == violation.at_ns
        assert violation.promise == promise
        assert str(violation).count("\n") == len(violation.evidence)


@given(
    stories(
        ("unfit", st.sampled_from("ab"), SECTION, st.sampled_from(["blank", ""])),
        ("fit", st.sampled_from("ab"), SECTION),
        ("counted", st.sampled_from("ab"), SECTION, st.integers(0, 40)),
    )
)
def test_an_answer_counts_if_its_replica_knew_when_it_was_given_nrw_2(
    story: list[tuple[Any, ...]],
) -> None:
    checker, said = OnlyThoseWhoKnow(), []
    for number, (what, replica, section, *more) in enumerate(story):
        at_ns = number * STEP_NS
        if what == "unfit":
            said.append(checker.unfit(at_ns, replica, *more, section=section))
        elif what == "fit":
            said.append(checker.fit(at_ns, replica, section=section))
        else:
            given_ns = max(0, at_ns - more[0])
            told = checker.counted(at_ns, "o", replica, section, "fence", given_ns=given_ns)
            unfit = [
                [w for w, r, s, *_ in story[: given_ns // STEP_NS + 1] if (r, s) == (replica, of)]
                for of in {None, section}
            ]
            last = [next((w for w in reversed(each) if w != "counted"), "fit") for each in unfit]
            assert (told is not None) == ("unfit" in last)
            said.append(told)
    agreed("NRW-2", said, checker.violations)


@given(
    stories(
        ("installed", st.sampled_from("ab"), SMALL),
        ("seen", st.sampled_from("ab"), st.integers(1, 2), SMALL),
        ("accepted", st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 4)),
    )
)
def test_a_client_goes_back_to_no_table_and_no_epoch_route_1(story: list[tuple[Any, ...]]) -> None:
    checker, said = Routes(), []
    for number, (what, client, *values) in enumerate(story):
        before = [values for w, c, *values in story[:number] if c == client and w == what]
        if what == "installed":
            told = checker.installed(number, client, *values)
            # One that fell is not believed: the highest still binds.
            assert (told is not None) == any(values[0] < version for [version] in before)
        elif what == "seen":
            assert (told := checker.seen(number, client, *values)) is None
        else:
            told = checker.accepted(number, client, *values)
            section, epoch = values
            known = [
                e for w, c, *v in story[:number] if w != "installed" and c == client
                for s, e in [v] if s == section
            ]  # fmt: skip
            assert (told is not None) == (0 < epoch < max(known, default=0))
        said.append(told)
    agreed("ROUTE-1", said, checker.violations)


@given(
    stories(("map_down",), ("map_up",), ("quorum_lost", SMALL), ("quorum_back", SMALL)).flatmap(
        lambda story: st.tuples(st.just(story), st.sampled_from([*sorted(LAWFUL), "map"]))
    ),
    st.integers(0, 40),
    SMALL,
)
def test_a_stop_is_blamed_on_the_map_if_nothing_else_was_missing_lease_2(
    drawn: tuple[list[tuple[Any, ...]], str], settle_ns: int, who: int
) -> None:
    story, why = drawn
    checker = ServesWithoutMap(settle_ns=settle_ns)
    down: int | None = None
    reach: int | None = 0
    for number, (what, *values) in enumerate(story):
        at_ns = number * STEP_NS
        assert getattr(checker, what)(at_ns, *values) is None
        if what == "map_down":
            down = at_ns if down is None else down
        elif what == "map_up":
            down = None
        elif values == [who]:
            if what == "quorum_lost":
                reach = None
            elif reach is None:
                reach = at_ns
    now = len(story) * STEP_NS
    told = checker.stopped(now, 3, who, why)
    settled = down is not None and reach is not None and now - max(down, reach) >= settle_ns
    assert (told is not None) == (settled and why == "map")
    agreed("LEASE-2", [told], checker.violations)


@given(stories(("healed",), ("serves", SMALL)), st.integers(0, 60))
def test_every_section_serves_within_the_bound_of_the_last_healing(
    story: list[tuple[Any, ...]], bound_ns: int
) -> None:
    checker = Liveness(sections=range(1, 4), bound_ns=bound_ns)
    said = []
    healed, waiting = None, set[int]()
    for number, (what, *values) in enumerate(story):
        at_ns = number * STEP_NS
        if what == "healed":
            said.append(checker.healed(at_ns))
            healed, waiting = at_ns, {1, 2, 3}
            continue
        told = checker.serves(at_ns, *values)
        late = healed is not None and at_ns > healed + bound_ns and values[0] in waiting
        assert (told is not None) == late
        said.append(told)
        waiting -= set(values)
    assert checker.waiting == waiting
    assert checker.deadline_ns == (None if healed is None else healed + bound_ns)
    end = len(story) * STEP_NS
    told = checker.ended(end)
    over = healed is not None and end > healed + bound_ns
    assert (told is not None) == (over and bool(waiting))
    agreed("LIVE", [*said, told], checker.violations)


RANGES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 5), st.integers(1, 2)), max_size=20)


@given(RANGES)
def test_runs_hold_the_numbers_that_a_set_holds(added: list[tuple[int, int, int]]) -> None:
    runs, out = Runs(), set[int]()
    for at_ns, (first, size, owner) in enumerate(added):
        new = set(range(first, first + size))
        met = runs.add(first, first + size - 1, (owner, owner), at_ns)
        assert (met is not None) == bool(out & new)
        assert met is None or set(range(met.first, met.last + 1)) & new
        out |= new
        assert runs.last == max(out)
        assert [n in runs for n in range(40)] == [n in out for n in range(40)]
        assert len(runs) <= len(out)


CALLS = st.lists(
    st.builds(
        lambda begin, length, seq, count: Call("next", 7, count, begin, begin + length, seq),
        st.integers(0, 20),
        st.integers(0, 8),
        st.integers(1, 12),
        st.integers(1, 3),
    ),
    max_size=8,
)


@given(CALLS, CALLS)
def test_a_sweep_finds_whoever_began_after_a_higher_answer(
    before: list[Call], after: list[Call]
) -> None:
    found = list(falls(before, after))
    fell = [
        later
        for later in after
        if any(one.return_ns < later.call_ns and later.base < one.last for one in before)
    ]
    assert sorted(map(id, (later for _, later in found))) == sorted(map(id, fell))
    for earlier, later in found:
        answered = [one.last for one in before if one.return_ns < later.call_ns]
        assert earlier.last == max(answered)


@given(st.integers(0, 10**12), st.text("abc", min_size=1), st.integers(0, 9))
def test_evidence_is_told_with_its_instant_and_what_it_is_about(
    at_ns: int, what: str, value: int
) -> None:
    told = str(event(at_ns, what, value=value))
    whole, _, rest = told.partition("s ")
    assert int(whole.replace(".", "")) == at_ns
    assert rest == f"{what} value={value}"
