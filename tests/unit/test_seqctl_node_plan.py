"""What node, section and rebalance would write, and what they refuse."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from clustermap.coordinator import Listing, Versioned
from clustermap.model import (
    Assignments,
    Cluster,
    Owner,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    set_key,
)
from clustermap.nodes import Load, Node
from clustermap.orders import Orders, Pin, orders_key
from clustermap.placement import mark_leaving, reassign
from clustermap.ranges import Range
from seqctl.failures import NotDone
from seqctl.map_view import View, view
from seqctl.node_plan import balanced, drained, named, pinned, removed, undrained, unpinned
from seqctl.nodes import listed
from seqctl.rebalance_plan import balance
from seqctl.sections import hottest

STORES = (Replica("store-0", "s:1", 1),)
ONE, TWO = Node(1, "n:1", "a"), Node(2, "n:2", "a")
DEAD = Node(9, "n:9", "a")
HELD = reassign(reassign(Assignments("a"), 0, 5, ONE), 6, 9, TWO)


def seen(
    *nodes: Node,
    document: Assignments = HELD,
    orders: Orders | None = None,
    sets: Sequence[str] = ("a",),
) -> View:
    entries = {"cluster": Cluster("c1", 1_000, 10_000).to_json()}
    for index, name in enumerate(sets):
        spec = SetSpec(name, (Range(0, 9),) if not index else (), STORES, 1, 1)
        entries[set_key(name)] = spec.to_json()
    entries[assignments_key("a")] = document.to_json()
    entries |= {node_key(node.set, node.incarnation): node.to_json() for node in nodes}
    if orders:
        entries[orders_key(orders.set)] = orders.to_json()
    held = {key: Versioned(raw, at) for at, (key, raw) in enumerate(entries.items(), 1)}
    return view(Listing(100, held))


def put(change: object, key: str = orders_key("a")) -> Orders | None:
    raw = change.puts[key]  # type: ignore[attr-defined]
    return Orders.from_json(raw) if raw else None


# -- drain, undrain, remove


@pytest.mark.parametrize("text", ["n:1", "0000000000000001"])
def test_a_node_is_named_by_its_address_or_its_incarnation(text: str) -> None:
    found = named(seen(ONE, TWO), text)
    assert (found.set, found.address, found.sections, found.registered) == ("a", "n:1", 6, True)


def test_an_unknown_node_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(NotDone, match="no node 'n:7'; its nodes: n:1, n:2"):
        named(seen(ONE, TWO), "n:7")


def test_an_address_of_two_sets_is_refused() -> None:
    with pytest.raises(NotDone, match="several Sets: a, b"):
        named(seen(ONE, TWO, Node(3, "n:1", "b"), sets=("a", "b")), "n:1")


def test_a_drain_is_an_order_that_expects_what_it_was_decided_from() -> None:
    node, change = drained(seen(ONE, TWO), "n:1")
    assert put(change) == Orders("a").draining("n:1")
    assert node.sections == 6
    assert change.expected == {orders_key("a"): 0, set_key("a"): 2}


def test_the_last_node_cannot_be_drained() -> None:
    for nodes in ((ONE,), (ONE, replace(TWO, draining=True)), (ONE, replace(TWO, leased=False))):
        with pytest.raises(NotDone, match="no other node of Set a"):
            drained(seen(*nodes), "n:1")
    with pytest.raises(NotDone, match="no other node of Set a"):
        drained(seen(ONE, TWO, orders=Orders("a").draining("n:2")), "n:1")


def test_an_undrain_leaves_no_document_where_nothing_else_is_ordered() -> None:
    orders = Orders("a").draining("n:1")
    assert put(undrained(seen(ONE, TWO, orders=orders), "n:1")[1]) is None
    also = orders.draining("n:2")
    assert put(undrained(seen(ONE, TWO, orders=also), "n:1")[1]) == Orders("a").draining("n:2")


def test_what_lives_is_not_removed() -> None:
    with pytest.raises(NotDone, match="is registered"):
        removed(seen(ONE, TWO), "n:1", ())
    with pytest.raises(NotDone, match="is alive"):
        removed(seen(TWO), "n:1", (Owner(1, "n:1"),))


def test_a_dead_node_goes_with_all_that_it_left_and_no_epoch_is_forgotten() -> None:
    pins = Orders("a").draining("n:1").pinning(Pin(0, 0, "n:1")).pinning(Pin(7, 7, "n:2"))
    node, change = removed(seen(TWO, orders=pins), "n:1", ())
    assert node.sections == 6
    assert put(change) == Orders("a").pinning(Pin(7, 7, "n:2"))
    raw = change.puts[assignments_key("a")]
    assert raw is not None
    after = Assignments.from_json(raw)
    assert after.owner(0) is None
    assert after.highest_epoch(0, 5) == HELD.highest_epoch(0, 5)
    assert after.owner(6) == HELD.owner(6)
    assert assignments_key("a") in change.expected


def test_a_mark_of_a_node_that_is_long_gone_can_be_removed() -> None:
    node, change = removed(seen(ONE, TWO, orders=Orders("a").draining("n:9")), "n:9", ())
    assert (node.sections, put(change)) == (0, None)
    assert assignments_key("a") not in change.puts


# -- pins


def test_a_pin_is_an_order_and_takes_the_place_of_earlier_ones() -> None:
    before = Orders("a").pinning(Pin(0, 3, "n:2"))
    orders, change = pinned(seen(ONE, TWO, orders=before), [Range(2, 2)], "n:1", alone=False)
    wanted = (Pin(0, 1, "n:2"), Pin(2, 2, "n:1"), Pin(3, 3, "n:2"))
    assert orders.pins == wanted
    assert put(change) == orders


def test_pins_that_cannot_be_obeyed_are_refused() -> None:
    with pytest.raises(NotDone, match=r"lacks 10\.\.12"):
        pinned(seen(ONE, TWO), [Range(8, 12)], "n:1", alone=False)
    with pytest.raises(NotDone, match="is not registered"):
        pinned(seen(TWO), [Range(1, 1)], "n:1", alone=False)
    with pytest.raises(NotDone, match="no node of Set a would be left"):
        pinned(seen(ONE), [Range(1, 1)], "n:1", alone=True)
    orders = Orders("a").pinning(Pin(0, 0, "n:2", alone=True))
    with pytest.raises(NotDone, match="no node of Set a would be left"):
        pinned(seen(ONE, TWO, orders=orders), [Range(1, 1)], "n:1", alone=True)


def test_unpinning_what_is_not_pinned_is_refused() -> None:
    orders = Orders("a").pinning(Pin(0, 3, "n:2"))
    assert unpinned(seen(ONE, TWO, orders=orders), [Range(0, 5)])[0].blank
    with pytest.raises(NotDone, match=r"nothing is pinned among sections 4\.\.5"):
        unpinned(seen(ONE, TWO, orders=orders), [Range(4, 5)])


# -- rebalancing


def test_the_switch_is_of_one_set() -> None:
    assert put(balanced(seen(ONE, TWO), "a", on=False)[1]) == Orders("a", balance=False)
    off = seen(ONE, TWO, orders=Orders("a", balance=False))
    assert put(balanced(off, "a", on=True)[1]) is None
    with pytest.raises(NotDone, match="no Set 'z'"):
        balanced(off, "z", on=True)


def test_a_plan_moves_what_evens_out_and_says_what_that_comes_to() -> None:
    uneven = reassign(Assignments("a"), 0, 9, ONE)
    busy = replace(ONE, load=Load(90_000, ((4, 80_000),), 10))
    made = balance(seen(busy, TWO, document=uneven), "a", 0.2, 1.0)
    assert made.sections
    assert {(source, to) for _, source, to in made.moves} == {("n:1", "n:2")}
    (one, two) = made.shares
    assert (one.sections, one.per_second, two.sections, two.per_second) == (10, 90_000, 0, 0)
    assert one.sections_then + two.sections_then == 10
    assert one.per_second_then + two.per_second_then == pytest.approx(90_000, abs=10)
    assert made.change is not None
    raw = made.change.puts[assignments_key("a")]
    assert raw is not None
    after = Assignments.from_json(raw)
    assert sum(e.last - e.first + 1 for e in after.entries if e.leaving) == made.sections


def test_what_is_even_enough_moves_nothing() -> None:
    even = reassign(reassign(Assignments("a"), 0, 4, ONE), 5, 9, TWO)
    made = balance(seen(ONE, TWO, document=even), "a", 0.2, 1.0)
    assert (made.moves, made.change) == ((), None)


def test_rebalancing_waits_for_what_comes_first() -> None:
    leaving = mark_leaving(HELD, 0, 1, TWO.owner)
    with pytest.raises(NotDone, match="2 sections of Set a are on their way"):
        balance(seen(ONE, TWO, document=leaving), "a", 0.2, 1.0)
    with pytest.raises(NotDone, match="other reasons first \\(drain\\)"):
        balance(seen(ONE, TWO, orders=Orders("a").draining("n:1")), "a", 0.2, 1.0)
    with pytest.raises(NotDone, match="other reasons first \\(unowned\\)"):
        balance(seen(ONE, TWO, document=Assignments("a")), "a", 0.2, 1.0)


# -- what is shown


def test_the_busiest_sections_come_first_with_what_they_are_of_their_node() -> None:
    one = replace(ONE, load=Load(1_000, ((3, 700), (4, 10)), 6))
    two = replace(TWO, load=Load(900, ((7, 900),), 4))
    found = seen(one, two, orders=Orders("a").pinning(Pin(7, 8, "n:2")))
    rows = hottest(found)
    assert [(row["section"], row["share"], row["pinned_to"]) for row in rows] == [
        (7, 1.0, "n:2"),
        (3, 0.7, None),
        (4, 0.01, None),
    ]
    assert (rows[0]["first_uid"], rows[0]["last_uid"]) == (7_000, 7_999)
    assert hottest(found, "b") == []


@pytest.mark.parametrize(
    ("registered", "alive", "draining", "ordered", "leased", "sections", "state"),
    [
        (True, True, False, False, True, 5, "serving"),
        (True, True, False, False, False, 5, "unleased"),
        (True, True, True, False, True, 5, "leaving"),
        (True, True, False, True, True, 5, "draining"),
        (True, True, False, True, True, 0, "drained"),
        (False, True, None, False, None, 5, "unregistered"),
        (False, False, None, True, None, 5, "gone"),
    ],
)
def test_a_nodes_state_is_one_word(
    registered: bool,
    alive: bool,
    draining: bool | None,
    ordered: bool,
    leased: bool | None,
    sections: int,
    state: str,
) -> None:
    row = {
        "set": "a",
        "address": "n:1",
        "registered": registered,
        "alive": alive,
        "draining": draining,
        "leased": leased,
        "sections": sections,
    }
    orders = Orders("a").draining("n:1") if ordered else None
    (found,) = listed(seen(ONE, TWO, orders=orders), {"nodes": [row]})
    assert found["state"] == state


def test_a_drain_of_who_is_not_there_is_shown() -> None:
    rows = listed(seen(ONE, TWO, orders=Orders("a").draining("n:9")), {"nodes": []})
    assert [(row["address"], row["state"]) for row in rows] == [("n:9", "drained")]
