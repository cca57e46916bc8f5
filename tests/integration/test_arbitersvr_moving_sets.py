"""Sections move from one Set to another under load: SEQ-1, SEQ-2, SEQ-5, and nobody fails."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from clustermap.jobs import State
from two_sets import TwoSets, open_two_sets


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[TwoSets]:
    async with open_two_sets(tmp_path) as box, AsyncExitStack() as stack:
        for name in "aabb":
            await stack.enter_async_context(box.node(name))
        yield box


async def test_a_set_is_split_and_merged_again_and_numbers_stay_dense(box: TwoSets) -> None:
    async with box.arbiter():
        await box.all_served()
        async with box.callers(dense=True):
            await box.move("a", "b", 4, 7)
            job = await box.ended()
            assert (job.state, job.note) == (State.DONE, "4 sections moved")
            await box.all_served()
            await box.verify()
            await box.move("b", "a", 4, 7, name="k")
            assert (await box.ended("k")).state is State.DONE
            await box.all_served()
            await box.verify()
    assert box.answers > 100
