"""What two Sets' replicas say of sections that are to move, and what follows from it. Pure.

As allocsvr.acquisition does for a node, in both Sets at once: max_seq, owner and snapshot are taken
from fence answers only, after which no older raise can complete in either Set; and the lease that a
last owner may still hold is waited out, but for an owner that a seal says has been waited out. One
question is about a whole chunk: a replica that refuses any of it is counted against all of it.

A fence needs R replicas, as any; and more than half of them, so that no two fences of one epoch
can both be granted, whatever the map was restored to in between.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from clustermap.drift import wait_ns
from clustermap.model import Quorum


class Outcome(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class Votes:
    """Of n replicas, `need` of which decide."""

    def __init__(self, n: int, need: int) -> None:
        self.outcome = Outcome.PENDING
        self._need = need
        self._spare = n - need

    def count(self, usable: bool) -> Outcome:
        """One replica's; a decision is final."""
        if self.outcome is Outcome.PENDING:
            if usable:
                self._need -= 1
                if not self._need:
                    self.outcome = Outcome.WON
            else:
                self._spare -= 1
                if self._spare < 0:
                    self.outcome = Outcome.LOST
        return self.outcome


class Known(NamedTuple):
    """What one replica knows of one section, having promised the epoch, or not."""

    granted: bool
    promised: int
    max_seq: int = 0
    owner: int = 0
    owner_epoch: int = 0
    released: bool = False
    snapshot_epoch: int = 0
    sealed: int = 0


class Found(NamedTuple):
    """What is known of one section by R replicas of a Set, or of two.

    until_ns: when no earlier owner can serve any more; snapshot_epoch: of what was left behind by a
    last owner that released, 0: nothing; places: who has that, (Set, replica).
    """

    section: int
    max_seq: int = 0
    owner_epoch: int = 0
    until_ns: int = 0
    snapshot_epoch: int = 0
    places: tuple[tuple[str, int], ...] = ()


def fence_need(quorum: Quorum) -> int:
    """How many replicas must grant the job's fence."""
    return max(quorum.r, quorum.n // 2 + 1)


def record_need(quorum: Quorum) -> int:
    """How many must take a section's record: any raise, and enough of them to win it, has to be
    possible without whoever missed it (a seal may stand there)."""
    return max(quorum.r, quorum.w)


class Inquiry:
    """A fence of a chunk in one Set. epochs: by rising section; job: an owner not waited for."""

    def __init__(
        self, name: str, epochs: Mapping[int, int], quorum: Quorum, job: int, max_drift: float
    ) -> None:
        self.refused: dict[int, int] = {}
        self._name = name
        self._epochs = list(epochs.items())
        self._job = job
        self._max_drift = max_drift
        self._votes = Votes(quorum.n, fence_need(quorum))
        self._answers: list[tuple[int, Sequence[Known], Mapping[int, int], int, int]] = []

    @property
    def outcome(self) -> Outcome:
        return self._votes.outcome

    def answered(
        self,
        replica: int,
        known: Sequence[Known],
        leases: Mapping[int, int],
        grace_ns: int,
        at_ns: int,
    ) -> None:
        """known: in the order of the epochs; leases, grace_ns: as in Fence, received at at_ns."""
        granted = True
        for (section, epoch), one in zip(self._epochs, known, strict=True):
            if not one.granted or one.promised != epoch:
                granted = False
                self.refused[section] = max(one.promised, self.refused.get(section, 0))
        if self.outcome is Outcome.PENDING and granted:
            self._answers.append((replica, known, leases, grace_ns, at_ns))
        self._votes.count(granted)

    def failed(self) -> None:
        """A replica gave no usable answer."""
        self._votes.count(False)

    def found(self) -> list[Found]:
        """Of each section; once WON."""
        return [self._found(index, section) for index, (section, _) in enumerate(self._epochs)]

    def _found(self, index: int, section: int) -> Found:
        answers = [(replica, known[index]) for replica, known, *_ in self._answers]
        max_seq = max(known.max_seq for _, known in answers)
        epoch = max(known.owner_epoch for _, known in answers)
        last = [known for _, known in answers if known.owner_epoch == epoch]
        if any(known.released for known in last):
            places = tuple(
                (self._name, replica) for replica, known in answers if known.snapshot_epoch == epoch
            )
            return Found(section, max_seq, epoch, 0, epoch if places else 0, places)
        waited = epoch <= max(known.sealed for _, known in answers)  # it was, before the seal
        owner = last[0].owner
        until_ns = 0 if waited or owner == self._job else self._free_ns(owner)
        return Found(section, max_seq, epoch, until_ns)

    def _free_ns(self, owner: int) -> int:
        """When the owner's lease has run out at each of the replicas that answered."""
        return max(
            at_ns + wait_ns(max(leases.get(owner, 0), grace_ns), self._max_drift)
            for _, _, leases, grace_ns, at_ns in self._answers
        )


def combined(one: Found, other: Found) -> Found:
    """Of both Sets: the later owner's snapshot, the greater of everything else."""
    later = max(one, other, key=lambda found: (found.owner_epoch, found.snapshot_epoch))
    return later._replace(
        max_seq=max(one.max_seq, other.max_seq), until_ns=max(one.until_ns, other.until_ns)
    )
