"""Who serves which section, as a client knows it.  Keeps ROUTE-1.

A table is an immutable, versioned list of ranges. A `Router` holds the newest table seen, and the
highest epoch seen of each section, and gives neither of them back:

* a table is installed only if its version is above the one held (of the same cluster);
* an answer is believed only if its epoch is not below one already seen for its section. A lower
  one comes from an owner that has been superseded, so it is dropped and the call made again.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from seqsvr.sections import Layout


@dataclass(frozen=True, slots=True)
class Route:
    """Sections `first..last` (inclusive) are served by `address` under `epoch`."""

    first: int
    last: int
    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Routes by rising section, not overlapping; raises ValueError where they are not."""

    cluster: str
    version: int
    layout: Layout
    routes: tuple[Route, ...]
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        previous = -1
        for route in self.routes:
            if not previous < route.first <= route.last < self.layout.sections:
                raise ValueError(f"routing table {self.version}: {route} is out of place")
            previous = route.last
        object.__setattr__(self, "_firsts", tuple(route.first for route in self.routes))

    def lookup(self, section: int) -> Route | None:
        """The route of a section; None if it has no owner. O(log routes)."""
        index = bisect_right(self._firsts, section) - 1
        if index < 0:
            return None
        route = self.routes[index]
        return route if section <= route.last else None

    def addresses(self) -> tuple[str, ...]:
        """Every address, once, in order of first appearance."""
        return tuple(dict.fromkeys(route.address for route in self.routes))


class ForeignCluster(ValueError):
    """A table of another cluster: its versions and epochs do not compare with ours."""


class Router:
    """The newest table and the highest epochs seen. Neither ever falls."""

    __slots__ = ("_epochs", "table")

    def __init__(self) -> None:
        self.table: RoutingTable | None = None
        self._epochs: dict[int, int] = {}

    @property
    def version(self) -> int:
        """What to send with a request; 0 as long as there is no table."""
        return self.table.version if self.table else 0

    def install(self, table: RoutingTable) -> bool:
        """Keep `table` if it is newer; say whether it was. Raises ForeignCluster."""
        held = self.table
        if held is not None:
            if (table.cluster, table.layout) != (held.cluster, held.layout):
                raise ForeignCluster(
                    f"table of cluster {table.cluster!r} offered to a client of {held.cluster!r}"
                )
            if table.version <= held.version:
                return False
        self.table = table
        return True

    def owner(self, section: int) -> str | None:
        """Address of the section's owner, None if the table names none."""
        route = self.table.lookup(section) if self.table else None
        return route.address if route else None

    def observe(self, section: int, epoch: int) -> bool:
        """Note the epoch of an answer; False: it is stale and the answer must be dropped."""
        seen = self._epochs.get(section, 0)
        if epoch < seen:
            return False
        if epoch > seen:
            self._epochs[section] = epoch
        return True
