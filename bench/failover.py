"""How long fail-over takes, and what callers see of it, on a cluster of real processes.

    PYTHONPATH=tests .venv/bin/python bench/failover.py --fault kill9 --runs 30

Faults: kill9, drain, etcd-stopped, replica-killed, replica-frozen, two-replicas. One JSON object
per run on standard error, and one row of a table per fault on standard output. Every number that
was handed out is recorded and checked; exit code 1 if a promise was broken.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from real_cluster.cluster import RealCluster, Shape
from real_cluster.load import Load, Row
from real_cluster.program import Program

PACE_S = 0.05
CALM_S = 3.0


class Bench:
    """A cluster, its load, and what the runs have shown."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.load = cluster.load = Load(cluster, pace_s=PACE_S)
        self.rows: list[Row] = []

    def calm(self) -> None:
        """Everything runs, every node owns something, and nothing has happened for a while."""
        self.cluster.heal()
        self.load.spread()
        time.sleep(CALM_S)

    def begin(self, name: str) -> None:
        self.load.phase(name)

    def end(self, **facts: object) -> Row:
        row = self.load.phase("between")
        self.rows.append(row)
        said = {"longest_gap_s": row.longest_gap_s, "failed": row.failed, "jumps": row.jumps}
        print(json.dumps({"fault": row.fault, **said, **facts}), file=sys.stderr, flush=True)
        return row

    @property
    def failed(self) -> int:
        return sum(row.failed for row in self.rows)


def kill9(bench: Bench, runs: int) -> str:
    """From the kill of an owner to the first number of the last, and of each, of its uids."""
    last_s, each_s = [], []
    for run in range(runs):
        bench.calm()
        victim = bench.cluster.nodes[run % len(bench.cluster.nodes)]
        lost = bench.load.uids_of(victim)
        bench.begin("owner: kill -9")
        killed_ns = time.monotonic_ns()
        victim.kill()
        bench.load.flows(lost)
        bench.load.gone_from(victim)
        time.sleep(0.5)
        row = bench.load.phase("between")
        waits_s = [(row.ended_ns[uid] - killed_ns) / 1e9 for uid in lost]
        bench.rows.append(row)
        last_s.append(max(waits_s))
        each_s += waits_s
        said = {"run": run, "uids": len(lost), "first_s": min(waits_s), "last_s": max(waits_s)}
        print(json.dumps(said), file=sys.stderr, flush=True)
    return f"kill to numbers: each uid {spread(each_s)}; last uid of a kill {spread(last_s)}"


def drain(bench: Bench, runs: int) -> str:
    """Graceful restart of one node after the other: failed calls, pauses, jumps."""
    pauses_s = []
    for run in range(runs):
        bench.calm()
        node = bench.cluster.nodes[run % len(bench.cluster.nodes)]
        held = bench.load.uids_of(node)
        bench.begin("node: graceful restart")
        began_s = time.monotonic()
        node.leave()
        left_s = time.monotonic() - began_s
        node.start()
        bench.load.spread()
        row = bench.end(run=run, left_s=left_s, sections=len(held))
        pauses_s += [row.slowest_s[uid] for uid in row.slowest_s]
    jumps = sum(row.jumps for row in bench.rows)
    return f"slowest answer per section {spread(pauses_s)}; {jumps} jumps"


def etcd_stopped(bench: Bench, runs: int) -> str:
    before, during = [], []
    for run in range(runs):
        bench.calm()
        bench.load.phase("before")
        time.sleep(20)
        before.append(bench.load.phase("etcd: all stopped for 60 s").p99_ms)
        bench.cluster.etcd.kill()
        time.sleep(60)
        row = bench.end(run=run)
        during.append(row.p99_ms)
        bench.begin("etcd: back")
        bench.cluster.etcd.spawn()
        bench.cluster.etcd.wait_ready()
        time.sleep(10)
        bench.end(run=run)
    return f"p99 before {max(before):.1f} ms, while stopped {max(during):.1f} ms"


