"""Plans with pins: what belongs to a node goes there, stays there, and is left where it cannot."""

from dataclasses import replace

from clustermap.model import Assignments, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.orders import Pin
from clustermap.placement import hand_over, reassign
from clustermap.planning import Memory, Plan, plan
from clustermap.ranges import Range
from clustermap.scene import BALANCE, DRAIN, FAILURE, PINNED, UNOWNED, Limits, Scene

SECTIONS = 20
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), (Replica("store-0", "s:1", 1),), 1, 1)
NODES = tuple(Node(i, f"n:{i}", "s") for i in (1, 2, 3))
LIMITS = Limits(balance_rounds=1, balance_share=1.0)


def planned(
    document: Assignments, *pins: Pin, nodes: tuple[Node, ...] = NODES, **other: object
) -> Plan:
    scene = Scene(SPEC, nodes, pins=pins, **other)  # type: ignore[arg-type]
    return plan(document, scene, Memory(), LIMITS, budget=10**9, new_round=True)


def settled(document: Assignments, *pins: Pin, nodes: tuple[Node, ...] = NODES) -> Assignments:
    """After all that is planned, each hand-over done at once."""
    for _ in range(60):
        made = planned(document, *pins, nodes=nodes)
        if not made.moves:
            return document
        document = made.document
        for node in nodes:
            document = hand_over(document, [Range(0, SECTIONS - 1)], node.incarnation)
    raise AssertionError("it never comes to rest")


def owners(document: Assignments) -> list[int]:
    found = (document.owner(section) for section in range(SECTIONS))
    return [entry.incarnation if entry else 0 for entry in found]


EVEN = settled(Assignments("s"))


def test_a_pinned_section_is_marked_for_its_node_and_for_no_other_reason() -> None:
    made = planned(EVEN, Pin(0, 1, "n:3"))
    assert [(m.first, m.last, m.cause, m.to and m.to.incarnation) for m in made.moves] == [
        (0, 1, PINNED, 3)
    ]
    assert made.document.entries[0].leaving


def test_pins_begin_and_end_where_they_say() -> None:
    after = owners(settled(EVEN, Pin(2, 2, "n:3"), Pin(4, 4, "n:2")))
    assert (after[2], after[4]) == (3, 2)
    assert after[1] == after[3] == 1


def test_a_node_that_has_its_pins_alone_has_nothing_else() -> None:
    after = owners(settled(EVEN, Pin(5, 5, "n:2", alone=True)))
    assert [section for section, owner in enumerate(after) if owner == 2] == [5]
    assert abs(after.count(1) - after.count(3)) <= 4, "the others share what is left"


def test_sections_of_nobody_and_of_the_dead_go_where_they_are_pinned() -> None:
    made = planned(Assignments("s"), Pin(7, 8, "n:1", alone=True))
    assert owners(made.document)[7:9] == [1, 1]
    assert owners(made.document).count(1) == 2
    assert {move.cause for move in made.moves} == {UNOWNED}
    document = reassign(EVEN, 7, 8, Node(9, "n:9", "s"))
    made = planned(document, Pin(7, 8, "n:1"), given_up=frozenset({9}))
    assert owners(made.document)[7:9] == [1, 1]
    assert {move.cause for move in made.moves} == {FAILURE}


def test_while_its_node_is_away_a_pinned_section_stays_where_it_is() -> None:
    pin = Pin(0, 0, "n:9")
    assert not planned(EVEN, pin).moves
    without = tuple(node for node in NODES if node.incarnation != 1)
    homeless = planned(EVEN, pin, nodes=without, given_up=frozenset({1}))
    assert owners(homeless.document)[0] in (2, 3)
    back = (*NODES, Node(9, "n:9", "s"))
    assert owners(settled(EVEN, pin, nodes=back))[0] == 9


def test_a_node_that_drains_keeps_no_pin() -> None:
    drains = tuple(replace(n, draining=n.incarnation == 1) for n in NODES)
    made = planned(EVEN, Pin(0, 0, "n:1"), nodes=drains)
    assert {move.cause for move in made.moves} == {DRAIN}
    assert 1 not in owners(settled(EVEN, Pin(0, 0, "n:1"), nodes=drains))


def test_who_is_alone_serves_everything_where_nobody_else_is_left() -> None:
    one = NODES[:1]
    made = planned(Assignments("s"), Pin(0, 0, "n:1", alone=True), nodes=one)
    assert owners(made.document) == [1] * SECTIONS


def test_balancing_leaves_pins_alone_and_counts_what_they_weigh() -> None:
    busy = Node(1, "n:1", "s", load=Load(90_000, ((0, 90_000),), 10))
    others = tuple(replace(node, load=Load(0, (), 5)) for node in NODES[1:])
    document = reassign(
        reassign(reassign(Assignments("s"), 0, 9, busy), 10, 14, NODES[1]), 15, 19, NODES[2]
    )
    made = planned(document, Pin(0, 0, "n:1"), nodes=(busy, *others))
    assert made.moves, "all but the pinned one leave"
    assert {move.cause for move in made.moves} == {BALANCE}
    assert all(move.first > 0 for move in made.moves)
    off = planned(document, nodes=(busy, *others), balance=False)
    assert not off.moves


def test_a_section_far_hotter_than_the_rest_ends_up_nearly_alone_without_a_pin() -> None:
    document = EVEN
    for _ in range(100):
        mine = [section for section, owner in enumerate(owners(document)) if owner == 1]
        hot = ((3, 900_000),) if 3 in mine else ()
        nodes = (
            Node(1, "n:1", "s", load=Load(900_000 if hot else 0, hot, len(mine))),
            *(replace(node, load=Load(0, (), 5)) for node in NODES[1:]),
        )
        made = planned(document, nodes=nodes)
        if not made.moves:
            break
        document = made.document
        for node in nodes:
            document = hand_over(document, [Range(0, SECTIONS - 1)], node.incarnation)
    assert owners(document).count(1) == 1


def test_who_is_busy_with_what_is_pinned_is_given_nothing_for_balance() -> None:
    busy = Node(1, "n:1", "s", load=Load(90_000, ((0, 90_000),), 1))
    others = (
        replace(NODES[1], load=Load(0, (), 10)),
        replace(NODES[2], load=Load(0, (), 9)),
    )
    document = reassign(
        reassign(reassign(Assignments("s"), 0, 0, busy), 1, 10, NODES[1]), 11, 19, NODES[2]
    )
    assert not planned(document, Pin(0, 0, "n:1"), nodes=(busy, *others)).moves
