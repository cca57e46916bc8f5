"""How a section is won, told once more as in docs/PROTOCOL.md: first R, M, owner, wait.

FENCE-1, LEASE-1, NRW-2. Answers come in any order, twice, or not at all.
"""

from fractions import Fraction
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from allocsvr.acquisition import Acquisition, FenceAnswer, Stage
from clustermap.membership import one_group

ME, OTHERS = 7, (8, 9)
EPOCH = 20
DRIFTS = st.sampled_from([0.0, 0.01, 0.1])


def owner_of(epoch: int) -> int:
    """One epoch has one owner, and so has every second of ours."""
    return 0 if epoch == 0 else ME if epoch % 4 == 3 else OTHERS[epoch % 2]


@st.composite
def answers(draw: st.DrawFn) -> FenceAnswer:
    owner_epoch = draw(st.integers(0, 6))
    granted = draw(st.sampled_from([True, True, True, False]))
    leases = st.dictionaries(st.sampled_from([ME, *OTHERS]), st.integers(1, 2_000), max_size=3)
    return FenceAnswer(
        granted,
        EPOCH if granted else draw(st.integers(EPOCH, EPOCH + 3)),
        draw(st.integers(0, 100)),
        owner_of(owner_epoch),
        owner_epoch,
        owner_epoch > 0 and draw(st.booleans()),
        draw(st.sampled_from([0, owner_epoch, owner_epoch, 1])),
        draw(leases),
        draw(st.sampled_from([0, 0, 1_500])),
    )


class Event(NamedTuple):
    replica: int
    at: int
    answer: FenceAnswer | None  # None: it failed


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, int, list[Event]]:
    n, r = draw(st.sampled_from([(3, 2), (3, 2), (1, 1), (5, 3), (3, 3)]))
    first = {replica: draw(st.one_of(answers(), answers(), st.none())) for replica in range(n)}
    at, events = 0, []
    seen: set[int] = set()
    for replica in [*draw(st.lists(st.integers(0, n - 1), max_size=n)), *first]:
        at += draw(st.sampled_from([0, 1, 700]))
        answer = first[replica]
        if replica in seen and draw(st.booleans()):  # a replica grants an epoch once
            answer = draw(st.sampled_from([None, FenceAnswer(False, EPOCH)]))
        seen.add(replica)
        events.append(Event(replica, at, answer))
    return n, r, events


class Told(NamedTuple):
    """What the oracle makes of it.

    decided: the number of events that it took; heard: what the decision rests on, if it was won. A
    second copy of an answer is no second vote, but it is heard.
    """

    decided: int
    stage: Stage
    heard: list[Event]


def told(n: int, r: int, events: list[Event]) -> Told:
    voted: dict[int, bool] = {}
    heard: list[Event] = []
    for count, event in enumerate(events, 1):
        granted = event.answer is not None and event.answer.granted
        voted.setdefault(event.replica, granted)
        heard += [event] * granted
        if sum(voted.values()) == r:
            return Told(count, Stage.WAITING, heard)
        if len(voted) - sum(voted.values()) > n - r:
            return Told(count, Stage.LOST, [])
    return Told(len(events), Stage.FENCING, [])


@settings(max_examples=300)
@given(histories(), DRIFTS)
def test_an_attempt_ends_as_the_protocol_tells_it(
    history: tuple[int, int, list[Event]], drift: float
) -> None:
    n, r, events = history
    expected = told(n, r, events)
    made = Acquisition(4, EPOCH, ME, one_group(n, r))
    for count, event in enumerate(events, 1):
        if event.answer is None:
            stage = made.failed(event.replica)
        else:
            stage = made.fenced(event.replica, event.answer, event.at, drift)
        assert stage is (expected.stage if count >= expected.decided else Stage.FENCING)
        if stage is Stage.FENCING:
            assert made.waited(event.at + 10**9) is Stage.FENCING, "before R answers"
            assert made.found == 0
    refusals = [e.answer.promised for e in events if e.answer and not e.answer.granted]
    assert made.promised == max(refusals, default=0)
    if expected.stage is Stage.WAITING:
        check_won(made, [(e.replica, e.at, e.answer) for e in expected.heard if e.answer], drift)
    else:
        assert (made.found, made.snapshot_from) == (0, ())


def check_won(made: Acquisition, won: list[tuple[int, int, FenceAnswer]], drift: float) -> None:
    assert made.found == max(answer.max_seq for _, _, answer in won), "M"
    epoch = max(answer.owner_epoch for _, _, answer in won)
    latest = [(replica, answer) for replica, _, answer in won if answer.owner_epoch == epoch]
    released = any(answer.released for _, answer in latest)
    left_by = [replica for replica, answer in latest if answer.snapshot_epoch == epoch]
    assert made.snapshot_from == (tuple(left_by) if released else ())
    assert made.snapshot_epoch == (epoch if released else 0)
    owner = owner_of(epoch)
    ends = [Fraction(0)]
    if owner not in (0, ME) and not released:
        for _, at, answer in won:
            left = max(answer.leases.get(owner, 0), answer.grace_ns)
            ends.append(at + left * (1 + 2 * Fraction(drift)))
    assert max(ends) <= made.ready_ns <= max(ends) + 1, "LEASE-1"
    assert made.waited(made.ready_ns - 1) is (Stage.READY if made.ready_ns < 0 else Stage.WAITING)
    assert made.waited(made.ready_ns) is Stage.READY
