"""What alerts and dashboard read is what the running programs say."""

from collections.abc import Iterator

import pytest

from clustermap.model import DEFAULT_SET
from one_store import OneStore
from processes import free_port
from processes.metrics import Scrape, scrape
from watchful import expressions, matched, names

GIVEN_BY_PROMETHEUS = {"job", "instance", "le"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Scrape]]:
    """Of an allocsvr, a storesvr and an arbitersvr of one small cluster that serves."""
    world = OneStore(tmp_path_factory.mktemp("seeing"))
    at = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    try:
        world.etcd.start()
        world.write_map(world.store(DEFAULT_SET, "--metrics", at[0]))
        etcd = ",".join(world.etcd.endpoints)
        arbiter = world.child(
            *("arbitersvr", "--etcd", etcd, "--listen", "127.0.0.1:0", "--metrics", at[1])
        )
        arbiter.ready()
        world.alloc("--metrics", at[2]).ready()
        yield [scrape(address) for address in at]
        assert not world.traces()
    finally:
        world.close()


def test_every_metric_that_alerts_and_dashboard_name_is_exported(pages: list[Scrape]) -> None:
    exported = {name for page in pages for name in page.types}
    named = {name for expression in expressions() for name in names(expression)}
    assert len(named) > 60
    assert named <= exported, named - exported


def test_every_metric_of_ours_is_shown_or_watched(pages: list[Scrape]) -> None:
    types = {name for page in pages for name in page.types}
    ours = {name for name in types if name.startswith("seqsvr_")}
    exported = {name for name in ours if not name.endswith("_created")}
    named = {name for expression in expressions() for name in names(expression)}
    assert exported <= named, exported - named


def test_labels_that_are_matched_are_those_that_the_programs_give(pages: list[Scrape]) -> None:
    labels: dict[str, set[str]] = {}
    for page in pages:
        for series, found in page.samples:
            names_of = labels.setdefault(next(iter(names(series)), series), set())
            names_of.update(label for label, _ in found)
    for expression in expressions():
        for name, label in matched(expression):
            if name in labels and label not in GIVEN_BY_PROMETHEUS:
                assert label in labels[name], (expression, name, label)
