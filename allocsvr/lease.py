"""Until when this node may answer from memory.  Keeps LEASE-1 and LEASE-2.

Each replica's grant counts from the instant *before* its request was sent, so that the node's view
ends before the replica's. `2 * max_drift` of the time to live is given away, once for the clock of
either side. The deadline is the W-th greatest grant, the least one of all groups: at least W
replicas then hold the promise that far, and any R of them, which the next owner must fence, include
one of those W. The greatest grant would rest on a single replica.

Grants of different versions of the Set's membership are never counted together; the deadline that
one of them reached stays, whatever becomes of the version (clustermap/membership.py).

A promise made to somebody else comes in the same answer as the grant (section 3 of
docs/PROTOCOL.md) and is sticky: `Promises` forgets nothing for the life of the process, whatever
older raise or grant succeeds later.
"""

from collections.abc import Iterator

from clustermap.membership import Groups


class Lease:
    """The deadline of one node. Times are nanoseconds of one clock."""

    __slots__ = ("deadline_ns", "margin_ns", "ttl_ns")

    def __init__(self, ttl_ns: int, max_drift: float) -> None:
        self.ttl_ns = ttl_ns
        self.margin_ns = int(2 * max_drift * ttl_ns) + 1
        self.deadline_ns = 0

    def held(self, now_ns: int) -> bool:
        return now_ns < self.deadline_ns


class Grants:
    """What the replicas of one version have granted, and how far that carries the lease.

    groups: of whom how many have to grant (W).
    """

    __slots__ = ("_groups", "_until", "lease")

    def __init__(self, lease: Lease, groups: Groups) -> None:
        self.lease = lease
        self._groups = groups
        self._until = [0] * max(members.bit_length() for members, _ in groups)

    def granted(self, replica: int, sent_ns: int) -> None:
        """Count a grant of ttl by a replica whose request was sent at `sent_ns`."""
        lease = self.lease
        until = sent_ns + lease.ttl_ns - lease.margin_ns
        if until > self._until[replica]:
            self._until[replica] = until
            lease.deadline_ns = max(lease.deadline_ns, self._reached())

    def _reached(self) -> int:
        until = self._until
        return min(
            sorted(u for i, u in enumerate(until) if members >> i & 1)[-need]
            for members, need in self._groups
        )


class Promises:
    """The highest epoch any replica is known to have promised, by section. Only rises."""

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: dict[int, int] = {}

    def note(self, first: int, last: int, epoch: int) -> Iterator[int]:
        """Note a promise for sections `first..last`; yields those whose promise rose by it."""
        highest = self._highest
        for section in range(first, last + 1):
            if epoch > highest.get(section, 0):
                highest[section] = epoch
                yield section

    def highest(self, section: int) -> int:
        return self._highest.get(section, 0)
