"""`allocsvr --workers 2` against one: two load generators, three StoreSvr, etcd, one machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scaling.servers import Cluster
from seqbench.processes import cores, cpu_s, surroundings

BATCH = 1024

Figures = dict[str, float]


def measure(folder: Path, seconds: float = 5.0) -> Figures:
    """Numbers per second and CPU microseconds per number, by workers."""
    figures: Figures = {}
    for workers in (1, 2):
        with Cluster(folder / f"workers-{workers}", workers) as cluster:
            for index, serving in enumerate(cluster.serving()):
                figures[f"{workers}_serving_{index}"] = serving
            figures |= {f"{workers}_{k}": v for k, v in _loaded(cluster, seconds).items()}
    return figures


def table(figures: Figures) -> str:
    """Markdown."""
    rows = []
    for workers in (1, 2):
        indexes = range(workers)
        serving = " + ".join(f"{figures[f'{workers}_serving_{i}']:,.0f}" for i in indexes)
        numbers = " + ".join(f"{figures[f'{workers}_share_{i}']:.0%}" for i in indexes)
        per_s, node_us = figures[f"{workers}_per_s"], figures[f"{workers}_node_us"]
        load_us = figures[f"{workers}_load_us"]
        rows.append(
            f"| {workers} | {serving} | {numbers} | {per_s:,.0f} | {node_us:.2f} us "
            f"| {load_us:.2f} us |\n"
        )
    head = "| workers | sections served | share of the numbers | numbers/s, all together "
    head += "| CPU of the nodes per number | CPU of the load per number |\n" + "|---" * 6 + "|\n"
    return head + "".join(rows)


def _loaded(cluster: Cluster, seconds: float) -> Figures:
    before = [cluster.scrape(i).value("seqsvr_numbers_total") for i in range(len(cluster.metrics))]
    before_s = cpu_s(cluster.node_pids)
    loads = [_generator(cluster.address, seconds, core) for core in cores()]
    done: list[dict[str, Any]] = []
    for load in loads:
        out, _ = load.communicate(timeout=120)
        done.append(json.loads(out))
    spent_s = cpu_s(cluster.node_pids) - before_s
    after = [cluster.scrape(i).value("seqsvr_numbers_total") for i in range(len(cluster.metrics))]
    grown = [b - a for a, b in zip(before, after, strict=True)]
    shares = {f"share_{i}": one / sum(grown) for i, one in enumerate(grown)}
    return {
        **shares,
        "per_s": sum(figures["per_s"] for figures in done),
        "node_us": spent_s / sum(grown) * 1e6,
        "load_us": max(figures["client_us"] for figures in done),
    }


def _generator(address: str, seconds: float, core: int) -> "subprocess.Popen[str]":
    spec = {
        "shape": "closed",
        "driver": "many",
        "address": address,
        "loop": "asyncio",
        "callers": 4,
        "batch": BATCH,
        "per_s": 0.0,
        "warm_s": 1.0,
        "seconds": seconds,
        "pids": [],
        "core": core,
    }
    command = [sys.executable, "-m", "seqbench.load", json.dumps(spec)]
    return subprocess.Popen(command, env=surroundings(), stdout=subprocess.PIPE, text=True)
