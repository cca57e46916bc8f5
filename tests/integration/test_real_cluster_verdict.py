"""The verdict of the cluster tests also sees what contradicts an earlier load."""

import json
from pathlib import Path
from typing import Any

import pytest

from real_cluster.verdict import Verdicts

S = 1_000_000_000


def history(file: Path, *calls: dict[str, Any]) -> Path:
    common = {"op": "next", "uid": 7, "count": 1, "exact": None, "epoch": 1, "error": None}
    lines = [json.dumps({**common, **call}) + "\n" for call in calls]
    file.write_text("".join(lines))
    return file


def call(at_s: int, seq: int | None, **more: Any) -> dict[str, Any]:
    return {"call_ns": at_s * S, "return_ns": at_s * S + 1, "seq": seq, **more}


@pytest.mark.parametrize(
    ("later", "violations"),
    [
        (call(9, 6), 0),
        (call(9, 5), 1),
        (call(9, 5, op="current", exact=True), 0),
        (call(9, 4, op="current", exact=True), 1),
        (call(9, 6, op="current", exact=True), 1),  # was never handed out
        (call(9, None, error="TIMEOUT"), 0),
    ],
)
def test_what_an_earlier_load_was_told_binds_the_later_one(
    tmp_path: Path, later: dict[str, Any], violations: int
) -> None:
    verdicts = Verdicts(tmp_path)
    first = history(
        tmp_path / "first.jsonl", call(1, 1, count=5), call(2, 5, op="current", exact=True)
    )
    assert not verdicts.judge([first])["violations"]
    first.unlink()
    said = verdicts.judge([history(tmp_path / "second.jsonl", later)])
    assert bool(said["violations"]) == bool(violations)


def test_a_failed_call_of_an_earlier_load_may_explain_a_number_of_the_later(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path)
    first = history(tmp_path / "1.jsonl", call(1, 1), call(2, None, error="OUTCOME_UNKNOWN"))
    assert not verdicts.judge([first])["violations"]
    later = history(tmp_path / "2.jsonl", call(9, 2, op="current", exact=True))
    assert not verdicts.judge([later])["violations"]
