"""What a command that changes the map decides from, and what it then writes. Pure.

A view is the map at one instant with the revision of each document; a change expects everything
that it was decided from. Two unfinished jobs never concern the same Set: whoever writes one, or
takes a Set out of the map, writes the documents of its Sets anew although they stay as they are, so
that of two who do so at once only one succeeds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clustermap.coordinator import Listing, Versioned
from clustermap.errors import MapCorrupt
from clustermap.jobs import FINISHED, JOBS_PREFIX, Job, job_key
from clustermap.model import (
    ASSIGNMENTS_PREFIX,
    CLUSTER_KEY,
    NODES_PREFIX,
    SETS_PREFIX,
    Assignments,
    Cluster,
    SetSpec,
    set_key,
)
from clustermap.nodes import Node
from clustermap.orders import ORDERS_PREFIX, Orders, orders_key
from seqctl.failures import NotDone


@dataclass(frozen=True, slots=True)
class Change:
    """To be written at once, if everything expected holds; as Coordinator.transact wants it."""

    expected: Mapping[str, int]
    puts: Mapping[str, bytes | None]


@dataclass(slots=True)
class View:
    """The map as values, by name or id; only what it could be read of the nodes."""

    entries: Mapping[str, Versioned]
    cluster: Cluster
    specs: dict[str, SetSpec] = field(default_factory=dict)
    assignments: dict[str, Assignments] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    orders: dict[str, Orders] = field(default_factory=dict)

    def spec(self, name: str) -> SetSpec:
        """Of a Set; raises NotDone where there is none of that name."""
        if name not in self.specs:
            known = ", ".join(sorted(self.specs)) or "none"
            raise NotDone(f"the map has no Set {name!r}; its Sets: {known}")
        return self.specs[name]

    def job(self, name: str) -> Job:
        """Raises NotDone where there is none of that id."""
        if name not in self.jobs:
            known = ", ".join(sorted(self.jobs)) or "none"
            raise NotDone(f"the map has no job {name!r}; its jobs: {known}")
        return self.jobs[name]

    def document(self, name: str) -> Assignments:
        return self.assignments.get(name) or Assignments(name)

    def ordered(self, name: str) -> Orders:
        """What the operator wants of the nodes of a Set."""
        return self.orders.get(name) or Orders(name)

    def willing(self, name: str) -> list[Node]:
        """Nodes of a Set that may be given sections."""
        obeyed = self.ordered(name).obeyed([node for node in self.nodes if node.set == name])
        return [node for node in obeyed if node.leased and not node.draining]

    def unfinished(self, sets: Iterable[str], but: str = "") -> list[Job]:
        """Jobs other than `but` that concern any of these Sets and are not finished."""
        wanted = frozenset(sets)
        return [
            job
            for job in self.jobs.values()
            if job.id != but and job.state not in FINISHED and job.sets & wanted
        ]

    def check_free(self, sets: Iterable[str], but: str = "") -> None:
        """Raises NotDone where another unfinished job concerns one of these Sets."""
        for job in self.unfinished(sets, but):
            names = " and ".join(sorted(job.sets))
            state = f"{job.state.value}, not finished: let it end, or abort it"
            raise NotDone(f"job {job.id} concerns {names} and is {state}")

    def at(self, *keys: str) -> dict[str, int]:
        """The keys at their revisions in this view."""
        return {key: self.entries[key].revision if key in self.entries else 0 for key in keys}

    def ordering(self, orders: Orders) -> Change:
        """To write orders; there is no document where there are none."""
        key = orders_key(orders.set)
        return Change(
            self.at(key, set_key(orders.set)), {key: None if orders.blank else orders.to_json()}
        )

    def putting(self, job: Job) -> Change:
        """To write a job, new or changed; its Sets are written anew, as the head says."""
        key, sets = job_key(job.id), [set_key(name) for name in sorted(job.sets)]
        again: dict[str, bytes | None] = {one: self.entries[one].value for one in sets}
        return Change(self.at(key, *sets), {**again, key: job.to_json()})


def view(listing: Listing) -> View:
    """Raises NotDone where the map names no cluster, MapCorrupt where a document is not sound."""
    entries = listing.entries
    if CLUSTER_KEY not in entries:
        raise NotDone("the map names no cluster: seqctl cluster init")
    found = View(entries, Cluster.from_json(entries[CLUSTER_KEY].value))
    for key, held in sorted(entries.items()):
        _read(found, key, held.value)
    return found


def _read(found: View, key: str, raw: bytes) -> None:
    if key.startswith(SETS_PREFIX):
        found.specs[key.removeprefix(SETS_PREFIX)] = SetSpec.from_json(raw)
    elif key.startswith(ASSIGNMENTS_PREFIX):
        found.assignments[key.removeprefix(ASSIGNMENTS_PREFIX)] = Assignments.from_json(raw)
    elif key.startswith(JOBS_PREFIX):
        found.jobs[key.removeprefix(JOBS_PREFIX)] = Job.from_json(raw)
    elif key.startswith(ORDERS_PREFIX):
        found.orders[key.removeprefix(ORDERS_PREFIX)] = Orders.from_json(raw)
    elif key.startswith(NODES_PREFIX):
        try:
            found.nodes.append(Node.from_json(raw))
        except MapCorrupt:
            return  # it is not counted on, and its process writes it again
