"""Searches the models of this folder with spin, exhaustively, and prints what it found.

    python docs/model/check.py [--quick | --only WORD]

A *sound* case must hold in every reachable state. A planted bug must break the promise that its
case names. What must be reachable is claimed never to happen, and that must be refuted, or the
sound cases would be worth nothing. Exit status 1 if any of it is otherwise. `--quick`: only what
`make test` runs (tests/model). `--only`: the cases whose title holds WORD, with the steps that lead
to what they find.

A sound case counts only if the search was complete: not cut by depth or memory, no smaller than it
is known to be, and with each step of the model taken at least once. Needs spin and gcc on PATH;
what they write goes to a temporary directory.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
INSTALL = "spin and gcc are needed: apt-get install spin gcc libc6-dev"
LIMIT_MB = 1500
PATIENCE_S = 900
COMMON = ("-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={LIMIT_MB}")
DEEP = 10_000  # steps; the deepest search ends before 1 000
INCOMPLETE = ("too small", "not completed", "out of memory", "MEMLIM", "Bit statespace")


class Case(NamedTuple):
    """One run of spin.

    breaks: promise that must be broken, REACHED for what must be reachable, "" if all must hold;
    floor: fewest states of a search that is believed; quick: belongs to what CI runs.
    """

    title: str
    model: str
    switches: tuple[str, ...] = ()
    breaks: str = ""
    floor: int = 0
    quick: bool = True

    @property
    def sound(self) -> bool:
        return not self.breaks


class Result(NamedTuple):
    """What spin said. violated: promise, or ""; length, way: steps of the shortest way there."""

    violated: str
    length: int
    states: int
    transitions: int
    depth: int
    memory_mb: float
    seconds: float
    complete: bool
    errors: int
    untaken: tuple[int, ...]  # lines of steps that never happened
    way: tuple[str, ...] = ()


SMALL = ("ATTEMPTS=2", "RAISES=2", "RESTARTS=1")
LARGE = ("ATTEMPTS=3", "RAISES=1", "RESTARTS=0")
ODD = ("ATTEMPTS=2", "R=1", "W=3", "RESTARTS=0")

SOUND = (
    Case("2 attempts of 2 raises, a restart", "fence", SMALL, floor=500_000),
    Case("3 attempts (A to B to A)", "fence", LARGE, floor=800_000),
    Case("clocks without bound", "fence", (*LARGE, "WILD_CLOCKS"), floor=600_000, quick=False),
    Case("clocks and margins", "lease", floor=90_000),
    Case("no margin in the wait", "lease", ("NO_WAIT_MARGIN",), floor=90_000, quick=False),
    Case(
        "2 attempts, windows of 2",
        "fence",
        ("ATTEMPTS=2", "RAISES=2", "RESTARTS=0", "STEP=2"),
        floor=170_000,
        quick=False,
    ),
    Case("R = 1, W = 3", "fence", (*LARGE, "R=1", "W=3"), floor=300_000, quick=False),
    Case("R = 3, W = 1", "fence", (*LARGE, "R=3", "W=1"), floor=400_000, quick=False),
    Case("lost answers", "fence", (*LARGE, "LOST_ANSWERS"), floor=1_600_000, quick=False),
    Case("giving up", "fence", (*LARGE, "GIVING_UP"), floor=1_600_000, quick=False),
    Case(
        "early deaths",
        "fence",
        ("ATTEMPTS=2", "RAISES=1", "RESTARTS=0", "EARLY_DEATHS"),
        floor=2_000_000,
        quick=False,
    ),
    Case(
        "3 attempts, a restart",
        "fence",
        ("ATTEMPTS=3", "RAISES=1", "RESTARTS=1"),
        floor=6_000_000,
        quick=False,
    ),
)

# What `--quick` keeps of the following.
QUICK = {
    "NO_PROMISE",
    "RAISE_BELOW_W",
    "NOT_STICKY",
    "GREATEST_GRANT",
    "NO_WAIT",
    "NO_GRACE",
    "RELEASE_EARLY",
    "TAKEOVER",
    "GRACE",
    "SNAPSHOT",
}
# (switch, promise broken first, promise to callers broken, configuration)
BUGS = (
    ("NO_PROMISE", "FENCE_1", "SEQ_1", SMALL),
    ("BLIND_PUT", "NRW_1", "SEQ_2", SMALL),
    ("RAISE_BELOW_W", "SEQ_3", "SEQ_2", SMALL),
    ("TOO_FEW_ANSWERS", "FENCE_1", "SEQ_2", SMALL),
    ("NOT_STICKY", "LEASE_1", "SEQ_1", SMALL),
    ("NO_NOTICE", "LEASE_1", "SEQ_1", SMALL),
    ("GREATEST_GRANT", "LEASE_1", "SEQ_1", SMALL),
    ("NO_WAIT", "LEASE_1", "SEQ_1", SMALL),
    ("NO_GRACE", "LEASE_1", "SEQ_1", SMALL),
    ("BASE_TOO_LOW", "SEQ_2", "SEQ_2", SMALL),
    ("UNDURABLE_START", "SEQ_3", "SEQ_2", SMALL),
    ("RELEASE_EARLY", "LEASE_1", "SEQ_2", SMALL),
    ("SHARED_EPOCH", "LEASE_1", "SEQ_2", ODD),
    ("STALE_SNAPSHOT", "SEQ_1", "SEQ_1", LARGE),
    ("KEPT_RELEASE", "LEASE_1", "SEQ_1", LARGE),
)
LEASE_BUGS = ("NO_MARGIN", "FROM_ANSWER", "NO_GRACE", "SHORT_GRACE")
REACHABLE = (
    ("TAKEOVER", SMALL),
    ("SECOND_RAISE", SMALL),
    ("WAITED", SMALL),
    ("GRACE", SMALL),
    ("SNAPSHOT", SMALL),
    ("DEPOSED", SMALL),
    ("ACK_AFTER_PROMISES", SMALL),
    ("ABA", LARGE),
)


def cases() -> Iterator[Case]:
    """All of them, sound ones first."""
    yield from SOUND
    for switch, rule, promise, configuration in BUGS:
        yield Case(switch, "fence", (*configuration, switch), rule, quick=switch in QUICK)
        seen = (*configuration, switch, "CALLERS_ONLY")
        yield Case(f"{switch}, as callers see it", "fence", seen, promise, quick=False)
    for switch in LEASE_BUGS:
        quick = switch == "NO_MARGIN"
        yield Case(f"{switch} (clocks)", "lease", (switch,), "LEASE_1", quick=quick)
    for what, configuration in REACHABLE:
        switches = (*configuration, "REACH", f"REACH_{what}")
        yield Case(f"reachable: {what}", "fence", switches, "REACHED", quick=what in QUICK)
    for what in ("RENEWED", "WAITED"):
        title = f"reachable: {what} (clocks)"
        yield Case(title, "lease", (f"REACH_{what}",), "REACHED", quick=False)


def run(case: Case) -> Result:
    """Search all states; of a case that must break, breadth first, so that the way is the shortest.

    Raises SystemExit where a tool is missing or fails.
    """
    if not (shutil.which("spin") and shutil.which("gcc")):
        raise SystemExit(INSTALL)
    flags = ("-O1", "-DPEG") if case.sound else ("-O0", "-DBFS")
    with tempfile.TemporaryDirectory(prefix="model-") as name:
        folder = Path(name)
        switches = [f"-D{switch}" for switch in case.switches]
        model = shutil.copy(HERE / f"{case.model}.pml", folder)
        _call(folder, "spin", "-o3", "-a", *switches, Path(model).name)
        _call(folder, "gcc", *flags, *COMMON, "-w", "-o", "pan", "pan.c")
        said = _call(folder, "./pan", f"-m{DEEP}", "-w22")
        steps = _call(folder, "./pan", "-d") if case.sound else ""
        result = read(said, steps)
        if result.violated:
            trail = _call(folder, "spin", "-t", "-p", *switches, Path(model).name)
            attempts = 2 if "ATTEMPTS=2" in case.switches else 3
            lines = Path(model).read_text().splitlines()
            steps_there = tuple(way(trail, lines, attempts))
            result = result._replace(way=steps_there, length=len(steps_there))
    return result


def read(said: str, steps: str) -> Result:
    """Take the figures from the output of pan, and of `pan -d`, which lists the steps."""
    violated = re.search(r"assertion violated +!\((\w+)\) \(at depth (\d+)\)", said)
    taken = set(re.findall(r"trans +(\d+) ", said))
    untaken = sorted(
        {
            int(line)
            for step, line in re.findall(r"\(tr +(\d+)\).*D_STEP(\d+)", steps)
            if step not in taken
        }
    )
    return Result(
        violated=violated[1] if violated else "",
        length=int(violated[2]) + 1 if violated else 0,
        states=int(_figure(r"([\d.e+]+) states, stored", said)),
        transitions=int(_figure(r"([\d.e+]+) transitions", said)),
        depth=int(_figure(r"depth reached (\d+)", said)),
        memory_mb=_figure(r"([\d.]+)\s+total actual memory usage", said),
        seconds=_figure(r"elapsed time ([\d.e+]+) seconds", said),
        complete=not any(words in said for words in INCOMPLETE),
        errors=int(_figure(r"errors: (\d+)", said)),
        untaken=tuple(untaken),
    )


def way(trail: str, model: Sequence[str], attempts: int) -> Iterator[str]:
    """The steps of a trail as `spin -t -p` tells it: of each, the first line says whose it is."""
    told = ""
    for number, process, room, line in re.findall(
        r"^ *(\d+):\s+proc +(\d+) \(:?(\w+):?:\d+\) \w+\.pml:(\d+) ", trail, re.MULTILINE
    ):
        if number == told:
            continue
        told, pid = number, int(process)
        source = model[int(line) - 1].strip()
        does = re.search(r"-> (\w+\(.*\)) \}", source)
        step = does[1] if does else source
        if room == "Arriving":
            step = step.replace("A, AT", f"attempt {pid // 3}, replica {pid % 3}")
        elif room == "Owning":
            step = re.sub(r"(?<=\(|\[)A\b", f"attempt {pid - 3 * attempts}", step)
        yield step


def complaint(case: Case, result: Result) -> str:
    """What is wrong with a result, or ""."""
    if case.breaks:
        if result.violated != case.breaks:
            return f"{result.violated or 'nothing'} was broken, not {case.breaks}"
        return ""
    if result.violated or result.errors:
        return f"{result.violated or 'something'} is broken after {result.length} steps"
    if not result.complete:
        return "the search was cut off"
    if result.states < case.floor:
        return f"{result.states} states: fewer than the {case.floor} that there were"
    if result.untaken:
        return f"never happened: the steps of lines {', '.join(map(str, result.untaken))}"
    return ""


def row(case: Case, result: Result) -> str:
    """One line of the table."""
    found = f"{result.violated} after {result.length}" if result.violated else "holds"
    return (
        f"{case.title:42} {found:20} {result.states:>10,} {result.transitions:>12,}"
        f" {result.depth:>5} {result.memory_mb:>7.0f} MB {result.seconds:>6.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="check the models with spin")
    parser.add_argument("--quick", action="store_true", help="only what takes seconds")
    parser.add_argument("--only", metavar="WORD", help="cases whose title holds WORD, told in full")
    given = parser.parse_args(arguments)
    print(f"{'':63}     states  transitions depth     memory     time")
    failed = 0
    for case in cases():
        if given.only not in case.title if given.only else given.quick and not case.quick:
            continue
        result = run(case)
        print(row(case, result), flush=True)
        for number, step in enumerate(result.way if given.only else (), 1):
            print(f"{number:6}  {step}")
        if wrong := complaint(case, result):
            failed += 1
            print(f"  WRONG: {wrong}", flush=True)
    return 1 if failed else 0


def _call(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode and command[0] != "./pan":
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _figure(pattern: str, said: str) -> float:
    found = re.search(pattern, said)
    return float(found[1]) if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
