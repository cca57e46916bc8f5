"""bench/scale.py in small, and its model against the code that it is a model of."""

import importlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from allocsvr.counters import Counters
from allocsvr.raising import MAX_SECTIONS, PACE_S
from allocsvr.section import HOT_NS, Section
from processes.commands import ROOT, environment
from seqsvr.sections import SECTION_SIZE

sys.path.append(str(ROOT / "bench"))
capacity: Any = importlib.import_module("scaling.capacity")
document: Any = importlib.import_module("scaling.document")
Line, Load = capacity.Line, capacity.Load

CONSTANTS = capacity.Constants(
    small_us=Line(200, 1),
    large_us=Line(250, 0.1),
    client_us=50,
    up_b=Line(11, 5),
    down_b=Line(12, 3),
    raise_node_us=Line(1000, 5),
    raise_store_us=Line(500, 5),
    commit_b=Line(20_000, 4000),
    commit_s=0.002,
    node_b=120e6,
    connection_b=40e3,
)
PARTS = (
    *("machine", "memory", "connections", "table", "workers"),
    *("constants", "shapes", "checks", "widest", "examples"),
)


def test_a_run_writes_its_tables_into_the_document_and_ends(tmp_path: Path) -> None:
    written = tmp_path / "capacity.md"
    written.write_text((ROOT / "docs" / "CAPACITY.md").read_text())
    document.write_into(written, dict.fromkeys(PARTS, "old\n"))
    command = [sys.executable, str(ROOT / "bench" / "scale.py"), "--quick", "--only"]
    done = subprocess.run(
        [*command, "memory,table", "--write", str(written)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = written.read_text()
    assert text.count("\nold\n") == len(PARTS) - 3, "machine, memory and table are new"
    assert "| 429 sections |" in text and "| 430 routes to 100 nodes |" in text


def test_a_document_without_a_place_for_a_table_is_not_written(tmp_path: Path) -> None:
    written = tmp_path / "nothing.md"
    written.write_text("nothing")
    with pytest.raises(ValueError, match="no place for memory"):
        document.write_into(written, {"memory": "table"})
    assert written.read_text() == "nothing"


@pytest.mark.parametrize("per_s", [100, 3_000, 12_000, 18_000, 400_000, 20_000_000])
def test_a_section_asks_as_often_as_the_model_says(per_s: int) -> None:
    asked: list[int] = []
    section = Section(0, 1, 0, found=0, size=1, on_hungry=lambda _: asked.append(now_ns))
    now_ns, counted_from_ns = HOT_NS, 60 * HOT_NS
    section.raised(section.target(now_ns))
    until_ns = counted_from_ns + 400 * HOT_NS
    tick_ns = max(HOT_NS // 1000, HOT_NS // per_s)
    while now_ns < until_ns:
        section.take(0, per_s * tick_ns // HOT_NS)
        if section.hungry:
            section.raised(section.target(now_ns))
        now_ns += tick_ns
    found = sum(at >= counted_from_ns for at in asked) / 400
    assert found == pytest.approx(capacity.raises(per_s), rel=0.15, abs=0.005)
    assert section.step == capacity.step(per_s)


@pytest.mark.parametrize("uids", [1, 100, 1000, 20_000])
def test_scattered_uids_take_as_many_pages_as_the_model_says(uids: int) -> None:
    draw = random.Random(uids)
    pages = {draw.randrange(SECTION_SIZE) * capacity.CELL_B // capacity.PAGE_B for _ in range(uids)}
    assert len(pages) * capacity.PAGE_B == pytest.approx(capacity.touched_b(uids), rel=0.1)
    assert Counters(SECTION_SIZE).slot_cells * capacity.CELL_B == capacity.PAGES * capacity.PAGE_B


def test_calls_to_all_nodes_take_more_of_them_than_calls_to_one() -> None:
    alone, everywhere = (
        capacity.plan(CONSTANTS, Load(1e6, 1e8, fan=fan, client_per_s=20_000)) for fan in (1, None)
    )
    assert alone.mean_batch == pytest.approx(8) and everywhere.mean_batch == 1
    assert alone.node_cores == pytest.approx(1e6 / 8 * 208e-6, rel=0.01)
    assert everywhere.node_cores == pytest.approx(1e6 * 201e-6, rel=0.01)
    assert everywhere.nodes == pytest.approx(everywhere.node_cores / capacity.BUSY, rel=0.01)


def test_an_explicit_batch_is_split_among_the_nodes_that_get_any_of_it() -> None:
    assert capacity.split(256, 1) == 256
    assert capacity.split(256, 2) == pytest.approx(128)
    assert capacity.split(2, 1000) == pytest.approx(1, rel=0.001)


def test_requests_are_those_that_the_pace_allows() -> None:
    assert capacity.requests(0) == 0
    assert capacity.requests(0.1) == pytest.approx(0.1, rel=0.01)
    assert capacity.requests(10_000) == pytest.approx(1 / PACE_S)
    assert capacity.requests(4e6) == pytest.approx(4e6 / MAX_SECTIONS)


def test_a_line_goes_through_points_on_it() -> None:
    line = Line.through({size: 200 + 3.0 * size for size in (1, 16, 1024)})
    assert line.per == pytest.approx(200) and line.each == pytest.approx(3)
