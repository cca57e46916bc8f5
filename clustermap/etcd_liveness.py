"""What may be believed alive: endpoints and leases. Pure.

A **lease** is counted by its holder alone: from the instant before the request was sent that etcd
granted or renewed it on, plus what it granted. etcd counts from later, so the holder never believes
in a lease longer than etcd does, whatever the network says or does not say. An answer can only
ever move the end further away; the end once passed is final.

**Endpoints** are tried in one order: those that have not failed lately, beginning with the one that
served last, then the failed ones, the longest-failed first. So a failed member is out of the way at
once, and where all have failed none is given up.
"""

import math

MIN_TTL_S = 2
_RENEWALS_PER_TTL = 3


def lease_seconds(ttl_s: float) -> int:
    """The time to live to ask etcd for: whole seconds, and not less than it keeps to."""
    return max(MIN_TTL_S, math.ceil(ttl_s))


class Expiry:
    """The end of one lease on its holder's clock; instants in nanoseconds of a boot-time clock."""

    __slots__ = ("_ends_ns", "_renew_ns")

    def __init__(self, sent_ns: int, ttl_s: float) -> None:
        self._ends_ns = self._renew_ns = 0
        self.granted(sent_ns, ttl_s)

    def granted(self, sent_ns: int, ttl_s: float) -> None:
        """Note a grant of ttl_s that was asked for at sent_ns."""
        ttl_ns = round(ttl_s * 1e9)
        if sent_ns + ttl_ns > self._ends_ns:
            self._ends_ns = sent_ns + ttl_ns
            self._renew_ns = sent_ns + ttl_ns // _RENEWALS_PER_TTL

    def left_s(self, now_ns: int) -> float:
        """Seconds to its end; 0 or less: it may be gone."""
        return (self._ends_ns - now_ns) / 1e9

    def renew_in_s(self, now_ns: int) -> float:
        """Seconds until it should be renewed; 0 if that is now."""
        return max(0.0, (self._renew_ns - now_ns) / 1e9)


class Rota:
    """In which order the endpoints 0..count-1 are tried, beginning with `first`."""

    __slots__ = ("_count", "_failed", "_first")

    def __init__(self, count: int, first: int) -> None:
        self._count = count
        self._first = first
        self._failed: dict[int, None] = {}  # in the order of their failures

    def order(self) -> list[int]:
        turn = [(self._first + i) % self._count for i in range(self._count)]
        return [i for i in turn if i not in self._failed] + list(self._failed)

    def is_failed(self, index: int) -> bool:
        return index in self._failed

    def failed(self, index: int) -> bool:
        """Put it last; whether it was not there already."""
        newly = index not in self._failed
        self._failed.pop(index, None)
        self._failed[index] = None
        return newly

    def answered(self, index: int) -> bool:
        """Believe in it again; whether it had failed. It is first now if the first one failed."""
        was_failed = index in self._failed
        self._failed.pop(index, None)
        if self._first in self._failed:
            self._first = index
        return was_failed
