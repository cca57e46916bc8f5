"""What `seqctl cluster status` makes of the map and of the answers. Pure.

The map says who should serve and who should keep; replicas and nodes say themselves how they are.
Both are shown, since it is where they differ that an operator has to look. `problems` are what
makes the command leave with 3: a section that nobody is there to serve, a replica that is not
counted on. A missing leader of the arbiters is shown and is none: nothing but repairs waits for it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from clustermap.documents import hex64
from clustermap.errors import MapCorrupt
from clustermap.jobs import FINISHED, JOBS_PREFIX, Job, State
from clustermap.model import (
    ASSIGNMENTS_PREFIX,
    CLUSTER_KEY,
    NODES_PREFIX,
    SETS_PREFIX,
    Assignments,
    Cluster,
    Owner,
    Replica,
    SetSpec,
    routing_table,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqsvr.v1 import store_pb2 as pb

ELECTIONS_PREFIX = "elections/"


@dataclass(slots=True)
class Picture:
    """The map as values. held: how many sections it gives to each; problems: what is wrong."""

    revision: int
    cluster: Cluster | None = None
    specs: dict[str, SetSpec] = field(default_factory=dict)
    assignments: dict[str, Assignments] = field(default_factory=dict)
    nodes: dict[Owner, Node] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    leaders: dict[str, str] = field(default_factory=dict)
    held: Counter[Owner] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def replicas(self) -> list[tuple[SetSpec, Replica]]:
        return [(spec, replica) for spec in self.specs.values() for replica in spec.replicas]

    @property
    def owners(self) -> dict[Owner, str]:
        """Every node that is registered or owns something, and its Set; by Set and address."""
        found = {owner: node.set for owner, node in self.nodes.items()}
        for name, document in self.assignments.items():
            found = dict.fromkeys(_owners(document), name) | found
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0].address)))

    def misplaced(self) -> Iterator[str]:
        """Sections that are in no Set, or in two."""
        reached, before = -1, ""
        held = [(span, spec.name) for spec in self.specs.values() for span in spec.ranges]
        for span, name in sorted(held):
            if span.first <= reached:
                both = Range(span.first, min(reached, span.last))
                yield f"sections {both} are in Sets {before} and {name}"
            if span.first > reached + 1:
                yield f"sections {Range(reached + 1, span.first - 1)} are in no Set"
            if span.last > reached:
                reached, before = span.last, name
        end = self.cluster.layout.sections - 1 if self.cluster else reached
        if reached < end:
            yield f"sections {Range(reached + 1, end)} are in no Set"


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown; `shown` has JSON's types only."""

    shown: dict[str, object]
    problems: tuple[str, ...]

    @property
    def well(self) -> bool:
        return not self.problems


def picture(revision: int, entries: Mapping[str, tuple[bytes, int]]) -> Picture:
    """entries: key -> value and the revision at which it was written."""
    found = Picture(revision)
    elected: dict[str, int] = {}
    for key, (raw, written) in sorted(entries.items()):
        try:
            if key.startswith(ELECTIONS_PREFIX):
                # A candidate that waits may have a key of its own; the oldest one leads.
                name = key.removeprefix(ELECTIONS_PREFIX).partition("/")[0]
                if written < elected.get(name, written + 1):
                    elected[name] = written
                    found.leaders[name] = raw.decode(errors="replace")
            else:
                _read(found, key, raw)
        except MapCorrupt as error:
            found.problems.append(f"{key}: {error}")
    if found.cluster is None:
        found.problems.append("the map names no cluster: seqctl cluster init")
    return found


def report(
    found: Picture,
    infos: Mapping[str, pb.InfoResponse | str],
    probes: Mapping[Owner, bool | str],
) -> Report:
    """infos: by address of a replica; probes: by node; a string is why there is no answer."""
    problems = list(found.problems)
    version = None
    if found.cluster is not None:
        try:
            version = routing_table(found.cluster, found.specs, found.assignments).version
        except MapCorrupt as error:
            problems.append(str(error))
    problems += found.misplaced()
    problems += [text for spec in found.specs.values() for text in _unserved(found, spec, probes)]
    problems += [f"job {j.id} failed: {j.note}" for j in found.jobs if j.state is State.FAILED]
    problems += [text for pair in found.replicas for text in _missing(found, *pair, infos)]
    shown: dict[str, object] = {
        "well": not problems,
        "problems": problems,
        "cluster": found.cluster and _cluster(found.cluster),
        "map_revision": found.revision,
        "route_version": version,
        "leaders": found.leaders,
        "sets": [_set(found, spec) for spec in found.specs.values()],
        "replicas": [_replica(spec, replica, infos) for spec, replica in found.replicas],
        "jobs": [_job(job) for job in found.jobs if job.state not in FINISHED],
        "nodes": [_node(found, owner, name, probes) for owner, name in found.owners.items()],
    }
    return Report(shown, tuple(problems))


def _read(found: Picture, key: str, raw: bytes) -> None:
    if key == CLUSTER_KEY:
        found.cluster = Cluster.from_json(raw)
    elif key.startswith(SETS_PREFIX):
        spec = SetSpec.from_json(raw)
        found.specs[spec.name] = spec
    elif key.startswith(ASSIGNMENTS_PREFIX):
        document = Assignments.from_json(raw)
        found.assignments[document.set] = document
        found.held += _owners(document)
    elif key.startswith(JOBS_PREFIX):
        found.jobs.append(Job.from_json(raw))
    elif key.startswith(NODES_PREFIX):
        node = Node.from_json(raw)
        found.nodes[node.owner] = node


