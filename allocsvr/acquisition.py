"""How a section is won: the states of docs/PROTOCOL.md, section 4.  Keeps FENCE-1 and LEASE-1.

    FENCING --R answers--> WAITING --waited--> READY --raise acked by W--> (section.py: SERVING)
       |                      |                  |
       +------ refused, or too few answers ------+--> LOST

Obligations of order: max_seq, owner and snapshot are taken from the fence answers only, after which
no older raise can complete; the lease that the previous owner may still hold is waited out before
READY; the raise that follows also repairs a value that only a minority holds. What arrives after
the R-th answer changes nothing here.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from allocsvr.quorum import Outcome, Tally
from clustermap.drift import wait_ns
from clustermap.membership import Groups


class Stage(Enum):
    FENCING = "fencing"
    WAITING = "waiting"
    READY = "ready"
    LOST = "lost"


NO_LEASES: Mapping[int, int] = MappingProxyType({})


class FenceAnswer(NamedTuple):
    """What one replica knows of a section, having promised the epoch (or not: `granted`).

    leases: nanoseconds left of each lease that the replica has granted. It may know the lease of an
    owner whose raises it has missed, so all of them count, not only that of the owner it names.
    grace_ns: boot grace left, during which every lease may be alive.
    """

    granted: bool
    promised: int
    max_seq: int = 0
    owner: int = 0
    owner_epoch: int = 0
    released: bool = False
    snapshot_epoch: int = 0
    leases: Mapping[int, int] = NO_LEASES
    grace_ns: int = 0

    def left_ns(self, incarnation: int) -> int:
        """The longest that this owner may go on, as far as the replica knows."""
        return max(self.leases.get(incarnation, 0), self.grace_ns)


class Acquisition:
    """One attempt of one incarnation to win one section at one epoch.

    groups: of whom how many have to answer (R); membership: the version under which all of it is
    asked, up to the first raise.
    """

    __slots__ = (
        "_answers",
        "_incarnation",
        "_tally",
        "epoch",
        "found",
        "membership",
        "promised",
        "ready_ns",
        "section",
        "snapshot_epoch",
        "snapshot_from",
        "stage",
    )

    def __init__(
        self, section: int, epoch: int, incarnation: int, groups: Groups, membership: int = 1
    ) -> None:
        self.section = section
        self.epoch = epoch
        self.stage = Stage.FENCING
        self.promised = 0  # highest promise that stood against us
        self.found = 0  # M
        self.ready_ns = 0
        self.snapshot_epoch = 0
        self.snapshot_from: tuple[int, ...] = ()
        self._incarnation = incarnation
        self.membership = membership
        self._tally = Tally(groups)
        self._answers: list[tuple[int, int, FenceAnswer]] = []

    def fenced(self, replica: int, answer: FenceAnswer, now_ns: int, max_drift: float) -> Stage:
        """A replica's answer, received at `now_ns`."""
        if not answer.granted:
            self.promised = max(self.promised, answer.promised)
        if self.stage is not Stage.FENCING:
            return self.stage
        if answer.granted:
            self._answers.append((replica, now_ns, answer))
        return self._voted(self._tally.vote(replica, answer.granted), max_drift)

    def failed(self, replica: int) -> Stage:
        """No usable answer from a replica: it is not counted (NRW-2)."""
        if self.stage is not Stage.FENCING:
            return self.stage
        return self._voted(self._tally.vote(replica, False), 0.0)

    def waited(self, now_ns: int) -> Stage:
        """Time has passed."""
        if self.stage is Stage.WAITING and now_ns >= self.ready_ns:
            self.stage = Stage.READY
        return self.stage

    def _voted(self, outcome: Outcome, max_drift: float) -> Stage:
        if outcome is Outcome.LOST:
            self.stage = Stage.LOST
        elif outcome is Outcome.WON:
            self._conclude(max_drift)
        return self.stage

    def _conclude(self, max_drift: float) -> None:
        owner_epoch = owner = 0
        released = False
        for _, _, answer in self._answers:
            if answer.max_seq > self.found:
                self.found = answer.max_seq
            if answer.owner_epoch > owner_epoch:
                owner_epoch, owner, released = answer.owner_epoch, answer.owner, answer.released
            elif answer.owner_epoch == owner_epoch:
                released = released or answer.released
        if released:
            self.snapshot_epoch = owner_epoch
            self.snapshot_from = tuple(
                [
                    replica
                    for replica, _, answer in self._answers
                    if answer.snapshot_epoch == owner_epoch == answer.owner_epoch
                ]
            )
        elif owner_epoch and owner != self._incarnation:
            # Each replica measured before its answer got here: counting from here is late enough.
            self.ready_ns = max(
                at + wait_ns(answer.left_ns(owner), max_drift) for _, at, answer in self._answers
            )
        self.stage = Stage.WAITING
        del self._answers, self._tally  # tens of thousands may wait for one lease
