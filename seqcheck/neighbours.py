"""SEQ-1 and SEQ-4 as calls happen, on what their callers see.

The rule is that of `history.py`: if A was answered before B began, then last(A) <= base(B). A call
takes note, when it begins, of the highest last that was answered for its uid by then, its *floor*;
its answer must not allow less. That is one look-up at each end, whatever overlaps in between.

"Before" is the order in which events are fed, which in a simulation is what really happened first,
even where both carry the same instant. A call that fails lays down nothing: it may have taken
effect at any later time, with any numbers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from seqcheck.violations import Checker, Event, Violation, event
from seqsvr.invariants import BrokenInvariant, require


class _Mark(NamedTuple):
    """The highest number answered so far, and by whom."""

    last: int
    event: Event | None


_NOTHING = _Mark(-1, None)


class _Open(NamedTuple):
    uid: int
    at_ns: int
    floors: tuple[_Mark, ...]


class _Calls:
    """Calls that have begun and are not over."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[Hashable, _Open] = {}

    def begin(self, call_id: Hashable, call: _Open) -> None:
        require(call_id not in self._open, "a call begins once")
        self._open[call_id] = call

    def end(self, call_id: Hashable) -> _Open:
        call = self._open.pop(call_id, None)
        if call is None:
            raise BrokenInvariant("only a call that has begun ends, and once")
        return call


def _began(call_id: Hashable, call: _Open) -> Event:
    return event(call.at_ns, "began", call=call_id, uid=call.uid)


class Order(Checker):
    """SEQ-1 (docs/PROTOCOL.md, section 2): who begins after an answer gets higher numbers.

    call_id: names one hand-out for one uid, once. A batch is several.
    """

    promise = "SEQ-1"
    __slots__ = ("_calls", "_reached")

    def __init__(self) -> None:
        super().__init__()
        self._calls = _Calls()
        self._reached: dict[int, _Mark] = {}

    def began(self, at_ns: int, call_id: Hashable, uid: int) -> Violation | None:
        """A caller asked for numbers. O(1)."""
        self._calls.begin(call_id, _Open(uid, at_ns, (self._reached.get(uid, _NOTHING),)))
        return None

    def answered(self, at_ns: int, call_id: Hashable, first: int, count: int) -> Violation | None:
        """A caller has the numbers first..first+count-1. O(1)."""
        call = self._calls.end(call_id)
        (floor,) = call.floors
        last = first + count - 1
        now = event(at_ns, "answered", call=call_id, uid=call.uid, first=first, last=last)
        if last > self._reached.get(call.uid, _NOTHING).last:
            self._reached[call.uid] = _Mark(last, now)
        if first > floor.last or floor.event is None:
            return None
        text = f"handed {first} after {floor.last} had been handed out"
        began = _began(call_id, call)
        return self._broken(at_ns, text, floor.event, began, now, uid=call.uid)

    def failed(self, at_ns: int, call_id: Hashable) -> Violation | None:
        """A caller gave up or was refused: the outcome is unknown."""
        del at_ns
        self._calls.end(call_id)
        return None


class NumbersOut(Protocol):
    """Knows what was handed out by anybody; `HandedOut` does."""

    def holds(self, uid: int, number: int) -> bool: ...


@dataclass(slots=True)
class _Uid:
    """What was answered for a uid. Ranges: of more than one number; they and the exact values are
    ascending."""

    handed: _Mark = _NOTHING
    said: _Mark = _NOTHING
    firsts: list[int] = field(default_factory=list)
    ranges: list[Event] = field(default_factory=list)
    lasts: list[int] = field(default_factory=list)
    exact: list[int] = field(default_factory=list)
    exact_events: list[Event] = field(default_factory=list)


