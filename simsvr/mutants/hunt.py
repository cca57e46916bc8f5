"""Run inside of a scratch copy: seeds from 0 on, until one of them breaks a promise.

Which promises count may be said: a bug that only stops everything is seen by many seeds, and not
for what it is.

Its last line is what was found, as JSON (`Found`).
"""

import argparse
import json
import sys
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from simsvr.__main__ import told
from simsvr.run import run

OURS = ("seqsvr", "clustermap", "storesvr", "allocsvr", "arbitersvr", "seqcheck", "simsvr")


@dataclass(frozen=True, slots=True)
class Found:
    """seed: the lowest one that broke a promise that counts, None: none did; tried: how many were
    run; promise, text: of its first such violation; others: seeds that broke what does not count;
    cpu_s: that all runs took together, in seconds.
    """

    seed: int | None
    tried: int
    promise: str = ""
    text: str = ""
    others: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class One:
    """One run: its first violation that counts, if there is any; whether there were others."""

    seed: int
    promise: str
    text: str
    others: bool
    cpu_s: float


def look(seed: int, counting: tuple[str, ...] = ()) -> One:
    """Run one seed. counting: the promises that count; none: all do."""
    began_s = time.process_time()
    found = run(seed, lines=0).violations
    cpu_s = time.process_time() - began_s
    counted = [v for v in found if not counting or v.promise in counting]
    promise, text = (counted[0].promise, counted[0].text) if counted else ("", "")
    return One(seed, promise, text, len(counted) < len(found), cpu_s)


def hunt(seeds: range, jobs: int, counting: tuple[str, ...] = ()) -> Found:
    """The lowest of these seeds that breaks a promise."""
    tried, others, cpu_s = 0, 0, 0.0
    with closing(_looked(seeds, jobs, counting)) as runs:
        for one in runs:
            tried += 1
            others += one.others and not one.promise
            cpu_s += one.cpu_s
            if one.promise:
                return Found(one.seed, tried, one.promise, one.text, others, cpu_s)
    return Found(None, tried, others=others, cpu_s=cpu_s)


def _looked(seeds: range, jobs: int, counting: tuple[str, ...]) -> Generator[One, None, None]:
    """In the order of the seeds."""
    if jobs == 1:
        yield from (look(seed, counting) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(partial(look, counting=counting), seeds)
        finally:
            pool.shutdown(cancel_futures=True)


def foreign(root: Path) -> list[str]:
    """Modules of ours that were not imported from below `root`."""
    found = []
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name.partition(".")[0] in OURS and path and not Path(path).is_relative_to(root):
            found.append(f"{name} from {path}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser("simsvr.mutants.hunt")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--counting", action="append", default=[], help="a promise that counts")
    parser.add_argument("--story", action="store_true", help="tell all of one seed")
    args = parser.parse_args()
    wrong = foreign(Path.cwd())
    if wrong:
        print("imported from elsewhere:", *wrong, sep="\n", file=sys.stderr)
        return 2
    if args.story:
        outcome = run(args.first)
        print(told(outcome))
    seeds = range(args.first, args.first + args.seeds)
    print(json.dumps(asdict(hunt(seeds, args.jobs, tuple(args.counting)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
