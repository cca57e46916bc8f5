"""Latency over time through a raise, a fail-over and a planned hand-over, with 3 replicas."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from processes.metrics import scrape
from seqbench.ours import Cluster
from seqbench.processes import Child, Missing, cores, on_core, surroundings

SLICE_MS = 20
BEFORE_S = 2.0
Scene = dict[str, Any]


def measured(folder: Path, say: Callable[[str], None]) -> list[Scene]:
    """One scene after the other; a machine that cannot have the cluster has one that says so."""
    cluster = Cluster(folder, nodes=2, step=1_000)
    say("starting a cluster of two nodes for the timeline")
    try:
        cluster.start()
        return [scene(cluster, say) for scene in (_raise, _fail_over, _hand_over)]
    except Missing as missing:
        return [{"name": "timeline", "missing": str(missing)}]
    finally:
        cluster.stop()


def _raise(cluster: Cluster, say: Callable[[str], None]) -> Scene:
    say("timeline: raises under one hot uid")
    before = _counted(cluster)
    with _load(cluster, 3_000, 6.0, "one") as load:
        pass
    raises, waits = (int(after - was) for after, was in zip(_counted(cluster), before, strict=True))
    facts = {"raises": raises, "calls_that_waited_for_a_raise": waits}
    return _scene("raises of one hot uid", load, None, facts)


def _fail_over(cluster: Cluster, say: Callable[[str], None]) -> Scene:
    say("timeline: kill -9 of a node")
    node = cluster.nodes[0]
    with _load(cluster, 1_000, 9.0, "many") as load:
        time.sleep(BEFORE_S)
        event_ns = time.monotonic_ns()
        node.kill()
    scene = _scene("fail-over: kill -9 of one of two nodes", load, event_ns, {})
    _back(cluster, node)
    return scene


def _hand_over(cluster: Cluster, say: Callable[[str], None]) -> Scene:
    say("timeline: a node leaves")
    node = cluster.nodes[0]
    with _load(cluster, 1_000, 6.0, "many") as load:
        time.sleep(BEFORE_S)
        event_ns = time.monotonic_ns()
        node.stop()
        facts = {"node_left_after_s": (time.monotonic_ns() - event_ns) / 1e9}
    return _scene("planned hand-over: one of two nodes leaves", load, event_ns, facts)


def _back(cluster: Cluster, node: Child) -> None:
    """As before the fault: both nodes own sections, and serve all of them."""
    node.start()
    cluster.settle()
    time.sleep(1.0)


def _counted(cluster: Cluster) -> tuple[float, float]:
    """Raises, and calls that waited for one."""
    scrapes = [scrape(address) for address in cluster.metrics]
    names = ("seqsvr_raises_total", "seqsvr_raise_waits_total")
    raises, waits = (sum(one.total(name) for one in scrapes) for name in names)
    return raises, waits


@contextlib.contextmanager
def _load(cluster: Cluster, per_s: int, seconds: float, whose: str) -> Iterator[dict[str, Any]]:
    """The load runs while the body does; its figures are there after the end."""
    arguments = map(str, (cluster.address, per_s, seconds, whose))
    figures: dict[str, Any] = {"per_s": per_s}
    with on_core(cores()[1]):
        process = subprocess.Popen(
            [sys.executable, "-m", "seqbench.timed", *arguments],
            env=surroundings(),
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "begun\n":
                raise RuntimeError("the load of the timeline ended")
            yield figures
            figures |= json.loads(process.communicate(timeout=120)[0])
        finally:
            process.kill()


def _scene(name: str, load: dict[str, Any], event_ns: int | None, facts: dict[str, Any]) -> Scene:
    """Slices of time by when a call was due: middle and greatest latency; times from the event."""
    due_ns = np.asarray(load["due_ns"], dtype=np.int64)
    took_ms = np.asarray(load["took_ns"], dtype=np.float64) / 1e6
    zero_ns = int(due_ns.min()) if event_ns is None else event_ns
    slices = (due_ns - zero_ns) // (SLICE_MS * 1_000_000)
    rows = [
        [index * SLICE_MS / 1e3, float(np.median(took_ms[here])), float(took_ms[here].max())]
        for index in np.unique(slices)
        for here in [slices == index]
    ]
    calm = took_ms[due_ns < zero_ns] if event_ns is not None else took_ms
    return {
        "name": name,
        "calls_per_s": load["per_s"],
        "failed": load["failed"],
        **facts,
        **_latencies("before" if event_ns is not None else "all", calm),
        "longest_ms": float(took_ms.max()),
        "columns": ["s", "p50_ms", "max_ms"],
        "slices": rows,
    }


def _latencies(when: str, took_ms: "np.ndarray[Any, Any]") -> dict[str, float]:
    values: Sequence[float] = [float(np.percentile(took_ms, q)) for q in (50, 99)]
    return {f"{when}_p50_ms": values[0], f"{when}_p99_ms": values[1]}
