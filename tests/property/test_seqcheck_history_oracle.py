"""The checker beside a brute-force search for a linear order, on small histories of one uid.

The sequential specification: a counter s, which may jump upward at any time. next takes numbers
that are all above s and leaves s at the last one; current answers a value not below s and leaves
s there (a ceiling is a jump), and so does advance, where the value is not below its floor. A call
that failed may take effect at any time after it began, also after it failed, with any numbers above
s; or never. A history is linearizable if its calls can be
put in a row that respects real time and the specification.

The relations that are tested, each of them an "if and only if":

* no SEQ-1, SEQ-2 or SEQ-4 violation, and no ceiling inside a range  <=>  linearizable;
* where all epochs are known, and ROUTE-1 is looked at too           <=>  linearizable with epochs
  that never fall along the row;
* if the history is complete                                         <=>  linearizable, where an
  exact current v > 0 needs a call that can have been handed v, or have advanced there: one before
  it in the row that ended there, or one that had begun by its answer and comes later (a client
  repeats within one call, so numbers below its own may have been out), or one of unknown outcome.

"No ceiling inside a range" is only more than the promises for a ceiling that lies inside a range
still in flight, which SEQ-4 does not forbid; the checker reports it for exact answers alone.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from made_calls import advance, current, handout
from seqcheck.calls import Call
from seqcheck.history import check

FOREVER = 10**9


def is_linearizable(calls: list[Call], *, complete: bool = False, epochs: bool = False) -> bool:
    """Try every row; a call that failed may be left out or come at any time after it began."""
    answered = [call for call in calls if call.error is None]
    failed = [replace(c, return_ns=FOREVER) for c in calls if c.error is not None]
    out = _Row(answered, complete, epochs)
    return out.goes_on(0, 0, answered, [call for call in failed if call.op != "current"])


class _Row:
    def __init__(self, answered: list[Call], complete: bool, epochs: bool) -> None:
        self.answered, self.complete, self.epochs = answered, complete, epochs

    def goes_on(self, s: int, epoch: int, left: list[Call], unknown: list[Call]) -> bool:
        """Whether the calls that are left, and some of the unknown ones, can follow s."""
        if not left:
            return True
        for call in [*left, *unknown]:
            if any(other.return_ns < call.call_ns for other in left):
                continue
            after = self.step(s, epoch, call, left, unknown)
            if after is None:
                continue
            rest = [other for other in left if other is not call]
            lost = [other for other in unknown if other is not call]
            if self.goes_on(*after, rest, lost):
                return True
        return False

    def step(
        self, s: int, epoch: int, call: Call, left: list[Call], unknown: list[Call]
    ) -> tuple[int, int] | None:
        """s and the epoch after the call, None if it cannot come here."""
        if call.error is not None:
            return s + call.count, epoch
        if self.epochs and call.epoch < epoch:
            return None
        if call.op == "next":
            return (call.seq + call.count - 1, call.epoch) if call.seq > s else None
        if call.seq < call.at_least:
            return None
        if call.seq < s or (self.complete and not self.explained(s, call, left, unknown)):
            return None
        return call.seq, call.epoch

    def explained(self, s: int, call: Call, left: list[Call], unknown: list[Call]) -> bool:
        if not call.exact or call.seq == 0:
            return True
        ended_here = any(c not in left and c.last == s == call.seq for c in moving(self.answered))
        later = any(c.call_ns <= call.return_ns for c in [*moving(left), *unknown])
        lost = any(c.call_ns <= call.return_ns for c in unknown)
        return ended_here or later or lost


def moving(calls: list[Call]) -> list[Call]:
    """Those that can leave a uid higher than they found it."""
    return [call for call in calls if call.op != "current"]


def ceiling_in_a_range(calls: Iterable[Call]) -> bool:
    answered = [call for call in calls if call.error is None]
    return any(
        a.op == "next" and b.op != "next" and a.seq <= b.seq < a.seq + a.count - 1
        for a, b in permutations(answered, 2)
    )


def broken(calls: list[Call], *, complete: bool = False) -> set[str]:
    return {violation.promise for violation in check(calls, complete=complete).violations}


@st.composite
def any_calls(draw: st.DrawFn) -> list[Call]:
    """Arbitrary intervals and numbers: mostly wrong, close to the border."""
    calls = []
    for _ in range(draw(st.integers(0, 7))):
        call_ns = draw(st.integers(0, 8))
        return_ns = call_ns + draw(st.integers(0, 6))
        seq, exact = draw(st.integers(0, 9)), draw(st.booleans())
        error = draw(st.sampled_from([None] * 5 + ["OUTCOME_UNKNOWN"]))
        if draw(st.booleans()):
            count = draw(st.integers(1, 3))
            calls.append(handout(max(1, seq), call_ns, return_ns, count, error=error))
        elif draw(st.booleans()):
            calls.append(advance(seq, call_ns, return_ns, draw(st.integers(0, 5)), error=error))
        else:
            calls.append(current(seq, call_ns, return_ns, exact=exact, error=error))
    return calls


@st.composite
def served_calls(draw: st.DrawFn) -> list[Call]:
    """A correct history: owners change, answers are lost, calls are retried within."""
    s, exact, epoch = 0, True, 1
    calls = []
    for instant in range(draw(st.integers(0, 12))):
        at = 10 * instant
        call_ns, return_ns = at - draw(st.integers(0, 40)), at + draw(st.integers(0, 40))
        kinds = ["next", "next", "retried", "current", "advance", "lost", "owner"]
        kind = draw(st.sampled_from(kinds))
        if kind == "owner":
            epoch += draw(st.integers(1, 2))
            if draw(st.booleans()):  # unplanned: cur_seq is a ceiling now
                s, exact = s + draw(st.integers(0, 9)), False
            continue
        if kind == "current":
            calls.append(current(s, call_ns, return_ns, exact=exact, epoch=epoch))
            continue
        if kind == "advance":
            floor = s + draw(st.integers(-2, 9))
            s, exact = max(s, floor), exact or floor > s
            calls.append(advance(s, call_ns, return_ns, max(0, floor), epoch=epoch))
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


@st.composite
def spoilt_calls(draw: st.DrawFn) -> list[Call]:
    """Up to seven calls of a correct history, one number or epoch of which was changed."""
    calls = draw(served_calls())[:7]
    answered = [call for call in calls if call.error is None]
    if answered:
        call = draw(st.sampled_from(answered))
        call.seq = max(1, call.seq + draw(st.integers(-3, 3)))
        call.epoch = max(1, call.epoch + draw(st.sampled_from([0, 0, -1, 1])))
    return calls


HISTORIES = any_calls() | spoilt_calls()


@given(HISTORIES)
@example([handout(1, 0, 9, 3), current(2, 1, 2)])
@example([handout(1, 0, 9, 3), current(2, 1, 2, exact=True)])
@example([handout(9, 0, 1, error="OUTCOME_UNKNOWN"), handout(1, 2, 3), handout(1, 0, 9)])
def test_the_checker_agrees_with_a_search_for_a_linear_order(calls: list[Call]) -> None:
    clean = not broken(calls) - {"ROUTE-1"} and not ceiling_in_a_range(calls)
    event(f"clean: {clean}")
    assert clean == is_linearizable(calls)


@given(HISTORIES)
@example([handout(3, 0, 1), current(5, 2, 3, exact=True)])
@example([handout(3, 0, 1), current(5, 0, 3, exact=True), handout(7, 3, 4)])
@example([handout(1, 0, 1, error="OUTCOME_UNKNOWN"), current(5, 2, 3, exact=True)])
@example([handout(1, 3, 9, error="OUTCOME_UNKNOWN"), current(5, 2, 3, exact=True)])
def test_it_agrees_on_a_complete_history(calls: list[Call]) -> None:
    clean = not broken(calls, complete=True) - {"ROUTE-1"} and not ceiling_in_a_range(calls)
    event(f"clean: {clean}")
    assert clean == is_linearizable(calls, complete=True)


@given(HISTORIES, st.data())
def test_it_agrees_on_owners_that_take_turns(calls: list[Call], data: st.DataObject) -> None:
    for call in calls:
        call.epoch = call.epoch or data.draw(st.integers(1, 3))
    clean = not broken(calls) and not ceiling_in_a_range(calls)
    event(f"clean: {clean}")
    assert clean == is_linearizable(calls, epochs=True)


@given(HISTORIES)
def test_what_it_reports_where_some_epochs_are_unknown_is_never_linearizable(
    calls: list[Call],
) -> None:
    """Without an epoch a call may come anywhere; each violation stands on its two calls alone."""
    for violation in check(calls).violations:
        assert not is_linearizable(list(violation.calls), epochs=violation.promise == "ROUTE-1")


@settings(max_examples=50)
@given(HISTORIES)
def test_a_violation_shows_calls_that_contradict_each_other_by_themselves(
    calls: list[Call],
) -> None:
    for violation in check(calls).violations:
        assert violation.promise in broken(list(violation.calls))
        assert violation.at_ns == max(call.return_ns for call in violation.calls)


@given(served_calls())
def test_a_correct_service_never_raises_an_alarm(calls: list[Call]) -> None:
    assert check(calls, complete=True).violations == []
    assert check(calls[::2]).violations == []
