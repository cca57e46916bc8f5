"""A routing table in which every section has another owner than its neighbours."""

import random
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

from scaling.capacity import framed_b
from seqsvr import wire
from seqsvr.routing import Route, Router, RoutingTable
from seqsvr.sections import Layout
from seqsvr.v1 import alloc_pb2 as pb

NODES = 100
LOOKUPS = 100_000
REPEATS = 7

Figures = dict[str, float]


def fragmented(layout: Layout, version: int = 1_000_000) -> RoutingTable:
    """Neighbours never share an owner; epochs as after many moves."""
    draw = random.Random(4)
    routes = []
    owner = 0
    for section in range(layout.sections):
        owner = (owner + draw.randrange(1, NODES)) % NODES
        address = f"10.20.{owner // 10}.{owner}:7420"
        routes.append(Route(section, section, address, draw.randrange(1, 5000)))
    return RoutingTable("0123456789abcdef", version, layout, tuple(routes))


def measure(layout: Layout | None = None) -> Figures:
    """Bytes, milliseconds and nanoseconds by name."""
    layout = layout or Layout()
    table, newer = fragmented(layout), fragmented(layout, 1_000_001)
    message = wire.table_to_wire(table)
    data, newer_data = message.SerializeToString(), wire.table_to_wire(newer).SerializeToString()
    figures: Figures = {"routes": len(table.routes), "wire_b": framed_b(len(data))}
    whole = RoutingTable("0123456789abcdef", 1, layout, table.routes[:1])
    figures["one_route_b"] = framed_b(len(wire.table_to_wire(whole).SerializeToString()))
    figures["encode_ms"] = 1e3 * _best(lambda: wire.table_to_wire(table).SerializeToString())
    figures["serialize_ms"] = 1e3 * _best(message.SerializeToString)
    figures["decode_ms"] = 1e3 * _best(lambda: wire.table_from_wire(_parsed(data)))
    figures["install_ms"] = 1e3 * _best(lambda: _installed(Router(), data))
    figures["table_b"] = _kept(lambda: wire.table_from_wire(_parsed(data)))
    router = Router()
    _installed(router, data)
    figures["first_ns"], figures["again_ns"] = _lookups(router, layout.sections)
    figures["epochs_b"] = _kept(lambda: _observed(layout.sections))
    figures["newer_ms"] = 1e3 * _best(lambda: _replaced(table, newer_data))
    return figures


def table(figures: Figures) -> str:
    """Markdown."""
    routes = figures["routes"]
    each = figures["wire_b"] / routes
    rows = [
        ("on the wire", f"{figures['wire_b'] / 1e3:,.0f} kB ({each:.1f} B a route)"),
        ("on the wire, one owner of everything", f"{figures['one_route_b']:.0f} B"),
        ("node: encode, from its table to bytes", f"{figures['encode_ms']:.0f} ms"),
        ("node: encode, from a message it kept", f"{figures['serialize_ms']:.2f} ms"),
        ("client: parse, decode and check", f"{figures['decode_ms']:.0f} ms"),
        ("client: the same, installed", f"{figures['install_ms']:.0f} ms"),
        ("client: memory of the table", f"{figures['table_b'] / 1e6:.1f} MB"),
        ("client: memory of the epochs, all sections seen", f"{figures['epochs_b'] / 1e6:.1f} MB"),
        ("client: owner of a section, each for the first time", f"{figures['first_ns']:.0f} ns"),
        ("client: owner of 100 sections again and again", f"{figures['again_ns']:.0f} ns"),
        ("client: each new version, however little changed", f"{figures['newer_ms']:.0f} ms"),
    ]
    head = f"| {routes:,.0f} routes to {NODES} nodes | measured, CPU time |\n|---|---|\n"
    return head + "".join(f"| {a} | {b} |\n" for a, b in rows)


def _parsed(data: bytes) -> pb.RoutingTable:
    return pb.RoutingTable.FromString(data)


def _installed(router: Router, data: bytes) -> None:
    assert router.install(wire.table_from_wire(_parsed(data)))


def _replaced(held: RoutingTable, data: bytes) -> None:
    router = Router()
    router.install(held)
    _installed(router, data)


def _observed(sections: int) -> Router:
    router = Router()
    for section in range(sections):
        router.observe(section, 1000 + section % 7)
    return router


def _best(work: Callable[[], object]) -> float:
    """CPU seconds of the least disturbed one of REPEATS."""
    spent = []
    for _ in range(REPEATS):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return min(spent)


def _kept(make: Callable[[], object]) -> int:
    """Bytes that the object made holds."""
    tracemalloc.start()
    try:
        made = make()
        held, _ = tracemalloc.get_traced_memory()
        del made
        return held - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def _lookups(router: Router, sections: int) -> tuple[float, float]:
    """Nanoseconds each: every section once, in no order; and 100 of them again and again."""
    every = list(range(sections))
    random.Random(5).shuffle(every)
    few = (every[:100] * (LOOKUPS // 100 + 1))[:LOOKUPS]
    return _each_ns(router, every), _each_ns(router, few)


def _each_ns(router: Router, sections: list[int]) -> float:
    return min(map(partial(_spent, router), [sections] * REPEATS)) / len(sections) * 1e9


def _spent(router: Router, sections: list[int]) -> float:
    owner = router.owner
    began = time.thread_time()
    for section in sections:
        owner(section)
    return time.thread_time() - began
