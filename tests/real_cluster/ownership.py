"""Who owned how much, and when that changed, from the routes that callers were given.

Pure. Several callers see the same routing tables at different times; a version counts when the
first of them has seen it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from real_cluster.measured import Owning


@dataclass(frozen=True)
class Sighting:
    """A routing table as somebody saw it. routes: first and last section, and the address."""

    at_s: float
    version: int
    routes: Sequence[tuple[int, int, str]]


class Ownership:
    """names: what to call the node at an address."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._version = 0
        self._owners: dict[int, str] = {}

    def changes(self, seen: Iterable[Sighting]) -> list[Owning]:
        """What these tables changed, beginning with the first one ever; not what they repeat."""
        found = []
        for sighting in sorted(seen, key=lambda one: (one.at_s, one.version)):
            if sighting.version <= self._version:
                continue
            owners = self._owners_in(sighting)
            if owners != self._owners:
                found.append(self._owning(sighting.at_s, owners))
            self._version, self._owners = sighting.version, owners
        return found

    def _owners_in(self, sighting: Sighting) -> dict[int, str]:
        return {
            section: self._names.get(address, address)
            for first, last, address in sighting.routes
            for section in range(first, last + 1)
        }

    def _owning(self, at_s: float, owners: dict[int, str]) -> Owning:
        before = self._owners
        if not before:
            return Owning(at_s, dict(Counter(owners.values())), {}, {})
        moved = [s for s in {*before, *owners} if before.get(s) != owners.get(s)]
        gained = Counter(owners[section] for section in moved if section in owners)
        lost = Counter(before[section] for section in moved if section in before)
        return Owning(at_s, dict(Counter(owners.values())), dict(gained), dict(lost))