def _unserved(found: Picture, spec: SetSpec, probes: Mapping[Owner, bool | str]) -> Iterator[str]:
    """Sections of a Set that nobody is there to serve."""
    counts = _counts(found, spec)
    if counts["unassigned"]:
        yield f"Set {spec.name}: {counts['unassigned']} sections are assigned to nobody"
    for owner, name in found.owners.items():
        held = found.held[owner]
        there = owner in found.nodes or probes.get(owner) is True
        if name == spec.name and held and not there:
            yield (
                f"Set {spec.name}: {held} sections are assigned to {owner.address}, which is not "
                "registered and does not answer"
            )


def _missing(
    found: Picture,
    spec: SetSpec,
    replica: Replica,
    infos: Mapping[str, pb.InfoResponse | str],
) -> Iterator[str]:
    """Why a replica does not count."""
    where = f"replica {replica.name} of Set {spec.name} at {replica.address}"
    info = infos.get(replica.address, "not asked")
    if isinstance(info, str):
        yield f"{where} is not reachable: {info}"
        return
    cluster = found.cluster.id if found.cluster else info.cluster
    if (info.cluster, info.set) != (cluster, spec.name):
        yield f"{where} belongs to Set {info.set} of cluster {info.cluster}"
    elif info.store_id != replica.store_id:
        yield f"{where} has another store, {hex64(info.store_id)}: it was begun anew"
    if info.out_of_quorum:
        yield f"{where} is out of the quorum: {info.out_of_quorum}"


def _cluster(cluster: Cluster) -> dict[str, object]:
    return {
        "id": cluster.id,
        "section_size": cluster.section_size,
        "uid_limit": cluster.uid_limit,
        "seq_limit": cluster.seq_limit,
        "sections": cluster.layout.sections,
    }


def shown_ranges(spec: SetSpec) -> dict[str, object]:
    """Its lowest and highest section (None: it has none), and the ranges between."""
    return {
        "first": spec.ranges[0].first if spec.ranges else None,
        "last": spec.ranges[-1].last if spec.ranges else None,
        "ranges": [span.fields() for span in spec.ranges],
    }


def shown_spec(spec: SetSpec) -> dict[str, object]:
    """What the map says of a Set."""
    return {
        "name": spec.name,
        **shown_ranges(spec),
        "r": spec.r,
        "w": spec.w,
        "replicas": [replica.fields() for replica in spec.replicas],
    }


def _set(found: Picture, spec: SetSpec) -> dict[str, object]:
    loads = [node.load for node in found.nodes.values() if node.set == spec.name]
    return {
        "name": spec.name,
        **shown_ranges(spec),
        "n": spec.quorum.n,
        "r": spec.r,
        "w": spec.w,
        "membership": spec.membership,
        **_counts(found, spec),
        "reported": {
            "serving": sum(load.serving for load in loads),
            "acquiring": sum(load.acquiring for load in loads),
            "leaving": sum(load.leaving for load in loads),
        },
    }


def _counts(found: Picture, spec: SetSpec) -> dict[str, int]:
    """Sections of a Set by what the map says of them."""
    document = found.assignments.get(spec.name)
    entries = document.entries if document else ()
    assigned = sum(entry.last - entry.first + 1 for entry in entries)
    leaving = sum(entry.last - entry.first + 1 for entry in entries if entry.leaving)
    sections = spec.sections
    return {
        "sections": sections,
        "assigned": assigned,
        "leaving": leaving,
        "unassigned": sections - assigned,
    }


def _replica(
    spec: SetSpec, replica: Replica, infos: Mapping[str, pb.InfoResponse | str]
) -> dict[str, object]:
    info = infos.get(replica.address, "not asked")
    shown: dict[str, object] = {
        "set": spec.name,
        "name": replica.name,
        "address": replica.address,
        "store_id": hex64(replica.store_id),
        "reachable": not isinstance(info, str),
        "error": info if isinstance(info, str) else info.out_of_quorum or None,
    }
    if isinstance(info, str):
        unknown = ("answers_as", "out_of_quorum", "membership", "sections", "fence_version")
        return shown | dict.fromkeys((*unknown, "boot_grace_s", "leases"))
    leases = sorted(info.leases, key=lambda lease: lease.incarnation)
    return shown | {
        "answers_as": hex64(info.store_id),
        "out_of_quorum": bool(info.out_of_quorum),
        "membership": info.membership,
        "sections": info.sections,
        "fence_version": info.fence_version,
        "boot_grace_s": _seconds(info.boot_grace_ns),
        "leases": [
            {"incarnation": hex64(lease.incarnation), "left_s": _seconds(lease.left_ns)}
            for lease in leases
        ],
    }


def _node(
    found: Picture, owner: Owner, name: str, probes: Mapping[Owner, bool | str]
) -> dict[str, object]:
    node, alive = found.nodes.get(owner), probes.get(owner, "not asked")
    shown: dict[str, object] = {
        "set": name,
        "incarnation": hex64(owner.incarnation),
        "address": owner.address,
        "registered": node is not None,
        "alive": alive is True,
        "sections": found.held[owner],
        "error": alive if isinstance(alive, str) else None,
    }
    if node is None:
        unknown = ("draining", "leased", "per_second", "serving", "acquiring", "leaving")
        return shown | dict.fromkeys(unknown)
    return shown | {
        "draining": node.draining,
        "leased": node.leased,
        "per_second": node.load.per_second,
        "serving": node.load.serving,
        "acquiring": node.load.acquiring,
        "leaving": node.load.leaving,
    }


def _job(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "state": job.state.value,
        "sets": sorted(job.sets),
        "by": job.by,
        "note": job.note,
    }


def _owners(document: Assignments) -> Counter[Owner]:
    """Whom the document gives sections to, and how many."""
    found: Counter[Owner] = Counter()
    for entry in document.entries:
        found[entry.owner] += entry.last - entry.first + 1
    return found


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 3)
