"""The versions of one Set's membership in a run, and what was acknowledged under which. Pure.

What a checker needs to know of a raise is the version that it was counted under. A node does not
say that, but requests do, and so do replicas that acknowledge them. Who is counted is read from the
Set's document without clustermap.membership, which is one of the things that are tried here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from clustermap.model import SetSpec
from seqcheck.membership import Half, Membership
from seqsvr.invariants import require
from storesvr.records import Record


class Raised(NamedTuple):
    """A raise, whoever was asked."""

    section: int
    epoch: int
    incarnation: int
    max_seq: int


class Versions:
    """Of one Set: all that the map has ever said."""

    def __init__(self) -> None:
        self._known: dict[int, Membership] = {}
        self._acks: dict[Raised, dict[int, set[str]]] = {}
        # By version and section, the greatest that W have acknowledged: epoch and max_seq.
        self._settled: dict[int, dict[int, tuple[int, int]]] = {}

    @property
    def members(self) -> frozenset[object]:
        """Who is counted in the newest version; nobody, where none was ever written."""
        return self._known[max(self._known)].members if self._known else frozenset()

    def begun(self, spec: SetSpec, labels: Mapping[int, str]) -> Membership | None:
        """The version that `spec` describes, if it is a new one. labels: of disks, by store id."""
        halves = [(spec.replicas, spec.quorum)]
        if spec.joint is not None:
            halves.append((spec.joint.replicas, spec.joint.quorum))
        named = [(frozenset(labels[one.store_id] for one in of), quorum) for of, quorum in halves]
        read = tuple(Half(names, quorum.r) for names, quorum in named)
        membership = Membership(read, tuple(Half(names, quorum.w) for names, quorum in named))
        before = self._known.setdefault(spec.membership, membership)
        require(before == membership, "a version of the membership never means anything else")
        return membership if before is membership else None

    def acked(self, raised: Raised, version: int, label: str) -> Membership:
        """A replica acknowledges a raise that it was asked for under this version, which it is."""
        membership = self._known[version]
        acks = self._acks.setdefault(raised, {}).setdefault(version, set())
        acks.add(label)
        if membership.acknowledged(acks):
            settled = self._settled.setdefault(version, {})
            epoch, max_seq = settled.get(raised.section, (0, 0))
            now = max(epoch, raised.epoch), max(max_seq, raised.max_seq)
            settled[raised.section] = now
        return membership

    def counted(self, raised: Raised) -> Membership:
        """Under which version an owner may count a raise; the newest that it asked, if none."""
        acks = self._acks.get(raised, {})
        for version, labels in acks.items():
            if self._known[version].acknowledged(labels):
                return self._known[version]
        return self._known[max(acks or self._known)]

    def filled(self, label: str, version: int, held: Mapping[int, Record]) -> bool:
        """Whether a newcomer has what was acknowledged before `version` by others than itself."""
        for earlier, settled in self._settled.items():
            if earlier >= version or label in self._known[earlier].members:
                continue
            for section, (epoch, max_seq) in settled.items():
                record = held.get(section)
                if record is None or record.max_seq < max_seq or record.promised < epoch:
                    return False
        return True
