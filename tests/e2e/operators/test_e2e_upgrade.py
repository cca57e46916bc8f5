"""An upgrade, and the way back, without a pause: two versions side by side (docs/OPERATIONS.md).

The other version is the commit before this one, as its wheel would install it. SEQSVR_PREVIOUS
names another commit to be tried with, say the last release's.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from real_cluster.cluster import RealCluster, Shape
from real_cluster.load import Load, under_load
from real_cluster.previous import runs, unpacked
from real_cluster.program import Program

PREVIOUS = os.environ.get("SEQSVR_PREVIOUS") or "HEAD~1"
SHAPE = Shape(etcds=1, nodes=2, arbiters=2, uid_limit=12_000)


def restarted(load: Load, programs: Sequence[Program], packages: Path | None) -> None:
    """One after the other, each of them gracefully, with the code in `packages` from then on."""
    for program in programs:
        program.leave()
        runs(program, packages)
        program.start()
        time.sleep(SHAPE.lease_ttl_s)  # a store grants no lease until then
        load.flows()


def test_an_upgrade_and_the_way_back_fail_no_call(tmp_path: Path) -> None:
    """Stores, then nodes, then arbiters; then one of each goes back, and works with the new."""
    before = unpacked(PREVIOUS, tmp_path / "previous")
    cluster = RealCluster(tmp_path / "cluster", SHAPE)
    servers = [*cluster.stores, *cluster.nodes, *cluster.arbiters]
    for program in servers:
        runs(program, before)
    try:
        cluster.start()
        with under_load(cluster, "upgrade from the version before, and back") as shaken:
            shaken.load.spread()
            restarted(shaken.load, servers, None)
            assert cluster.status()["well"]
            back = [cluster.stores[0], cluster.nodes[0], cluster.arbiters[0]]
            restarted(shaken.load, back, before)
            assert cluster.status()["well"]
        assert shaken.row.failed == 0, shaken.row.reasons
    finally:
        cluster.close()
    assert not cluster.traces(), cluster.traces()
