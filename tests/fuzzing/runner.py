"""Many inputs: `make fuzz`. Random changes of the corpus, or by coverage with atheris.

    python -m fuzzing.runner --runs 1000000            all targets, each with its share
    python -m fuzzing.runner --target store --seed 5   one of them
    python -m fuzzing.runner --target store --engine atheris --runs 100000
    python -m fuzzing.runner --target store --replay FILE

The first input that finds something ends the run of its target: it is kept in a file, and the
command that replays it is printed. Exit codes: 0 nothing found, 1 something.
"""

import argparse
import logging
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

from fuzzing.mutate import mutated
from fuzzing.targets import TARGETS, Target

SLOW_S = 5.0
"""Processor time after which an input is a finding, whatever comes of it."""


def main() -> int:
    args = _arguments()
    logging.disable(logging.CRITICAL)
    chosen = [TARGETS[args.target]] if args.target else list(TARGETS.values())
    if args.replay:
        chosen[0].run(Path(args.replay).read_bytes())
        return 0
    shares = sum(target.share for target in chosen)
    began_s = time.monotonic()
    total, found = 0, 0
    for target in chosen:
        runs = max(round(args.runs * target.share / shares), len(target.corpus()))
        if args.engine == "atheris" and len(chosen) > 1:
            found += not _in_a_process_of_its_own(target, runs)
        elif args.engine == "atheris":
            _by_coverage(target, runs, args.corpus)  # does not return
        else:
            found += not _at_random(target, runs, args.seed)
        total += runs
    took_s = time.monotonic() - began_s
    print(f"{total} inputs in {took_s:.0f} s: {found} targets failed", flush=True)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzzing.runner", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs, all targets together")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    parser.add_argument("--seed", type=int, default=0, help="of the random changes")
    parser.add_argument("--corpus", help="where atheris keeps what it found worth keeping")
    parser.add_argument("--replay", metavar="FILE", help="one input, in place of many")
    args = parser.parse_args()
    if args.replay and not args.target:
        parser.error("--replay needs --target")
    return args


def inputs(target: Target, count: int, seed: int) -> list[bytes]:
    """The corpus, and `count` changes of it: always the same ones."""
    corpus = target.corpus()
    rng = random.Random(f"{target.name} {seed}")
    return [*corpus, *(mutated(rng, corpus) for _ in range(count))]


def _at_random(target: Target, runs: int, seed: int) -> bool:
    corpus = target.corpus()
    rng = random.Random(f"{target.name} {seed}")
    began_s = time.monotonic()
    slowest_s = 0.0
    for number in range(runs):
        data = corpus[number] if number < len(corpus) else mutated(rng, corpus)
        before_s = time.process_time()
        try:
            target.run(data)
        except Exception:  # noqa: BLE001 - whatever leaves a target is a finding
            return _found(target, data)
        took_s = time.process_time() - before_s
        slowest_s = max(slowest_s, took_s)
        if took_s > SLOW_S:
            print(f"{took_s:.1f} s for one input", flush=True)
            return _found(target, data)
    spent_s = time.monotonic() - began_s
    print(
        f"{target.name:24} {runs:8} inputs in {spent_s:5.0f} s, slowest {slowest_s * 1e3:.0f} ms",
        flush=True,
    )
    return True


def _found(target: Target, data: bytes) -> bool:
    traceback.print_exc()
    path = Path(f"found-{target.name}").absolute()
    path.write_bytes(data)
    print(f"{target.name}: {data[:200]!r} ({len(data)} bytes) in {path}; again:", file=sys.stderr)
    command = f"make fuzz TARGET={target.name} REPLAY={path}"
    print(f"    {command}", file=sys.stderr)
    return False


def _in_a_process_of_its_own(target: Target, runs: int) -> bool:
    command = [sys.executable, "-m", "fuzzing.runner", "--engine", "atheris"]
    done = subprocess.run([*command, "--target", target.name, "--runs", str(runs)], check=False)
    return done.returncode == 0


def _by_coverage(target: Target, runs: int, corpus: str | None) -> None:
    """Instruments what the target covers. libFuzzer ends the process."""
    from tempfile import mkdtemp

    import atheris

    for name in target.covers:
        module = sys.modules[name]
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) == name:
                _instrument(atheris, value)
    folder = Path(corpus or mkdtemp(prefix=f"fuzzing-{target.name}-"))
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(target.corpus()):
        (folder / f"seed-{number}").write_bytes(data)
    options = [f"-runs={runs}", "-max_len=20000", "-timeout=60", "-rss_limit_mb=2000"]
    atheris.Setup(
        ["fuzzing", *options, f"-artifact_prefix=found-{target.name}-", str(folder)], target.run
    )
    atheris.Fuzz()


def _instrument(atheris: object, value: object) -> None:
    """A function, or the methods of a class, in place."""
    import types

    members = vars(value).values() if isinstance(value, type) else (value,)
    for member in list(members):
        inner = getattr(member, "__func__", member)
        if isinstance(inner, types.FunctionType):
            inner.__code__ = atheris.instrument_func(inner).__code__  # type: ignore[attr-defined]


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # what targets keep for the life of the process is not taken down
