"""`python -m simsvr.mutants`: plant every bug in turn, and look whether the simulator sees it.

First a copy without any bug must pass a few seeds, so that it is the bugs that fail. Exit codes: 0
every bug was caught, 1 some were not, 2 wrong usage, or a bug that cannot be planted any more.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from simsvr.mutants import catalogue
from simsvr.mutants.hunt import Found
from simsvr.mutants.patches import DoesNotApply, Mutant
from simsvr.mutants.scratch import scratch, start
from simsvr.mutants.table import Row, again, inserted, written

SOUND = 20
HUNT = "simsvr.mutants.hunt"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parsed(argv)
    try:
        mutants = [catalogue.named(name) for name in args.only] or catalogue.ALL
    except KeyError as unknown:
        print(f"no such bug: {unknown}", file=sys.stderr)
        return 2
    try:
        if args.seed is not None:
            return _retold(mutants, args.seed)
        return _hunted(mutants, args)
    except DoesNotApply as broken:
        print(f"cannot be planted: {broken}", file=sys.stderr)
        return 2


def _hunted(mutants: Sequence[Mutant], args: argparse.Namespace) -> int:
    if args.sound:
        found = _found(None, args.sound, args.jobs)
        if found.seed is not None:
            print(f"the sound source fails seed {found.seed}: {found.promise} {found.text}")
            return 1
        print(f"without a bug: {found.tried} seeds passed, {found.cpu_s / found.tried:.2f} s each")
    rows = []
    for mutant in mutants:
        found = _found(mutant, args.seeds, args.jobs)
        row = Row(mutant, found.seed, found.promise)
        rows.append(row)
        print(_told(row, found), flush=True)
    if args.write:
        document = args.write.read_text(encoding="utf-8")
        table = written(rows, catalogue.HARMLESS)
        args.write.write_text(inserted(document, table), encoding="utf-8")
    missed = [row.mutant.name for row in rows if not row.caught]
    print(f"{len(rows) - len(missed)} of {len(rows)} caught", *missed)
    return 1 if missed else 0


def _found(mutant: Mutant | None, seeds: int, jobs: int) -> Found:
    """Hunt in a copy."""
    with scratch(mutant) as copy:
        options = ["--seeds", str(seeds), "--jobs", str(jobs)]
        for promise in mutant.breaks if mutant is not None else ():
            options += ["--counting", promise]
        program = start(copy, HUNT, options)
        output, _ = program.communicate()
    if program.returncode:
        raise RuntimeError(f"{mutant.name if mutant else 'no bug'}: exit {program.returncode}")
    return Found(**json.loads(output.splitlines()[-1]))


def _retold(mutants: Sequence[Mutant], seed: int) -> int:
    """The story of one seed with each of these bugs."""
    for mutant in mutants:
        with scratch(mutant) as copy:
            program = start(copy, HUNT, ["--first", str(seed), "--story"])
            output, _ = program.communicate()
        print(output.rpartition("\n{")[0])
        print(f"with the bug: {again(mutant.name, seed)}")
    return 0


def _told(row: Row, found: Found) -> str:
    how = f"seed {row.seed}: {row.promise}: {found.text}" if row.caught else "NOT CAUGHT"
    if not row.caught or found.others:
        how += f" ({found.tried} seeds; {found.others} of them broke what does not count)"
    return f"{row.mutant.name:36} {found.cpu_s:7.1f} s  {how}"


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("simsvr.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this bug")
    parser.add_argument("--seeds", type=int, default=2000, help="how many at most (2000)")
    parser.add_argument("--seed", type=int, help="only this one, with its story")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--sound", type=int, default=SOUND, help=f"seeds without a bug ({SOUND})")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this page")
    args = parser.parse_args(argv)
    if args.write:
        args.write = args.write.resolve()
    return args


if __name__ == "__main__":
    sys.exit(main())
