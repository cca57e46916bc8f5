"""What commands on nodes and on single sections would write. Pure: a view in, a change out.

A node is named by its address, or by the incarnation of the process that is there now; what is
ordered of it is ordered of the address.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from clustermap.documents import hex64
from clustermap.model import Owner, assignments_key
from clustermap.orders import Orders, Pin
from clustermap.placement import withdraw
from clustermap.ranges import Range, shown
from clustermap.spans import minus
from seqctl.failures import NotDone
from seqctl.map_view import Change, View


@dataclass(frozen=True, slots=True)
class Named:
    """A node that was named. owners: who is registered there, or has sections; sections: theirs."""

    set: str
    address: str
    owners: tuple[Owner, ...]
    registered: bool
    sections: int


def named(found: View, text: str) -> Named:
    """The node of this address or incarnation. Raises NotDone where there is none, or are two."""
    places = {(name, who.address) for name, who in _everybody(found) if _is(who, text)}
    for name, orders in found.orders.items():
        known = {*orders.drained, *(pin.address for pin in orders.pins)}
        places |= {(name, text)} & {(name, address) for address in known}
    if not places:
        addresses = sorted({who.address for _, who in _everybody(found)})
        raise NotDone(
            f"the map knows no node {text!r}; its nodes: {', '.join(addresses) or 'none'}"
        )
    if len(places) > 1:
        raise NotDone(
            f"{text} is a node of several Sets: {', '.join(sorted(n for n, _ in places))}"
        )
    ((name, address),) = places
    owners = {who for held, who in _everybody(found) if (held, who.address) == (name, address)}
    there = any(node.address == address and node.set == name for node in found.nodes)
    ordered = tuple(sorted(owners, key=lambda who: who.incarnation))
    return Named(name, address, ordered, there, _held(found, name, owners))


def drained(found: View, text: str) -> tuple[Named, Change]:
    """Relieve it of its sections, until `undrained`. Raises NotDone where nobody would be left."""
    node = named(found, text)
    others = [one.address for one in found.willing(node.set) if one.address != node.address]
    if not others:
        raise NotDone(
            f"no other node of Set {node.set} could take the sections of {node.address}:"
            " start one, or undrain one"
        )
    return node, found.ordering(found.ordered(node.set).draining(node.address))


def undrained(found: View, text: str) -> tuple[Named, Change]:
    """Let it have sections again."""
    node = named(found, text)
    return node, found.ordering(found.ordered(node.set).without(node.address))


def removed(found: View, text: str, alive: Collection[Owner]) -> tuple[Named, Change]:
    """Take what a dead node has left out of the map: sections, drains, pins.

    alive: who of its owners answers. Raises NotDone where it lives.
    """
    node = named(found, text)
    if alive:
        raise NotDone(f"{node.address} is alive: drain it, stop it, then remove it")
    if node.registered:
        raise NotDone(
            f"{node.address} is registered: it lives, or has died just now; its registration ends"
            " by itself, a few seconds after the process"
        )
    orders = found.ordered(node.set).without(node.address)
    pins = tuple(pin for pin in orders.pins if pin.address != node.address)
    change = found.ordering(replace(orders, pins=pins))
    if not node.sections:
        return node, change
    document, key = found.document(node.set), assignments_key(node.set)
    for owner in node.owners:
        document = withdraw(document, owner.incarnation)
    return node, Change(
        {**change.expected, **found.at(key)}, {**change.puts, key: document.to_json()}
    )


def pinned(found: View, spans: Sequence[Range], text: str, *, alone: bool) -> tuple[Orders, Change]:
    """Give sections to a node, and keep them there; alone: it gets no others.

    Raises NotDone where the node cannot have them.
    """
    node = named(found, text)
    spec = found.spec(node.set)
    if outside := minus(spans, spec.ranges):
        raise NotDone(f"Set {node.set}, which {node.address} is of, lacks {shown(outside)}")
    if not node.registered:
        raise NotDone(
            f"{node.address} is not registered: nothing can be pinned to who is not there"
        )
    orders = found.ordered(node.set)
    for span in spans:
        orders = orders.pinning(Pin(span.first, span.last, node.address, alone))
    reserved = {pin.address for pin in orders.pins if pin.alone}
    if all(one.address in reserved for one in found.willing(node.set)):
        raise NotDone(f"no node of Set {node.set} would be left for all other sections")
    return orders, found.ordering(orders)


def unpinned(found: View, spans: Sequence[Range]) -> tuple[Orders, Change]:
    """Let the arbiter place these sections again. Raises NotDone where none is pinned."""
    touched = {
        name: orders
        for name, orders in found.orders.items()
        if any(pin.first <= s.last and s.first <= pin.last for pin in orders.pins for s in spans)
    }
    if not touched:
        raise NotDone(f"nothing is pinned among sections {shown(spans)}")
    if len(touched) > 1:
        raise NotDone(
            f"they are of several Sets: {', '.join(sorted(touched))}; name them one by one"
        )
    ((_, orders),) = touched.items()
    for span in spans:
        orders = orders.unpinning(span.first, span.last)
    return orders, found.ordering(orders)


def balanced(found: View, name: str, *, on: bool) -> tuple[Orders, Change]:
    """Let the arbiter balance a Set by itself, or not."""
    found.spec(name)
    orders = replace(found.ordered(name), balance=on)
    return orders, found.ordering(orders)


def _everybody(found: View) -> list[tuple[str, Owner]]:
    """Set and owner of all who are registered or have sections."""
    nodes = [(node.set, node.owner) for node in found.nodes]
    held = [
        (name, entry.owner)
        for name, document in found.assignments.items()
        for entry in document.entries
    ]
    return [*nodes, *held]


def _is(who: Owner, text: str) -> bool:
    return text in (who.address, hex64(who.incarnation))


def _held(found: View, name: str, owners: Collection[Owner]) -> int:
    incarnations = {owner.incarnation for owner in owners}
    entries = found.document(name).entries
    return sum(e.last - e.first + 1 for e in entries if e.incarnation in incarnations)
