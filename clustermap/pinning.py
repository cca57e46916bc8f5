"""Where sections belong that an operator has pinned to a node. Pure."""

from bisect import bisect_right
from collections.abc import Sequence

from clustermap.changes import Piece
from clustermap.model import Owner
from clustermap.orders import Pin
from clustermap.scene import Scene
from clustermap.spans import minus, overlaps


class Places:
    """Of a scene: who is to have a section, and who is to have no other than his own."""

    def __init__(self, scene: Scene) -> None:
        self.open = scene.open
        self._pins = scene.pins
        self._firsts = [pin.first for pin in scene.pins]
        self._homes = scene.homes
        self._alone = scene.willing.keys() - self.open.keys()

    def home(self, section: int) -> Owner | None:
        """To whom it is pinned; None: to nobody, or to a node that cannot take it now."""
        index = bisect_right(self._firsts, section) - 1
        if index < 0 or self._pins[index].last < section:
            return None
        return self._homes.get(self._pins[index].address)

    def misplaced(self, part: Piece) -> bool:
        """Whether its owner is not who is to have these sections, which `cut` has cut."""
        if part.entry is None:
            return False
        home = self.home(part.first)
        if home is None:
            return part.entry.incarnation in self._alone
        return part.entry.incarnation != home.incarnation


def cut(parts: Sequence[Piece], pins: Sequence[Pin]) -> list[Piece]:
    """The same parts, cut where pins begin and end."""
    if not pins:
        return list(parts)
    inside = [part._replace(first=f, last=end) for part, _, f, end in overlaps(parts, pins)]
    free = minus(parts, pins)
    outside = [part._replace(first=f, last=end) for part, _, f, end in overlaps(parts, free)]
    return sorted([*inside, *outside], key=lambda part: part.first)
