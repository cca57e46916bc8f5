"""Frames of `seqctl top`: they fit the terminal, and say what is left out."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from seqctl.top_frame import Seen, bar, frame, short, sparkline


def node(index: int, **other: Any) -> dict[str, Any]:
    return {
        "set": "set-0",
        "address": f"10.0.0.{index}:7420",
        "state": "serving",
        "alive": True,
        "sections": 1_000 * index,
        "serving": 1_000 * index,
        "per_second": 10_000 * index,
        **other,
    }


def replica(index: int, **other: Any) -> dict[str, Any]:
    return {
        "set": "set-0",
        "name": f"store-{index}",
        "address": f"10.0.1.{index}:7421",
        "reachable": True,
        "out_of_quorum": False,
        "boot_grace_s": 0.0,
        "sections": 42_950,
        "leases": [{}] * 3,
        **other,
    }


def hot(index: int) -> dict[str, Any]:
    return {
        "section": 1_000 + index,
        "address": "10.0.0.1:7420",
        "per_second": 5_000 - index,
        "share": 0.5,
        "pinned_to": None,
    }


def seen(nodes: int = 3, replicas: int = 3, hots: int = 20, jobs: int = 0, **other: Any) -> Seen:
    problems = [f"problem {index}" for index in range(other.pop("problems", 0))]
    report = {
        "well": not problems,
        "problems": problems,
        "cluster": {"id": "chat", "sections": 42_950},
        "route_version": 57,
        "leaders": {"arbiter": "10.0.0.7:7422"},
        "replicas": [replica(index) for index in range(1, replicas + 1)],
    }
    made = [
        {"id": f"move-{i}", "state": "running", "sections": 100, "moved": 25, "note": "chunk 3"}
        for i in range(jobs)
    ]
    rows = [node(index) for index in range(1, nodes + 1)]
    return Seen(report, rows, [hot(i) for i in range(hots)], made, "12:00:00", **other)


def drawn(what: Seen, width: int, height: int | None = None) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(frame(what, width, height))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (80, 12), (60, 5), (200, 60)])
@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("jobs", [0, 5])
@pytest.mark.parametrize("problems", [0, 30])
def test_a_frame_fits_its_terminal_whatever_there_is(
    width: int, height: int, count: int, jobs: int, problems: int
) -> None:
    lines = drawn(seen(count, count, count, jobs, problems=problems), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_long_names_are_shortened_and_take_no_second_line(width: int, height: int) -> None:
    what = seen()
    for index, row in enumerate((*what.nodes, *what.report["replicas"], *what.hot)):
        row["address"] = f"allocsvr-{index}.allocsvr.some-long-namespace.svc.cluster.local:7420"
    lines = drawn(what, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert sum("serving" in line for line in lines) == 3


def test_everything_of_a_small_cluster_is_legible_in_80_by_24() -> None:
    text = "\n".join(drawn(seen(), 80, 24))
    for word in ("chat", "all is well", "60,000 numbers/s", "10.0.0.7:7422", "v57", "12:00:00"):
        assert word in text
    for index in (1, 2, 3):
        assert f"10.0.0.{index}:7420" in text
        assert f"store-{index} 10.0.1.{index}:7421" in text
    assert "1,000" in text
    assert "…" not in text


def test_a_wide_terminal_has_replicas_and_hot_sections_side_by_side() -> None:
    (line,) = [line for line in drawn(seen(), 120, 40) if "REPLICA" in line]
    assert "HOT SECTION" in line
    assert not any("REPLICA" in line and "HOT" in line for line in drawn(seen(), 80, 24))
    what = seen()
    what.hot[0]["address"] = "a-long-name-of-a-node.in-a-long-domain:7420"
    assert not any("REPLICA" in line and "HOT" in line for line in drawn(what, 120, 40))


def test_what_is_left_out_is_counted() -> None:
    lines = drawn(seen(nodes=40, problems=9), 80, 24)
    shown = sum("10.0.0." in line and "serving" in line for line in lines)
    assert f"and {40 - shown} more" in " ".join(lines)
    assert "more problems: seqctl cluster status" in " ".join(lines)


def test_without_a_height_nothing_but_hot_sections_is_left_out() -> None:
    lines = drawn(seen(nodes=40, replicas=40, problems=30), 80)
    assert sum("serving" in line for line in lines) == 40
    assert sum("in quorum" in line for line in lines) == 40
    assert sum(line.startswith("! problem") for line in lines) == 30
    assert not any(" more" in line for line in lines)


def test_problems_and_old_news_are_said_first() -> None:
    assert "2 problems" in drawn(seen(problems=2), 80, 24)[0]
    assert "1 problem " in drawn(seen(problems=1), 80, 24)[0]
    lines = drawn(seen(trouble="9 s old: etcd is away"), 80, 24)
    assert "old news" in lines[0]
    assert lines[2] == "! 9 s old: etcd is away"


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"reachable": False, "leases": None, "sections": None}, "unreachable"),
        ({"out_of_quorum": True}, "out of quorum"),
        ({"boot_grace_s": 1.5}, "boot grace"),
    ],
)
def test_a_replica_that_is_not_counted_says_why(other: dict[str, Any], word: str) -> None:
    what = seen()
    what.report["replicas"][1] = replica(2, **other)
    assert sum(word in line for line in drawn(what, 80, 24)) == 1


def test_a_node_that_does_not_answer_is_called_silent() -> None:
    what = seen()
    what.nodes[0] = node(1, alive=False)
    assert sum("silent" in line for line in drawn(what, 80, 24)) == 1


def test_jobs_show_how_far_they_are_and_finished_ones_are_left_out() -> None:
    what = seen(jobs=2)
    what.jobs[1]["state"] = "done"
    lines = [line for line in drawn(what, 80, 24) if "move-" in line]
    assert len(lines) == 1
    assert "25 of 100" in lines[0]
    assert bar(0.25) in lines[0]


def test_text_of_others_is_never_taken_for_markup() -> None:
    what = seen(jobs=1, problems=1)
    what.jobs[0]["note"] = "[bold]odd[/nothing]"
    what.report["problems"][0] = "[red]odd"
    text = "\n".join(drawn(what, 100, 30))
    assert "[bold]odd[/nothing]" in text
    assert "[red]odd" in text


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 50, 100]) == "▁▄█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def test_an_address_keeps_its_port_however_short_it_has_to_be() -> None:
    assert short("10.0.0.1:7420", 20) == "10.0.0.1:7420"
    assert short("allocsvr-0.allocsvr.svc:7420", 20) == "allocsvr-0.all…:7420"
    assert len(short("x" * 90 + ":7420", 3)) == 15


def test_a_bar_is_full_where_it_is_all() -> None:
    assert bar(1.0) == "██████████"
    assert bar(0.0) == "··········"
    assert bar(7.0) == bar(1.0)


def test_text_of_several_lines_takes_one_and_steers_no_terminal() -> None:
    what = seen(jobs=1, problems=1)
    what.jobs[0]["note"] = "one\ntwo\x1b[2J"
    what.report["problems"][0] = "three\r\nfour"
    lines = drawn(what, 100, 30)
    assert any("one two [2J" in line for line in lines)
    assert "! three  four" in lines
