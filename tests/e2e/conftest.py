"""Fixtures of the end-to-end tests: whatever they start has ended when a test has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import Services
from real_cluster.cluster import RealCluster, Shape
from real_cluster.keeper import Keeper


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the shared cluster come last: one that nobody uses takes a fifth of a core."""
    items.sort(key=lambda item: "keeper" in getattr(item, "fixturenames", ()))


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Makes services; none may have written a Traceback to its standard error."""
    made = Services(tmp_path)
    try:
        yield made
    finally:
        made.close()
    assert not made.traces()


@pytest.fixture(scope="session")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    made = Keeper(tmp_path_factory.mktemp("cluster"), Shape())
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(keeper: Keeper) -> Iterator[RealCluster]:
    """A cluster of real processes, healthy; the same for all tests as long as none fails."""
    shared = keeper.healthy()
    yield shared
    keeper.give_back(shared)
