"""The routing table beside a dictionary of every single section."""

from hypothesis import given
from hypothesis import strategies as st

from seqsvr.routing import Route, Router, RoutingTable
from seqsvr.sections import Layout
from seqsvr.wire import table_from_wire, table_to_wire

SECTIONS = 40
ADDRESSES = ["a:1", "b:2", "c:3"]


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    owners = draw(
        st.lists(st.sampled_from([None, *ADDRESSES]), min_size=SECTIONS, max_size=SECTIONS)
    )
    routes: list[Route] = []
    for section, address in enumerate(owners):
        if address is None:
            continue
        last = routes[-1] if routes else None
        if last and last.last == section - 1 and last.address == address and draw(st.booleans()):
            routes[-1] = Route(last.first, section, address, last.epoch)
        else:
            routes.append(Route(section, section, address, draw(st.integers(1, 5))))
    version = draw(st.integers(1, 6))
    return RoutingTable("cluster", version, Layout(10, SECTIONS * 10), tuple(routes))


def as_dict(table: RoutingTable) -> dict[int, tuple[str, int]]:
    return {
        section: (route.address, route.epoch)
        for route in table.routes
        for section in range(route.first, route.last + 1)
    }


@given(tables())
def test_lookup_finds_what_a_dictionary_of_all_sections_finds(table: RoutingTable) -> None:
    oracle = as_dict(table)
    for section in range(SECTIONS):
        route = table.lookup(section)
        assert (route and (route.address, route.epoch)) == oracle.get(section)


@given(st.lists(tables(), max_size=8))
def test_the_first_table_of_the_greatest_version_is_held_route_1(
    offered: list[RoutingTable],
) -> None:
    router = Router()
    versions = [0]
    for table in offered:
        held = router.table
        assert router.install(table) == (table.version > versions[-1])
        versions.append(router.version)
        assert router.table is (table if table.version > versions[-2] else held)
    assert versions == sorted(versions)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9))))
def test_believed_epochs_of_a_section_never_fall_route_1(seen: list[tuple[int, int]]) -> None:
    router = Router()
    highest: dict[int, int] = {}
    for section, epoch in seen:
        believed = router.observe(section, epoch)
        assert believed == (epoch >= highest.get(section, 0))
        highest[section] = max(epoch, highest.get(section, 0))


@given(tables())
def test_a_table_survives_the_wire(table: RoutingTable) -> None:
    assert table_from_wire(table_to_wire(table)) == table
