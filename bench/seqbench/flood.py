"""A minute of ten times what a node can do, and what it does to everybody else, second by second.

Callers that behave call all uids of a cluster of three nodes; single calls and Sessions flood one
node. Balancing is off: evening out what the flood loads would be a planned move.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from flooding.on_node import Floods, capacities, uids_beside
from processes.memory import resident_bytes
from real_cluster.cluster import METRICS_PORT, RealCluster, Shape
from real_cluster.histogram import Histogram
from real_cluster.load import Load
from real_cluster.program import Program

CALM_S = 10.0
FLOOD_S = 60.0
COLUMNS = (
    "s",
    "answered",
    "failed",
    "p99_ms",
    "lease_left_s",
    "memory_mb",
    "limited",
)
Figures = dict[str, Any]


def measured(folder: Path, say: Callable[[str], None], seconds: float = FLOOD_S) -> Figures:
    """What plots.py draws, and the report tells."""
    cluster = RealCluster(folder / "flood", Shape())
    say("starting a cluster of three nodes for the flood")
    try:
        cluster.start()
        load = cluster.load = Load(cluster)
        load.flows()
        load.spread()
        name = cluster.sets[0].name
        balancing = ("rebalance", "auto", "off", "--set", name, "--etcd", cluster.etcd.addresses)
        done = cluster.seqctl(*balancing)
        assert done.returncode == 0, done.stderr
        return _flooded(cluster, load, say, seconds)
    finally:
        cluster.close()


def _flooded(
    cluster: RealCluster, load: Load, say: Callable[[str], None], seconds: float
) -> Figures:
    node, name = cluster.nodes[0], cluster.sets[0].name
    before, changes = cluster.in_map(do="document", set=name), _changes(cluster)
    uids = uids_beside(load.uids_of(node), cluster.shape.section_size)
    per_s = capacities(cluster, node, uids)
    load.take()
    looks: list[tuple[float, float, float, float]] = []
    _look(cluster, node, CALM_S, looks)
    say(f"flooding {node.name} for {seconds:g} s")
    began_s = time.monotonic()
    floods = Floods(cluster, node, uids, seconds, per_s)
    try:
        _look(cluster, node, seconds, looks)
        said = floods.said()
    finally:
        floods.close()
    ended_s = time.monotonic()
    _look(cluster, node, CALM_S, looks)
    ticks = load.take()["ticks"]
    after, now = cluster.in_map(do="document", set=name), _changes(cluster)
    verdict = cluster.verdicts.judge(load.histories())
    return {
        "columns": list(COLUMNS),
        "capacity_per_s": per_s,
        "rows": _rows(began_s, ticks, looks),
        "until_s": ended_s - began_s,
        "floods": said,
        "map_changed": after != before,
        "epoch_changes": now - changes,
        "least_lease_left_s": min(look[1] for look in looks),
        "most_memory_mb": max(look[2] for look in looks),
        "answered": sum(tick[1] for tick in ticks),
        "failed": sum(tick[2] for tick in ticks),
        "violations": len(verdict["violations"]),
    }


def _look(
    cluster: RealCluster,
    node: Program,
    seconds: float,
    looks: list[tuple[float, float, float, float]],
) -> None:
    """Once a second: when, seconds of the lease left, megabytes, what limits have refused."""
    end_s = time.monotonic() + seconds
    while (now_s := time.monotonic()) < end_s:
        url = f"http://{node.host.ip}:{METRICS_PORT}/metrics"
        said = cluster.web.ask(url=url, body=None)
        samples = [
            sample
            for family in text_string_to_metric_families(said.get("text", ""))
            for sample in family.samples
        ]
        left = sum(s.value for s in samples if s.name == "seqsvr_lease_left_seconds")
        limited = sum(s.value for s in samples if s.name == "seqsvr_limited_total")
        looks.append((now_s, left, resident_bytes(node.pid) / 1e6, limited))
        time.sleep(max(0.0, now_s + 1 - time.monotonic()))


def _changes(cluster: RealCluster) -> float:
    """How often any node has won, released or lost a section."""
    return sum(cluster.metric(one, "seqsvr_epoch_changes_total") for one in cluster.nodes)


def _rows(
    began_s: float,
    ticks: list[list[Any]],
    looks: list[tuple[float, float, float, float]],
) -> list[list[float]]:
    """One per second of callers, with the look that is nearest; times from the flood's begin."""
    rows = []
    for second, answered, failed, counts in ticks:
        at_s, left_s, memory_mb, limited = min(looks, key=lambda look: abs(look[0] - second - 0.5))
        if abs(at_s - second) > 5:
            continue
        latencies = Histogram()
        latencies.merge(counts)
        p99_ms = latencies.quantile_ms(0.99)
        rows.append([second - began_s, answered, failed, p99_ms, left_s, memory_mb, limited])
    return rows
