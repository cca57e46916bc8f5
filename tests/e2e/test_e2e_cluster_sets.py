"""Several Sets: what happens to one is nothing to the others."""

import time
from pathlib import Path

from real_cluster.cluster import Shape, open_cluster
from real_cluster.load import under_load

SHAPE = Shape(etcds=1, nodes=2, arbiters=1, sets=("east", "west"), uid_limit=20_000)


def test_a_set_that_is_down_leaves_the_other_untouched(tmp_path: Path) -> None:
    with open_cluster(tmp_path, SHAPE) as cluster:
        east, west = cluster.sets
        with under_load(cluster, "Sets: one of two down") as shaken:
            load = shaken.load
            load.spread()
            lost = east.uids(load.uids, SHAPE.section_size)
            kept = west.uids(load.uids, SHAPE.section_size)
            for program in (*east.nodes, *east.stores):
                program.kill()
            time.sleep(4)
            load.flows(kept)
            cluster.heal()
            load.flows()
        assert lost and kept
        assert shaken.row.failed_uids == set(lost)
        with under_load(cluster, "Sets: a node of one drained") as shaken:
            node = west.nodes[0]
            before = {uid: shaken.load.owners()[uid] for uid in lost}
            node.leave()
            shaken.load.gone_from(node)
            shaken.load.flows()
            after = shaken.load.owners()
            assert {uid: after[uid] for uid in lost} == before
        assert shaken.row.failed == 0
