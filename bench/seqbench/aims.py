"""The aims of this project's speed, and whether a run has reached them. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from seqbench.run import Outcome
from seqbench.samples import Spread

ELSEWHERE = "measured by {}"


@dataclass(frozen=True, slots=True)
class Aim:
    """figure: what it is about; at_least or at_most: of the median; measured: by a run.

    by_cpu: the same ratio by CPU time of the process that is the bottleneck, which other work on
    the machine disturbs less.
    """

    figure: str
    measured: Callable[[Outcome], Spread | None]
    at_least: float | None = None
    at_most: float | None = None
    by_cpu: Callable[[Outcome], Spread | None] | None = None
    unit: str = "x"
    elsewhere: str = ""

    @property
    def aim(self) -> str:
        if self.elsewhere:
            return self.unit
        sign, value = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {value:g}{self.unit}"

    def reached(self, found: Spread | None) -> str:
        if found is None:
            return ELSEWHERE.format(self.elsewhere) if self.elsewhere else "not measured"
        enough = self.at_least is None or found.median >= self.at_least
        return "yes" if enough and (self.at_most is None or found.median <= self.at_most) else "no"


def _rate(figure: str, over: str, under: str, case: str, aim: float) -> Aim:
    """Numbers per second of one contestant over another's."""
    pair = (case, over), (case, under)
    return Aim(
        f"{figure}: {over} over {under}",
        lambda outcome: outcome.ratio(*pair, "per_s"),
        at_least=aim,
        by_cpu=lambda outcome: outcome.ratio(pair[1], pair[0], "cpu_us"),
    )


def _uvloop(figure: str, under: str, case: str, aim: float) -> Aim:
    """The same on uvloop, on both sides."""
    return _rate(figure, "embedded-uvloop", f"{under}-uvloop", case, aim)


def _absolute(figure: str, name: str, below_ms: float) -> Aim:
    return Aim(
        f"calls, 32 callers at 60 % load: {figure} of embedded",
        lambda outcome: outcome.spread("paced-32", "embedded", name),
        at_most=below_ms,
        unit=" ms",
    )


AIMS = (
    _rate("batches of 256 over streams", "embedded", "limit", "streams-256", 0.80),
    _rate("batches of 1,024 over streams", "embedded", "limit", "streams-1024", 0.70),
    _rate("calls, 32 callers", "embedded", "redis-always", "calls-32", 5),
    _rate("calls, 1,000 callers", "embedded", "redis-always", "calls-1000", 15),
    _rate("calls, 32 callers, same client", "embedded", "limit", "calls-32", 0.85),
    _absolute("p50", "p50_ms", 1),
    _absolute("p99.9", "p999_ms", 3),
    Aim(
        "one lone caller, p50: embedded over limit",
        lambda outcome: outcome.ratio(("calls-1", "embedded"), ("calls-1", "limit"), "p50_ms"),
        at_most=1.25,
    ),
    _rate("unary GetSeq, 32 callers", "embedded", "limit", "unary-32", 0.85),
    _rate("calls, 32 callers", "cluster", "embedded", "calls-32", 0.97),
    _rate("calls, 32 callers", "embedded-tls", "embedded", "calls-32", 0.9),
    _rate("calls, 1,000 callers", "embedded-tls", "embedded", "calls-1000", 0.9),
    _rate("batches of 1,024 over streams", "cluster", "embedded", "streams-1024", 0.97),
    _rate("blocking client, 8 threads", "embedded", "redis-always", "threads-8", 3),
    _uvloop("batches of 1,024 over streams", "limit", "streams-1024", 0.70),
    _uvloop("calls, 32 callers, same client", "limit", "calls-32", 0.85),
    _uvloop("calls, 32 callers", "redis-always", "calls-32", 5),
    _uvloop("calls, 1,000 callers", "redis-always", "calls-1000", 15),
    Aim(
        "memory of a node with all sections: idle / per touched dense uid",
        lambda _: None,
        unit="<= 150 MB / <= 9 bytes",
        elsewhere="bench/scale.py",
    ),
    Aim(
        "sections raised per second through 3 replicas",
        lambda _: None,
        unit=">= 20,000",
        elsewhere="bench/raises.py",
    ),
)


def judged(outcome: Outcome) -> list[dict[str, object]]:
    """A row for each aim: figure, aim, measured (words and numbers), by CPU time, reached."""
    rows: list[dict[str, object]] = []
    for aim in AIMS:
        found = aim.measured(outcome)
        by_cpu = aim.by_cpu(outcome) if aim.by_cpu is not None else None
        rows.append(
            {
                "figure": aim.figure,
                "aim": aim.aim,
                "measured": None if found is None else [found.median, found.low, found.high],
                "words": "" if found is None else str(found),
                "by_cpu": "" if by_cpu is None else str(by_cpu),
                "reached": aim.reached(found),
            }
        )
    return rows
