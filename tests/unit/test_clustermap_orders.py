"""Orders of operators: the document, and what becomes of nodes that are to be relieved."""

from dataclasses import replace

import pytest

from clustermap.errors import MapCorrupt
from clustermap.nodes import Node
from clustermap.orders import Orders, Pin

NODES = tuple(Node(i, f"n:{i}", "s") for i in (1, 2, 3))


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
