"""What an arbiter shows of the map's documents and of its jobs."""

from prometheus_client import CollectorRegistry

from arbitersvr.map_metrics import MapMetrics
from clustermap.coordinator import Versioned
from clustermap.jobs import Job, Move, State
from clustermap.spans import Range


class Shown:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.registry = CollectorRegistry()
        self.metrics = MapMetrics(self.registry, lambda: self.now_s)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def jobs(self, state: str) -> float | None:
        return self.value("seqsvr_arbiter_jobs", kind="move", state=state)


def job(state: State, revision: int) -> Versioned:
    move = Move("a", "b", (Range(0, 9),), 7, 1)
    return Versioned(Job("j", state, "me", 0, move=move).to_json(), revision)


def test_documents_are_shown_by_kind_with_the_size_of_the_largest() -> None:
    shown = Shown()
    picture = {
        "cluster": Versioned(b"12345", 1),
        "nodes/s/1": Versioned(b"1", 2),
        "nodes/s/2": Versioned(b"123", 3),
        "whatever/else": Versioned(b"12", 4),
        "and more": Versioned(b"1", 5),
    }
    shown.metrics.see(picture)
    sizes = {"cluster": 5, "nodes": 3, "other": 2, "jobs": 0}
    assert {kind: shown.value("seqsvr_map_document_bytes", kind=kind) for kind in sizes} == sizes
    counts = {"cluster": 1, "nodes": 2, "other": 2, "jobs": 0}
    assert {kind: shown.value("seqsvr_map_documents", kind=kind) for kind in counts} == counts


def test_kinds_that_are_gone_are_shown_as_none_and_strange_ones_make_no_series() -> None:
    shown = Shown()
    shown.metrics.see({"nodes/s/1": Versioned(b"1", 2)})
    shown.metrics.see({f"strange-{i}/x": Versioned(b"1", i) for i in range(50)})
    assert shown.value("seqsvr_map_documents", kind="nodes") == 0
    (family,) = (f for f in shown.registry.collect() if f.name == "seqsvr_map_documents")
    assert len(family.samples) == 7


def test_jobs_are_shown_by_kind_and_state_also_those_that_cannot_be_read() -> None:
    shown = Shown()
    shown.metrics.see({"jobs/j": job(State.RUNNING, 1), "jobs/k": Versioned(b"{", 2)})
    assert (shown.jobs("running"), shown.jobs("done")) == (1, 0)
    unreadable = {"kind": "unreadable", "state": "unreadable"}
    assert shown.value("seqsvr_arbiter_jobs", **unreadable) == 1
    shown.metrics.see({"jobs/j": job(State.DONE, 3)})
    assert (shown.jobs("running"), shown.jobs("done")) == (0, 1)
    assert shown.value("seqsvr_arbiter_jobs", **unreadable) is None


def test_a_running_job_whose_document_does_not_change_is_idle_and_a_paused_one_is_not() -> None:
    shown = Shown()
    idle = "seqsvr_arbiter_jobs_idle_seconds"
    assert shown.value(idle) == 0
    shown.metrics.see({"jobs/j": job(State.RUNNING, 1)})
    shown.now_s += 60
    shown.metrics.see({"jobs/j": job(State.RUNNING, 1)})
    assert shown.value(idle) == 60
    shown.metrics.see({"jobs/j": job(State.RUNNING, 2)})
    assert shown.value(idle) == 0
    shown.now_s += 60
    shown.metrics.see({"jobs/j": job(State.PAUSED, 3)})
    shown.now_s += 60
    assert shown.value(idle) == 0


def test_one_who_leads_no_more_shows_nothing() -> None:
    shown = Shown()
    shown.metrics.see({"jobs/j": job(State.RUNNING, 1), "cluster": Versioned(b"1", 1)})
    shown.metrics.clear()
    shown.now_s += 60
    assert shown.value("seqsvr_map_documents", kind="cluster") is None
    assert shown.jobs("running") is None
    assert shown.value("seqsvr_arbiter_jobs_idle_seconds") == 0


def test_what_is_forgotten_and_seen_again_unchanged_is_shown_again() -> None:
    shown = Shown()
    picture = {"jobs/j": job(State.RUNNING, 1)}
    shown.metrics.see(picture)
    shown.metrics.clear()
    assert shown.jobs("running") is None
    shown.metrics.see(picture)
    assert shown.jobs("running") == 1
    assert shown.value("seqsvr_map_documents", kind="jobs") == 1
