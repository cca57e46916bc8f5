"""Rounds in turn: every case, and in it every contestant, then all of that again."""

import contextlib
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqbench.cases import CASES, PACED_AFTER, SHARE, Case
from seqbench.contestants import CONTESTANTS, Contestant
from seqbench.load import Spec
from seqbench.peers import Peer
from seqbench.processes import Missing, cores, surroundings
from seqbench.samples import Spread

Say = Callable[[str], None]
PATIENCE_S = 60.0
TIMELINE = "timeline"
FLOOD = "flood"
"""Among names of cases; see timeline.py and flood.py."""


@dataclasses.dataclass(slots=True)
class Outcome:
    """rounds: case -> contestant -> the figures of each round (None: that one failed).

    missing: contestant -> why it did not take part; failures: what went wrong, in words.
    """

    rounds: dict[str, dict[str, list[dict[str, Any] | None]]]
    missing: dict[str, str]
    failures: list[str]

    def spread(self, case: str, contestant: str, figure: str) -> Spread | None:
        """Of one figure over the rounds; None where there is none."""
        values = [r[figure] for r in self.of(case, contestant) if r is not None and figure in r]
        return Spread.of(values) if values else None

    def ratio(self, over: tuple[str, str], under: tuple[str, str], figure: str) -> Spread | None:
        """Of one figure of two (case, contestant), taken round by round."""
        pairs = zip(self.of(*over), self.of(*under), strict=False)
        values = [a[figure] / b[figure] for a, b in pairs if a is not None and b is not None]
        return Spread.of(values) if values else None

    def others(self) -> Spread | None:
        """How many cores were taken meanwhile by what does not belong to the measurement."""
        rounds = [r for case in self.rounds.values() for of in case.values() for r in of]
        shares = [r["others_busy"] for r in rounds if r is not None and "others_busy" in r]
        return Spread.of(shares) if shares else None

    def of(self, case: str, contestant: str) -> Sequence[dict[str, Any] | None]:
        return self.rounds.get(case, {}).get(contestant, [])


class Run:
    """folder: where the servers keep what they store; say: gets a line about what happens."""

    def __init__(self, folder: Path, seconds: float, cases: Sequence[Case], say: Say) -> None:
        self._folder, self._seconds, self._cases, self._say = folder, seconds, cases, say
        self._peers: dict[str, Peer] = {}
        self.outcome = Outcome({}, {}, [])

    def play(self, rounds: int, contestants: Sequence[str]) -> Outcome:
        """Start all, measure all in turn, stop all."""
        with contextlib.ExitStack() as ends:
            for name in contestants:
                self._start(CONTESTANTS[name], ends)
            for number in range(rounds):
                for case in self._cases:
                    self._case(case, number, rounds)
        return self.outcome

    def _start(self, contestant: Contestant, ends: contextlib.ExitStack) -> None:
        self._say(f"starting {contestant.title}")
        folder = self._folder / contestant.name
        folder.mkdir()
        folder.chmod(0o755)
        try:
            peer = contestant.start(folder)
        except Missing as missing:
            self._say(f"missing: {contestant.title}: {missing}")
            self.outcome.missing[contestant.name] = str(missing)
            return
        ends.callback(peer.stop)
        ends.callback(send, peer.all_pids, signal.SIGCONT)
        send(peer.all_pids, signal.SIGSTOP)
        self._peers[contestant.name] = peer

    def _case(self, case: Case, number: int, rounds: int) -> None:
        names = [name for name in case.contestants if name in self._peers]
        # Another one goes first in each round: who comes after whom makes no difference then.
        turn = number % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            figures = self._measured(case, CONTESTANTS[name], number)
            self.outcome.rounds.setdefault(case.name, {}).setdefault(name, []).append(figures)
            if figures is not None:
                self._say(
                    f"round {number + 1}/{rounds}  {case.name:18} {name:20}"
                    f" {figures['per_s']:>12,.0f} /s"
                )

    def _measured(self, case: Case, contestant: Contestant, number: int) -> dict[str, Any] | None:
        per_s = 0.0
        if case.shape == "paced":
            reached = self.outcome.of(PACED_AFTER, contestant.name)[number:]
            if not reached or reached[0] is None:
                self._failed(case, contestant, f"needs {PACED_AFTER} in the same round")
                return None
            per_s = SHARE * reached[0]["per_s"]
        peer = self._peers[contestant.name]
        with awake(peer.all_pids):
            return self._loaded(case, contestant, self._spec(case, contestant, peer, per_s))

    def _spec(self, case: Case, contestant: Contestant, peer: Peer, per_s: float) -> Spec:
        return Spec(
            shape=case.shape,
            driver=case.driver or contestant.driver,
            address=peer.address,
            loop=contestant.loop,
            callers=case.callers,
            batch=case.batch,
            per_s=per_s,
            warm_s=max(0.3, self._seconds / 4),
            seconds=self._seconds,
            pids=list(peer.pids),
            core=cores()[1],
            certificates=str(peer.certificates or ""),
        )

    def _loaded(self, case: Case, contestant: Contestant, spec: Spec) -> dict[str, Any] | None:
        command = [sys.executable, "-m", "seqbench.load", json.dumps(dataclasses.asdict(spec))]
        try:
            done = subprocess.run(
                command, env=surroundings(), capture_output=True, text=True, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            self._failed(case, contestant, f"not done after {PATIENCE_S:g} s")
            return None
        if done.returncode != 0:
            words = done.stderr.strip().splitlines() or ["without a word"]
            self._failed(case, contestant, words[-1])
            return None
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def _failed(self, case: Case, contestant: Contestant, why: str) -> None:
        text = f"{case.name}, {contestant.name}: {why}"
        self._say(f"FAILED {text}")
        self.outcome.failures.append(text)


@contextlib.contextmanager
def awake(pids: Sequence[int]) -> Iterator[None]:
    """Contestants stand still but for their turns: what they do when idle would cost the others."""
    send(pids, signal.SIGCONT)
    try:
        yield
    finally:
        send(pids, signal.SIGSTOP)


def send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def chosen(only: Sequence[str]) -> tuple[list[Case], list[str]]:
    """Cases and contestants for names of either; ValueError for a name of neither."""
    unknown = set(only) - set(CASES) - set(CONTESTANTS) - {TIMELINE, FLOOD}
    if unknown:
        known = ", ".join([*CASES, *CONTESTANTS, TIMELINE, FLOOD])
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known are {known}")
    if only and set(only) <= {TIMELINE, FLOOD}:
        return [], []
    cases = [CASES[name] for name in CASES if name in only] or list(CASES.values())
    names = [name for name in CONTESTANTS if name in only] or list(CONTESTANTS)
    return cases, [name for name in names if any(name in case.contestants for case in cases)]


def machine() -> dict[str, Any]:
    """Where and when it was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    server, load = cores()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "core_of_servers": server,
        "core_of_load": load,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }
