"""The fair queue beside what is to be true of any."""

from hypothesis import given
from hypothesis import strategies as st

from allocsvr.line import Line

JOINS = st.tuples(st.integers(0, 4), st.floats(0.001, 0.5))
STEPS = st.lists(st.one_of(st.none(), JOINS), max_size=150)  # None: the next one is let out


@given(STEPS, st.floats(0.05, 5))
def test_nobody_is_lost_or_let_out_twice_and_each_lane_keeps_its_order(
    steps: list[tuple[int, float] | None], longest_s: float
) -> None:
    line: Line[tuple[int, int]] = Line(longest_s)
    joined: list[tuple[int, int]] = []
    out: list[tuple[int, int]] = []
    for number, step in enumerate(steps):
        if step is None:
            found = line.next()
            if found is not None:
                out.append(found[1])
        elif line.join(step[0], step[1], (step[0], number), 1.0) == 0:
            joined.append((step[0], number))
        assert line.length == len(joined) - len(out)
    while (found := line.next()) is not None:
        out.append(found[1])
    assert sorted(out) == sorted(joined) and line.length == 0
    for key in range(5):
        assert [one for one in out if one[0] == key] == [one for one in joined if one[0] == key]


@given(STEPS, st.floats(0.05, 5))
def test_no_lane_has_more_before_it_than_the_longest_wait_when_it_joins(
    steps: list[tuple[int, float] | None], longest_s: float
) -> None:
    line: Line[tuple[int, float]] = Line(longest_s)
    queued = dict.fromkeys(range(5), 0.0)
    for step in steps:
        if step is None:
            found = line.next()
            if found is not None:
                queued[found[1][0]] -= found[0]
        elif line.join(step[0], step[1], step, 1.0) == 0:
            queued[step[0]] += step[1]
            lanes = sum(work_s > 1e-9 for work_s in queued.values())
            assert queued[step[0]] * lanes <= longest_s + 1e-6


@given(st.lists(st.floats(0.01, 0.5), min_size=60, max_size=60), st.floats(0.01, 0.5))
def test_lanes_that_always_want_something_get_the_same(works: list[float], most: float) -> None:
    line: Line[int] = Line(1e9)
    given = [min(work_s, most) for work_s in works]
    done = [0.0, 0.0, 0.0]
    for key in range(3):
        for work_s in given:
            line.join(key, work_s, key, 1.0)
    for _ in range(60):
        found = line.next()
        assert found is not None
        done[found[1]] += found[0]
        assert max(done) - min(done) <= 2 * most + 1e-6
