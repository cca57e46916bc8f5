"""Who is next when there is more work than time."""

from allocsvr.line import LANES, Line, work_s


def drained(line: Line[str]) -> list[str]:
    found = []
    while (one := line.next()) is not None:
        found.append(one[1])
    return found


def test_those_of_one_caller_are_first_come_first_served() -> None:
    line: Line[str] = Line(10.0)
    for item in "abc":
        assert line.join("one", 0.1, item, 1.0) == 0
    assert drained(line) == ["a", "b", "c"]


def test_whoever_asks_for_little_is_not_behind_all_that_others_ask_for() -> None:
    line: Line[str] = Line(10.0)
    for index in range(20):
        line.join("greedy", 0.1, f"g{index}", 1.0)
    line.next()
    line.join("modest", 0.01, "m", 1.0)
    assert drained(line).index("m") <= 1


def test_callers_take_turns_by_work_and_not_by_requests() -> None:
    line: Line[str] = Line(1000.0)
    for index in range(100):
        line.join("large", 1.0, f"l{index}", 1.0)
        line.join("small", 0.1, f"s{index}", 1.0)
    first = drained(line)[:55]
    work = {"l": sum(x[0] == "l" for x in first) * 1.0, "s": sum(x[0] == "s" for x in first) * 0.1}
    assert abs(work["l"] - work["s"]) <= 1.1


def test_of_too_many_the_newest_are_refused_and_told_when_all_of_it_is_done() -> None:
    line: Line[str] = Line(1.0)
    again = [line.join("one", 0.3, str(index), 1.0) for index in range(6)]
    assert [bool(again_s) for again_s in again] == [False, False, False, True, True, True]
    assert again[3:] == sorted(again[3:]) and again[3] > 0.9
    assert drained(line) == ["0", "1", "2"]


def test_a_small_request_finds_a_place_where_a_large_one_does_not() -> None:
    line: Line[str] = Line(1.0)
    for index in range(5):
        line.join(index, 0.19, "x", 1.0)
    assert line.join("late", 0.19, "large", 1.0) > 0
    assert line.join("late", 0.01, "small", 1.0) == 0


def test_waits_are_judged_by_the_clock_and_not_by_work() -> None:
    line: Line[str] = Line(1.0)
    assert line.join("one", 0.3, "x", 4.0) > 1.0
    assert line.join("one", 0.2, "x", 4.0) == 0


def test_who_has_come_again_is_no_longer_counted_as_away() -> None:
    line: Line[str] = Line(0.1)
    first = line.join("one", 0.2, "x", 1.0)
    assert line.join("one", 0.2, "x", 1.0) > first
    line.back("one", 0.2)
    line.back("one", 0.2)
    assert line.join("one", 0.2, "x", 1.0) == first


def test_lanes_of_those_who_have_gone_are_forgotten() -> None:
    line: Line[int] = Line(10.0)
    for index in range(5 * LANES):
        line.join(index, 0.001, index, 1.0)
        line.next()
    assert len(line._lanes) <= 2 * LANES


def test_work_grows_with_the_entries() -> None:
    assert work_s(1) < work_s(4096) < 100 * work_s(1)
