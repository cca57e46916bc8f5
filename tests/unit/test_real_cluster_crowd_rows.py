"""Several processes of callers as one: they rest together, and their rows are added up."""

from pathlib import Path
from typing import cast

from made_soaks import took
from real_cluster.crowd import Crowd, together
from real_cluster.load import Load, Row


class Process:
    def __init__(self, name: str, told: list[str]) -> None:
        self._name, self._told = name, told

    def rest(self) -> list[Path]:
        self._told.append(f"{self._name} rests")
        return [Path(self._name)]

    def resume(self) -> None:
        self._told.append(f"{self._name} goes on")


def test_nobody_goes_on_before_everybody_rests() -> None:
    """Else a number handed out in between would be in one history and not in the other."""
    told: list[str] = []
    crowd = Crowd([cast(Load, Process(name, told)) for name in ("one", "two")])
    assert crowd.histories() == [Path("one"), Path("two")]
    assert told == ["one rests", "two rests", "one goes on", "two goes on"]


def test_counts_are_added_and_the_longest_gap_of_any_process_counts() -> None:
    one = Row("kill", answered=10, failed=1, longest_gap_s=0.5, reasons={"A": 1}, broken=["x"])
    two = Row("kill", answered=5, failed=3, longest_gap_s=2.5, reasons={"A": 1, "B": 2})
    one.latencies, two.latencies = took(1, 1, 1), took(900)
    row = together([one, two])
    assert (row.answered, row.failed, row.longest_gap_s) == (15, 4, 2.5)
    assert row.reasons == {"A": 2, "B": 2} and row.broken == ["x"]
    assert row.p50_ms < 1.1 and row.p99_ms >= 900
