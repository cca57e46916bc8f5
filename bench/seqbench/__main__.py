"""Measures; prints tables; writes JSON, plots and, if asked, the table of a document.

    PYTHONPATH=bench:tests .venv/bin/python -m seqbench --rounds 5 --report bench-report

docs/BENCHMARKS.md says what is measured, and how to read it.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from seqbench import flood, plots, report, timeline
from seqbench.run import FLOOD, TIMELINE, Run, chosen, machine


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="seqbench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="of everything, in turn (default 5)")
    parser.add_argument("--seconds", type=float, help="of each measurement (default 0.8)")
    parser.add_argument(
        "--only", default="", metavar="NAME,..", help="cases, contestants, `timeline`, `flood`"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures of all rounds")
    parser.add_argument("--report", type=Path, metavar="DIR", help="tables, JSON and plots")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into a document")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, no timeline, no flood"
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    rounds = args.rounds or (1 if args.quick else 5)
    seconds = args.seconds or (0.3 if args.quick else 0.8)
    only = [name for name in args.only.split(",") if name]
    timed = TIMELINE in only or not (only or args.quick)
    flooded = FLOOD in only or not (only or args.quick)
    try:
        cases, contestants = chosen(only)
    except ValueError as wrong:
        print(f"seqbench: {wrong}", file=sys.stderr)
        return 2
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seqbench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as somebody else
        outcome = Run(Path(folder), seconds, cases, say).play(rounds, contestants)
        events = timeline.measured(Path(folder), say) if timed else []
        flooding = flood.measured(Path(folder), say) if flooded else {}
    where = {**machine(), "rounds": rounds, "seconds": seconds}
    where["minutes"] = round((time.monotonic() - began_s) / 60, 1)
    results = report.results(outcome, events, where, cases, contestants) | {"flood": flooding}
    text = report.text(results)
    print(text)
    _write(args, results, text)
    return 1 if outcome.failures else 0


def _write(args: argparse.Namespace, results: dict[str, object], text: str) -> None:
    files = [args.json] if args.json else []
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        files.append(args.report / "results.json")
        (args.report / "results.md").write_text(text)
    for file in files:
        file.write_text(json.dumps(results, indent=1) + "\n")
    if args.write:
        report.write_into(args.write, text)
    if args.report:  # last: whatever is wrong with a picture, nothing that was measured is lost
        plots.draw(results, args.report)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
