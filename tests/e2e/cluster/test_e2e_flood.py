"""Ten times what a node can do is offered to it, in single calls and in Sessions, under its load.

bench/seqbench/flood.py does the same for a minute, and draws it.
"""

import time

from flooding.on_node import Floods, capacities, uids_beside
from processes.memory import resident_bytes
from real_cluster.cluster import RealCluster
from real_cluster.load import under_load
from real_cluster.program import Program

FLOOD_S = 5.0
MOST_BYTES = 600 << 20
"""Of a node: 120 MB, and what of the flood waits to be read; without limits 1.6 GB in 10 s."""


def test_a_flood_loses_no_lease_moves_no_section_and_stops_nobody_else(
    cluster: RealCluster,
) -> None:
    """LEASE-1 where a loop has no time to spare."""
    node = cluster.nodes[0]
    # The arbiter evens out what a flood loads, too, which is a planned move and none of these.
    with under_load(cluster, "node: flooded") as shaken, cluster.at_rest():
        uids = uids_beside(shaken.load.uids_of(node), cluster.shape.section_size)
        per_s = capacities(cluster, node, uids)
        before, changes = _document(cluster), _changes(cluster)
        floods = Floods(cluster, node, uids, FLOOD_S, per_s)
        try:
            most = _watched(node)
            print(per_s, floods.said())
        finally:
            floods.close()
        shaken.load.flows()
        assert _document(cluster) == before, "a section has moved, or changed its epoch"
        assert _changes(cluster) == changes, "a node has won, released or lost something"
        assert most < MOST_BYTES, f"{most >> 20} MB"
    assert shaken.row.answered > 100 and shaken.row.jumps == 0


def _document(cluster: RealCluster) -> object:
    return cluster.in_map(do="document", set=cluster.sets[0].name)


def _changes(cluster: RealCluster) -> list[float]:
    return [cluster.metric(one, "seqsvr_epoch_changes_total") for one in cluster.nodes]


def _watched(node: Program) -> int:
    """The most bytes that it has in memory until the flood is over."""
    most, end_s = 0, time.monotonic() + FLOOD_S + 1
    while time.monotonic() < end_s:
        most = max(most, resident_bytes(node.pid))
        time.sleep(0.1)
    return most
