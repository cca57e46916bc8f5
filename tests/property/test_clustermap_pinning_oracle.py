"""Orders and pins against tables of single sections, and plans that obey them.

What a pin says is where things end; who is alone is given nothing that is not pinned to him, while
there is anybody else; nothing is moved twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.changes import pieces
from clustermap.model import Assignment, Assignments, Owner, Replica, SetSpec
from clustermap.nodes import Node
from clustermap.orders import Orders, Pin
from clustermap.pinning import Places, cut
from clustermap.placement import hand_over, mark_leaving, raise_floor, reassign
from clustermap.planning import Memory, plan
from clustermap.ranges import Range
from clustermap.scene import PINNED, REFUSED, Limits, Move, Scene

SECTIONS = 16
SPEC = SetSpec("s", (Range(0, 5), Range(8, SECTIONS - 1)), (Replica("store-0", "s:1", 1),), 1, 1)
OURS = [section for span in SPEC.ranges for section in range(span.first, span.last + 1)]
LIMITS = Limits(balance_rounds=1, balance_share=1.0)
KEYS = (1, 2, 3, 4)
ROUNDS = 60

keys = st.sampled_from(KEYS)
starts = st.integers(0, SECTIONS - 1)
lengths = st.integers(0, 4)


@st.composite
def orders(draw: st.DrawFn) -> Orders:
    """By one command after the other."""
    found = Orders("s", balance=draw(st.booleans()))
    for first, more, key, alone in draw(
        st.lists(st.tuples(starts, lengths, st.integers(1, 5), st.booleans()), max_size=5)
    ):
        found = found.pinning(Pin(first, first + more, f"n:{key}", alone))
    for key in draw(st.lists(st.integers(1, 5), max_size=2)):
        found = found.draining(f"n:{key}")
    return found


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Node, ...]:
    """Some are there, most of them willing."""
    states = st.sampled_from(["willing", "willing", "willing", "draining", "unleased", "gone"])
    drawn = {key: draw(states) for key in KEYS}
    return tuple(
        Node(key, f"n:{key}", "s", draining=state == "draining", leased=state != "unleased")
        for key, state in drawn.items()
        if state != "gone"
    )


@st.composite
def documents(draw: st.DrawFn) -> Assignments:
    """Anybody has anything, some of it on its way."""
    document = Assignments("s")
    for section in OURS:
        if key := draw(st.sampled_from((0, *KEYS)), label=f"owner of {section}"):
            document = reassign(document, section, section, Node(key, f"n:{key}", "s"))
    for section, heir in draw(st.dictionaries(st.sampled_from(OURS), keys, max_size=3)).items():
        document = mark_leaving(document, section, section, Owner(heir, f"n:{heir}"))
    for section, epoch in draw(
        st.dictionaries(st.sampled_from(OURS), st.integers(1, 30), max_size=2)
    ).items():
        document = raise_floor(document, section, section, epoch)
    return document


class Table(NamedTuple):
    """What a scene says of pins, section by section. who: of those that are willing, by address."""

    who: dict[str, int]
    pinned: dict[int, str]
    alone: set[int]

    @classmethod
    def of(cls, scene: Scene) -> "Table":
        who = {
            n.address: n.incarnation
            for n in scene.nodes
            if n.leased and not n.draining and n.incarnation not in scene.given_up
        }
        pinned = {s: pin.address for pin in scene.pins for s in range(pin.first, pin.last + 1)}
        alone = {who[pin.address] for pin in scene.pins if pin.alone and pin.address in who}
        return cls(who, pinned, set() if alone == set(who.values()) else alone)

    def home(self, section: int) -> int | None:
        return self.who.get(self.pinned.get(section, ""))

    def fits(self, section: int, owner: int) -> bool:
        home = self.home(section)
        return owner == home if home is not None else owner not in self.alone


# -- orders


@given(orders(), starts, lengths)
def test_pins_are_what_a_table_of_sections_would_say(found: Orders, first: int, more: int) -> None:
    before, span = table(found), range(first, first + more + 1)
    pin = Pin(first, first + more, "z:9", alone=True)
    assert table(found.pinning(pin)) == before | dict.fromkeys(span, ("z:9", True))
    assert table(found.unpinning(first, first + more)) == {
        section: said for section, said in before.items() if section not in span
    }


def table(found: Orders) -> dict[int, tuple[str, bool]]:
    return {
        s: (pin.address, pin.alone) for pin in found.pins for s in range(pin.first, pin.last + 1)
    }


@given(orders(), keys)
def test_a_drain_and_its_end_concern_one_address(found: Orders, key: int) -> None:
    address = f"n:{key}"
    for changed, wanted in (
        (found.draining(address), {*found.drained, address}),
        (found.without(address), {*found.drained} - {address}),
    ):
        assert set(changed.drained) == wanted
        assert replace(changed, drained=found.drained) == found
    assert found.blank == (not found.drained and not found.pins and found.balance)


@given(orders(), nodes(), st.sets(keys))
def test_who_is_ordered_to_leave_does_unless_nobody_would_be_left(
    found: Orders, there: tuple[Node, ...], gone: set[int]
) -> None:
    def serves(node: Node) -> bool:
        return node.leased and not node.draining and node.incarnation not in gone

    left = [node for node in there if serves(node) and node.address not in found.drained]
    obeyed = found.obeyed(there, gone)
    assert [replace(o, draining=n.draining) for o, n in zip(obeyed, there, strict=True)] == [*there]
    for before, after in zip(there, obeyed, strict=True):
        ordered = bool(left) and before.address in found.drained
        assert after.draining == (before.draining or ordered)
    assert any(map(serves, obeyed)) == any(map(serves, there))


# -- pins


@given(documents(), orders(), nodes(), st.sets(keys, max_size=1))
def test_places_are_those_of_every_section(
    document: Assignments, found: Orders, there: tuple[Node, ...], given_up: set[int]
) -> None:
    scene = Scene(SPEC, there, frozenset(given_up), pins=found.pins)
    places, said = Places(scene), Table.of(scene)
    assert places.open.keys() == set(said.who.values()) - said.alone
    for section in range(SECTIONS + 4):
        home = places.home(section)
        assert (home and home.incarnation) == said.home(section)
    whole = pieces(document, SPEC.ranges)
    parts = cut(whole, scene.pins)
    sections = [section for part in parts for section in range(part.first, part.last + 1)]
    assert sections == OURS
    for part in parts:
        (before,) = [one for one in whole if one.first <= part.first <= one.last]
        assert part == before._replace(first=part.first, last=part.last)
        fits = {
            part.entry is None or said.fits(section, part.entry.incarnation)
            for section in range(part.first, part.last + 1)
        }
        assert fits == {not places.misplaced(part)}, "all of a part are alike"


# -- plans


@settings(max_examples=150)
@given(documents(), orders(), nodes())
def test_plans_come_to_rest_where_the_pins_say_and_nothing_moves_that_is_in_place(
    document: Assignments, found: Orders, there: tuple[Node, ...]
) -> None:
    given_up = frozenset(KEYS) - {node.incarnation for node in there}
    scene = Scene(SPEC, found.obeyed(there), given_up, pins=found.pins, balance=found.balance)
    said = Table.of(scene)
    for _ in range(ROUNDS):
        made = plan(document, scene, Memory(), LIMITS, budget=10**6, new_round=True)
        turned = replace(scene, nodes=scene.nodes[::-1])
        again = plan(document, turned, Memory(), LIMITS, budget=10**6, new_round=True)
        assert again == made, "in whatever order nodes are listed"
        check_moves(document, made.moves, said)
        if not made.moves:
            break
        document = made.document
        for node in scene.nodes:
            document = hand_over(document, [Range(0, SECTIONS - 1)], node.incarnation)
    else:
        raise AssertionError("it never comes to rest")
    check_rest(document, said)


def check_moves(document: Assignments, moves: Sequence[Move], said: Table) -> None:
    for move in moves:
        for section in range(move.first, move.last + 1):
            entry = document.owner(section)
            if move.cause == PINNED:
                assert entry and not entry.leaving
                assert not said.fits(section, entry.incarnation), "it is in place"
            if move.cause == REFUSED and entry and move.to in (entry.successor, owner(entry)):
                continue  # it keeps what it has, or was to have
            if move.to is None:
                assert not said.who
            else:
                assert said.fits(section, move.to.incarnation), move


def owner(entry: Assignment) -> Owner:
    return Owner(entry.incarnation, entry.address)


def check_rest(document: Assignments, said: Table) -> None:
    for section in OURS:
        entry = document.owner(section)
        if said.who:
            assert entry and not entry.leaving
            assert said.fits(section, entry.incarnation)
