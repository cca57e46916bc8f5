"""Measurements of soaks that never ran, for tests of what is made of them."""

from real_cluster.histogram import Histogram
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

NODES = ["node-0", "node-1"]


def took(*milliseconds: float) -> Histogram:
    made = Histogram()
    for ms in milliseconds:
        made.add(round(ms * 1e6))
    return made


def made(length_s: int = 60, *, every_s: int = 10) -> Measured:
    """A round every so often, of an owner and now and then a replica too; nothing broken."""
    measured = Measured(42, length_s / 60, "make soak MINUTES=1 SEED=42", "2025-11-23 10:00", 3)
    measured.nodes, measured.length_s, measured.ended = list(NODES), length_s, "time is up"
    measured.ownings.append(Owning(0.5, {"node-0": 5, "node-1": 5}, {}, {}))
    for at_s in range(length_s):
        bad = at_s % every_s == 5
        measured.seconds.append(Second(at_s, 10 if bad else 600, 7 * bad, 1.0, 900.0 if bad else 5))
        if bad:
            _round(measured, at_s)
        if at_s % 30 == 29:
            measured.checks.append(Check(at_s, 15_000, 0))
    measured.latencies.merge(took(1, 2, 3).counts)
    return measured


def _round(measured: Measured, at_s: int) -> None:
    number = len(measured.rounds) + 1
    done = Round(number, [], at_s, at_s + 2.0, at_s + 3.5, 90, 7, {"TIMEOUT": 7}, 1.5, 900.0)
    done.strikes.append(Strike("owner: kill -9", "owners", at_s, ["node-0"]))
    if number % 3 == 0:
        done.strikes.append(Strike("replica: <frozen>", "replicas", at_s + 1.0, ["store-1"]))
    measured.rounds.append(done)
    measured.add_round(done, took(1, 5, 900))
    measured.ownings += [
        Owning(at_s + 1, {"node-1": 10}, {"node-1": 5}, {"node-0": 5}),
        Owning(at_s + 3, {"node-0": 5, "node-1": 5}, {"node-0": 5}, {"node-1": 5}),
    ]


def broken(measured: Measured) -> Measured:
    """With a violation of two calls, at seconds 21 and 26.5."""
    calls = [
        SeenCall(20.9, 21.0, "handed 9, epoch 3 (a.jsonl:1)"),
        SeenCall(26.4, 26.5, "handed 8, epoch 4 (b.jsonl:7)"),
    ]
    text = "handed 8 after 9 had been handed out"
    measured.contradictions.append(Contradiction("SEQ-1", 17, text, 26.5, calls))
    measured.checks.append(Check(measured.length_s, 100, 1))
    measured.blame([26.5])
    measured.ended, measured.trouble = "violation", f"Broken: {text}"
    return measured
