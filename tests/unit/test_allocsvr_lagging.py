"""The loop's lag is measured, and said aloud where it costs a renewal."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from allocsvr.lagging import watch_loop
from allocsvr.metrics import Metrics
from cluster_in_a_box import JumpingClock


class LateClock(JumpingClock):
    """Each sleep ends as much too late as a test says."""

    def __init__(self, late_s: list[float]) -> None:
        super().__init__()
        self.late_s = late_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if not self.late_s:
            raise asyncio.CancelledError
        self.advance(self.late_s.pop(0))


async def watched(late_s: list[float]) -> CollectorRegistry:
    registry = CollectorRegistry()
    with pytest.raises(asyncio.CancelledError):
        await watch_loop(LateClock(late_s), Metrics(registry), 2.0)
    return registry


async def test_every_lag_is_in_the_histogram() -> None:
    registry = await watched([0.0, 0.0, 0.004, 0.3, 4.0])
    read = registry.get_sample_value
    assert read("seqsvr_loop_lag_seconds_count") == 5
    for bound, count in (("0.001", 2), ("0.005", 3), ("0.25", 3), ("0.5", 4), ("5.0", 5)):
        assert read("seqsvr_loop_lag_seconds_bucket", {"le": bound}) == count


async def test_a_lag_above_a_fifth_of_the_ttl_is_said_but_not_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        await watched([0.39, 0.41, 1.0, 1.0])
    assert [record.getMessage() for record in caplog.records] == [
        "event=loop_lag seconds=0.41 lease_ttl_s=2"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        await watched([0.5, 12.0, 0.5])
    assert len(caplog.records) == 2
