"""`make bench` in small: one short round, on a machine that has no Redis."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes.commands import ROOT, environment

ONLY = "limit,embedded,redis-always,calls-1,calls-32,streams-256,paced-32,unary-32"
DOCUMENT = "before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n"


def run(*arguments: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Python with these arguments. path: all that PATH names."""
    paths = os.pathsep.join((str(ROOT / "bench"), str(ROOT / "tests")))
    more = {"PYTHONPATH": paths} | ({"PATH": str(path)} if path is not None else {})
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment() | more,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a run writes, and with what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    programs = folder / "bin"
    programs.mkdir()
    setpriv = shutil.which("setpriv")
    assert setpriv, "no setpriv: apt-get install util-linux"
    (programs / "setpriv").symlink_to(setpriv)
    (folder / "document.md").write_text(DOCUMENT)
    wanted = ("--quick", "--only", ONLY, "--report", str(folder))
    done = run("-m", "seqbench", *wanted, "--write", str(folder / "document.md"), path=programs)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed.md").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def results(report: Path) -> Any:
    return json.loads((report / "results.json").read_text())


def test_a_run_measures_every_contestant_that_is_there(results: Any) -> None:
    for name in ("calls-1", "calls-32", "streams-256", "paced-32", "unary-32"):
        for contestant in ("limit", "embedded"):
            row = results["cases"][name]["rows"][contestant]
            assert row["per_s"][0] > 0
            assert 0 < row["p50_ms"][0] <= row["p99_ms"][0] <= row["p999_ms"][0]
    assert results["failures"] == []


def test_a_contestant_that_is_not_there_is_named_as_missing(report: Path, results: Any) -> None:
    assert results["missing"] == {"redis-always": "no redis-server: apt-get install redis-server"}
    assert "missing" in results["contestants"]["redis-always"]
    lines = (report / "printed.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| redis-always | missing: no redis-server")]
    assert len(rows) == 3, "one in each of its cases"


def test_every_contestant_says_what_it_guarantees(results: Any) -> None:
    for contestant in results["contestants"].values():
        assert all(contestant[what] for what in ("guarantees", "durable", "order", "dies"))


def test_an_aim_is_judged_by_the_ratio_within_a_round(results: Any) -> None:
    aims = {aim["figure"]: aim for aim in results["aims"]}
    aim = aims["batches of 256 over streams: embedded over limit"]
    rows = results["cases"]["streams-256"]["rows"]
    pair = [rows[name]["rounds"][0]["per_s"] for name in ("embedded", "limit")]
    assert aim["measured"][0] == pytest.approx(pair[0] / pair[1])
    assert aim["reached"] == ("yes" if pair[0] / pair[1] >= 0.8 else "no")
    assert aims["calls, 32 callers: embedded over redis-always"]["reached"] == "not measured"


def paced(call: str, callers: int) -> Any:
    """The figures of half a second of an open loop of 1,000 calls per second."""
    code = f"""
import asyncio, json
from seqbench.paced import paced
from seqbench.window import Window
async def call(uid):
    {call}
shares = [[uid] for uid in range({callers})]
print(json.dumps(asyncio.run(paced(call, shares, Window([]), 0.1, 0.5, 1000.0))))
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_open_loop_calls_at_its_rate_and_not_as_fast_as_it_can() -> None:
    assert 100 < paced("pass", callers=8)["per_s"] < 3_000


def test_an_open_loop_counts_the_time_that_a_call_waited_for_a_caller() -> None:
    # One caller, 100 calls a second at most: those that are due pile up.
    assert paced("await asyncio.sleep(0.01)", callers=1)["max_ms"] > 100


def test_plots_are_drawn_and_the_table_goes_into_the_document(report: Path) -> None:
    for name in ("callers.svg", "latency.svg"):
        assert "</svg>" in (report / name).read_text()
    document = (report / "document.md").read_text()
    assert document.startswith("before\n<!-- results: begin -->\n")
    assert document.endswith("<!-- results: end -->\nafter\n")
    assert "old" not in document.splitlines()
    assert "### calls-32" in document


def test_the_place_of_the_results_is_marked_in_the_document_of_the_project() -> None:
    marks = [
        line
        for line in (ROOT / "docs" / "BENCHMARKS.md").read_text().splitlines()
        if line.startswith("<!-- results:")
    ]
    assert marks == ["<!-- results: begin -->", "<!-- results: end -->"]


def test_a_name_that_is_none_is_wrong_usage() -> None:
    done = run("-m", "seqbench", "--only", "calls-33")
    assert done.returncode == 2
    assert "unknown: calls-33; known are streams-256" in done.stderr


def test_whoever_may_be_measured_can_be_drawn() -> None:
    program = (
        "from seqbench import plots; from seqbench.contestants import CONTESTANTS;"
        " print(*map(plots._colour, CONTESTANTS))"
    )
    done = run("-c", program)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 8
