"""Whose knowledge counts, by version of a Set's membership. Pure.

The checkers' own arithmetic of quorums, so that it does not repeat an error of clustermap's.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import NamedTuple


class Half(NamedTuple):
    """Replicas of which `need` have to agree; members None: whoever there is."""

    members: frozenset[Hashable] | None
    need: int

    def agreeing(self, names: Collection[Hashable]) -> int:
        """How many of these count."""
        return len(names) if self.members is None else len(self.members.intersection(names))

    def reached(self, values: Mapping[Hashable, int]) -> int:
        """The greatest value that `need` members have, or more than it; 0: there is none."""
        return _nth(self._of(values), self.need)

    def found(self, values: Mapping[Hashable, int]) -> int:
        """The greatest value that any `need` members are sure to find."""
        return _nth(self._of(values), len(self.members or ()) - self.need + 1)

    def _of(self, values: Mapping[Hashable, int]) -> list[int]:
        if self.members is None:
            return list(values.values())
        return [values[name] for name in self.members if name in values]


def _nth(values: list[int], n: int) -> int:
    return sorted(values, reverse=True)[n - 1] if len(values) >= n else 0


class Membership(NamedTuple):
    """One version. A quorum is met where each half has what it needs; of a version that is no
    change under way there is one half. read: R, write: W of each half, in the same order.
    """

    read: tuple[Half, ...]
    write: tuple[Half, ...]

    @property
    def members(self) -> frozenset[Hashable]:
        """All who are counted."""
        return frozenset().union(*(half.members or () for half in self.write))

    @property
    def tolerated(self) -> int:
        """How many losses an acknowledged raise outlives: N - W, but no more than W - 1."""
        spare = ((len(half.members or ()) - half.need, half.need - 1) for half in self.write)
        return min(min(both) for both in spare)

    def acknowledged(self, names: Collection[Hashable]) -> bool:
        """Whether these are W of each half."""
        return all(half.agreeing(names) >= half.need for half in self.write)

    def reached(self, values: Mapping[Hashable, int]) -> int:
        """The greatest value that W of each half have."""
        return min(half.reached(values) for half in self.write)

    def found(self, values: Mapping[Hashable, int]) -> int:
        """The greatest value that nobody can miss who asks R of each half."""
        return max(half.found(values) for half in self.read)
