"""examples/timeline as somebody who copies it runs it; and its proof, which has to be able to fail.

SEQ-1 and SEQ-2 as a message service relies on them, through owners that are killed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import ROOT, TRACE, Services, environment, free_base

PROGRAM = ROOT / "examples" / "timeline" / "replay.py"


@pytest.fixture(autouse=True)
def trace_is_there() -> None:
    assert TRACE.is_file(), f"the trace is missing: put college_messages.txt.gz into {TRACE.parent}"


def replay(folder: Path, *options: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """Its figures, and its standard error."""
    command = [sys.executable, str(PROGRAM), str(TRACE), "--data", str(folder)]
    done = subprocess.run(
        [*command, *map(str, options)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    print(figures)
    return figures, done.stderr


def test_every_device_has_every_message_once_though_nodes_are_killed(tmp_path: Path) -> None:
    options = (
        "--limit",
        3_000,
        "--rate",
        400,
        "--base-port",
        free_base(*range(50)),
        "--kill-every",
        2,
    )
    figures, said = replay(tmp_path, "--local-cluster", *options)
    assert said.count("kill -9 alloc-") >= 2
    assert figures["violations"] == 0
    # Two inboxes of two devices each; nobody of these writes to himself.
    assert (figures["messages"], figures["deliveries"]) == (3_000, 12_000)
    assert figures["sent_again"] > 0


def test_messages_stored_under_any_number_are_missed_and_it_is_seen(
    services: Services, tmp_path: Path
) -> None:
    service = services().start()
    options = ("--addr", service.address, "--limit", 1_000)
    figures, _ = replay(tmp_path, *options)
    assert (figures["violations"], figures["deliveries"]) == (0, 4_000)
    assert figures["numbers_thrown_away"] > 0, "nobody was late: the rule was not needed"
    naive, said = replay(tmp_path, *options, "--naive", code=1)
    assert naive["violations"] > 0
    assert naive["deliveries"] < 4_000
    assert "misses" in said
