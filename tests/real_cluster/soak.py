"""Random faults against one cluster under load, until time is up or a promise is broken.

    python -m real_cluster.soak --minutes 10 [--seed N] [--folder DIR]

Says its seed first; the same seed draws the same faults. Ends at the first violation, at numbers
that do not flow again, at a server that ends by itself or writes a Traceback: exit code 1, with
the logs and histories kept and the command to run it again. Prints what callers saw, by fault.
"""

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from real_cluster.cluster import RealCluster, Shape
from real_cluster.faults import FAULTS, Fault, Scene
from real_cluster.load import Load, Row, summary

JUDGE_S = 60.0
"""How often all that was recorded is checked; callers see most violations on the spot."""

FLOWS_S = 60.0
SECOND = 0.3
"""How often a second fault joins the first."""


def judge(cluster: RealCluster, load: Load) -> None:
    """Check what was recorded since the last time, and let it go. AssertionError: a violation."""
    files = load.histories()
    verdict = cluster.verdicts.judge(files)
    assert not verdict["violations"], verdict["violations"][:5]
    for file in files:
        file.unlink()
    print(f"checked {verdict['calls']} calls: no violation", flush=True)


def drawn(draw: random.Random) -> list[Fault]:
    first = draw.choice(FAULTS)
    if first.alone or draw.random() > SECOND:
        return [first]
    return [first, draw.choice([fault for fault in FAULTS if not fault.alone])]


def struck(cluster: RealCluster, load: Load, faults: list[Fault], draw: random.Random) -> Row:
    """Strike, hold, undo, and wait until numbers flow; what callers saw."""
    name = " + ".join(fault.name for fault in faults)
    load.phase(name)
    with ExitStack() as undo:
        scene = Scene(cluster, draw, undo)
        for fault in faults:
            fault.strike(scene)
            time.sleep(draw.uniform(*fault.hold_s))
    cluster.heal()
    load.flows(patience_s=FLOWS_S)
    row = load.phase("between")
    assert not row.broken, row.broken
    assert not cluster.traces(), cluster.traces()
    return row


@dataclass
class Table:
    """Rows of the same fault as one."""

    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        held = self.rows.setdefault(row.fault, Row(row.fault, runs=0))
        held.runs += 1
        held.longest_gap_s = max(held.longest_gap_s, row.longest_gap_s)
        held.answered += row.answered
        held.failed += row.failed
        held.violations += row.violations

    def __str__(self) -> str:
        lines = ["| fault | runs | longest gap, s | calls | failed | violations |"]
        lines.append("|---|---|---|---|---|---|")
        for name in sorted(self.rows):
            r = self.rows[name]
            lines.append(
                f"| {name} | {r.runs} | {r.longest_gap_s:.1f} | {r.answered + r.failed} "
                f"| {r.failed} | {r.violations} |"
            )
        return "\n".join(lines)


def soak(cluster: RealCluster, minutes: float, draw: random.Random, table: Table) -> None:
    load = cluster.start().load = Load(cluster)
    load.flows(patience_s=FLOWS_S)
    ends_s = time.monotonic() + 60 * minutes
    judge_s = time.monotonic() + JUDGE_S
    while time.monotonic() < ends_s:
        row = struck(cluster, load, drawn(draw), draw)
        row.report()
        print(summary(row), flush=True)
        table.add(row)
        if time.monotonic() > judge_s:
            judge(cluster, load)
            judge_s = time.monotonic() + JUDGE_S
    judge(cluster, load)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description="Random faults under load.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="for logs and histories")
    args = parser.parse_args()
    seed = secrets.randbelow(10**9) if args.seed is None else args.seed
    folder = args.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {seed}, folder {folder}", flush=True)
    table, cluster = Table(), RealCluster(folder, Shape())
    try:
        soak(cluster, args.minutes, random.Random(seed), table)
    except (AssertionError, KeyboardInterrupt) as error:
        print(table)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        print(f"logs and histories: {folder}", file=sys.stderr)
        print(f"again: make soak MINUTES={args.minutes:g} SEED={seed}", file=sys.stderr)
        return 1
    finally:
        cluster.close()
    print(table)
    if args.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
