"""What is counted at the edge to etcd, for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

KINDS = ("range", "txn", "probe", "lease_grant", "lease_keepalive", "lease_revoke")
"""Of requests, as EtcdMetrics.requests has them."""


class EtcdMetrics:
    """All series of one coordinator, in one registry. members: their addresses."""

    def __init__(self, registry: CollectorRegistry, members: tuple[str, ...]) -> None:
        r = registry
        self.requests = Counter(
            "seqsvr_etcd_requests",
            "Requests to single members by kind and outcome: ok, or the status of a failure.",
            ["kind", "outcome"],
            registry=r,
        )
        self.request_seconds = Histogram(
            "seqsvr_etcd_request_seconds",
            "Time of one request to one member, however it ended.",
            ["kind"],
            buckets=_SECONDS,
            registry=r,
        )
        self.answered = Gauge(
            "seqsvr_etcd_last_answer_timestamp_seconds",
            "When some member last answered a request, in Unix time; 0: never.",
            registry=r,
        )
        self.member_up = Gauge(
            "seqsvr_etcd_member_up",
            "1: the member is asked; 0: it failed, and is left out until it answers again.",
            ["member"],
            registry=r,
        )
        self.switches = Counter(
            "seqsvr_etcd_member_switches",
            "Times that a member failed and others were asked in its place.",
            ["member"],
            registry=r,
        )
        self.lists = Counter(
            "seqsvr_etcd_lists",
            "Listings of the map, or of a part of it, that were asked for.",
            registry=r,
        )
        self.watches = Counter("seqsvr_etcd_watches", "Watches begun.", registry=r)
        self.watch_restarts = Counter(
            "seqsvr_etcd_watch_restarts",
            "Watches that went on at a member after a failure: the status, or `list`, where "
            "everything has to be listed again.",
            ["reason"],
            registry=r,
        )
        self.keepalives = Counter(
            "seqsvr_etcd_keepalives",
            "Renewals of leases of registrations and candidacies, by outcome: ok, missed (tried "
            "again while the lease lasts), lost (etcd knows the lease no more).",
            ["outcome"],
            registry=r,
        )
        self.keys_lost = Counter(
            "seqsvr_etcd_keys_lost",
            "Registrations and candidacies that were lost before they were given back.",
            registry=r,
        )
        for kind in KINDS:
            self.requests.labels(kind, "ok")
            self.request_seconds.labels(kind)
        for member in members:
            self.member_up.labels(member).set(1)
            self.switches.labels(member)
        for outcome in ("ok", "missed", "lost"):
            self.keepalives.labels(outcome)

    def asked(self, kind: str, outcome: str, seconds: float) -> None:
        """One request to one member is over."""
        self.requests.labels(kind, outcome).inc()
        self.request_seconds.labels(kind).observe(seconds)
        if outcome == "ok":
            self.answered.set(time.time())

    def left_out(self, member: str) -> None:
        """A member has failed."""
        self.member_up.labels(member).set(0)
        self.switches.labels(member).inc()

    def back(self, member: str) -> None:
        """It has answered again."""
        self.member_up.labels(member).set(1)
