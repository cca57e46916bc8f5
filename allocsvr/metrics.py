"""What an AllocSvr node counts. Names follow Prometheus; hot paths count once per batch."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from allocsvr.spreads import Counts, Spreads
from svrprocess import limits

_LATENCY = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """All series of one node, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self.numbers = Counts("seqsvr_numbers", "Numbers handed out.", r).labels()
        self.skipped = Counter(
            "seqsvr_numbers_skipped",
            "Numbers never handed out. ceiling: at most this many per uid, by starting a section "
            "from its max_seq; undelivered: taken for a caller that had gone.",
            ["cause"],
            registry=r,
        )
        self.requests = Counts("seqsvr_requests", "Requests by rpc.", r, "rpc")
        self.errors = Counter(
            "seqsvr_errors",
            "Entries (for batches) and requests that failed.",
            ["rpc", "reason"],
            registry=r,
        )
        self.request_seconds = Spreads(
            "seqsvr_request_seconds",
            "Time from a request's arrival to its (last) answer.",
            "rpc",
            _LATENCY,
            r,
        )
        self.batch_entries = Spreads("seqsvr_batch_entries", "Entries per batch.", "rpc", _SIZES, r)
        self.raises = Counter(
            "seqsvr_raises", "Raises of max_seq, by section.", ["outcome"], registry=r
        )
        self.raise_seconds = Histogram(
            "seqsvr_raise_seconds",
            "From a raise request's sending to its decision by W replicas.",
            buckets=_LATENCY,
            registry=r,
        )
        self.raise_waits = Counter(
            "seqsvr_raise_waits", "Entries that found their window used up.", registry=r
        )
        self.renewals = Counter(
            "seqsvr_lease_renewals", "Lease renewals at single replicas.", ["outcome"], registry=r
        )
        self.lease_waits = Counter(
            "seqsvr_lease_waits", "Sections that waited for another's lease to end.", registry=r
        )
        self.epoch_changes = Counter(
            "seqsvr_epoch_changes",
            "Sections won, released or lost.",
            ["event"],
            registry=r,
        )
        self.forwarded = Counter(
            "seqsvr_forwarded", "Entries forwarded to their owner.", registry=r
        )
        self.lease_left = Gauge(
            "seqsvr_lease_left_seconds", "Time until the lease ends; 0: not held.", registry=r
        )
        self.sections = Gauge("seqsvr_sections", "Sections by state.", ["state"], registry=r)
        self.window_left = Gauge(
            "seqsvr_window_left",
            "Smallest window (numbers to max_seq) left in a serving section.",
            registry=r,
        )
        self.space_used = Gauge(
            "seqsvr_number_space_used_ratio",
            "Highest max_seq of the sections here, as a fraction of seq_limit.",
            registry=r,
        )
        self.unserved = Gauge(
            "seqsvr_sections_unserved",
            "Sections that are this node's by the map, are to stay so, and are not served.",
            registry=r,
        )
        self.waiting = Gauge(
            "seqsvr_waiting_entries", "Entries that wait for a section to be served.", registry=r
        )
        self.info = Gauge("seqsvr_node_info", "1.", ["set", "incarnation", "address"], registry=r)
        self.route_version = Gauge(
            "seqsvr_route_version", "Version of the routing table.", registry=r
        )
        self.sessions = Gauge("seqsvr_sessions", "Open Session streams.", registry=r)
        self.limited = limits.counter(r)
        self.queued = Gauge(
            "seqsvr_queued_requests", "Requests of Sessions that wait for their turn.", registry=r
        )
        self.loop_lag = Histogram(
            "seqsvr_loop_lag_seconds",
            "How late the event loop ran a timer.",
            buckets=_LAGS,
            registry=r,
        )
        self.replicas = Gauge(
            "seqsvr_replicas",
            "Replicas of the node's Set: all, those that must grant a lease (needed), and those "
            "that granted it when they were last asked (granting).",
            ["which"],
            registry=r,
        )
        self.replicas_ejected = Gauge(
            "seqsvr_replicas_ejected",
            "Replicas that do not answer Renew and are asked nothing else.",
            registry=r,
        )
        self.replicas_behind = Gauge(
            "seqsvr_replicas_behind",
            "Replicas that had missed something, when the sections here were last compared.",
            registry=r,
        )
        self.repairs = Counter(
            "seqsvr_repairs",
            "Sections copied to a replica that had missed something: raised, needless (it had "
            "caught up) or failed.",
            ["outcome"],
            registry=r,
        )
