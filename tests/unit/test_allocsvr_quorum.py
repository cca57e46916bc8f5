"""The tally against a dumb oracle, for every order of up to five votes. SEQ-3, NRW-2."""

import itertools

import pytest

from allocsvr.quorum import Outcome, Tally
from clustermap.membership import one_group


def outcome_of(votes: list[tuple[int, bool]], n: int, need: int) -> Outcome:
    """The first `need` votes for it win; once they cannot come any more it is lost."""
    seen: dict[int, bool] = {}
    for replica, usable in votes:
        seen.setdefault(replica, usable)
        if sum(seen.values()) == need:
            return Outcome.WON
        if n - len(seen) + sum(seen.values()) < need:
            return Outcome.LOST
    return Outcome.PENDING


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_every_order_of_votes_is_decided_as_the_oracle_does(n: int) -> None:
    for need in range(1, n + 1):
        for usable in itertools.product([False, True], repeat=n):
            for order in itertools.permutations(range(n)):
                tally = Tally(one_group(n, need))
                votes: list[tuple[int, bool]] = []
                for replica in order:
                    votes.append((replica, usable[replica]))
                    expected = outcome_of(votes, n, need)
                    assert tally.vote(replica, usable[replica]) is expected
                    assert tally.outcome is expected


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_replica_that_answers_twice_counts_once_with_its_first_vote(n: int) -> None:
    every = [(replica, usable) for replica in range(n) for usable in (False, True)]
    for need in range(1, n + 1):
        for votes in itertools.product(every, repeat=n + 2):
            tally = Tally(one_group(n, need))
            for at, (replica, usable) in enumerate(votes, start=1):
                assert tally.vote(replica, usable) is outcome_of(list(votes[:at]), n, need)


def test_what_can_never_be_decided_is_refused() -> None:
    for n, need in ((3, 0), (3, 4), (0, 1), (1, -1)):
        with pytest.raises(ValueError, match="can never be"):
            Tally(one_group(n, need))
