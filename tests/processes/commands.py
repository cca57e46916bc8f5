"""Commands of the project as child processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT.parent / "shared" / "data" / "college_messages.txt.gz"


def environment() -> dict[str, str]:
    """Of a child: nothing of SEQSVR_... leaks into it, and it finds tests/processes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEQSVR_")}
    kept["SEQSVR_LOOP"] = "asyncio"  # what a plain installation has; uvloop has tests of its own
    return {**kept, "PYTHONPATH": str(ROOT / "tests"), "PYTHONUNBUFFERED": "1"}


def seqctl(*arguments: object, timeout_s: float = 120.0) -> "subprocess.CompletedProcess[str]":
    """Run one command of seqctl to its end."""
    return subprocess.run(
        [sys.executable, "-m", "seqctl", *map(str, arguments)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
