"""Counting the answers of a Set's replicas.  Keeps SEQ-3, NRW-1 and NRW-2 on the asking side.

A question goes to all replicas at once and is decided by the first usable answers that are enough
in each group (clustermap/membership.py): R of them for a fence, W for a raise, a release or a
lease. An answer that is no answer (timeout, blank, foreign, learning or corrupt replica) is a vote
against, never a value. A decision is final: what arrives later changes nothing.
"""

from collections.abc import Iterable, Set
from copy import copy
from enum import Enum

from clustermap.membership import Groups, can_be_met, is_met


class Outcome(Enum):
    """Three-valued: nothing may be done as long as it is PENDING."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class Tally:
    """Votes of replicas, enough of each group to decide. Of one replica only the first counts."""

    __slots__ = ("_against", "_for", "_groups", "outcome")

    def __init__(self, groups: Groups) -> None:
        self.outcome = Outcome.PENDING
        self._groups = groups
        self._for = self._against = 0  # a bit for each replica that has voted so

    def vote(self, replica: int, usable: bool) -> Outcome:
        """Count replica number `replica` and say where that leaves the question."""
        bit = 1 << replica
        if self.outcome is Outcome.PENDING and not (self._for | self._against) & bit:
            if usable:
                self._for |= bit
                if is_met(self._groups, self._for):
                    self.outcome = Outcome.WON
            else:
                self._against |= bit
                if not can_be_met(self._groups, self._against):
                    self.outcome = Outcome.LOST
        return self.outcome


class Ballot:
    """Votes on many questions that went out in one request, each known by a number.

    A replica votes on all of them at once, except for those that it refuses. So what nobody has
    refused shares one tally, and only the rest gets one each: thousands cost little more than one.
    """

    __slots__ = ("_common", "_open", "_refused")

    def __init__(self, questions: Iterable[int], groups: Groups) -> None:
        self._common = Tally(groups)
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
