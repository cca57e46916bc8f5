"""Run inside of a scratch copy: seeds from 0 on, until one of them breaks a promise.

Its last line is what was found, as JSON (`Found`).
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from simsvr.__main__ import told
from simsvr.run import run

OURS = ("seqsvr", "clustermap", "storesvr", "allocsvr", "arbitersvr", "seqcheck", "simsvr")


@dataclass(frozen=True, slots=True)
class Found:
    """seed: the lowest one that broke a promise, None: none did; tried: how many seeds were run;
    promise, text: of its first violation; cpu_s: that all runs took together, in seconds.
    """

    seed: int | None
    tried: int
    promise: str = ""
    text: str = ""
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class One:
    """One run: its first violation, if there is any."""

    seed: int
    promise: str
    text: str
    cpu_s: float


def look(seed: int) -> One:
    """Run one seed."""
    began_s = time.process_time()
    first = next(iter(run(seed, lines=0).violations), None)
    cpu_s = time.process_time() - began_s
    if first is None:
        return One(seed, "", "", cpu_s)
    return One(seed, first.promise, first.text, cpu_s)


def hunt(first: int, seeds: int, jobs: int) -> Found:
    """The lowest seed that breaks a promise, whichever is found first."""
    best: One | None = None
    tried, cpu_s = 0, 0.0
    for one in _looked(range(first, first + seeds), jobs):
        tried += 1
        cpu_s += one.cpu_s
        if one.promise and (best is None or one.seed < best.seed):
            best = one
        if best is not None and one.seed >= best.seed:
            break
    if best is None:
        return Found(None, tried, cpu_s=cpu_s)
    return Found(best.seed, tried, best.promise, best.text, cpu_s)


def _looked(seeds: range, jobs: int) -> Iterator[One]:
    if jobs == 1:
        yield from map(look, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(look, seeds)
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
    parser.add_argument("--story", action="store_true", help="tell all of one seed")
    args = parser.parse_args()
    wrong = foreign(Path.cwd())
    if wrong:
        print("imported from elsewhere:", *wrong, sep="\n", file=sys.stderr)
        return 2
    if args.story:
        outcome = run(args.first)
        print(told(outcome))
    print(json.dumps(asdict(hunt(args.first, args.seeds, args.jobs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
