"""Who is counted in a Set's quorums, and how that changes without a number repeating. Pure.

A version of the membership says which stores are counted and how many of them are needed. It is
one group (the replicas alone), or two (`SetSpec.joint`: the old ones, and the new ones): a quorum
is met where every group is. Versions v, v+1, v+2 of one change are

    v    the old ones alone         v+1  the old ones and the new ones         v+2  the new alone

Every request carries the version under which it was asked, and is answered by replicas that are
just then at that version; a replica's version is durable and only rises. So adjacent versions,
which may be in use side by side, share a group. The rules (docs/PROTOCOL.md, section 7):

(1) A version is over once so many have refused it, by having adopted a later one, that neither R
    nor W of it can answer any more (`is_over`). Nothing later is begun before the version before
    the present one is over.
(2) After v is over, whole records (promise, owner, max_seq, each by the greatest) are read from R
    of the old ones, by requests of v+1, and written to the newcomers, which are not counted before
    (LEARNING), and to as many others as `is_filled` says. Only then v+2 begins.
(3) A replica that adopts a version, or is counted from now on, reports boot grace anew.
(4) Fence and first raise of one acquisition are asked under one version, or it starts over.

Why no number can repeat. Take an owner O and, for one section, a later owner N, of a higher epoch.
O's request was answered at version a, N's at version b, whichever is the later one. A replica that
answered both did so in the order of the versions, since its own only rises. Versions that share no
group are at least two apart: then the earlier one was over, and a copy made, before any replica
adopted the later one. The copy has read what a quorum of the earlier one has acknowledged, even if
its last answers are still on their way: among the W there is one that is also among the R of
v+1's old group that were read, and it had answered before it adopted v+1.

* What O raised, N finds (SEQ-2, NRW-1). If a and b share a group, some replica is among O's W and
  N's R. It knew O's raise when N asked, or it had promised N's epoch when O asked, and refused. If
  they share none and a is the earlier one, the copy has read O's raise, and those written to, with
  what is left of O's W, are met by every R of the new ones: that is `is_filled`. If b is the
  earlier one, the next paragraph says why O's raise was refused.
* Once N has won, O raises no more (FENCE-1). N's promise rests on R of each group of b, and by (4)
  its first raise, which promises too, on W of each. If a and b share a group, W of it for O need
  one of those R, which answers N first and refuses O, or answered O first, so that N found it. If
  they share none and b is the earlier one, the copy has read N's first raise, hence its promise;
  `is_filled` makes W of the new ones meet those who hold it. That is why no acquisition may be half
  of one version and half of another: a fence alone need not be found by the copy, nor has to be,
  for without the first raise nobody serves. If a is the earlier one, no W of it is left for O.
* O's lease has ended before N serves (LEASE-1). It rests on W grants, each of which counts from
  before it was asked for. If a and b share a group, one of these W has answered N's fence: it knew
  how long O's lease runs, or it granted later, and told O of the promise with the grant. If they
  share none and a is the earlier one, one of the grants at least was given before a was over, so
  before any replica adopted b; the lease counts from no later than that, and by (3) every replica
  of b reports the longest lease from its adoption on. If b is the earlier one, one of the W holds
  N's promise, as above, and tells O of it. So a node may go on serving by the deadline of an older
  version until that passes.
* A node that is late, or was paused, asks under an old version, and is refused or answered by a
  quorum of it, which is the case above. A replica that restarts has its version, and boot grace.
  An arbiter that is late sends Adopt of a version that is known already, which changes nothing, and
  copies, which only raise; it cannot make a replica counted that never was filled, since a learner
  is counted only by an Adopt at its own version, and that is sent after the copy under it.

Nothing here depends on when a node learns of a version, or that it uses the newest.
"""

from collections.abc import Collection
from typing import NamedTuple

from clustermap.model import Quorum, Replica, SetSpec


class Group(NamedTuple):
    """members: a bit for each replica, by its number; need: how many of them have to agree."""

    members: int
    need: int


Groups = tuple[Group, ...]
"""A quorum is met where each of the groups has what it needs."""


def one_group(n: int, need: int) -> Groups:
    """Any `need` of n replicas. Raises ValueError."""
    if not 1 <= need <= n:
        raise ValueError(f"{need} votes of {n} replicas can never be")
    return (Group((1 << n) - 1, need),)


def is_met(groups: Groups, agreeing: int) -> bool:
    """Whether those who agree (a bit each) are a quorum."""
    for members, need in groups:  # noqa: SIM110 - asked for each vote, where a generator costs
        if (agreeing & members).bit_count() < need:
            return False
    return True


def can_be_met(groups: Groups, refusing: int) -> bool:
    """Whether a quorum is left without those who refuse (a bit each)."""
    for members, need in groups:  # noqa: SIM110 - likewise
        if (members & ~refusing).bit_count() < need:
            return False
    return True


class Counted(NamedTuple):
    """Who is counted in one version, learners among them once they have been filled.

    replicas: each once, their order gives them their numbers; read: what a fence needs (R); write:
    what a raise, a release or a lease needs (W).
    """

    replicas: tuple[Replica, ...]
    read: Groups
    write: Groups


def counted(spec: SetSpec) -> Counted:
    """Of the version that `spec` describes."""
    new = spec.joint.replicas if spec.joint else ()
    replicas = (*spec.replicas, *(one for one in new if one not in spec.replicas))
    quorums = [(_bits(replicas, spec.replicas), spec.quorum)]
    if spec.joint:
        quorums.append((_bits(replicas, new), spec.joint.quorum))
    read = tuple(Group(members, quorum.r) for members, quorum in quorums)
    return Counted(replicas, read, tuple(Group(members, q.w) for members, q in quorums))


def is_over(spec: SetSpec, refusing: Collection[int]) -> bool:
    """Whether no quorum of this version can form without these stores (store ids): rule (1)."""
    replicas, read, write = counted(spec)
    gone = sum(1 << i for i, replica in enumerate(replicas) if replica.store_id in refusing)
    return not can_be_met(read, gone) and not can_be_met(write, gone)


def is_filled(spec: SetSpec, filled: Collection[int]) -> bool:
    """Whether the new ones may count alone once these stores have been written to: rule (2).

    spec: of the joint version. All newcomers must have been. A raise that W old ones have
    acknowledged is unknown to n - w, a promise to n - max(r, w). Those may all be among the new
    ones; where they would be enough for a quorum of these, max(R, W) of the new ones must have been
    written to. So it is wherever a Set gets smaller.
    """
    if spec.joint is None:
        return True
    old, new = spec.quorum, spec.joint.quorum
    stores = {one.store_id for one in spec.joint.replicas}
    newcomers = stores - {one.store_id for one in spec.replicas}
    written = stores.intersection(filled)
    return newcomers <= written and (_meets(old, new) or len(written) >= max(new.r, new.w))


def _meets(old: Quorum, new: Quorum) -> bool:
    return old.n - old.w < new.r and old.n - max(old.r, old.w) < new.w


def _bits(all_: tuple[Replica, ...], some: tuple[Replica, ...]) -> int:
    return sum(1 << all_.index(one) for one in some)
