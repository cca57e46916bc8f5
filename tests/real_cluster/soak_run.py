"""A soak as it goes on: rounds of faults one after the other, everything measured and checked.

Knows neither clock nor processes but through its Stage, so its own rules can be tested without. The
memory it needs does not grow with the calls: histories are checked and let go every JUDGE_S.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from real_cluster.load import Row
from real_cluster.measured import (
    Check,
    Contradiction,
    Measured,
    Owning,
    Round,
    Second,
    SeenCall,
    Strike,
)
from real_cluster.ownership import Ownership, Sighting
from real_cluster.per_second import SECOND_NS, Merger, Tick
from real_cluster.soak_schedule import Blow, Plan

JUDGE_S = 60.0
"""How often all that was recorded is checked; callers see most violations on the spot."""

FLOWS_S = 60.0

SHOWN = 20
"""Violations that a report has in detail."""


class Broken(AssertionError):
    """A promise was broken."""


class Callers(Protocol):
    """See crowd.Crowd."""

    def flows(self, patience_s: float) -> None: ...
    def phase(self, name: str) -> Row: ...
    def histories(self) -> list[Path]: ...
    def rest(self) -> list[Path]: ...
    def take(self) -> list[Any]: ...


class Stage(Protocol):
    """What a run needs of the world. now_ns: CLOCK_MONOTONIC, as the callers' times are."""

    @property
    def callers(self) -> Callers: ...
    def now_ns(self) -> int: ...
    def sleep(self, seconds: float) -> None: ...
    def strike(self, blow: Blow, undo: ExitStack) -> Strike: ...
    def heal(self) -> None: ...
    def judge(self, histories: list[Path]) -> Any: ...
    def traces(self) -> str: ...
    def say(self, text: str) -> None: ...
    def save(self) -> None: ...


