"""Sections move from one Set to another under load: SEQ-1, SEQ-2, SEQ-5, and nobody fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clustermap.errors import ReplicaFailed
from clustermap.jobs import State, job_key
from clustermap.model import Assignments, assignments_key, set_key
from clustermap.ranges import Range
from storesvr.service import StoreService
from two_sets import PATIENCE_S, TwoSets, open_two_sets


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


@pytest.mark.parametrize("method", ["fence", "seal", "put_at_least"])
async def test_an_arbiter_that_dies_in_any_step_is_succeeded_and_numbers_stay_dense(
    box: TwoSets, method: str
) -> None:
    met = asyncio.Event()

    def before(asked: str, _: object) -> None:
        if asked == method:
            met.set()
            raise ReplicaFailed("UNREACHABLE", "by order of the test")

    async with box.callers(dense=True):
        async with box.arbiter():
            await box.all_served()
            for name in ("a:0", "a:1", "b:0", "b:1"):
                box.doors[name].before = before
            await box.move("a", "b", 0, 5)
            await met.wait()
        for door in box.doors.values():
            door.before = lambda method, request: None
        async with box.arbiter():
            assert (await box.ended()).state is State.DONE
            await box.all_served()
            await box.verify()


@pytest.mark.parametrize("method", ["fence", "seal", "put_at_least"])
async def test_what_is_under_way_is_taken_back_by_an_abort_at_any_step(
    box: TwoSets, method: str
) -> None:
    """After the seal, and after some of the records, as well as before."""
    stopped = asyncio.Event()

    def before(asked: str, _: object) -> None:
        if asked == method:
            stopped.set()
            raise ReplicaFailed("UNREACHABLE", "by order of the test")

    async with box.arbiter(), box.callers(dense=True):
        await box.all_served()
        for name in ("a:1", "a:2", "b:1", "b:2"):
            box.doors[name].before = before
        await box.move("a", "b", 2, 5)
        await stopped.wait()
        await box.say(State.ABORTING)
        for door in box.doors.values():
            door.before = lambda method, request: None
        assert (await box.ended()).state is State.ABORTED
        await box.all_served()
        await box.verify()
    assert (await box.spec("b")).ranges == ()


async def test_an_abort_with_undo_brings_back_what_was_already_moved(box: TwoSets) -> None:
    async with box.arbiter(), box.callers(dense=True):
        await box.all_served()
        await box.move("a", "b", 0, 3)
        assert (await box.ended()).state is State.DONE
        await box.move("a", "b", 4, 7, name="k")
        await box.say(State.ABORTING, "k", undo=True)
        job = await box.ended("k")
        assert (job.state, job.note) == (State.ABORTED, "0 sections are with Set b")
        await box.all_served()
        await box.verify()
        assert (await box.spec("a")).ranges == (Range(4, 7),)


@pytest.mark.parametrize("method", ["fence", "seal", "put_at_least"])
async def test_a_paused_move_leaves_no_section_unserved_and_begins_no_other(
    box: TwoSets, method: str
) -> None:
    stopped = asyncio.Event()

    def before(asked: str, _: object) -> None:
        if asked == method:
            stopped.set()
            raise ReplicaFailed("UNREACHABLE", "by order of the test")

    async with box.arbiter(), box.callers(dense=True):
        await box.all_served()
        for name in ("a:1", "a:2", "b:1", "b:2"):
            box.doors[name].before = before
        await box.move("a", "b", 0, 7, chunk=3)
        await stopped.wait()
        await box.say(State.PAUSED)
        for opened in box.doors.values():
            opened.before = lambda method, request: None
        await box.all_served()
        await asyncio.sleep(0.5)
        assert (await box.spec("b")).ranges == (Range(0, 2),)
        assert (await box.job()).state is State.PAUSED
        await box.say(State.RUNNING)
        assert (await box.ended()).state is State.DONE
        await box.all_served()
        await box.verify()


@pytest.mark.parametrize(("undo", "with_b"), [(True, ()), (False, (Range(0, 3),))])
async def test_a_move_can_be_aborted_while_its_target_cannot_win_what_it_was_given(
    box: TwoSets, monkeypatch: pytest.MonkeyPatch, undo: bool, with_b: tuple[Range, ...]
) -> None:
    """Its nodes are cut off, say. The abort is the remedy, so it must not wait for them."""

    async with box.arbiter():
        await box.all_served()
        for store in box.stores["b"][:2]:
            monkeypatch.setattr(store, "fence", partial(door, store))
        await box.move("a", "b", 0, 7, chunk=4)
        async with asyncio.timeout(PATIENCE_S):
            while (await box.spec("b")).ranges != (Range(0, 3),):
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        assert (await box.job()).state is State.RUNNING
        await box.say(State.ABORTING, undo=undo)
        assert (await box.ended()).state is State.ABORTED
        assert (await box.spec("b")).ranges == with_b
        monkeypatch.undo()
        await box.all_served()
        await box.verify()


async def door(store: StoreService, request: Any) -> Any:
    """Nobody's fence but a job's gets through."""
    if not request.through_seal:
        raise ReplicaFailed("UNREACHABLE", "by order of the test")
    return await StoreService.fence(store, request)


async def test_sections_of_an_owner_that_died_are_moved_once_its_lease_is_over(
    tmp_path: Path,
) -> None:
    async with open_two_sets(tmp_path) as box, AsyncExitStack() as stack:
        await stack.enter_async_context(box.arbiter())
        async with box.node("a"):
            async with box.node("b"):
                pass
            await box.all_served()
            for uid in range(0, 80, 7):
                await box.call(uid)
            await box.move("a", "b", 0, 7)
        await stack.enter_async_context(box.node("b"))
        assert (await box.ended()).state is State.DONE
        await box.all_served()
        await box.verify()
        for uid in range(0, 80, 7):
            await box.call(uid)


async def test_a_map_that_gives_moved_sections_to_their_old_set_is_refused_there_fence_1(
    box: TwoSets,
) -> None:
    """And few epochs are spent on it."""
    async with box.arbiter():
        await box.all_served()
        before = (await box.spec("a"), await box.document("a"))
        for uid in range(80):
            await box.call(uid)
        await box.move("a", "b", 4, 7)
        assert (await box.ended()).state is State.DONE
        await box.all_served()
        puts = {
            set_key("a"): before[0].to_json(),
            assignments_key("a"): before[1].to_json(),
            set_key("b"): replace(await box.spec("b"), ranges=()).to_json(),
            assignments_key("b"): Assignments("b", 99).to_json(),
            job_key("j"): None,
        }
        assert await box.coordinator.transact({}, puts)
        told = (await box.document("a")).highest_epoch(4, 7)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while True:
                    assert "a" not in box.serving(4), "two Sets"
                    await asyncio.sleep(0.01)
    assert (await box.document("a")).highest_epoch(4, 7) < told + 8
