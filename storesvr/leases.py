"""The leases a replica has granted, on its own clock.  Keeps its half of LEASE-1.

A lease is one deadline per incarnation, for all of its sections; only in memory, so for `boot
grace` after a start every owner is taken to hold one. Which promises tell a holder to stop is the
replica's business (notices.py); here is only how long it may go on not knowing.
"""

MAX_HOLDERS = 65_536


class Leases:
    """Deadlines by incarnation; `now_ns` is CLOCK_BOOTTIME of this host and must not fall."""

    __slots__ = ("_deadlines", "_grace_end_ns")

    def __init__(self, *, boot_now_ns: int, boot_grace_ns: int) -> None:
        self._deadlines: dict[int, int] = {}
        self._grace_end_ns = boot_now_ns + boot_grace_ns

    def grant(self, incarnation: int, ttl_ns: int, now_ns: int) -> bool:
        """Until now + ttl, or a deadline granted before if that is later; False: too many holders.

        A shorter ttl does not cut an earlier grant: its holder still counts on that one.
        """
        if incarnation not in self._deadlines and len(self._deadlines) >= MAX_HOLDERS:
            self._drop_expired(now_ns)
            if len(self._deadlines) >= MAX_HOLDERS:
                return False
        held = self._deadlines.get(incarnation, 0)
        self._deadlines[incarnation] = max(held, now_ns + ttl_ns)
        return True

    def left(self, now_ns: int) -> list[tuple[int, int]]:
        """(incarnation, nanoseconds left) of each live lease, none of them 0."""
        self._drop_expired(now_ns)
        return [(incarnation, end - now_ns) for incarnation, end in self._deadlines.items()]

    def live(self, now_ns: int) -> int:
        """How many are live. Changes nothing, so that any thread may ask."""
        return sum(end > now_ns for end in list(self._deadlines.values()))

    def grace_left_ns(self, now_ns: int) -> int:
        """For how long leases may be alive that were granted before the start, or elsewhere."""
        return max(0, self._grace_end_ns - now_ns)

    def grace_anew(self, end_ns: int) -> None:
        """Until this instant, too, leases may be alive that nobody here knows of."""
        self._grace_end_ns = max(self._grace_end_ns, end_ns)

    def _drop_expired(self, now_ns: int) -> None:
        expired = [holder for holder, end in self._deadlines.items() if end <= now_ns]
        for holder in expired:
            del self._deadlines[holder]
