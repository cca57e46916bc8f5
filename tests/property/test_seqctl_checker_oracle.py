"""The checker beside a brute-force search for a linear order, on small histories of one uid.

The sequential specification: a counter s, which may jump upward at any time. next takes numbers
that are all above s and leaves s at the last one; current answers a value not below s and leaves
s there (a ceiling is a jump). A history is linearizable if its calls can be put in a row that
respects real time and the specification.

The relation that is tested, for calls that were answered:

    no SEQ-1, SEQ-2 or SEQ-4 violation, and no current strictly inside a range
        <=>  linearizable

The second condition is only more than the promises for a ceiling that lies inside a range still
in flight, which SEQ-4 does not forbid; the checker reports it for exact answers alone. Calls that
failed are left out on both sides: since s may jump, a hand-out of unknown outcome that took effect
is a jump, and one that did not is nothing.
"""

from itertools import combinations, permutations

from hypothesis import event, example, given
from hypothesis import strategies as st

from made_calls import current, handout
from seqctl.checker import Call, check


def is_linearizable(calls: list[Call]) -> bool:
    return any(respects_time(row) and follows_spec(row) for row in permutations(calls))


def respects_time(row: tuple[Call, ...]) -> bool:
    return not any(later.return_ns < earlier.call_ns for earlier, later in combinations(row, 2))


def follows_spec(row: tuple[Call, ...]) -> bool:
    s = 0
    for call in row:
        if call.op == "next":
            if call.seq <= s:
                return False
            s = call.seq + call.count - 1
        else:
            if call.seq < s:
                return False
            s = call.seq
    return True


def inside_a_range(calls: list[Call]) -> bool:
    return any(
        a.op == "next" and b.op == "current" and a.seq <= b.seq < a.seq + a.count - 1
        for a, b in permutations(calls, 2)
    )


@st.composite
def any_calls(draw: st.DrawFn) -> list[Call]:
    """Arbitrary intervals and numbers: mostly wrong, close to the border."""
    calls = []
    for _ in range(draw(st.integers(0, 6))):
        call_ns = draw(st.integers(0, 8))
        return_ns = call_ns + draw(st.integers(0, 6))
        seq, exact = draw(st.integers(1, 9)), draw(st.booleans())
        if draw(st.booleans()):
            calls.append(handout(seq, call_ns, return_ns, draw(st.integers(1, 3))))
        else:
            calls.append(current(seq, call_ns, return_ns, exact=exact))
    return calls


@st.composite
def served_calls(draw: st.DrawFn) -> list[Call]:
    """A correct history: owners change, answers are lost, calls are retried within."""
    s, exact, epoch = 0, True, 1
    calls = []
    for instant in range(draw(st.integers(0, 12))):
        at = 10 * instant
        call_ns, return_ns = at - draw(st.integers(0, 40)), at + draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["next", "next", "retried", "current", "lost", "owner"]))
        if kind == "owner":
            epoch += draw(st.integers(1, 2))
            if draw(st.booleans()):  # unplanned: cur_seq is a ceiling now
                s, exact = s + draw(st.integers(0, 9)), False
            continue
        if kind == "current":
            calls.append(current(s, call_ns, return_ns, exact=exact, epoch=epoch))
            continue
        count = draw(st.integers(1, 4))
        if kind == "retried":
            s += count
        if kind == "lost":
            calls.append(handout(0, call_ns, return_ns, count, error="OUTCOME_UNKNOWN"))
        else:
            calls.append(handout(s + 1, call_ns, return_ns, count, epoch=epoch))
        s, exact = s + count, True
    return draw(st.permutations(calls))


@given(any_calls())
@example([handout(1, 0, 9, 3), current(2, 1, 2)])
@example([handout(1, 0, 9, 3), current(2, 1, 2, exact=True)])
def test_the_checker_agrees_with_a_search_for_a_linear_order(calls: list[Call]) -> None:
    clean = not check(calls).violations and not inside_a_range(calls)
    event(f"clean: {clean}")
    assert clean == is_linearizable(calls)


@given(served_calls(), st.data())
def test_the_checker_agrees_also_when_one_number_of_a_good_history_is_changed(
    calls: list[Call], data: st.DataObject
) -> None:
    answered = [call for call in calls if call.error is None][:6]
    for call in answered:
        call.epoch = 0
    if answered:
        call = data.draw(st.sampled_from(answered))
        call.seq = max(1, call.seq + data.draw(st.integers(-3, 3)))
    clean = not check(answered).violations and not inside_a_range(answered)
    event(f"clean: {clean}")
    assert clean == is_linearizable(answered)


@given(served_calls())
def test_a_correct_service_never_raises_an_alarm(calls: list[Call]) -> None:
    assert check(calls, complete=True).violations == []
    assert check(calls[::2]).violations == []
