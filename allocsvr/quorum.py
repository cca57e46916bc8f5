"""Counting the answers of a Set's replicas.  Keeps SEQ-3, NRW-1 and NRW-2 on the asking side.

A question goes to all N replicas at once and is decided by the first `need` usable answers: R of
them for a fence, W for a raise, a release or a lease. An answer that is no answer (timeout, blank,
foreign or corrupt replica) is a vote against, never a value. A decision is final: what arrives
later changes nothing.
"""

from collections.abc import Iterable, Set
from copy import copy
from enum import Enum


class Outcome(Enum):
    """Three-valued: nothing may be done as long as it is PENDING."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class Tally:
    """Votes of N replicas, `need` of which decide. A replica's first vote counts, no other."""

    __slots__ = ("_missing", "_spare", "_voted", "n", "need", "outcome")

    def __init__(self, n: int, need: int) -> None:
        if not 1 <= need <= n:
            raise ValueError(f"{need} votes of {n} replicas can never be")
        self.n = n
        self.need = need
        self.outcome = Outcome.PENDING
        self._missing = need
        self._spare = n - need  # how many may vote against
        self._voted = 0  # a bit for each replica that did

    def vote(self, replica: int, usable: bool) -> Outcome:
        """Count replica number `replica` (0..n-1) and say where that leaves the question."""
        if not 0 <= replica < self.n:
            raise ValueError(f"replica {replica} of {self.n}")
        bit = 1 << replica
        if self.outcome is Outcome.PENDING and not self._voted & bit:
            self._voted |= bit
            if usable:
                self._missing -= 1
                if not self._missing:
                    self.outcome = Outcome.WON
            else:
                self._spare -= 1
                if self._spare < 0:
                    self.outcome = Outcome.LOST
        return self.outcome


class Ballot:
    """Votes on many questions that went out in one request, each known by a number.

    A replica votes on all of them at once, except for those that it refuses. So what nobody has
    refused shares one tally, and only the rest gets one each: thousands cost little more than one.
    """

    __slots__ = ("_common", "_open", "_refused")

    def __init__(self, questions: Iterable[int], n: int, need: int) -> None:
        self._common = Tally(n, need)
        self._open = dict.fromkeys(questions)  # in order
        self._refused: dict[int, Tally] = {}

    @property
    def decided(self) -> bool:
        """Whether all of them are."""
        return not self._open

    def vote(self, replica: int, usable: bool, refused: Set[int]) -> list[tuple[int, Outcome]]:
        """Count the answer of a replica; says what it decides, which is then no longer open."""
        if refused or self._refused:
            return self._vote_by_one(replica, usable, refused)
        outcome = self._common.vote(replica, usable)
        if outcome is Outcome.PENDING:
            return []
        decided: list[tuple[int, Outcome]] = [(question, outcome) for question in self._open]
        self._open.clear()
        return decided

    def _vote_by_one(
        self, replica: int, usable: bool, refused: Set[int]
    ) -> list[tuple[int, Outcome]]:
        for question in self._open.keys() & refused:
            self._refused.setdefault(question, copy(self._common))
        outcomes = [
            (question, tally.vote(replica, usable and question not in refused))
            for question, tally in self._refused.items()
        ]
        outcome = self._common.vote(replica, usable)
        outcomes += [
            (question, outcome) for question in self._open if question not in self._refused
        ]
        decided = [told for told in outcomes if told[1] is not Outcome.PENDING]
        for question, _ in decided:
            del self._open[question]
            self._refused.pop(question, None)
        return decided
