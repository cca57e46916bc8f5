"""Sections of nobody that may not be assigned yet. Pure.

Two reasons to wait, both bounded and both only for sections that we have never seen owned:

* Live nodes say that they serve more sections than the map gives them: the map was wiped, and they
  are about to write down what they hold (placement.claim). To assign such a section to somebody
  else would break no promise, but cost its callers a lease time. So a few of those are waited.
* The Set is new: a moment is waited for more nodes to come, so that the first spread is even.

Counted from when there is somebody to assign them to.
"""

from collections.abc import Iterable, Mapping, Sequence

from clustermap.model import Assignments, SetSpec
from clustermap.nodes import Node
from clustermap.ranges import Range
from clustermap.spans import minus, union

GATHER_NS = 300_000_000


class Grace:
    """Of one Set, from an election to its loss."""

    def __init__(self, claim_ns: int, gather_ns: int = GATHER_NS) -> None:
        self._claim_ns = claim_ns
        self._gather_ns = gather_ns
        self._version = 0
        self._known: list[Range] = []
        self._since_ns: int | None = None
        self.until_ns: int | None = None

    def see(self, document: Assignments) -> None:
        """A later picture of the assignments. One with a lower version is of another history."""
        if document.version < self._version:
            self._known = []
            self._since_ns = None
        self._version = document.version
        self._known = union([*self._known, *document.entries])

    def held_back(
        self, document: Assignments, spec: SetSpec, nodes: Sequence[Node], now_ns: int
    ) -> tuple[Range, ...]:
        """Sections not to be assigned yet; `until_ns` then says when to ask again."""
        self.until_ns = None
        free = minus(spec.ranges, document.entries)
        strange = minus(free, self._known)
        if not strange or not any(node.leased and not node.draining for node in nodes):
            self._since_ns = None
            return ()
        if self._since_ns is None:
            self._since_ns = now_ns
        wait_ns = self._claim_ns if _hold_more(document, nodes) else self._gather_ns
        if now_ns - self._since_ns >= wait_ns:
            return ()
        self.until_ns = self._since_ns + wait_ns
        return tuple(strange)


def _hold_more(document: Assignments, nodes: Iterable[Node]) -> bool:
    """Whether some node serves more than the map gives it."""
    given = _given(document)
    return any(
        node.load.serving > given.get(node.incarnation, 0) for node in nodes if not node.draining
    )


def _given(document: Assignments) -> Mapping[int, int]:
    given: dict[int, int] = {}
    for entry in document.entries:
        size = entry.last - entry.first + 1
        given[entry.incarnation] = given.get(entry.incarnation, 0) + size
    return given
