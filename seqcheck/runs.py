"""Which numbers of one uid are out, and who handed them: sorted runs that never overlap.

Numbers that one owner hands out one after the other grow into one run, so a uid has about as many
runs as owners. Adding and asking cost O(log runs); a run in the middle shifts those above it.
"""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(slots=True)
class Run:
    """Numbers first..last, of one owner (incarnation, epoch), last added to at `at_ns`."""

    first: int
    last: int
    owner: tuple[int, int]
    at_ns: int


class Runs:
    """The numbers of one uid."""

    __slots__ = ("_firsts", "_runs")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._runs: list[Run] = []

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._runs[index].last

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def last(self) -> int:
        """The greatest number; 0 if there is none."""
        return self._runs[-1].last if self._runs else 0

    def add(self, first: int, last: int, owner: tuple[int, int], at_ns: int) -> Run | None:
        """Take in first..last; returns a run, as it was, that had one of the numbers already."""
        runs, firsts = self._runs, self._firsts
        index = bisect_right(firsts, first)
        if index and runs[index - 1].last >= first:
            index -= 1
        end = index
        while end < len(runs) and firsts[end] <= last:
            end += 1
        if index < end:
            return self._overlap(index, end, Run(first, last, owner, at_ns))
        below = runs[index - 1] if index else None
        if below is not None and below.last + 1 == first and below.owner == owner:
            below.last, below.at_ns = last, at_ns
        else:
            runs.insert(index, Run(first, last, owner, at_ns))
            firsts.insert(index, first)
        return None

    def _overlap(self, index: int, end: int, new: Run) -> Run:
        """Runs index..end-1 meet `new`: they become one, since the numbers in between are new's."""
        met = self._runs[index:end]
        first, last = min(met[0].first, new.first), max(met[-1].last, new.last)
        self._runs[index:end] = [Run(first, last, new.owner, new.at_ns)]
        self._firsts[index:end] = [first]
        return met[0]
