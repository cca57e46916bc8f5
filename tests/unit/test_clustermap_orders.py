"""Orders of operators: the document, and what becomes of nodes that are to be relieved."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustermap.errors import MapCorrupt
from clustermap.nodes import Node
from clustermap.orders import Orders, Pin

NODES = tuple(Node(i, f"n:{i}", "s") for i in (1, 2, 3))


@st.composite
def orders(draw: st.DrawFn) -> Orders:
    found = Orders("s", balance=draw(st.booleans()))
    for address in draw(st.lists(st.sampled_from(["a:1", "b:2", "c:3"]))):
        found = found.draining(address)
    for first, more, alone in draw(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.booleans()), max_size=8)
    ):
        found = found.pinning(Pin(first, first + more, "a:1", alone))
    return found


@given(orders(), st.integers(0, 39), st.integers(0, 9))
def test_pins_are_what_a_table_of_sections_would_say(found: Orders, first: int, more: int) -> None:
    table = {s: pin.address for pin in found.pins for s in range(pin.first, pin.last + 1)}
    pin = Pin(first, first + more, "z:9")
    span = range(first, first + more + 1)
    assert _table(found.pinning(pin)) == table | dict.fromkeys(span, "z:9")
    assert _table(found.unpinning(first, first + more)) == {
        section: address for section, address in table.items() if section not in span
    }


def _table(found: Orders) -> dict[int, str]:
    return {s: pin.address for pin in found.pins for s in range(pin.first, pin.last + 1)}


def test_orders_that_order_nothing_are_blank() -> None:
    assert Orders("s").blank
    assert Orders("s").draining("a:1").without("a:1").blank
    assert Orders("s").pinning(Pin(3, 4, "a:1")).unpinning(0, 9).blank
    for other in (Orders("s").draining("a:1"), Orders("s", balance=False)):
        assert not other.blank


@pytest.mark.parametrize(
    "raw",
    [
        b'{"format":1,"set":"s","drained":[],"pins":[],"more":1}',
        b'{"format":1,"set":"s","drained":[{"address":"b"},{"address":"a"}],"pins":[]}',
        b'{"format":1,"set":"s","drained":[{"address":""}],"pins":[]}',
        b'{"format":1,"set":"s","drained":[],"pins":[{"first":2,"last":1,"address":"a"}]}',
        b'{"format":1,"set":"s","drained":[],"pins":[{"first":1,"last":1,"address":""}]}',
        b'{"format":1,"set":"s","drained":[],"unbalanced":false,"pins":[]}',
        b'{"format":1,"set":"s","drained":[],"pins":[{"first":1,"last":2,"address":"a"},'
        b'{"first":2,"last":3,"address":"a"}]}',
    ],
)
def test_orders_that_are_not_sound_are_refused(raw: bytes) -> None:
    with pytest.raises(MapCorrupt, match="orders"):
        Orders.from_json(raw)


def test_a_switch_that_is_on_is_not_written() -> None:
    def keys(raw: bytes) -> set[str]:
        import json

        return set(json.loads(raw))

    assert "unbalanced" not in keys(Orders("s").to_json())
    assert "unbalanced" in keys(Orders("s", balance=False).to_json())


def test_a_drained_address_is_relieved_whoever_is_there() -> None:
    found = Orders("s").draining("n:2")
    again = Node(9, "n:2", "s")
    marked = found.obeyed([*NODES, again])
    assert [node.incarnation for node in marked if node.draining] == [2, 9]


def test_who_is_drained_serves_where_nobody_else_is_left() -> None:
    found = Orders("s").draining("n:2").draining("n:3")
    assert [node.draining for node in found.obeyed(NODES)] == [False, True, True]
    assert not any(node.draining for node in found.obeyed(NODES[1:]))
    assert not any(node.draining for node in found.obeyed(NODES, gone={1}))
    unleased = (replace(NODES[0], leased=False), *NODES[1:])
    assert not any(node.draining for node in found.obeyed(unleased))
    leaving = (replace(NODES[0], draining=True), *NODES[1:])
    assert [node.draining for node in found.obeyed(leaving)] == [True, False, False]
