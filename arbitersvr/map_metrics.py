"""What an arbiter that leads shows of the map: how large its documents are, how its jobs stand."""

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Gauge

from clustermap.coordinator import Versioned
from clustermap.errors import MapCorrupt
from clustermap.jobs import ACTIVE, JOBS_PREFIX, Job, State

KINDS = ("cluster", "sets", "assignments", "nodes", "jobs", "elections")
"""First parts of keys; what stands in the map besides is of the kind `other`."""
_MOVE, _REFORM, _UNREADABLE = "move", "reform", "unreadable"


class MapMetrics:
    """Series of the map as a whole. now_s: seconds since some fixed instant."""

    def __init__(
        self, registry: CollectorRegistry, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._now_s = now_s
        self._jobs: dict[str, tuple[int, str, str, float]] = {}  # revision, kind, state, seen at
        self._sizes: dict[str, tuple[int, int]] = {}  # the largest, how many
        self._counts: dict[tuple[str, str], int] = {}
        self.bytes = Gauge(
            "seqsvr_map_document_bytes",
            "Size of the largest document by the first part of its key; etcd takes 1.5 MB.",
            ["kind"],
            registry=registry,
        )
        self.documents = Gauge(
            "seqsvr_map_documents",
            "Documents by the first part of their keys.",
            ["kind"],
            registry=registry,
        )
        self.jobs = Gauge(
            "seqsvr_arbiter_jobs",
            "Jobs by kind (move, reform) and state; those that cannot be read are unreadable.",
            ["kind", "state"],
            registry=registry,
        )
        self.idle = Gauge(
            "seqsvr_arbiter_jobs_idle_seconds",
            "For how long the document of a running job has not changed; the longest of them.",
            registry=registry,
        )
        self.idle.set_function(self._idle_s)

    def see(self, picture: Mapping[str, Versioned]) -> None:
        """The map as it is now. It is seen whenever anything changes in it, and few figures do."""
        sizes = dict.fromkeys((*KINDS, "other"), (0, 0))
        for key, held in picture.items():
            first = key.partition("/")[0]
            kind = first if first in KINDS else "other"
            largest, count = sizes[kind]
            sizes[kind] = max(largest, len(held.value)), count + 1
        if sizes != self._sizes:
            self._sizes = sizes
            for kind, (largest, count) in sizes.items():
                self.bytes.labels(kind).set(largest)
                self.documents.labels(kind).set(count)
        self._see_jobs({key: picture[key] for key in picture if key.startswith(JOBS_PREFIX)})

    def clear(self) -> None:
        """Nothing is known any more."""
        self._jobs, self._sizes, self._counts = {}, {}, {}
        for gauge in (self.bytes, self.documents, self.jobs):
            gauge.clear()

    def _see_jobs(self, documents: Mapping[str, Versioned]) -> None:
        known, self._jobs = self._jobs, {}
        for key, held in documents.items():
            before = known.get(key)
            if before is None or before[0] != held.revision:
                before = (held.revision, *_read(held.value), self._now_s())
            self._jobs[key] = before
        counts = {(kind, state.value): 0 for kind in (_MOVE, _REFORM) for state in State}
        for _, kind, state, _ in self._jobs.values():
            counts[kind, state] = counts.get((kind, state), 0) + 1
        if counts != self._counts:
            self._counts = counts
            self.jobs.clear()
            for (kind, state), count in counts.items():
                self.jobs.labels(kind, state).set(count)

    def _idle_s(self) -> float:
        """Asked by the thread that serves metrics."""
        active = {state.value for state in ACTIVE}
        now_s = self._now_s()
        times = (now_s - seen_s for _, _, state, seen_s in self._jobs.values() if state in active)
        return max(times, default=0.0)


def _read(raw: bytes) -> tuple[str, str]:
    """Kind and state of a job."""
    try:
        job = Job.from_json(raw)
    except MapCorrupt:
        return _UNREADABLE, _UNREADABLE
    return (_MOVE if job.move is not None else _REFORM), job.state.value
