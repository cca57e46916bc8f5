"""What the operator wants of the nodes of a Set: who is to be relieved, and who is to have what.

Orders name nodes by address: that outlives a restart, an incarnation does not. The arbiter plans by
them (planning.py); nothing that is served depends on them. A Set without orders has no document,
and a version that does not know orders plans as if there were none.

Key: orders/<set>. Pure values.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from clustermap.documents import Fields, decode, encode
from clustermap.model import check_address, check_name
from clustermap.nodes import Node
from clustermap.ranges import SECTION_MAX

ORDERS_PREFIX = "orders/"


def orders_key(name: str) -> str:
    return ORDERS_PREFIX + name


@dataclass(frozen=True, slots=True)
class Pin:
    """Sections `first..last` belong to the node at `address`; alone: it gets no others."""

    first: int
    last: int
    address: str
    alone: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= SECTION_MAX:
            raise ValueError(f"pin: {self.first}..{self.last} is no range of sections")
        if not self.address:
            raise ValueError("a pin needs the address of a node")
        check_address(self.address)

    @property
    def sections(self) -> int:
        return self.last - self.first + 1

    def fields(self) -> dict[str, object]:
        return {
            "first": self.first,
            "last": self.last,
            "address": self.address,
            **({"alone": True} if self.alone else {}),
        }

    @classmethod
    def read(cls, fields: Fields) -> "Pin":
        first = fields.integer("first", 0, SECTION_MAX)
        last = fields.integer("last", 0, SECTION_MAX)
        return cls(first, last, fields.text("address"), fields.mark("alone"))


@dataclass(frozen=True, slots=True)
class Orders:
    """Of one Set. Raises ValueError.

    drained: addresses of nodes that are to have no sections, in order; pins: by rising section, not
    overlapping; balance: whether the arbiter balances loads by itself.
    """

    set: str
    drained: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    balance: bool = True

    def __post_init__(self) -> None:
        check_name("Set", self.set)
        if list(self.drained) != sorted(set(self.drained)) or "" in self.drained:
            raise ValueError(f"drained addresses are not in order: {self.drained}")
        for address in self.drained:
            check_address(address)
        for one, other in pairwise(self.pins):
            if other.first <= one.last:
                raise ValueError(f"pins: {other.first}..{other.last} is out of place")

    @property
    def blank(self) -> bool:
        """Nothing is ordered: there need be no document."""
        return self == Orders(self.set)

    def draining(self, address: str) -> "Orders":
        """The same, and the node at `address` is to be relieved."""
        return replace(self, drained=tuple(sorted({*self.drained, address})))

    def without(self, address: str) -> "Orders":
        """The same, and the node at `address` is one like any other again; its pins stay."""
        return replace(self, drained=tuple(one for one in self.drained if one != address))

    def pinning(self, pin: Pin) -> "Orders":
        """The same, and these sections are pinned there, wherever they were pinned before."""
        kept = self.unpinning(pin.first, pin.last).pins
        return replace(self, pins=tuple(sorted([*kept, pin], key=lambda one: one.first)))

    def unpinning(self, first: int, last: int) -> "Orders":
        """The same without pins on sections `first..last`."""
        kept: list[Pin] = []
        for pin in self.pins:
            if pin.first < first:
                kept.append(replace(pin, last=min(pin.last, first - 1)))
            if pin.last > last:
                kept.append(replace(pin, first=max(pin.first, last + 1)))
        return replace(self, pins=tuple(kept))

    def obeyed(self, nodes: Sequence[Node], gone: Collection[int] = ()) -> tuple[Node, ...]:
        """The nodes, and those that are to be relieved say so.

        Unless nobody would be left: then they serve on, whatever was ordered. gone: incarnations
        that were given up.
        """
        marked = tuple(
            replace(node, draining=True) if node.address in self.drained else node for node in nodes
        )
        left = (n for n in marked if n.leased and not n.draining and n.incarnation not in gone)
        return marked if any(left) else tuple(nodes)

    def to_json(self) -> bytes:
        return encode(
            {
                "set": self.set,
                "drained": [{"address": address} for address in self.drained],
                "pins": [pin.fields() for pin in self.pins],
                **({} if self.balance else {"unbalanced": True}),
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> "Orders":
        """Raises MapCorrupt."""
        return decode("orders", raw, cls._read)

    @classmethod
    def _read(cls, fields: Fields) -> "Orders":
        return cls(
            fields.text("set"),
            fields.many("drained", lambda one: one.text("address")),
            fields.many("pins", Pin.read),
            not fields.mark("unbalanced"),
        )
