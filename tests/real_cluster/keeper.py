"""One cluster for many tests: each gets it healthy, and a new one after a failure."""

from pathlib import Path

from real_cluster.cluster import RealCluster, Shape


class Keeper:
    """Starts a cluster when it is first wanted."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._folder, self._shape = folder, shape
        self._cluster: RealCluster | None = None
        self._made = 0

    def healthy(self) -> RealCluster:
        """The cluster, with everything running and connected; see RealCluster.heal."""
        if self._cluster is not None and not self._cluster.spoiled:
            self._cluster.heal()
            return self._cluster
        self.close()
        self._made += 1
        cluster = RealCluster(self._folder / f"cluster-{self._made}", self._shape)
        self._cluster = cluster
        cluster.spoiled = True  # until it has started
        cluster.start()
        cluster.spoiled = False
        return cluster

    def give_back(self, cluster: RealCluster) -> None:
        """After a test: it fails if a server wrote a Traceback."""
        traces = cluster.traces()
        cluster.spoiled = cluster.spoiled or bool(traces)
        assert not traces, traces

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
