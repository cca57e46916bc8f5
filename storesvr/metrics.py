"""What a StoreSvr counts, for Prometheus."""

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_COMMIT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_POWERS_OF_4 = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class Room(NamedTuple):
    """Bytes: of the data file, that it may grow to, that are free on its disk."""

    data: int
    limit: int
    free: int


class StoreMetrics:
    """Counters of one replica, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "seqsvr_store_requests_total",
            "Requests by rpc and outcome (ok, or the reason of the refusal)",
            ["rpc", "outcome"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "seqsvr_store_request_seconds",
            "Time from a request's arrival to its answer, by rpc",
            ["rpc"],
            buckets=_COMMIT_S,
            registry=registry,
        )
        self.refused = Counter(
            "seqsvr_store_refused_sections_total",
            "Sections refused for a higher promise, or another owner, by rpc",
            ["rpc"],
            registry=registry,
        )
        self.waiting = Gauge(
            "seqsvr_store_waiting_requests", "Requests that wait for the disk", registry=registry
        )
        self.commit_running = Gauge(
            "seqsvr_store_commit_running_seconds",
            "For how long the commit that is under way has been; 0: there is none",
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
        self.boot_grace = Gauge(
            "seqsvr_store_boot_grace_seconds",
            "For how long leases of before the start may be alive",
            registry=registry,
        )
        self.info = Gauge(
            "seqsvr_store_info", "1", ["cluster", "set", "replica", "store_id"], registry=registry
        )
        self.out_of_quorum = Gauge(
            "seqsvr_store_out_of_quorum",
            "1: something stored is corrupt and the replica answers no quorum",
            registry=registry,
        )
        self._registry = registry

    def watch_room(self, room: Callable[[], Room]) -> None:
        """Show how much room there is; asked at each scrape, on the thread that serves it."""
        sizes = {
            "seqsvr_store_data_bytes": ("Size of the data file", lambda: room().data),
            "seqsvr_store_data_limit_bytes": ("What it may grow to", lambda: room().limit),
            "seqsvr_store_disk_free_bytes": ("Free on the disk under it", lambda: room().free),
        }
        for name, (text, read) in sizes.items():
            Gauge(name, text, registry=self._registry).set_function(read)
