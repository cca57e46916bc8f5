"""What a StoreSvr counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_COMMIT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_POWERS_OF_4 = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class StoreMetrics:
    """Counters of one replica, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "seqsvr_store_requests_total",
            "Requests by rpc and outcome (ok, or the reason of the refusal)",
            ["rpc", "outcome"],
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "seqsvr_store_commit_seconds",
            "Time of one durable commit, fsync included",
            buckets=_COMMIT_S,
            registry=registry,
        )
        self.commit_sections = Histogram(
            "seqsvr_store_commit_sections",
            "Sections written by one commit",
            buckets=_POWERS_OF_4,
            registry=registry,
        )
        self.commit_requests = Histogram(
            "seqsvr_store_commit_requests",
            "Requests acknowledged by one commit",
            buckets=_POWERS_OF_4,
            registry=registry,
        )
        self.records = Gauge(
            "seqsvr_store_records", "Sections that have a record", registry=registry
        )
        self.leases = Gauge("seqsvr_store_leases", "Leases alive", registry=registry)
        self.fence_version = Gauge(
            "seqsvr_store_fence_version", "Durable count of promises", registry=registry
        )
        self.out_of_quorum = Gauge(
            "seqsvr_store_out_of_quorum",
            "1: something stored is corrupt and the replica answers no quorum",
            registry=registry,
        )
