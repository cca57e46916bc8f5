"""How a replica stands with this node, by its answers to Renew alone.

Renew touches no disk, so a replica that does not answer it in time is frozen or cut off, and one
whose fsyncs take seconds is not. Such a replica is *ejected*: it is asked nothing but Renew until
it grants again. Every other failure is an answer (BLANK, CORRUPT, MEMBERSHIP ...): the replica may
be asked on, it says so again, and is not counted (NRW-2).

A replica that was never asked stands as well as any, but does not count as granting.
"""

from clustermap.errors import ReplicaFailed

EJECTING = frozenset({"TIMEOUT", "UNREACHABLE", "FOREIGN"})


class Standing:
    """One replica.

    granting: its last Renew was a grant; ejected: why it is asked nothing, None: it is asked.
    """

    __slots__ = ("_since_s", "ejected", "granting")

    def __init__(self) -> None:
        self.granting = False
        self.ejected: ReplicaFailed | None = None
        self._since_s = 0.0

    def granted(self) -> None:
        """Renew was answered with a grant."""
        self.granting = True
        self.ejected = None

    def failed(self, failed: ReplicaFailed, now_s: float) -> bool:
        """Renew was not; says whether the replica is ejected by it, having stood well so far."""
        self.granting = False
        if failed.reason not in EJECTING:
            self.ejected = None
            return False
        first = self.ejected is None
        if first:
            self._since_s = now_s
        self.ejected = failed
        return first

    def refusal(self, index: int, now_s: float) -> ReplicaFailed:
        """What a question to the ejected replica fails with, at once."""
        why = self.ejected or ReplicaFailed("UNREACHABLE", "not ejected")
        reason = "FOREIGN" if why.reason == "FOREIGN" else "UNREACHABLE"
        ago_s = now_s - self._since_s
        return ReplicaFailed(reason, f"replica {index}: ejected since {ago_s:.1f} s: {why}")
