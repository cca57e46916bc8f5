"""Load on a cluster while something is done to it, and the verdict over what was recorded."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from real_cluster.asked import Asked
from real_cluster.cluster import RealCluster
from real_cluster.histogram import Histogram
from real_cluster.interrupts import uninterrupted
from real_cluster.network import Host
from real_cluster.program import Program, python

PATIENCE_S = 45.0
REPORT = "CLUSTER_REPORT"
"""Environment variable: a file that gets one JSON line for each thing done to a cluster."""


@dataclass
class Row:
    """One thing done to a cluster, and what callers saw of it."""

    fault: str
    runs: int = 1
    seconds: float = 0.0
    longest_gap_s: float = 0.0
    answered: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    jumps: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    latencies: Histogram = field(default_factory=Histogram)
    violations: int = 0
    broken: list[str] = field(default_factory=list)
    failed_uids: set[int] = field(default_factory=set)
    gaps_s: dict[int, float] = field(default_factory=dict)
    ended_ns: dict[int, int] = field(default_factory=dict)
    """uid -> its longest gap, and when that gap ended."""
    slowest_s: dict[int, float] = field(default_factory=dict)
    """uid -> the longest that an answer of it took."""
    first_failed_ns: dict[str, int] = field(default_factory=dict)
    last_failed_ns: dict[str, int] = field(default_factory=dict)

    def gap_of(self, uids: Sequence[int]) -> float:
        """The longest gap of any of these uids, in seconds."""
        return max(self.gaps_s[uid] for uid in uids)

    def report(self) -> None:
        """Append it to the file that the environment names, if it does."""
        path = os.environ.get(REPORT)
        if not path:
            return
        kept = {name: value for name, value in asdict(self).items() if name not in _DETAILS}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")


_DETAILS = {
    "latencies",
    "broken",
    "failed_uids",
    "gaps_s",
    "ended_ns",
    "slowest_s",
    "first_failed_ns",
    "last_failed_ns",
}


class Load:
    """Callers on all uids of a cluster, as one process on a host (the cluster's clients').

    pace_s: how long each caller pauses between two calls, on average; clients: as many callers of
    each uid; timeout_s: of a call, retries included; uids: which, if not one of each section. name:
    of its files.
    """

    def __init__(
        self,
        cluster: RealCluster,
        *,
        pace_s: float = 0.3,
        clients: int = 2,
        timeout_s: float = 2.0,
        uids: Sequence[int] | None = None,
        host: Host | None = None,
        name: str = "load",
    ) -> None:
        self._cluster = cluster
        self.uids = cluster.shape.uids() if uids is None else list(uids)
        folder = cluster.folder / "histories"
        folder.mkdir(exist_ok=True)
        arguments = ["--addr", cluster.seeds, "--history", folder, "--name", name]
        arguments += ["--clients", clients, "--timeout-s", timeout_s, "--pace-s", pace_s]
        self._child = Asked(
            host or cluster.client,
            python("real_cluster.load_program", *arguments, *self.uids),
            cluster.folder / f"{name}.err",
        )

    # -- watching

    def look(self) -> Any:
        return self._ask(do="look")

    def flows(self, uids: Sequence[int] | None = None, patience_s: float = PATIENCE_S) -> float:
        """Wait until each of these uids (all) has an answer to a call that began from now on.

        Returns how many seconds that took.
        """
        began_ns = time.monotonic_ns()
        waiting = self.uids if uids is None else list(uids)
        while True:
            asked = self.look()["asked_ns"]
            waiting = [uid for uid in waiting if asked[str(uid)] <= began_ns]
            passed_s = (time.monotonic_ns() - began_ns) / 1e9
            if not waiting:
                return passed_s
            if passed_s > patience_s:
                raise AssertionError(
                    f"no answer for {waiting} within {patience_s} s; routes: "
                    f"{self.look()['routes']}; {self._child.complaints()}"
                )
            time.sleep(0.02)

    def owners(self) -> dict[int, Program]:
        """uid -> the node it belongs to, as far as callers know; uids of nobody are missing."""
        found = {}
        for first, last, address in self.look()["routes"]:
            for uid in self.uids:
                if first <= uid // self._cluster.shape.section_size <= last:
                    found[uid] = self._cluster.at(address)
        return found

    def uids_of(self, node: Program) -> list[int]:
        return [uid for uid, owner in self.owners().items() if owner is node]

    def until(self, holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
        """Wait until it holds; how many seconds that took."""
        began_s = time.monotonic()
        while not holds():
            if time.monotonic() > began_s + patience_s:
                raise AssertionError(f"in vain for {patience_s} s: {what}; {self.look()}")
            time.sleep(0.05)
        return time.monotonic() - began_s

    def spread(self, nodes: Sequence[Program] | None = None) -> float:
        """Wait until each of these nodes (of all Sets) owns something, and everything flows."""
        wanted = list(self._cluster.all_nodes if nodes is None else nodes)

        def owning() -> bool:
            owners = self.owners()
            held = set(owners.values())
            return len(owners) == len(self.uids) and all(node in held for node in wanted)

        return self.until(owning, f"sections at {wanted}") + self.flows()

    def gone_from(self, node: Program) -> float:
        """Wait until callers are led to it no more."""
        return self.until(lambda: node not in self.owners().values(), f"{node} to own nothing")

    # -- measuring

    def phase(self, name: str) -> Row:
        """Begin a phase; the row of the one before it."""
        return _row(self._ask(do="phase", name=name))

    def histories(self) -> list[Path]:
        """What was recorded since the last time, whole; callers go on with other clients."""
        return [Path(file) for file in self._ask(do="histories")]

    def rest(self) -> list[Path]:
        """No more calls until `resume`; what was recorded since the last time, whole."""
        return [Path(file) for file in self._ask(do="rest")]

    def resume(self) -> None:
        self._ask(do="resume")

    def take(self) -> Any:
        """Seconds and changes of routes that were not taken yet; see load_program."""
        return self._ask(do="take")

    def close(self) -> None:
        self._child.close()

    def _ask(self, **question: object) -> Any:
        with uninterrupted():
            return self._child.ask(**question)


@contextmanager
def under_load(cluster: RealCluster, fault: str) -> Iterator["Shaken"]:
    """A block in which something is done to a cluster under load.

    Load first flows on all uids. After the block `seqctl check` judges what was recorded so far, no
    violation is allowed, a row is reported, and `row` of what was yielded is what callers saw from
    the beginning of the block to the end of it.
    """
    try:
        load = cluster.load = cluster.load or Load(cluster)
        load.flows()
        load.phase(fault)
        shaken = Shaken(load)
        yield shaken
        row = shaken.row = load.phase("between")
        verdict = cluster.verdicts.judge(load.histories())
        row.violations = len(verdict["violations"])
        row.report()
        print(summary(row))
        assert not verdict["violations"], verdict["violations"][:5]
        assert not row.broken, row.broken
        assert verdict["torn"] == 0
        cluster.unexpected_ends()
    except BaseException:
        cluster.spoiled = True
        raise


@dataclass
class Shaken:
    load: Load
    row: Row = field(default_factory=lambda: Row(""))


def summary(row: Row) -> str:
    return (
        f"{row.fault}: longest gap {row.longest_gap_s:.2f} s, {row.failed} of "
        f"{row.answered + row.failed} calls failed {row.reasons or ''}, {row.jumps} jumps, "
        f"p99 {row.p99_ms:.0f} ms, {row.violations} violations"
    )


def _row(said: dict[str, Any]) -> Row:
    assert not said["wrong"], said["wrong"]
    longest = {int(uid): gap for uid, gap in said["longest"].items()}
    gaps_s = {uid: (gap["end_ns"] - gap["start_ns"]) / 1e9 for uid, gap in longest.items()}
    latencies = Histogram()
    latencies.merge(said["latencies"])
    return Row(
        fault=said["name"],
        seconds=(said["ended_ns"] - said["began_ns"]) / 1e9,
        longest_gap_s=max(gaps_s.values()),
        answered=said["answered"],
        failed=sum(said["failed"].values()),
        reasons=said["failed"],
        jumps=said["jumps"],
        p50_ms=latencies.quantile_ms(0.5),
        p99_ms=latencies.quantile_ms(0.99),
        latencies=latencies,
        broken=said["broken"],
        failed_uids={int(uid) for uid in said["failed_uids"]},
        gaps_s=gaps_s,
        ended_ns={uid: gap["end_ns"] for uid, gap in longest.items()},
        slowest_s={int(uid): ns / 1e9 for uid, ns in said["slowest_ns"].items()},
        first_failed_ns=said["first_failed_ns"],
        last_failed_ns=said["last_failed_ns"],
    )
