"""Every target by its name, and which functions of ours it covers."""

from collections.abc import Callable
from dataclasses import dataclass

from clustermap.jobs import Job
from clustermap.model import Assignments, Cluster, SetSpec
from clustermap.nodes import Node
from clustermap.orders import Orders
from fuzzing import answers, credentials, documents, files, handlers, stored
from fuzzing.regressions import REGRESSIONS


@dataclass(frozen=True, slots=True)
class Target:
    """run: raises where something is wrong; seeds: valid inputs; covers: modules whose reading of
    what others wrote it tries; share: of the inputs of a long run, relative to the others.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    covers: tuple[str, ...]
    share: float = 1.0

    def corpus(self) -> list[bytes]:
        """What every run begins with."""
        return [*self.seeds(), *REGRESSIONS.get(self.name, ())]


_MODEL = ("clustermap.model", "clustermap.documents", "clustermap.ranges")
_CLIENT = ("seqsvr.session", "seqsvr.batching", "seqsvr.client")
_ALLOC = ("allocsvr.service", "allocsvr.messages")
_STORE = ("storesvr.servicer", "storesvr.messages", "storesvr.bounds")
_KINDS = {
    "cluster": (Cluster, documents.CLUSTERS, _MODEL),
    "set": (SetSpec, documents.SETS, _MODEL),
    "assignments": (Assignments, documents.ASSIGNMENTS, _MODEL),
    "node": (Node, documents.NODES, ("clustermap.nodes",)),
    "job": (Job, documents.JOBS, ("clustermap.jobs",)),
    "orders": (Orders, documents.ORDERS, ("clustermap.orders",)),
}
_RPCS = ("GetSeq", "GetCurSeq", "BatchGetSeq", "BatchGetCurSeq", "AdvanceSeq", "GetRoute")

_ALL = (
    *(
        Target(f"documents.{name}", documents.document(kind), documents.seeds_of(made), covers)
        for name, (kind, made, covers) in _KINDS.items()
    ),
    Target(
        "documents.map",
        documents.whole_map,
        documents.whole_map_seeds,
        ("seqctl.cluster_report", "seqctl.map_view", "arbitersvr.map_metrics"),
        0.5,
    ),
    Target("etcd", documents.etcd_answers, documents.etcd_seeds, ("clustermap.etcd_requests",)),
    Target("stored.record", stored.record, stored.record_seeds, ("storesvr.records",)),
    Target(
        "stored.snapshot", stored.snapshot_row, stored.snapshot_row_seeds, ("storesvr.records",)
    ),
    Target("stored.notes", stored.notes, stored.note_seeds, ("storesvr.ledger",)),
    Target("stored.counters", stored.counters, stored.counters_seeds, ("allocsvr.snapshot",)),
    Target("stored.map", stored.embedded_map, stored.embedded_map_seeds, ("clustermap.embedded",)),
    Target("trace", files.trace, files.trace_seeds, ("seqctl.trace", "seqctl.lines")),
    Target("history", files.history, files.history_seeds, ("seqctl.history", "seqcheck.history")),
    Target("floors", files.floors, files.floors_seeds, ("seqctl.floors", "seqctl.importing")),
    Target("backup", files.backup, files.backup_seeds, ("seqctl.backup_file", "seqctl.restore")),
    Target(
        "options",
        files.options,
        files.options_seeds,
        ("svrprocess.options", "svrprocess.values", "svrprocess.etcd_options"),
        0.3,
    ),
    Target(
        "auth.file",
        credentials.auth,
        credentials.auth_seeds,
        ("svrprocess.auth_file", "svrprocess.rights"),
    ),
    Target(
        "auth.callers",
        credentials.callers,
        credentials.callers_seeds,
        ("svrprocess.identities", "svrprocess.guarding"),
    ),
    Target(
        "certificates",
        credentials.certificates,
        credentials.certificate_seeds,
        (
            "svrprocess.certificates",
            "svrprocess.secret_files",
            "seqctl.certs_folder",
            "seqctl.certs_shown",
            "seqsvr.credentials",
        ),
        0.1,
    ),
    Target("audit", files.audit, files.audit_seeds, ("seqctl.audit",)),
    Target("answers.status", answers.statuses, answers.status_seeds, ("seqsvr.wire",)),
    Target("answers.session", answers.session, answers.session_seeds, _CLIENT, 0.5),
    Target(
        "answers.advance",
        answers.advance,
        answers.advance_seeds,
        ("seqsvr.advancing", "allocsvr.peers"),
        0.5,
    ),
    Target("answers.route", answers.route, answers.route_seeds, ("seqsvr.routing",), 0.5),
    Target(
        "answers.store",
        answers.store,
        answers.store_seeds,
        ("svrprocess.store_client", "svrprocess.rpc"),
    ),
    Target("answers.table", documents.routing_tables, documents.table_seeds, ("seqsvr.wire",)),
    *(
        Target(f"alloc.{rpc}", handlers.alloc(rpc), handlers.alloc_seeds(rpc), _ALLOC, 0.5)
        for rpc in _RPCS
    ),
    Target("alloc.Session", handlers.session, handlers.session_seeds, _ALLOC, 0.5),
    Target("store", handlers.store, handlers.store_seeds, _STORE, 0.7),
)
TARGETS = {target.name: target for target in _ALL}
