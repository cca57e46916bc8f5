"""Many questions with shared tallies against one tally each. SEQ-3, NRW-1, NRW-2."""

from hypothesis import given, settings
from hypothesis import strategies as st

from allocsvr.quorum import Ballot, Outcome, Tally
from clustermap.membership import one_group

QUESTIONS = range(4)
ANSWERS = st.tuples(st.booleans(), st.sets(st.sampled_from([*QUESTIONS, 99])))


@st.composite
def votes(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, bool, set[int]]]]:
    """N, how many are needed, and answers: replica, usable, what it refuses; some answer twice."""
    n = draw(st.integers(1, 5))
    replicas = draw(st.lists(st.integers(0, n - 1), max_size=2 * n))
    return n, draw(st.integers(1, n)), [(replica, *draw(ANSWERS)) for replica in replicas]


@settings(max_examples=500, deadline=None)
@given(votes())
def test_each_question_is_decided_as_if_it_had_been_asked_alone(
    drawn: tuple[int, int, list[tuple[int, bool, set[int]]]],
) -> None:
    n, need, answers = drawn
    ballot = Ballot(QUESTIONS, one_group(n, need))
    alone = {question: Tally(one_group(n, need)) for question in QUESTIONS}
    for replica, usable, refused in answers:
        expected = {
            question: tally.vote(replica, usable and question not in refused)
            for question, tally in alone.items()
            if tally.outcome is Outcome.PENDING
        }
        told = ballot.vote(replica, usable, refused)
        assert len(told) == len(dict(told)), "decided twice"
        assert dict(told) == {q: o for q, o in expected.items() if o is not Outcome.PENDING}
        assert ballot.decided is all(t.outcome is not Outcome.PENDING for t in alone.values())


@given(st.integers(1, 5), st.data())
def test_a_tally_is_decided_by_the_first_votes_of_its_replicas(n: int, data: st.DataObject) -> None:
    need = data.draw(st.integers(1, n))
    tally = Tally(one_group(n, need))
    first: dict[int, bool] = {}
    expected = Outcome.PENDING
    for replica, usable in data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.booleans()))):
        first.setdefault(replica, usable)
        if expected is Outcome.PENDING:
            against = len(first) - sum(first.values())
            won, lost = sum(first.values()) >= need, n - against < need
            expected = Outcome.WON if won else Outcome.LOST if lost else Outcome.PENDING
        assert tally.vote(replica, usable) is expected
