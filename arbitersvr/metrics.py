"""What an arbiter counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from arbitersvr.detection import Outcome
from arbitersvr.map_metrics import MapMetrics
from clustermap.scene import CAUSES


class Metrics:
    """All series of one arbiter, in one registry. Only the one that leads counts anything."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self.leader = Gauge("seqsvr_arbiter_leader", "1: this one leads.", registry=r)
        self.map_reachable = Gauge(
            "seqsvr_arbiter_map_reachable", "1: the cluster map answers.", registry=r
        )
        self.moves = Counter(
            "seqsvr_arbiter_moves",
            "Sections that were assigned, or marked as leaving, by cause.",
            ["set", "cause"],
            registry=r,
        )
        self.given_up = Counter("seqsvr_arbiter_given_up", "Nodes given up.", ["set"], registry=r)
        self.probes = Counter(
            "seqsvr_arbiter_probes", "Probes of nodes by what they found.", ["outcome"], registry=r
        )
        self.rounds = Counter(
            "seqsvr_arbiter_rounds", "Times that a Set was looked at.", ["set"], registry=r
        )
        self.changes = Counter(
            "seqsvr_arbiter_changes",
            "Transactions by outcome: written, refused (somebody was first), unknown.",
            ["outcome"],
            registry=r,
        )
        self.sections = Gauge(
            "seqsvr_arbiter_sections", "Sections by state in the map.", ["set", "state"], registry=r
        )
        self.nodes = Gauge(
            "seqsvr_arbiter_nodes",
            "Nodes by state: registered ones (live, draining, unleased), and those given up.",
            ["set", "state"],
            registry=r,
        )
        self.elections = Counter(
            "seqsvr_arbiter_elections", "Elections won, and reigns over.", ["event"], registry=r
        )
        self.map = MapMetrics(r)
        for event in ("won", "over"):
            self.elections.labels(event)
        for outcome in Outcome:
            self.probes.labels(outcome.value)
        for change in ("written", "refused", "unknown"):
            self.changes.labels(change)

    def see_set(self, name: str, sections: dict[str, int], nodes: dict[str, int]) -> None:
        """How the sections and the nodes of a Set stand."""
        for state, count in nodes.items():
            self.nodes.labels(name, state).set(count)
        for state, count in sections.items():
            self.sections.labels(name, state).set(count)
        for cause in CAUSES:
            self.moves.labels(name, cause)

    def lead(self, leads: bool) -> None:
        """The election was won or lost. What the loser knew of the Sets is not shown any more."""
        self.leader.set(leads)
        self.elections.labels("won" if leads else "over").inc()
        self.sections.clear()
        self.nodes.clear()
        self.map.clear()
