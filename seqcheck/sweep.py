"""One sweep over finished calls: who was answered before whom, and what that forbids."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from seqcheck.calls import Call


def falls(before: Sequence[Call], after: Sequence[Call]) -> Iterator[tuple[Call, Call]]:
    """Pairs where A was answered before B began, yet base(B) < last(A). O(n log n)."""
    return sweep(before, after, attrgetter("last"), attrgetter("base"))


def sweep(
    before: Sequence[Call],
    after: Sequence[Call],
    reached: Callable[[Call], int],
    allows: Callable[[Call], int],
) -> Iterator[tuple[Call, Call]]:
    """Pairs where A was answered before B began, yet B allows less than A had reached.

    For each B only the A that had reached most: the maximum over a prefix by time of answer.
    """
    answered = sorted(before, key=attrgetter("return_ns"))
    highest: Call | None = None
    index = 0
    for later in sorted(after, key=attrgetter("call_ns")):
        while index < len(answered) and answered[index].return_ns < later.call_ns:
            if highest is None or reached(answered[index]) > reached(highest):
                highest = answered[index]
            index += 1
        if highest is not None and allows(later) < reached(highest):
            yield highest, later
