"""Ten times what a node can do is offered to it, in single calls and in Sessions, under its load.

bench/flood.py does the same for a minute, and draws it.
"""

import json
import subprocess
import time
from collections.abc import Sequence

from processes import ROOT
from processes.memory import resident_bytes
from real_cluster.cluster import RealCluster, address_of
from real_cluster.load import under_load
from real_cluster.program import Program, python, surroundings

FLOOD_S = 10.0
MOST_BYTES = 500 << 20
"""Of a node: 120 MB, and what of the flood may wait to be read; unlimited it was 1.6 GB in 10 s."""

SINGLE = ("--per-s", "20000", "--connections", "32")
SESSIONS = ("--per-s", "10000", "--connections", "8", "--sessions", "100", "--batch", "4096")


def flooding(
    cluster: RealCluster, node: Program, uids: str, *shape: str
) -> "subprocess.Popen[str]":
    """Nice, since it shares the cores with the servers that it is to flood."""
    command = python("flooding.program", "--addr", address_of(node), "--uids", uids)
    return subprocess.Popen(
        ["nice", *cluster.client.entering, *command, "--seconds", str(FLOOD_S), *shape],
        env=surroundings(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def others(uids: Sequence[int], section_size: int) -> str:
    """Of the same sections, but such as nobody records: what a flood gets is not known."""
    first = [uid // section_size * section_size for uid in uids]
    return ",".join(str(section + place) for section in first for place in range(10, 40))


def test_a_flood_loses_no_lease_moves_no_section_and_stops_nobody_else(
    cluster: RealCluster,
) -> None:
    """LEASE-1 where a loop has no time to spare."""
    node = cluster.nodes[0]
    _balancing(cluster, "off")
    try:
        with under_load(cluster, "node: flooded") as shaken:
            shaken.load.spread()
            before = cluster.in_map(do="document", set=cluster.sets[0].name)
            lost = [cluster.metric(one, "seqsvr_epoch_changes_total") for one in cluster.nodes]
            uids = others(shaken.load.uids_of(node), cluster.shape.section_size)
            floods = [flooding(cluster, node, uids, *shape) for shape in (SINGLE, SESSIONS)]
            try:
                most = _watched(node)
                said = [flood.communicate(timeout=30)[0].splitlines()[-1] for flood in floods]
            finally:
                for flood in floods:
                    flood.kill()
                    flood.communicate()
            shaken.load.flows()
            print(*said, sep="\n")
            for figures in map(json.loads, said):
                assert figures["offered"] > 10 * figures["answered"], "less than ten times as much"
            after = cluster.in_map(do="document", set=cluster.sets[0].name)
            assert after == before, "a section has moved, or changed its epoch"
            now = [cluster.metric(one, "seqsvr_epoch_changes_total") for one in cluster.nodes]
            assert now == lost, "a node has won, released or lost something"
            assert most < MOST_BYTES, f"{most >> 20} MB"
    finally:
        _balancing(cluster, "on")
    assert shaken.row.answered > 100 and shaken.row.jumps == 0
    print(f"answered {shaken.row.answered}, failed {shaken.row.failed}, p99 {shaken.row.p99_ms} ms")


def _watched(node: Program) -> int:
    """The most bytes that it has in memory until the flood is over."""
    most, end_s = 0, time.monotonic() + FLOOD_S + 1
    while time.monotonic() < end_s:
        most = max(most, resident_bytes(node.pid))
        time.sleep(0.1)
    return most


def _balancing(cluster: RealCluster, which: str) -> None:
    """The arbiter evens out what a flood loads, too, which is a planned move and none of these."""
    name = cluster.sets[0].name
    done = cluster.seqctl(
        "rebalance", "auto", which, "--set", name, "--etcd", cluster.etcd.addresses
    )
    assert done.returncode == 0, done.stdout + done.stderr
