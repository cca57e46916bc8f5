"""Several processes of callers on one service: what they saw and recorded, put together."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from processes import Service
from real_cluster.cluster import RealCluster, Shape
from real_cluster.crowd import Crowd
from real_cluster.load import Load
from real_cluster.network import Host
from real_cluster.per_second import SECOND_NS, Merger
from real_cluster.verdict import Verdicts

HERE = cast(Host, SimpleNamespace(entering=[], name="here", ip="127.0.0.1"))
PROCESSES = 2


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    service = Service(tmp_path / "service").start()
    shape = Shape(uid_limit=3_000)
    about = SimpleNamespace(shape=shape, folder=tmp_path, seeds=service.address, client=HERE)
    cluster = cast(RealCluster, about)
    made = Crowd(
        [Load(cluster, pace_s=0.02, name=f"callers-{index}") for index in range(PROCESSES)]
    )
    try:
        yield made
    finally:
        made.close()
        service.kill()


def test_calls_of_all_processes_are_counted_recorded_and_explain_each_other(
    crowd: Crowd, tmp_path: Path
) -> None:
    merger = Merger(PROCESSES, time.monotonic_ns() // SECOND_NS)
    verdicts = Verdicts(tmp_path)
    crowd.flows(patience_s=30)
    for _ in range(2):  # what one process is told at the end of a round, another may not explain
        crowd.flows(patience_s=30)
        files = crowd.histories()
        verdict = verdicts.judge(files)
        assert verdict["violations"] == [] and verdict["calls"] > 0
        for file in files:
            file.unlink()
    row = crowd.phase("more")
    assert row.answered > 0 and not row.failed and not row.broken
    assert row.latencies.total == row.answered
    crowd.flows(patience_s=30)
    rest = crowd.rest()
    assert verdicts.judge(rest)["violations"] == []
    total = row.answered + crowd.phase("over").answered
    time.sleep(1.1)  # until the second of the last call is over
    for process, taken in enumerate(crowd.take()):
        merger.add(process, taken)
        assert len(taken["changes"]) == 1 and taken["changes"][0][2], "routes as they were"
    assert sum(tick.answered for _, tick in merger.whole()) == total
