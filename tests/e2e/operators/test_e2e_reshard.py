"""A Set is split in two and merged back under the load of 16 clients, who never notice.

The long form is `make reshard`.
"""

from pathlib import Path

from real_cluster.cluster import RealCluster, open_cluster
from real_cluster.killing import under_killing
from real_cluster.load import under_load
from real_cluster.resharding import OTHER, SHAPE, moved, pauses, sixteen_clients

SEED = 6
CHUNK = 8
PAUSE_S = 3.0
"""On a busy machine; what is aimed at, and measured by `make reshard`, is 0.2 s."""


def test_a_set_is_split_and_merged_back_and_no_call_fails(tmp_path: Path) -> None:
    """Without harm numbers stay dense; with a kill -9 every 3 s nothing fails all the same."""
    with open_cluster(tmp_path, SHAPE) as cluster:
        cluster.load = sixteen_clients(cluster)
        cluster.load.spread()
        cluster.add_set(OTHER)
        with under_load(cluster, "resharding: half of a Set to another") as shaken:
            moved(cluster, "a", OTHER, "--half", CHUNK)
            shaken.load.flows()
        print(pauses(shaken.row))
        assert shaken.row.failed == 0 and shaken.row.jumps == 0
        assert max(shaken.row.slowest_s.values()) < PAUSE_S

        with under_load(cluster, "resharding: merged, split again, kill -9 every 3 s") as shaken:
            _, killings = under_killing(cluster, SEED, lambda: _back_and_there(cluster))
            shaken.load.flows()
        print(killings.told())
        assert killings.done
        assert shaken.row.failed == 0


def _back_and_there(cluster: RealCluster) -> None:
    moved(cluster, OTHER, "a", "--all", CHUNK)
    moved(cluster, "a", OTHER, "--half", CHUNK)
