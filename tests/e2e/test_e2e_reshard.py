"""A Set is split in two and merged back under the load of 16 clients, who never notice.

The long form is `make reshard`.
"""

from functools import partial
from pathlib import Path

from real_cluster.cluster import open_cluster
from real_cluster.killing import under_killing
from real_cluster.load import under_load
from real_cluster.resharding import (
    OTHER,
    SHAPE,
    pauses,
    retired,
    sixteen_clients,
    there_and_back,
)

SEED = 6
PAUSE_S = 3.0
"""On a busy machine; what is aimed at, and measured by `make reshard`, is 0.2 s."""


def test_a_set_is_split_and_merged_back_and_no_call_fails(tmp_path: Path) -> None:
    """Without harm numbers stay dense; with a kill -9 every 3 s nothing fails all the same."""
    with open_cluster(tmp_path, SHAPE) as cluster:
        cluster.load = sixteen_clients(cluster)
        cluster.load.spread()
        cluster.add_set(OTHER)
        with under_load(cluster, "resharding: half to another Set and back") as shaken:
            there_and_back(cluster, chunk=8)
            shaken.load.flows()
        print(pauses(shaken.row))
        assert shaken.row.failed == 0 and shaken.row.jumps == 0
        assert max(shaken.row.slowest_s.values()) < PAUSE_S

        with under_load(cluster, "resharding: the same, kill -9 every 3 s") as shaken:
            work = partial(there_and_back, cluster, chunk=2)
            _, killings = under_killing(cluster, SEED, work)
            shaken.load.flows()
        print(killings.told())
        assert killings.done
        assert shaken.row.failed == 0
        retired(cluster)
        cluster.load.flows()
