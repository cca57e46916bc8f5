"""The soak's picture shows what was measured, and does not grow without bound."""

import re
from xml.etree import ElementTree

import pytest

from made_soaks import NODES, broken, made
from real_cluster.measured import Measured, Owning, Round, Strike
from real_cluster.timeline import timeline
from real_cluster.timeline_view import PLOT, View, clock, milliseconds


def drawn(
    measured: Measured, from_s: float = 0.0, to_s: float | None = None
) -> ElementTree.Element:
    end_s = measured.length_s if to_s is None else to_s
    return ElementTree.fromstring(timeline(measured, from_s, end_s))


def of_class(picture: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in picture.iter() if name in (one.get("class") or "").split()]


def words(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def test_every_fault_is_a_band_at_its_time_that_tells_its_story() -> None:
    measured = made(60)
    bands = of_class(drawn(measured), "fault")
    assert len(bands) == sum(len(one.strikes) for one in measured.rounds)
    first = bands[0]
    assert "1. owner: kill -9 (node-0)" in words(first) and "7 TIMEOUT" in words(first)
    [band] = of_class(first, "band")
    assert float(band.get("x") or 0) == pytest.approx(5 / 60 * PLOT, abs=0.1)
    assert float(band.get("width") or 0) == pytest.approx(2 / 60 * PLOT, abs=0.1)
    [tail] = of_class(first, "tail")
    assert float(tail.get("width") or 0) == pytest.approx(1.5 / 60 * PLOT, abs=0.1)


def test_two_faults_of_a_round_in_one_lane_do_not_cover_each_other() -> None:
    measured = made(60)
    measured.rounds[0].strikes.append(Strike("owner: frozen", "owners", 5.5, ["node-1"]))
    one, two = (of_class(fault, "band")[0] for fault in of_class(drawn(measured), "fault")[:2])
    tops = [float(band.get("y") or 0) for band in (one, two)]
    assert tops[1] >= tops[0] + float(one.get("height") or 0)


def test_each_node_has_a_lane_with_its_sections_and_a_tick_at_each_change() -> None:
    measured = made(60)
    picture = drawn(measured)
    plain = [words(one) for one in of_class(picture, "plain")]
    assert plain == NODES
    assert len(of_class(picture, "tick")) == 2 * (len(measured.ownings) - 1)
    assert "6.0: node-0 gained 0 and lost 5 sections" in words(picture)
    assert {"5", "10"} <= {words(text) for one in of_class(picture, "owning") for text in one}


def test_both_calls_of_a_violation_are_marked_where_they_were_answered() -> None:
    picture = drawn(broken(made(60)))
    marks = list(reversed(of_class(picture, "violation")))
    flags = [words(of_class(mark, "on-wrong")[0]) for mark in marks]
    assert flags == ["A", "B"]
    places = [float(of_class(mark, "wrong")[0].get("x1") or 0) for mark in marks]
    assert places == pytest.approx([21 / 60 * PLOT, 26.5 / 60 * PLOT], abs=0.1)
    assert "handed 8, epoch 4 (b.jsonl:7)" in words(marks[1])
    assert not of_class(drawn(made(60)), "violation")


def test_a_part_of_a_run_shows_what_is_in_it_and_nothing_else() -> None:
    picture = drawn(broken(made(60)), 22, 40)
    assert len(of_class(picture, "violation")) == 1
    assert len(of_class(picture, "column")) == 18
    assert {"3. ", "4. "} == {words(one)[:3] for one in of_class(picture, "fault")}


def test_every_second_tells_its_figures_and_the_final_check_is_shown() -> None:
    measured = made(60)
    measured.checks[-1].at_s = 61.5
    picture = drawn(measured)
    columns = of_class(picture, "column")
    assert len(columns) == 60
    assert words(columns[5]) == "0:05: 10 answered per second, 7 failed, p50 1.0 ms, p99 900 ms"
    assert len(of_class(picture, "good")) == 2


def test_a_long_run_has_no_more_columns_than_a_short_one_and_loses_no_failure() -> None:
    measured = made(7_200)
    view = View(measured, 0, 7_200)
    assert len(view.bins) <= 520
    assert sum(one.failed for one in view.bins) == measured.failed
    assert max(one.p99_ms or 0 for one in view.bins) == 900
    picture = drawn(measured)
    assert len(of_class(picture, "tick")) == 0, "too many to be told apart"
    assert len(list(picture.iter())) < 40 * len(measured.rounds)


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_run_that_hardly_began_has_a_picture_too(seconds: int) -> None:
    measured = made(seconds)
    measured.ownings, measured.length_s = [], max(seconds, 0.2)
    measured.rounds.append(Round(1, [Strike("etcd: killed", "etcd", 0.1, [])], 0.1))
    assert len(of_class(drawn(measured), "fault")) == 1


def test_no_coordinate_leaves_the_plot() -> None:
    measured = made(60)
    measured.ownings.append(Owning(59.9, {"node-0": 10}, {"node-0": 5}, {"node-1": 5}))
    for picture in (drawn(broken(measured)), drawn(measured, 20, 30)):
        svg = picture[1]
        for one in svg.iter():
            for name in ("x", "x1", "x2"):
                assert 0 <= float(one.get(name) or 0) <= PLOT, ElementTree.tostring(one)
        for path in svg.iter("path"):
            assert re.fullmatch(r"([MLHVhZ][-0-9. ]*)*", path.get("d") or "")


@pytest.mark.parametrize(
    ("at_s", "digits", "text"),
    [
        (0, 0, "0:00"),
        (62, 0, "1:02"),
        (62.46, 1, "1:02.5"),
        (59.96, 1, "1:00.0"),
        (3_599.7, 0, "1:00:00"),
        (7_262.25, 2, "2:01:02.25"),
    ],
)
def test_times_are_said_as_on_a_clock(at_s: float, digits: int, text: str) -> None:
    assert clock(at_s, digits) == text


def test_latencies_are_said_as_a_person_would() -> None:
    said = [milliseconds(value) for value in (None, 0.62, 9.9, 9.97, 812.4, 1_940)]
    assert said == ["none", "0.6 ms", "9.9 ms", "10 ms", "812 ms", "1.9 s"]
