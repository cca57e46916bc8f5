"""Several processes of callers, on hosts of their own, as one load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_cluster.histogram import Histogram, merged
from real_cluster.load import Load, Row


class Crowd:
    """All of them call the same uids: a number that one is told binds the others (SEQ-1)."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self._loads = list(loads)

    def __len__(self) -> int:
        return len(self._loads)

    def flows(self, patience_s: float) -> None:
        """Wait until each process has an answer of each uid to a call that began from now on."""
        for load in self._loads:
            load.flows(patience_s=patience_s)

    def phase(self, name: str) -> Row:
        """Begin a phase; what all processes together saw of the one before it."""
        return together([load.phase(name) for load in self._loads])

    def histories(self) -> list[Path]:
        """What was recorded since the last time.

        Nobody calls while they are taken: a number in one of them is then explained by them all.
        """
        files = [file for load in self._loads for file in load.rest()]
        for load in self._loads:
            load.resume()
        return files

    def rest(self) -> list[Path]:
        """As `histories`, and nobody calls any more."""
        return [file for load in self._loads for file in load.rest()]

    def take(self) -> list[Any]:
        """What each process has to say of the seconds since the last time; see Load.take."""
        return [load.take() for load in self._loads]

    def close(self) -> None:
        for load in self._loads:
            load.close()


def together(rows: Sequence[Row]) -> Row:
    """Several processes' rows of one phase. A gap is as long as the process that saw it says."""
    latencies: Histogram = merged(row.latencies.counts for row in rows)
    reasons: dict[str, int] = {}
    for row in rows:
        for reason, count in row.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return Row(
        fault=rows[0].fault,
        seconds=max(row.seconds for row in rows),
        longest_gap_s=max(row.longest_gap_s for row in rows),
        answered=sum(row.answered for row in rows),
        failed=sum(row.failed for row in rows),
        reasons=reasons,
        p50_ms=latencies.quantile_ms(0.5),
        p99_ms=latencies.quantile_ms(0.99),
        latencies=latencies,
        broken=[text for row in rows for text in row.broken],
        failed_uids=set().union(*(row.failed_uids for row in rows)),
    )
