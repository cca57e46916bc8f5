"""Several Sets: what happens to one is nothing to the others."""

import time
from pathlib import Path

from real_cluster.cluster import Shape, open_cluster
from real_cluster.load import Load, under_load
from real_cluster.program import Program

STILL_S = 3.0

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
            before = _settled(shaken.load, lost)
            node.leave()
            shaken.load.gone_from(node)
            shaken.load.flows()
            after = shaken.load.owners()
            assert {uid: after[uid] for uid in lost} == before
        assert shaken.row.failed == 0


def _settled(load: Load, uids: list[int]) -> dict[int, Program]:
    """Owners of these uids, once nothing of what came before moves them any more."""
    seen: dict[int, Program] = {}
    since_s = 0.0

    def still() -> bool:
        nonlocal seen, since_s
        owners = load.owners()
        now = {uid: owners[uid] for uid in uids if uid in owners}
        if now != seen or len(now) < len(uids):
            seen, since_s = now, time.monotonic()
        return time.monotonic() - since_s > STILL_S

    load.until(still, f"the owners of {uids} to stay the same for {STILL_S} s")
    return seen
