"""`python -m simsvr --seed N`, or many seeds at once: `--seeds 2000`.

Exit codes: 0 every promise was kept, 1 a violation (with the command that repeats it and the story
around it), 2 wrong usage.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import FrameType

from simsvr.run import Outcome, run

SHOWN = 3
LATE_S = 60
"""Real seconds after which a run is said to be late, and where it is. Most take less than one."""
AGAIN = "python -m simsvr --seed {seed}"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parsed(argv)
    if os.environ.get("PYTHONHASHSEED") != "0":
        _again_with_fixed_hashes(argv)
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    began_s = time.perf_counter()
    total = Total()
    for outcome in outcomes(seeds, args.jobs, args.lines):
        total.add(outcome)
        if not outcome.ok:
            print(told(outcome), flush=True)
            if len(total.failed) >= args.stop_after:
                break
        elif args.seed is not None and args.verbose:
            print(outcome.story)
    print(total.told(time.perf_counter() - began_s))
    return 1 if total.failed else 0


def outcomes(seeds: Iterable[int], jobs: int, lines: int = 80) -> Iterator[Outcome]:
    """In the order of the seeds."""
    watched = partial(_watched, lines=lines)
    if jobs == 1:
        yield from map(watched, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(watched, seeds, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


def _watched(seed: int, lines: int) -> Outcome:
    """A run that says where it is if it takes too long."""

    def late(_: int, frame: FrameType | None) -> None:
        print(f"seed {seed} has not ended after {LATE_S} s", file=sys.stderr)
        traceback.print_stack(frame, file=sys.stderr)

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LATE_S)
    try:
        return run(seed, lines=lines)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Total:
    """Sums over runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.failed: list[int] = []
        self.sums: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        if not outcome.ok:
            self.failed.append(outcome.seed)
        for name in ("simulated_s", "real_s", "calls", "failed", "owners", "crashes", "turns"):
            self.sums[name] += getattr(outcome, name)
        self.faults.update(outcome.faults)

    def told(self, passed_s: float) -> str:
        sums = self.sums
        speed = sums["simulated_s"] / sums["real_s"] if sums["real_s"] else 0
        verdict = f"{len(self.failed)} FAILED: {self.failed}" if self.failed else "all kept"
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"{self.runs} seeds in {passed_s:.1f} s, {verdict}\n"
            f"{sums['calls']} calls ({sums['failed']} failed), {sum(self.faults.values())} faults, "
            f"{sums['owners']} owner changes, {sums['crashes']} crashes, "
            f"{sums['simulated_s'] / 3600:.2f} h simulated, {speed:.0f} times real time per core\n"
            f"faults: {faults}"
        )


def told(outcome: Outcome) -> str:
    """A violation, for a person."""
    shown = [str(violation) for violation in outcome.violations[:SHOWN]]
    return "\n".join(
        [
            f"--- seed {outcome.seed}: {len(outcome.violations)} violations",
            outcome.story,
            *shown,
            f"again: {AGAIN.format(seed=outcome.seed)}   (digest {outcome.digest})",
        ]
    )


def _again_with_fixed_hashes(argv: Sequence[str] | None) -> None:
    """Hashes of strings must be the same in every run."""
    given = sys.argv[1:] if argv is None else list(argv)
    command = [sys.executable, "-m", "simsvr", *given]
    os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("simsvr", description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="one run")
    which.add_argument("--seeds", type=int, default=100, help="how many runs (100)")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--lines", type=int, default=80, help="of a story (80)")
    parser.add_argument("--stop-after", type=int, default=1, help="failed runs (1)")
    parser.add_argument("--verbose", action="store_true", help="the story of a run that passes too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
