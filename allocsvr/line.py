"""Who is next when there is more work than time: a fair queue, and what is not let into it. Pure.

Work is measured in seconds of an unhurried core, by what a request asks for. Every caller has a
lane of its own, first come first served; lanes take turns by the work that was done for them
(start-time fair queueing), so whoever asks for little is served at once, whatever others ask for.

A request for which the wait would be longer than `longest_s` is refused, which is always the newest
of its lane: those before it keep their place. It is told to come again after the time that all it
takes to do what its lane has asked for, what was refused included; else refusals alone would
fill a node's time.
"""

from collections import deque
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

REQUEST_S = 100e-6
"""Work of a message, whatever is in it."""

ENTRY_S = 0.25e-6
"""Work of each entry beside that."""

LANES = 1_024
"""Lanes that are kept, about, for the sake of what was done for them."""

T = TypeVar("T")


def work_s(entries: int) -> float:
    """Of a request with so many entries."""
    return REQUEST_S + entries * ENTRY_S


class _Lane(Generic[T]):
    __slots__ = ("away_s", "items", "queued_s", "served_s")

    def __init__(self, served_s: float) -> None:
        self.items: deque[tuple[float, T]] = deque()
        self.queued_s = 0.0
        self.away_s = 0.0
        self.served_s = served_s


class Line(Generic[T]):
    """longest_s: of any wait."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._lanes: dict[Hashable, _Lane[T]] = {}
        self._turns: list[tuple[float, int, Hashable]] = []  # a lane's in it iff it has items
        self._asking: set[Hashable] = set()  # lanes with items, or with some that were refused
        self._served_s = self._most_s = 0.0  # of the lane that was last let out; of any
        self._joined = 0
        self.length = 0

    def join(self, key: Hashable, work_s: float, item: T, stretch: float) -> float:
        """Queue an item; 0, or, where it is not let in, the seconds after which to come again.

        stretch: seconds of a clock that a second's work takes now. Whoever was told to come again
        counts as away until `back`.
        """
        lane = self._lane(key)
        self._asking.add(key)
        lanes = len(self._turns) + (not lane.items)
        if (lane.queued_s + work_s) * lanes * stretch > self._longest_s:
            lane.away_s += work_s
            return (lane.queued_s + lane.away_s) * len(self._asking) * stretch
        if not lane.items:
            self._enter(key, lane)
        lane.items.append((work_s, item))
        lane.queued_s += work_s
        self.length += 1
        return 0.0

    def back(self, key: Hashable, work_s: float) -> None:
        """One that was told to come again may do so."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.away_s = lane.away_s - work_s if lane.away_s > 1.5 * work_s else 0.0
            self._rests(key, lane)

    def next(self) -> tuple[float, T] | None:
        """The work and the item whose turn it is."""
        if not self._turns:
            return None
        self._served_s, _, key = heappop(self._turns)
        lane = self._lanes[key]
        work_s, item = lane.items.popleft()
        lane.queued_s = lane.queued_s - work_s if lane.items else 0.0
        lane.served_s += work_s
        self.length -= 1
        self._most_s = max(self._most_s, lane.served_s)
        if lane.items:
            self._enter(key, lane)
        elif not self._turns:
            self._served_s = self._most_s  # nobody waits: from here on all are equal again
        self._rests(key, lane)
        return work_s, item

    def _lane(self, key: Hashable) -> _Lane[T]:
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= LANES:
                self._forget()
            lane = self._lanes[key] = _Lane(self._served_s)
        return lane

    def _enter(self, key: Hashable, lane: _Lane[T]) -> None:
        # A lane that was empty for a while has no claim to what it did not use meanwhile.
        lane.served_s = max(lane.served_s, self._served_s)
        self._joined += 1
        heappush(self._turns, (lane.served_s, self._joined, key))

    def _rests(self, key: Hashable, lane: _Lane[T]) -> None:
        if not lane.items and not lane.away_s:
            self._asking.discard(key)

    def _forget(self) -> None:
        """Lanes that would be the same if they were made anew."""
        for key, lane in list(self._lanes.items()):
            if key not in self._asking and lane.served_s <= self._served_s:
                del self._lanes[key]
