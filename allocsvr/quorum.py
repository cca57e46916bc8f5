"""Counting the answers of a Set's replicas.  Keeps SEQ-3, NRW-1 and NRW-2 on the asking side.

A question goes to all N replicas at once and is decided by the first `need` usable answers: R of
them for a fence, W for a raise, a release or a lease. An answer that is no answer (timeout, blank,
foreign or corrupt replica) is a vote against, never a value. A decision is final: what arrives
later changes nothing.
"""

from enum import Enum


class Outcome(Enum):
    """Three-valued: nothing may be done as long as it is PENDING."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class Tally:
    """Votes of N replicas, `need` of which decide. A replica's first vote counts, no other."""

    __slots__ = ("_against", "_for", "n", "need")

    def __init__(self, n: int, need: int) -> None:
        if not 1 <= need <= n:
            raise ValueError(f"{need} votes of {n} replicas can never be")
        self.n = n
        self.need = need
        self._for = 0
        self._against = 0

    def vote(self, replica: int, usable: bool) -> Outcome:
        """Count replica number `replica` (0..n-1) and say where that leaves the question."""
        if not 0 <= replica < self.n:
            raise ValueError(f"replica {replica} of {self.n}")
        bit = 1 << replica
        if not (self._for | self._against) & bit and self.outcome is Outcome.PENDING:
            if usable:
                self._for |= bit
            else:
                self._against |= bit
        return self.outcome

    @property
    def outcome(self) -> Outcome:
        if self._for.bit_count() >= self.need:
            return Outcome.WON
        if self._against.bit_count() > self.n - self.need:
            return Outcome.LOST
        return Outcome.PENDING
