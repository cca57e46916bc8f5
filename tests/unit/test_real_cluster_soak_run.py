"""A soak's rules, without any cluster: it measures, checks, and tells however it ends."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from made_soaks import took
from real_cluster.load import Row
from real_cluster.measured import Contradiction, Measured, Strike
from real_cluster.soak_run import JUDGE_S, Broken, Run, various
from real_cluster.soak_schedule import Blow, Plan

S = 1_000_000_000


@dataclass
class Callers:
    """One process; each phase answers 100 calls in 3 ms, of which 5 fail."""

    stage: "Stage"
    broken: list[str] = field(default_factory=list)
    resting: bool = False
    phases: list[str] = field(default_factory=list)
    taken_ns: int = 0

    def flows(self, patience_s: float) -> None:
        self.stage.now += S // 2
        if self.stage.stuck:
            raise AssertionError("no answer for [7]")

    def phase(self, name: str) -> Row:
        self.phases.append(name)
        broken, self.broken = self.broken, []
        return Row(name, answered=95, failed=5, longest_gap_s=1.5, latencies=took(3), broken=broken)

    def histories(self) -> list[Path]:
        self.stage.files += 1
        file = self.stage.folder / f"{self.stage.files}.jsonl"
        file.write_text("a call\n")
        return [file]

    def rest(self) -> list[Path]:
        self.resting = True
        return self.histories()

    def take(self) -> list[Any]:
        first, until = self.taken_ns // S, self.stage.now // S
        self.taken_ns = self.stage.now
        ticks = [[second, 10, 1, {"400": 10}] for second in range(first, until)]
        routes = [[self.stage.now, 1, [(0, 9, "10.0.0.1:1")]]]
        return [{"until": until, "ticks": ticks, "changes": routes}]


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.now = folder, 0, 1_000 * S + 7
        self.callers = Callers(self)
        self.stuck = False
        self.violations: list[Any] = []
        self.judged: list[list[Path]] = []
        self.struck: list[str] = []
        self.undone = 0
        self.saves = 0
        self.trace = ""

    def now_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * S)

    def strike(self, blow: Blow, undo: ExitStack) -> Strike:
        self.struck.append(blow.kind)
        undo.callback(self._undo)
        if blow.kind == "interrupt":
            raise KeyboardInterrupt
        return Strike(blow.kind, "owners", 0.0, ["node-0"])

    def _undo(self) -> None:
        self.undone += 1

    def heal(self) -> None:
        self.now += S

    def judge(self, histories: list[Path]) -> Any:
        assert all(file.exists() for file in histories)
        self.judged.append(list(histories))
        return {"calls": 100, "violations": self.violations}

    def traces(self) -> str:
        return self.trace

    def say(self, text: str) -> None: ...

    def save(self) -> None:
        self.saves += 1


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def measured() -> Measured:
    return Measured(1, 1.0, "make soak", processes=1, nodes=["node-0"])


def run_of(stage: Stage, measured: Measured) -> Run:
    return Run(stage, measured, {"10.0.0.1:1": "node-0"})


def plan(*kinds: str, number: int = 1) -> Plan:
    return Plan(number, 1.0, tuple(Blow(kind, 2.0, 0) for kind in kinds))


END = plan("the last", number=0)


def test_rounds_go_on_until_time_is_up_and_the_last_one_ends_it(
    stage: Stage, measured: Measured
) -> None:
    run = run_of(stage, measured)
    run.go(repeat(plan("kill")), END, 60)
    run.end()
    assert stage.struck == ["kill"] * (len(measured.rounds) - 1) + ["the last"]
    assert measured.rounds[-1].number == len(measured.rounds)
    assert stage.undone == len(measured.rounds)
    assert all(one.flowing_s is not None for one in measured.rounds)
    assert measured.kinds["kill"].runs == len(measured.rounds) - 1
    assert stage.callers.resting


def test_times_and_seconds_are_those_since_it_began(stage: Stage, measured: Measured) -> None:
    run = run_of(stage, measured)
    run.go([plan("kill", "freeze")], None, 60)
    run.end()
    [one] = measured.rounds
    assert one.began_s == pytest.approx(1.5)
    assert [strike.at_s for strike in one.strikes] == pytest.approx([1.5, 3.5])
    assert one.healed_s == pytest.approx(6.5) and one.flowing_s == pytest.approx(7.0)
    assert [second.at_s for second in measured.seconds] == list(range(8))
    assert (measured.answered, measured.failed) == (80, 8)
    assert measured.ownings[0].sections == {"node-0": 10}


def test_histories_are_checked_now_and_then_and_let_go(stage: Stage, measured: Measured) -> None:
    run = run_of(stage, measured)
    run.go(repeat(plan("kill")), END, 10 * JUDGE_S)
    run.end()
    assert 8 <= len(stage.judged) <= 11
    assert stage.saves == len(stage.judged) - 1
    assert not list(stage.folder.iterdir()), "a run of any length needs no more room"
    assert measured.checked == 100 * len(stage.judged)


def test_a_violation_ends_it_with_both_calls_and_the_histories_kept(
    stage: Stage, measured: Measured
) -> None:
    run = run_of(stage, measured)
    began = 1_000 * S
    call = {"op": "next", "count": 1, "epoch": 3, "error": None, "where": "x/a.jsonl:4"}
    stage.violations = [
        {
            "promise": "SEQ-1",
            "uid": 7,
            "text": "handed 8 after 9",
            "calls": [
                {**call, "seq": 9, "call_ns": began + 2 * S, "return_ns": began + 3 * S},
                {**call, "seq": 8, "call_ns": began + 4 * S, "return_ns": began + 5 * S},
            ],
        }
    ]
    with pytest.raises(Broken, match="handed 8 after 9"):
        run.go(repeat(plan("kill")), END, 600)
    [found] = measured.contradictions
    assert [(c.began_s, c.answered_s) for c in found.calls] == [(2.0, 3.0), (4.0, 5.0)]
    assert found.calls[1].said == "handed 8, epoch 3 (a.jsonl:4)" and found.at_s == 5.0
    assert measured.checks[-1].violations == 1
    assert list(stage.folder.iterdir())


def test_of_many_violations_each_promise_and_each_uid_is_shown_before_repetitions() -> None:
    said = [("SEQ-1", 7), ("SEQ-1", 7), ("SEQ-1", 8), ("SEQ-2", 7), ("SEQ-2", 7)]
    found = [Contradiction(promise, uid, "", at_s) for at_s, (promise, uid) in enumerate(said)]
    shown = [(one.promise, one.uid) for one in various(found)]
    assert shown[:3] == [("SEQ-1", 7), ("SEQ-2", 7), ("SEQ-1", 8)]
    assert sorted(shown) == sorted(said)


def test_what_a_caller_notices_ends_the_round_and_the_histories_say_more(
    stage: Stage, measured: Measured
) -> None:
    run = run_of(stage, measured)
    with pytest.raises(Broken, match="handed 5"):
        run.go(_breaking(stage), END, 600)
    [found] = measured.contradictions
    assert found.text == "uid 7: handed 5 after 5" and not found.calls
    assert len(measured.rounds) == 2 and measured.rounds[1].violations == 1
    run.end()
    assert measured.contradictions == [found], "they did not know better"
    stage.violations = [{"promise": "SEQ-2", "uid": 7, "text": "5 twice", "calls": []}]
    with pytest.raises(Broken):
        run.end()
    assert [one.promise for one in measured.contradictions] == ["SEQ-2"]


def _breaking(stage: Stage) -> Any:
    yield plan("kill", number=1)
    stage.callers.broken = []
    yield _arm(stage)


def _arm(stage: Stage) -> Plan:
    strike = stage.strike

    def breaks(blow: Blow, undo: ExitStack) -> Strike:
        stage.callers.broken.append("uid 7: handed 5 after 5")
        return strike(blow, undo)

    stage.strike = breaks  # type: ignore[method-assign]
    return plan("kill", number=2)


def test_an_interrupt_in_the_middle_of_a_round_leaves_what_was_seen_of_it(
    stage: Stage, measured: Measured
) -> None:
    run = run_of(stage, measured)
    with pytest.raises(KeyboardInterrupt):
        run.go([plan("kill"), plan("freeze", "interrupt", number=2)], END, 600)
    run.end()
    first, second = measured.rounds
    assert first.flowing_s is not None and second.healed_s is None
    assert [strike.kind for strike in second.strikes] == ["freeze"]
    assert second.failed == 5 and measured.kinds["freeze"].runs == 1
    assert stage.undone == 3, "what was struck is undone"
    assert measured.seconds and measured.checks
    assert measured.length_s == pytest.approx(stage.now / S - 1_000, abs=1e-3)


def test_an_interrupt_while_histories_are_checked_loses_none_of_them(
    stage: Stage, measured: Measured
) -> None:
    run = run_of(stage, measured)
    judge = stage.judge

    def interrupted(histories: list[Path]) -> Any:
        stage.judge = judge  # type: ignore[method-assign]
        raise KeyboardInterrupt

    stage.judge = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.go(repeat(plan("kill")), END, 600)
    run.end()
    assert [[file.name for file in files] for files in stage.judged] == [["1.jsonl", "2.jsonl"]]


def test_numbers_that_do_not_flow_and_a_traceback_end_it(stage: Stage, measured: Measured) -> None:
    run = run_of(stage, measured)
    run.go([plan("kill")], None, 60)
    stage.trace = "node-0-001.err: Traceback"
    with pytest.raises(AssertionError, match="Traceback"):
        run.go([plan("kill")], END, 60)
    stage.stuck = True
    with pytest.raises(AssertionError, match="no answer"):
        run.go([plan("kill")], END, 60)
