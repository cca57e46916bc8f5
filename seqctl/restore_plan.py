"""What `seqctl restore` decides: which records blank replicas get, what the map then says. Pure.

Nothing that was handed out after the backup is in it. So what is written is no state of before
but one above everything there can have been (SEQ-1, SEQ-2):

* max_seq of every section, also of those that the backup does not know, is raised by `advance_by`,
  at most to the cluster's seq_limit, at which a uid is used up.
* The epoch of the restore is above all that the backup and the map know by MARGIN, since a map that
  was lost may have given more. Callers drop answers of lower epochs than they have seen (ROUTE-1),
  and stores refuse raises of old owners below it (FENCE-1).
* The owner is the restore itself at that epoch, not released: whoever comes next waits out the boot
  grace of the stores, and with it leases that old ones may have granted before they died (LEASE-1).
* There are no snapshots, so nobody goes on from counters of before.
* The membership is above all that there were: nodes that are late are refused, and follow.
* The routing version goes on above what callers may hold, by VERSIONS where the map lost it.

The records of one restore are the same each time, so one that was cut off can be made again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    Floor,
    Quorum,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.ranges import Range, shown
from clustermap.spans import minus, overlaps
from seqctl.backup_file import Backup, Kept
from seqctl.failures import NotDone, WrongUsage
from seqsvr.v1 import store_pb2 as pb

MARGIN = 2**20
VERSIONS = 2**32
MAX_EPOCH = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Held:
    """What the map says now. revisions: of the documents that count by key; 0: there is none."""

    cluster: Cluster | None
    spec: SetSpec | None
    assignments: Assignments | None
    revisions: Mapping[str, int]
    others: tuple[SetSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Restoration:
    """A restore that nothing speaks against. spec: with the blank stores as its replicas."""

    cluster: Cluster
    spec: SetSpec
    assignments: Assignments
    epoch: int
    incarnation: int
    advance_by: int
    known: Mapping[int, int]
    """section -> max_seq in the backup."""

    def record(self, section: int) -> pb.StoredRecord:
        """What each replica is to hold of a section."""
        raised = self.known.get(section, 0) + self.advance_by
        return pb.StoredRecord(
            section=section,
            promised=self.epoch,
            max_seq=min(raised, self.cluster.seq_limit),
            owner_epoch=self.epoch,
            owner=self.incarnation,
        )

    def puts(self) -> dict[str, bytes]:
        """The documents that make it usable, written last."""
        return {
            CLUSTER_KEY: self.cluster.to_json(),
            set_key(self.spec.name): self.spec.to_json(),
            assignments_key(self.spec.name): self.assignments.to_json(),
        }


def plan(
    backup: Backup,
    name: str,
    held: Held,
    replicas: Sequence[Replica],
    membership: int,
    advance_by: int,
) -> Restoration:
    """The restore of the Set `name` onto these replicas.

    membership: the greatest version that any of these is at. Raises WrongUsage, NotDone.
    """
    kept = backup.sets.get(name)
    if kept is None:
        raise WrongUsage(f"the backup has no Set {name!r}, but {', '.join(sorted(backup.sets))}")
    cluster = _cluster(backup.cluster, held.cluster)
    ranges = held.spec.ranges if held.spec else kept.spec.ranges
    _check_covered(backup, ranges, held.spec)
    _check_unowned(name, ranges, held.others)
    epoch = _epoch(backup, held)
    if epoch > MAX_EPOCH:
        raise NotDone("no epochs are left above those of the backup")
    incarnation = int(backup.sha256[:16], 16) or 1
    quorum = _quorum((held.spec or kept.spec).quorum, len(replicas))
    known = (membership, kept.spec.membership, held.spec.membership if held.spec else 0)
    spec = SetSpec(name, ranges, tuple(replicas), quorum.r, quorum.w, max(known) + 1)
    floors = tuple(Floor(*span, epoch) for span in ranges)
    assignments = Assignments(name, _version(kept, held), (), floors)
    greatest: dict[int, int] = {}
    for one in backup.sets.values():  # sections may have moved from Set to Set: all count
        for section, record in one.records.items():
            greatest[section] = max(greatest.get(section, 0), record.max_seq)
    return Restoration(cluster, spec, assignments, epoch, incarnation, advance_by, greatest)


def unfit(infos: Mapping[str, pb.InfoResponse], cluster: Cluster, name: str) -> list[str]:
    """Why stores (by address) cannot become the replicas of the Set; empty: they can."""
    layout = (cluster.section_size, cluster.uid_limit)
    wrong = []
    for address, info in infos.items():
        if (info.cluster, info.set) != (cluster.id, name):
            wrong.append(f"{address} is of Set {info.set!r} of cluster {info.cluster!r}")
        elif (info.section_size, info.uid_limit) != layout:
            found = f"{info.section_size} uids per section below {info.uid_limit}"
            wrong.append(f"{address} has another layout: {found}")
        if info.out_of_quorum:
            wrong.append(f"{address} is out of the quorum: {info.out_of_quorum}")
    for what in ("replica", "store_id"):
        if len({getattr(info, what) for info in infos.values()}) < len(infos):
            wrong.append(f"two of the stores have the same {what}")
    return wrong


def _cluster(kept: Cluster, held: Cluster | None) -> Cluster:
    if held is None:
        return kept
    if (held.id, held.layout) != (kept.id, kept.layout):
        raise NotDone(f"the map is of {held}, the backup of {kept}")
    return held


def _check_covered(backup: Backup, ranges: Sequence[Range], spec: SetSpec | None) -> None:
    left = list(ranges)
    for kept in backup.sets.values():
        left = minus(left, kept.spec.ranges)
    if left and spec is not None:
        raise NotDone(
            f"the map gives Set {spec.name} sections {shown(left)}, which no Set of the backup had:"
            " they came from another Set since. Take a backup that has them"
        )


def _check_unowned(name: str, ranges: Sequence[Range], others: Sequence[SetSpec]) -> None:
    """A Set that the map does not have any more may have given its sections to another."""
    for other in others:
        both = [Range(first, last) for *_, first, last in overlaps(ranges, other.ranges)]
        if both:
            raise NotDone(
                f"refused, nothing was written: sections {shown(both)} are of Set {other.name} by"
                f" now, and Set {name} would serve them, too. Restore {other.name}, if anything"
            )


def _epoch(backup: Backup, held: Held) -> int:
    """Above all that anybody may have seen."""
    known = [kept.highest_epoch for kept in backup.sets.values()]
    for kept in backup.sets.values():
        known += [max(one.promised, one.owner_epoch) for one in kept.records.values()]
    if held.assignments is not None:
        known += [entry.epoch for entry in held.assignments.entries]
        known += [floor.epoch for floor in held.assignments.floors]
    return max(known, default=0) + MARGIN


def _version(kept: Kept, held: Held) -> int:
    if held.assignments is not None and held.spec is not None:
        return held.assignments.version + 1
    found = held.assignments.version if held.assignments else 0
    return max(found, kept.version + VERSIONS) + 1


def _quorum(before: Quorum, n: int) -> Quorum:
    """As it was; a majority each where there are more replicas or fewer now."""
    return before if before.n == n else Quorum(n, n // 2 + 1, n // 2 + 1)