class Run:
    """Fills `measured`, also where it ends early; addresses: how nodes are called by callers."""

    def __init__(self, stage: Stage, measured: Measured, addresses: dict[str, str]) -> None:
        self._stage, self._measured = stage, measured
        # A whole second, so that the seconds of the callers' processes begin where ours do.
        self._began_ns = stage.now_ns() // SECOND_NS * SECOND_NS
        self._merger = Merger(measured.processes, self._began_ns // SECOND_NS)
        self._ownership = Ownership(addresses)
        self._judged_s = 0.0
        self._unjudged: list[Path] = []
        self._open: Round | None = None

    def go(self, plans: Iterable[Plan], end: Plan | None, length_s: float) -> None:
        """Rounds until `length_s` is over, then the one that ends a run. AssertionError: failed."""
        self._stage.callers.flows(FLOWS_S)
        self._stage.callers.phase("between")
        for plan in plans:
            if self._now_s() >= length_s:
                break
            self._round(plan)
            if self._now_s() > self._judged_s + JUDGE_S:
                self._judge(self._stage.callers.histories())
                self._stage.save()
        if end is not None:
            self._round(replace(end, number=len(self._measured.rounds) + 1))
        self._stage.sleep(1)

    def end(self) -> None:
        """Take and check what is still to be had; to be called however `go` has ended."""
        self._measured.length_s = self._now_s()
        self._take()
        if self._open is not None:
            self._count(self._open)
        self._judge(self._stage.callers.rest())

    # -- a round

    def _round(self, plan: Plan) -> None:
        stage = self._stage
        stage.sleep(plan.calm_s)
        stage.callers.phase(f"round {plan.number}")
        done = Round(plan.number, began_s=self._now_s())
        self._measured.rounds.append(done)
        self._open = done
        with ExitStack() as undo:
            for blow in plan.blows:
                self._strike(blow, done, undo)
                stage.sleep(blow.hold_s)
        stage.heal()
        done.healed_s = self._now_s()
        stage.callers.flows(FLOWS_S)
        done.flowing_s = self._now_s()
        self._count(done)
        stage.say(told(done))
        self._take()
        traces = stage.traces()
        assert not traces, traces

    def _strike(self, blow: Blow, done: Round, undo: ExitStack) -> None:
        struck_s = self._now_s()
        strike = self._stage.strike(blow, undo)
        strike.at_s = struck_s
        done.strikes.append(strike)

    def _count(self, done: Round) -> None:
        self._open = None
        row = self._stage.callers.phase("between")
        done.answered, done.failed, done.reasons = row.answered, row.failed, row.reasons
        done.longest_gap_s, done.p99_ms = row.longest_gap_s, row.p99_ms
        self._measured.add_round(done, row.latencies)
        if row.broken:
            self._noticed(row.broken)

    # -- the verdict

    def _judge(self, histories: list[Path]) -> None:
        self._unjudged += histories
        histories = self._unjudged
        verdict = self._stage.judge(histories)
        self._unjudged = []
        self._judged_s = self._now_s()
        violations = verdict["violations"]
        self._measured.checks.append(Check(self._judged_s, verdict["calls"], len(violations)))
        self._stage.say(f"checked {verdict['calls']} calls: {len(violations) or 'no'} violations")
        if violations:
            all_found = [self._contradiction(one) for one in violations]
            self._measured.blame([one.at_s for one in all_found])
            found = self._measured.contradictions = various(all_found)[:SHOWN]
            raise Broken(f"{len(violations)} violations: {found[0].promise}: {found[0].text}")
        for file in histories:
            file.unlink()

    def _noticed(self, broken: Sequence[str]) -> None:
        """A caller saw it at once. Which calls contradict each other, the histories tell."""
        now_s = self._now_s()
        found = [Contradiction("SEQ-1", None, text, now_s) for text in broken[:SHOWN]]
        self._measured.contradictions = found
        self._measured.blame([one.at_s for one in found])
        raise Broken(broken[0])

    def _contradiction(self, violation: Any) -> Contradiction:
        calls = [
            SeenCall(self._since_s(call["call_ns"]), self._since_s(call["return_ns"]), _said(call))
            for call in violation["calls"]
        ]
        calls.sort(key=attrgetter("answered_s"))
        at_s = max((call.answered_s for call in calls), default=self._now_s())
        return Contradiction(violation["promise"], violation["uid"], violation["text"], at_s, calls)

    # -- measuring

    def _take(self) -> None:
        """Let the measurements have what the callers' processes hold."""
        sightings = []
        for process, taken in enumerate(self._stage.callers.take()):
            self._merger.add(process, taken)
            for at_ns, version, routes in taken["changes"]:
                sightings.append(Sighting(self._since_s(at_ns), version, routes))
        first = self._began_ns // SECOND_NS
        for second, tick in self._merger.whole():
            self._measured.seconds.append(_second(second - first, tick))
            self._measured.latencies.merge(tick.latencies.counts)
        changes: list[Owning] = self._ownership.changes(sightings)
        self._measured.ownings += changes

    def _now_s(self) -> float:
        return self._since_s(self._stage.now_ns())

    def _since_s(self, at_ns: int) -> float:
        return (at_ns - self._began_ns) / 1e9


def various(found: Sequence[Contradiction]) -> list[Contradiction]:
    """The first of each promise and uid first: the tenth of the same kind says nothing new."""
    told_of = Counter[str | tuple[str, int | None]]()
    ranked = []
    for one in sorted(found, key=attrgetter("at_s")):
        keys = (one.promise, (one.promise, one.uid))
        ranked.append((min(told_of[keys[0]], 1), told_of[keys[1]], one))
        told_of.update(keys)
    return [one for *_, one in sorted(ranked, key=lambda rank: rank[:2])]


def told(done: Round) -> str:
    """A round in one line."""
    calls = done.answered + done.failed
    return (
        f"{done.number}. {done.what}: longest gap {done.longest_gap_s:.2f} s, "
        f"{done.failed} of {calls} calls failed {done.reasons or ''}, p99 {done.p99_ms:.0f} ms"
    )


def _second(at_s: int, tick: Tick) -> Second:
    if not tick.answered:
        return Second(at_s, 0, tick.failed, None, None)
    p50, p99 = (round(tick.latencies.quantile_ms(q), 3) for q in (0.5, 0.99))
    return Second(at_s, tick.answered, tick.failed, p50, p99)


def _said(call: Any) -> str:
    """What a call of a verdict was told."""
    more = f", epoch {call['epoch']}" if call["epoch"] else ""
    where = call["where"].rpartition("/")[2]
    if call["error"]:
        return f"{call['op']} failed: {call['error']} ({where})"
    if call["op"] == "current":
        return f"current said {call['seq']}{' exactly' * call['exact']}{more} ({where})"
    last = f" to {call['seq'] + call['count'] - 1}" if call["count"] > 1 else ""
    return f"handed {call['seq']}{last}{more} ({where})"
