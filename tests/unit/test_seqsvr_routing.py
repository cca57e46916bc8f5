import pytest

from seqsvr.routing import ForeignCluster, Route, Router, RoutingTable
from seqsvr.sections import Layout

LAYOUT = Layout(100, 1_000)


def table(version: int, *routes: Route, cluster: str = "c") -> RoutingTable:
    return RoutingTable(cluster, version, LAYOUT, routes)


@pytest.mark.parametrize(
    "routes",
    [
        [Route(5, 4, "a", 1)],
        [Route(0, 3, "a", 1), Route(3, 4, "b", 1)],
        [Route(5, 6, "a", 1), Route(0, 1, "b", 1)],
        [Route(9, 10, "a", 1)],
    ],
    ids=["backwards", "overlapping", "unordered", "beyond the last section"],
)
def test_a_table_out_of_order_is_refused(routes: list[Route]) -> None:
    with pytest.raises(ValueError, match="out of place"):
        table(1, *routes)


def test_sections_between_routes_have_no_owner() -> None:
    held = table(1, Route(1, 2, "a", 1), Route(5, 5, "b", 1))
    owners = [held.lookup(section) for section in range(10)]
    assert [route and route.address for route in owners] == [
        None, "a", "a", None, None, "b", None, None, None, None,
    ]  # fmt: skip


def test_a_router_without_a_table_knows_nobody_and_says_version_0() -> None:
    router = Router()
    assert (router.version, router.owner(0)) == (0, None)


def test_the_version_held_never_falls_route_1() -> None:
    router = Router()
    assert router.install(table(5, Route(0, 9, "new", 2)))
    assert not router.install(table(4, Route(0, 9, "old", 1)))
    assert not router.install(table(5, Route(0, 9, "same", 1)))
    assert (router.version, router.owner(3)) == (5, "new")


def test_a_table_of_another_cluster_or_layout_is_never_installed() -> None:
    router = Router()
    router.install(table(1))
    with pytest.raises(ForeignCluster, match="other"):
        router.install(table(2, cluster="other"))
    with pytest.raises(ForeignCluster):
        router.install(RoutingTable("c", 2, Layout(50, 1_000), ()))
    assert router.version == 1


def test_an_epoch_below_one_seen_is_not_believed_route_1() -> None:
    router = Router()
    assert router.observe(3, 7)
    assert router.observe(3, 7)
    assert not router.observe(3, 6)
    assert router.observe(4, 1)
    assert router.observe(3, 8)
    assert not router.observe(3, 7)
