"""What a soak measured: all that its report shows, and nothing that grows with the calls.

Pure. Times are seconds since the run began. A second of it costs five numbers and a round some
dozens, so that a run of a day is a few megabytes.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from real_cluster.histogram import Histogram

FORMAT = 1

Ended = Literal["running", "time is up", "violation", "failed", "interrupted"]


@dataclass(slots=True)
class Second:
    """at_s: which one, whole. Latencies are of answered calls; None: there was none."""

    at_s: int
    answered: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(slots=True)
class Strike:
    """One fault of a round. victims: names, and what was done to each where it varies."""

    kind: str
    group: str
    at_s: float
    victims: list[str]


@dataclass(slots=True)
class Round:
    """Faults together, from the first to their end, and on until every uid had an answer again.

    healed_s, flowing_s: None: the run ended before.
    """

    number: int
    strikes: list[Strike] = field(default_factory=list)
    began_s: float = 0.0
    healed_s: float | None = None
    flowing_s: float | None = None
    answered: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    longest_gap_s: float = 0.0
    p99_ms: float = 0.0
    violations: int = 0

    @property
    def what(self) -> str:
        """Its faults, and whom they hit."""
        return " + ".join(
            one.kind + (f" ({', '.join(one.victims)})" if one.victims else "")
            for one in self.strikes
        )

    def holds(self, at_s: float) -> bool:
        """Whether that moment is one of it."""
        return self.began_s <= at_s and (self.flowing_s is None or at_s <= self.flowing_s)


@dataclass(slots=True)
class Tally:
    """The rounds of one kind of fault alone.

    in_company: how many more it shared with another one; only `runs` count in the other figures.
    """

    group: str
    runs: int = 0
    in_company: int = 0
    longest_gap_s: float = 0.0
    answered: int = 0
    failed: int = 0
    latencies: Histogram = field(default_factory=Histogram)

    def add(self, done: Round, latencies: Histogram) -> None:
        self.runs += 1
        self.longest_gap_s = max(self.longest_gap_s, done.longest_gap_s)
        self.answered += done.answered
        self.failed += done.failed
        self.latencies.merge(latencies.counts)


@dataclass(slots=True)
class Owning:
    """How many sections callers were led to at each node from now on, and how many each gained and
    lost now."""

    at_s: float
    sections: dict[str, int]
    gained: dict[str, int]
    lost: dict[str, int]


@dataclass(slots=True)
class Check:
    """Histories were checked. calls: those since the check before."""

    at_s: float
    calls: int
    violations: int


@dataclass(slots=True)
class SeenCall:
    """A call of a violation."""

    began_s: float
    answered_s: float
    said: str


@dataclass(slots=True)
class Contradiction:
    """A violation: the calls that cannot both be true; none where only a caller noticed it.

    at_s: when the later one was answered, or when it was noticed.
    """

    promise: str
    uid: int | None
    text: str
    at_s: float
    calls: list[SeenCall] = field(default_factory=list)


@dataclass
class Measured:
    """seed, minutes and again (the command) repeat it; began: date and time of day as text."""

    seed: int
    minutes: float
    again: str
    began: str = ""
    processes: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)
    ended: Ended = "running"
    trouble: str = ""
    length_s: float = 0.0
    latencies: Histogram = field(default_factory=Histogram)
    seconds: list[Second] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    kinds: dict[str, Tally] = field(default_factory=dict)
    company: Tally = field(default_factory=lambda: Tally("several"))
    """Rounds of two faults."""
    ownings: list[Owning] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    """Some of the violations; each check says how many there are."""

    def add_round(self, done: Round, latencies: Histogram) -> None:
        """Count a round that is over; it is one of `rounds` already."""
        struck = {strike.kind: strike.group for strike in done.strikes}
        for kind, group in struck.items():
            tally = self.kinds.setdefault(kind, Tally(group))
            if len(done.strikes) == 1:
                tally.add(done, latencies)
            else:
                tally.in_company += 1
        if len(done.strikes) > 1:
            self.company.add(done, latencies)

    @property
    def answered(self) -> int:
        return sum(second.answered for second in self.seconds)

    @property
    def failed(self) -> int:
        return sum(second.failed for second in self.seconds)

    def blame(self, found_s: Collection[float]) -> None:
        """All violations by when each showed: the round in which it did has it."""
        for one in self.rounds:
            one.violations = sum(one.holds(at_s) for at_s in found_s)

    @property
    def checked(self) -> int:
        return sum(check.calls for check in self.checks)

    def to_json(self) -> str:
        said = asdict(self)
        said["format"] = FORMAT
        said["seconds"] = [list(asdict(second).values()) for second in self.seconds]
        return json.dumps(said)

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        """Raises ValueError where it is not what `to_json` of this format wrote."""
        try:
            said: dict[str, Any] = json.loads(text)
            if said.pop("format") != FORMAT:
                raise ValueError("another format")
            return cls(**{**said, **_parts(said)})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no measurements of a soak: {error!r}") from None


def _parts(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "latencies": _histogram(said["latencies"]),
        "seconds": [Second(*second) for second in said["seconds"]],
        "rounds": [
            Round(**{**one, "strikes": [Strike(**strike) for strike in one["strikes"]]})
            for one in said["rounds"]
        ],
        "kinds": {name: _tally(tally) for name, tally in said["kinds"].items()},
        "company": _tally(said["company"]),
        "ownings": [Owning(**owning) for owning in said["ownings"]],
        "checks": [Check(**check) for check in said["checks"]],
        "contradictions": [
            Contradiction(**{**one, "calls": [SeenCall(**call) for call in one["calls"]]})
            for one in said["contradictions"]
        ],
    }


def _tally(said: Mapping[str, Any]) -> Tally:
    return Tally(**{**said, "latencies": _histogram(said["latencies"])})


def _histogram(said: Mapping[str, Any]) -> Histogram:
    made = Histogram()
    made.merge(said["counts"])
    return made