class Current(Checker):
    """SEQ-4 (docs/PROTOCOL.md, section 2): `current` against what came before and what comes after.

    Never below a number, or an earlier current, that was answered before it began; always below the
    numbers of calls that begin after its answer. An exact one is no inner number of a range, which
    is handed out whole; and if `handed_out` is given, it is a number that really went out (or 0).
    """

    promise = "SEQ-4"
    __slots__ = ("_calls", "_handed_out", "_uids")

    def __init__(self, handed_out: NumbersOut | None = None) -> None:
        super().__init__()
        self._handed_out = handed_out
        self._calls = _Calls()
        self._uids: dict[int, _Uid] = {}

    def began(self, at_ns: int, call_id: Hashable, uid: int) -> Violation | None:
        """A caller asked for numbers, or for current. O(1)."""
        known = self._uids.get(uid)
        floors = (known.handed, known.said) if known is not None else (_NOTHING, _NOTHING)
        self._calls.begin(call_id, _Open(uid, at_ns, floors))
        return None

    def failed(self, at_ns: int, call_id: Hashable) -> Violation | None:
        """A caller gave up or was refused: the outcome is unknown."""
        del at_ns
        self._calls.end(call_id)
        return None

    def answered(self, at_ns: int, call_id: Hashable, first: int, count: int) -> Violation | None:
        """A caller has the numbers first..first+count-1. O(log n)."""
        call = self._calls.end(call_id)
        known = self._uids.setdefault(call.uid, _Uid())
        last = first + count - 1
        now = event(at_ns, "answered", call=call_id, uid=call.uid, first=first, last=last)
        if last > known.handed.last:
            known.handed = _Mark(last, now)
        inner = self._remember(known, first, last, now) if count > 1 else None
        found = None
        said = call.floors[1]
        if said.event is not None and first <= said.last:
            text = f"handed {first} after current had said {said.last}"
            found = self._broken(at_ns, text, said.event, _began(call_id, call), now, uid=call.uid)
        if inner is not None:
            found = found or self._inside(at_ns, call.uid, inner, now)
        return found

    def answered_current(
        self, at_ns: int, call_id: Hashable, value: int, exact: bool
    ) -> Violation | None:
        """A caller was told `value`: the last number handed out, or a ceiling of it. O(log n)."""
        call = self._calls.end(call_id)
        known = self._uids.setdefault(call.uid, _Uid())
        now = event(at_ns, "answered", call=call_id, uid=call.uid, current=value, exact=exact)
        if value > known.said.last:
            known.said = _Mark(value, now)
        handed, said = call.floors
        floor = max(handed, said, key=lambda mark: mark.last)
        found = None
        if floor.event is not None and value < floor.last:
            how = (
                f"{floor.last} had been handed out" if floor is handed else f"it said {floor.last}"
            )
            text = f"current said {value} after {how}"
            found = self._broken(at_ns, text, floor.event, _began(call_id, call), now, uid=call.uid)
        return found or (self._exact(at_ns, call.uid, known, value, now) if exact else None)

    def _exact(self, at_ns: int, uid: int, known: _Uid, value: int, now: Event) -> Violation | None:
        place = bisect_left(known.exact, value)
        if place == len(known.exact) or known.exact[place] != value:
            known.exact.insert(place, value)
            known.exact_events.insert(place, now)
        index = bisect_right(known.firsts, value) - 1
        if index >= 0 and value < known.lasts[index]:
            return self._inside(at_ns, uid, known.ranges[index], now)
        if self._handed_out is not None and value and not self._handed_out.holds(uid, value):
            return self._broken(at_ns, f"exact current {value} was never handed out", now, uid=uid)
        return None

    @staticmethod
    def _remember(known: _Uid, first: int, last: int, now: Event) -> Event | None:
        """Keep a range; returns an exact current that lies inside it."""
        place = bisect_left(known.firsts, first)
        known.firsts.insert(place, first)
        known.lasts.insert(place, last)
        known.ranges.insert(place, now)
        index = bisect_left(known.exact, first)
        if index < len(known.exact) and known.exact[index] < last:
            return known.exact_events[index]
        return None

    def _inside(self, at_ns: int, uid: int, one: Event, other: Event) -> Violation:
        text = "an exact current lies inside a range handed out as a whole"
        return self._broken(at_ns, text, one, other, uid=uid)