def replica_killed(bench: Bench, runs: int) -> str:
    return _replica(bench, runs, "killed", Program.kill)


def replica_frozen(bench: Bench, runs: int) -> str:
    return _replica(bench, runs, "frozen", Program.freeze)


def _replica(bench: Bench, runs: int, how: str, strike: Callable[[Program], None]) -> str:
    for run in range(runs):
        bench.calm()
        bench.begin(f"replica: {how} for 10 s")
        strike(bench.cluster.stores[run % len(bench.cluster.stores)])
        time.sleep(10)
        bench.cluster.heal()
        time.sleep(CALM_S)
        bench.load.flows()
        bench.end(run=run)
    return f"p99 {max(row.p99_ms for row in bench.rows):.1f} ms"


def two_replicas(bench: Bench, runs: int) -> str:
    served_s, back_s, reasons = [], [], set()
    for run in range(runs):
        bench.calm()
        first, second = (bench.cluster.stores[(run + i) % 3] for i in range(2))
        bench.begin("replicas: two of three stopped for 8 s")
        stopped_ns = time.monotonic_ns()
        first.kill()
        second.kill()
        time.sleep(8)
        second.start()
        back_ns = time.monotonic_ns()
        bench.load.flows()
        time.sleep(0.5)
        row = bench.load.phase("between")
        bench.rows.append(row)
        first_failed_ns = min(row.first_failed_ns.values(), default=stopped_ns)
        served_s.append((first_failed_ns - stopped_ns) / 1e9)
        waits_s = [(ended_ns - back_ns) / 1e9 for ended_ns in row.ended_ns.values()]
        back_s.append(max(waits_s))
        reasons |= set(row.reasons)
        said = {"run": run, "served_s": served_s[-1], "back_s": max(waits_s), "why": row.reasons}
        print(json.dumps(said), file=sys.stderr, flush=True)
    return (
        f"first failed call {spread(served_s)} after the stop; errors {sorted(reasons)}; "
        f"return to numbers of the last uid {spread(back_s)}"
    )


FAULTS: dict[str, Callable[[Bench, int], str]] = {
    "kill9": kill9,
    "drain": drain,
    "etcd-stopped": etcd_stopped,
    "replica-killed": replica_killed,
    "replica-frozen": replica_frozen,
    "two-replicas": two_replicas,
}


def spread(seconds: Sequence[float]) -> str:
    """p50, p99 and max."""
    ranked = sorted(seconds)
    p99 = ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]
    return f"p50 {statistics.median(ranked):.3f} p99 {p99:.3f} max {ranked[-1]:.3f} s"


def measured(fault: str, runs: int, lease_ttl_s: float) -> bool:
    """Print the row of one fault; whether every promise was kept."""
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    cluster = RealCluster(folder, Shape(lease_ttl_s=lease_ttl_s))
    try:
        bench = Bench(cluster.start())
        facts = FAULTS[fault](bench, runs)
        verdict = cluster.verdicts.judge(bench.load.histories())
    except BaseException:
        print(f"logs and histories: {folder}", file=sys.stderr)
        raise
    finally:
        cluster.close()
    violations = len(verdict["violations"]) + sum(len(row.broken) for row in bench.rows)
    longest_s = max(row.longest_gap_s for row in bench.rows)
    print(f"| {fault} | {runs} | {longest_s:.2f} s | {bench.failed} | {violations} | {facts} |")
    sys.stdout.flush()
    if not violations:
        shutil.rmtree(folder)
    return not violations


def main() -> int:
    parser = argparse.ArgumentParser(prog="failover", description=__doc__)
    parser.add_argument("--fault", choices=FAULTS, action="append", help="repeatable; default all")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--lease-ttl-s", type=float, default=2.0)
    args = parser.parse_args()
    print("| fault | runs | longest gap | failed calls | violations | |\n|---|---|---|---|---|---|")
    kept = [measured(fault, args.runs, args.lease_ttl_s) for fault in args.fault or FAULTS]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
