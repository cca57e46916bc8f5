"""What commands on nodes, pins and balance would write: what is shown is what is done.

Each change is applied to the map it was decided from, and that map is read again and compared with
tables of single sections. FENCE-1: no epoch is forgotten on the way.
"""

from collections.abc import Mapping
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.coordinator import Listing, Versioned
from clustermap.documents import hex64
from clustermap.model import (
    CLUSTER_KEY,
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
from clustermap.placement import hand_over, mark_leaving, raise_floor, reassign
from clustermap.ranges import Range
from seqctl.failures import NotDone
from seqctl.map_view import Change, View, view
from seqctl.node_plan import balanced, drained, named, pinned, removed, undrained, unpinned
from seqctl.rebalance_plan import balance, leaving

HELD = {"a": range(10), "b": range(10, 16)}
SECTIONS = range(16)
STORES = (Replica("store-0", "s:1", 1),)
KEYS = {"a": (1, 2, 3), "b": (4, 5)}
SETS = {key: name for name, keys in KEYS.items() for key in keys}

sections = st.integers(0, 15)
spans = st.tuples(sections, sections).map(lambda ends: Range(min(ends), max(ends)))
addresses = st.integers(1, 6).map(lambda key: f"n:{key}")
texts = st.one_of(addresses, addresses, st.integers(1, 5).map(hex64))


@st.composite
def orders(draw: st.DrawFn, name: str) -> Orders:
    found = Orders(name, balance=draw(st.booleans()))
    keys = st.sampled_from((*KEYS[name], 6))
    for span, key, alone in draw(st.lists(st.tuples(spans, keys, st.booleans()), max_size=3)):
        found = found.pinning(Pin(*span, f"n:{key}", alone))
    for key in draw(st.lists(keys, max_size=1)):
        found = found.draining(f"n:{key}")
    return found


@st.composite
def documents(draw: st.DrawFn, name: str) -> Assignments:
    document = Assignments(name)
    for section in HELD[name]:
        if key := draw(st.sampled_from((0, *KEYS[name]))):
            document = reassign(document, section, section, Node(key, f"n:{key}", name))
    marked = st.dictionaries(st.sampled_from(HELD[name]), st.sampled_from(KEYS[name]), max_size=2)
    for section, heir in draw(marked).items():
        document = mark_leaving(document, section, section, Owner(heir, f"n:{heir}"))
    for section in draw(st.lists(st.sampled_from(HELD[name]), max_size=1)):
        document = raise_floor(document, section, section, draw(st.integers(1, 30)))
    return document


@st.composite
def nodes(draw: st.DrawFn) -> list[Node]:
    there = draw(st.sets(st.sampled_from(sorted(SETS)), min_size=1))
    rare = st.sampled_from([False, False, False, True])
    return [
        Node(key, f"n:{key}", SETS[key], draining=draw(rare), leased=not draw(rare))
        for key in sorted(there)
    ]


def mapped(
    there: list[Node], documents: Mapping[str, Assignments], orders: Mapping[str, Orders]
) -> View:
    entries = {CLUSTER_KEY: Cluster("c1", 1_000, 16_000).to_json()}
    for name, held in HELD.items():
        spec = SetSpec(name, (Range(held[0], held[-1]),), STORES, 1, 1)
        entries[set_key(name)] = spec.to_json()
    entries |= {assignments_key(name): one.to_json() for name, one in documents.items()}
    entries |= {orders_key(name): one.to_json() for name, one in orders.items() if not one.blank}
    entries |= {node_key(node.set, node.incarnation): node.to_json() for node in there}
    return view(
        Listing(100, {k: Versioned(raw, at) for at, (k, raw) in enumerate(entries.items())})
    )


@st.composite
def maps(draw: st.DrawFn) -> View:
    documented = draw(st.sets(st.sampled_from(sorted(HELD))))
    ordered = draw(st.sets(st.sampled_from(sorted(HELD))))
    return mapped(
        draw(nodes()),
        {name: draw(documents(name)) for name in sorted(documented)},
        {name: draw(orders(name)) for name in sorted(ordered)},
    )


def applied(found: View, change: Change) -> View:
    """As Coordinator.transact would; every key that is written is one that was looked at."""
    for key, revision in change.expected.items():
        assert revision == (found.entries[key].revision if key in found.entries else 0)
    assert change.puts.keys() <= change.expected.keys()
    entries = dict(found.entries)
    for key, raw in change.puts.items():
        entries.pop(key, None)
        if raw is not None:
            entries[key] = Versioned(raw, 101)
    return view(Listing(101, entries))


def but(found: View, *keys: str) -> dict[str, bytes]:
    return {key: held.value for key, held in found.entries.items() if key not in keys}


def pins(orders: Orders) -> dict[int, tuple[str, bool]]:
    return {
        s: (pin.address, pin.alone) for pin in orders.pins for s in range(pin.first, pin.last + 1)
    }


def owner(found: View, name: str, section: int) -> int:
    entry = found.document(name).owner(section)
    return entry.incarnation if entry else 0


def meant(found: View, text: str) -> set[str]:
    """The Sets of whoever is called so: there, having sections, or named by orders."""
    return {name for name in HELD if knows(found, name, text)}


def knows(found: View, name: str, text: str) -> bool:
    key, orders = key_of(text), found.ordered(name)
    there = any((node.set, node.incarnation) == (name, key) for node in found.nodes)
    has_some = any(owner(found, name, section) == key for section in SECTIONS)
    ordered = text in orders.drained or text in [address for address, _ in pins(orders).values()]
    return there or has_some or ordered


def key_of(text: str) -> int:
    return int(text.removeprefix("n:"), 16)


@settings(max_examples=50)
@given(maps(), texts)
def test_a_node_is_who_is_meant_with_all_that_he_has(found: View, text: str) -> None:
    sets, key = meant(found, text), key_of(text)
    if len(sets) != 1:
        with pytest.raises(NotDone, match="several Sets" if sets else "knows no node"):
            named(found, text)
        return
    (name,) = sets
    node = named(found, text)
    assert (node.set, node.address) == (name, f"n:{key}")
    assert node.registered == any(one.incarnation == key for one in found.nodes)
    assert node.sections == sum(owner(found, name, section) == key for section in SECTIONS)
    assert set(node.owners) == (
        {Owner(key, f"n:{key}")} if node.registered or node.sections else set()
    )


@settings(max_examples=50)
@given(maps(), texts)
def test_a_drain_takes_one_node_out_of_those_that_may_have_sections_and_is_undone(
    found: View, text: str
) -> None:
    if len(meant(found, text)) != 1:
        return
    node = named(found, text)
    before, orders = {n.address for n in found.willing(node.set)}, found.ordered(node.set)
    try:
        shown, change = drained(found, text)
    except NotDone:
        assert before <= {node.address}, "refused only where nobody would be left"
        return
    assert shown == node
    after = applied(found, change)
    assert but(after, orders_key(node.set)) == but(found, orders_key(node.set))
    assert {n.address for n in after.willing(node.set)} == before - {node.address} != set()
    assert after.ordered(node.set) == orders.draining(node.address)
    again, back = undrained(after, text)
    assert again == node
    assert applied(after, back).ordered(node.set) == orders.without(node.address)


@settings(max_examples=50)
@given(maps(), texts, st.booleans())
def test_what_is_removed_is_all_of_one_node_and_no_epoch(
    found: View, text: str, alive: bool
) -> None:
    if len(meant(found, text)) != 1:
        return
    node = named(found, text)
    name, key = node.set, key_of(text)
    if alive or node.registered:
        with pytest.raises(NotDone, match="alive" if alive else "registered"):
            removed(found, text, node.owners or [Owner(key, node.address)] if alive else ())
        return
    shown, change = removed(found, text, ())
    assert shown == node
    after = applied(found, change)
    mine = orders_key(name), assignments_key(name)
    assert but(after, *mine) == but(found, *mine)
    orders = after.ordered(name)
    assert orders.balance == found.ordered(name).balance
    assert set(orders.drained) == set(found.ordered(name).drained) - {node.address}
    kept = {s: pin for s, pin in pins(found.ordered(name)).items() if pin[0] != node.address}
    assert pins(orders) == kept
    gone = 0
    for section in SECTIONS:
        before, now = found.document(name).owner(section), after.document(name).owner(section)
        if before is None or before.incarnation != key:
            assert before == now
            continue
        gone += 1
        heir = before.successor
        named_other = heir is not None and heir.incarnation != key
        assert (now and now.incarnation) == (heir.incarnation if heir and named_other else None)
        highest = found.document(name).highest_epoch(section, section)
        assert after.document(name).highest_epoch(section, section) >= highest
        assert now is None or now.epoch > highest
    assert gone == shown.sections
    assert text not in {n.address for n in after.nodes}


@st.composite
def wishes(draw: st.DrawFn) -> tuple[list[Range], str]:
    """Sections and a node to pin them to, most of the time of one Set."""
    if draw(st.integers(0, 3)) == 0:
        return apart(draw(st.lists(spans, min_size=1, max_size=2))), draw(texts)
    name = draw(st.sampled_from(sorted(HELD)))
    some = draw(st.sets(st.sampled_from(HELD[name]), min_size=1, max_size=4))
    return apart([Range(s, s) for s in some]), f"n:{draw(st.sampled_from(KEYS[name]))}"


@settings(max_examples=50)
@given(maps(), wishes(), st.booleans())
def test_pins_are_written_as_they_are_shown_or_refused(
    found: View, wish: tuple[list[Range], str], alone: bool
) -> None:
    wanted, text = wish
    pin_refused_or_shown(found, wanted, text, alone)
    unpin_refused_or_shown(found, wanted)


def apart(drawn: list[Range]) -> list[Range]:
    """As arguments are read: by rising section, not overlapping."""
    all_of_them = {section for span in drawn for section in range(span.first, span.last + 1)}
    firsts = [s for s in sorted(all_of_them) if s - 1 not in all_of_them]
    lasts = [s for s in sorted(all_of_them) if s + 1 not in all_of_them]
    return [Range(*ends) for ends in zip(firsts, lasts, strict=True)]


def each(spans: list[Range]) -> set[int]:
    return {section for span in spans for section in range(span.first, span.last + 1)}


def pin_refused_or_shown(found: View, wanted: list[Range], text: str, alone: bool) -> None:
    if len(meant(found, text)) != 1:
        return
    node = named(found, text)
    name = node.set
    said = pins(found.ordered(name)) | dict.fromkeys(each(wanted), (node.address, alone))
    reserved = {address for address, only in said.values() if only}
    others = {n.address for n in found.willing(name)} - reserved
    sound = each(wanted) <= set(HELD[name]) and node.registered and bool(others)
    try:
        shown, change = pinned(found, wanted, text, alone=alone)
    except NotDone:
        assert not sound
        return
    assert sound
    after = applied(found, change)
    assert but(after, orders_key(name)) == but(found, orders_key(name))
    assert after.ordered(name) == shown
    assert pins(shown) == said
    assert (shown.drained, shown.balance) == (
        found.ordered(name).drained,
        found.ordered(name).balance,
    )


def unpin_refused_or_shown(found: View, wanted: list[Range]) -> None:
    touched = [name for name in HELD if pins(found.ordered(name)).keys() & each(wanted)]
    try:
        shown, change = unpinned(found, wanted)
    except NotDone:
        assert len(touched) != 1
        return
    (name,) = touched
    after = applied(found, change)
    assert but(after, orders_key(name)) == but(found, orders_key(name))
    assert after.ordered(name) == shown
    kept = {s: pin for s, pin in pins(found.ordered(name)).items() if s not in each(wanted)}
    assert pins(shown) == kept
    assert shown.drained == found.ordered(name).drained


@settings(max_examples=50)
@given(maps(), st.sampled_from(["a", "b"]), st.booleans())
def test_the_switch_is_written_as_it_is_shown_and_nothing_else(
    found: View, name: str, on: bool
) -> None:
    shown, change = balanced(found, name, on=on)
    after = applied(found, change)
    assert but(after, orders_key(name)) == but(found, orders_key(name))
    assert after.ordered(name) == shown
    assert shown.balance == on
    assert (shown.drained, pins(shown)) == (
        found.ordered(name).drained,
        pins(found.ordered(name)),
    )


# -- rebalancing


rates = st.lists(
    st.one_of(st.just(0), st.integers(0, 2_000), st.integers(0, 60_000)), min_size=10, max_size=10
)


@st.composite
def loaded(draw: st.DrawFn) -> tuple[View, list[float]]:
    """Set a as it is most of the time, and the rate of each section as far as nodes tell it."""
    asked, document, orders = draw(rates), Assignments("a"), Orders("a")
    owners = draw(st.lists(st.sampled_from(KEYS["a"]), min_size=10, max_size=10))
    for section, key in enumerate(owners):
        document = reassign(document, section, section, Node(key, f"n:{key}", "a"))
    for section in draw(st.sets(st.integers(0, 9), max_size=3)):
        orders = orders.pinning(Pin(section, section, f"n:{owners[section]}"))
    told, there = [0.0] * 10, []
    for key in KEYS["a"]:
        own = [section for section in range(10) if owners[section] == key]
        own.sort(key=lambda section: -asked[section])
        hot = draw(st.integers(0, sum(asked[section] > 0 for section in own)))
        rest = sum(asked[section] for section in own[hot:])
        for section in own:
            told[section] = asked[section] if section in own[:hot] else rest / len(own[hot:])
        named_hot = tuple((section, asked[section]) for section in own[:hot])
        load = Load(sum(asked[section] for section in own), named_hot, len(own))
        there.append(Node(key, f"n:{key}", "a", load=load))
    return mapped(there, {"a": document}, {"a": orders}), told


shares = st.sampled_from([0.1, 0.3, 1.0])


@settings(max_examples=50)
@given(loaded(), shares, st.sampled_from([0.05, 0.2]))
def test_a_balance_moves_what_it_shows_and_ends_as_it_shows(
    drawn: tuple[View, list[float]], share: float, hysteresis: float
) -> None:
    found, told = drawn
    made = balance(found, "a", hysteresis, share)
    before = {section: owner(found, "a", section) for section in range(10)}
    moved = {
        section: (source, to)
        for span, source, to in made.moves
        for section in range(span.first, span.last + 1)
    }
    assert made.sections == len(moved) <= ceil(share * 10)
    assert (made.change is None) == (not moved)
    then = dict(before)
    if made.change is not None:
        after = applied(found, made.change)
        assert but(after, assignments_key("a")) == but(found, assignments_key("a"))
        assert {set_key("a"), orders_key("a")} <= made.change.expected.keys()
        document = after.document("a")
        assert leaving(document) == len(moved)
        for key in KEYS["a"]:
            document = hand_over(document, [Range(0, 9)], key)
        then = {s: entry.incarnation for s in range(10) if (entry := document.owner(s))}
    changed = {s: (f"n:{before[s]}", f"n:{then[s]}") for s in before if before[s] != then[s]}
    assert changed == moved
    assert not moved.keys() & pins(found.ordered("a")).keys(), "what is pinned is in place"
    for key, row in zip(KEYS["a"], made.shares, strict=True):
        assert row.address == f"n:{key}"
        assert row.sections == list(before.values()).count(key)
        assert row.sections_then == list(then.values()).count(key)
        for shown, owners in ((row.per_second, before), (row.per_second_then, then)):
            rate = sum(told[section] for section in owners if owners[section] == key)
            assert abs(shown - rate) <= len(moved) + 1, "but for what rounding has taken"


@settings(max_examples=50)
@given(maps(), st.sampled_from(["a", "b"]))
def test_nothing_is_balanced_before_what_comes_first_is_done(found: View, name: str) -> None:
    orders, document = found.ordered(name), found.document(name)
    willing = {node.address: node.incarnation for node in found.willing(name)}
    entries = [(section, document.owner(section)) for section in HELD[name]]
    on_their_way = any(entry and entry.leaving for _, entry in entries)
    of_nobody = bool(willing) and any(entry is None for _, entry in entries)
    elsewhere = any(
        entry and pin[0] in willing and entry.incarnation != willing[pin[0]]
        for section, entry in entries
        if (pin := pins(orders).get(section))
    )
    try:
        balance(found, name, 0.2, 1.0)
    except NotDone as refused:
        why = on_their_way or of_nobody or elsewhere
        others = ("drain", "refused", "pinned")
        assert why or any(cause in str(refused) for cause in others)
        return
    assert not on_their_way
    assert not of_nobody
    assert not elsewhere
