"""Until when this node may answer from memory.  Keeps LEASE-1 and LEASE-2.

Each replica's grant counts from the instant *before* its request was sent, so that the node's view
ends before the replica's. `2 * max_drift` of the time to live is given away, once for the clock of
either side. The deadline is the W-th greatest grant: at least W replicas then hold the promise
that far, and any R of them, which the next owner must fence, include one of those W. The greatest
grant would rest on a single replica.

A promise made to somebody else comes in the same answer as the grant (section 3 of
docs/PROTOCOL.md) and is sticky: `Promises` forgets nothing for the life of the process, whatever
older raise or grant succeeds later.
"""

from collections.abc import Iterator


class Lease:
    """Deadlines by replica, and the one that counts. Times are nanoseconds of one clock."""

    __slots__ = ("_margin_ns", "_until", "deadline_ns", "need", "ttl_ns")

    def __init__(self, n: int, w: int, ttl_ns: int, max_drift: float) -> None:
        self.ttl_ns = ttl_ns
        self._margin_ns = int(2 * max_drift * ttl_ns) + 1
        self.need = w
        self._until = [0] * n
        self.deadline_ns = 0

    def granted(self, replica: int, sent_ns: int) -> None:
        """Count a grant of ttl by a replica whose request was sent at `sent_ns`."""
        until = sent_ns + self.ttl_ns - self._margin_ns
        if until > self._until[replica]:
            self._until[replica] = until
            self.deadline_ns = sorted(self._until, reverse=True)[self.need - 1]

    def held(self, now_ns: int) -> bool:
        return now_ns < self.deadline_ns


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
