"""A Set changes its replicas under callers who do not notice. SEQ-1..SEQ-3, LEASE-1, FENCE-1."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cluster_in_a_box import Box, Caller, FaultyMap, Member, eventually, open_box
from cluster_in_a_box.reforming import adopt, copy, fill, join, reform, switch, write, written
from clustermap.model import Joint, Replica

STEP = 50
# In between, for the threads of the stores and of the map: a loop that never rests keeps them from
# the interpreter for a second and longer.
REST_S = 0.001


class Load:
    """Callers who go on all the time; every call must be answered."""

    def __init__(self) -> None:
        self.calls = 0

    async def run(self, caller: Caller, member: Member, uids: list[int]) -> None:
        while True:
            await caller.next_many(member, uids, [3] * len(uids), timeout_s=15)
            self.calls += 1
            await asyncio.sleep(REST_S)

    async def goes_on(self) -> None:
        """Return once some more calls have been answered."""
        before = self.calls
        await eventually(lambda: self.calls > before + 20, "calls to go on")


@asynccontextmanager
async def under_load(box: Box, member: Member) -> AsyncIterator[Load]:
    """Fails if any call did."""
    load, caller = Load(), Caller(box)
    sections = range(box.cluster.layout.sections)
    async with asyncio.TaskGroup() as group:
        size = box.cluster.section_size
        tasks = [
            group.create_task(load.run(caller, member, [size * s + n for s in sections]))
            for n in range(4)
        ]
        yield load
        await load.goes_on()
        for task in tasks:
            task.cancel()


def using(member: Member, version: int) -> bool:
    return member.node.membership.current.version == version


async def test_a_replica_is_replaced_under_load_and_no_call_fails(tmp_path: Path) -> None:
    async with open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box, box.node(step=STEP) as a:
        await box.own(a)
        async with under_load(box, a) as load:
            for version in (3, 5, 7):  # until none of the first ones is left
                spec = await written(box)
                await reform(box, (*spec.replicas[1:], box.newcomer()), 2, 2)
                await eventually(partial(using, a, version), "the new ones alone to be used")
                await load.goes_on()
        assert [one.name for one in (await written(box)).replicas] == [
            "store-3",
            "store-4",
            "store-5",
        ]
        assert a.holds_lease()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1, 1, 1), (3, 2, 2)),
        ((3, 2, 2), (5, 3, 3)),
        ((5, 3, 3), (3, 2, 2)),
        ((3, 2, 2), (3, 1, 3)),
    ],
)
async def test_a_set_grows_shrinks_and_changes_its_sizes_under_load(
    tmp_path: Path, old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    async with open_box(tmp_path, *old, max_ttl_s=2.0) as box, box.node(step=STEP) as a:
        await box.own(a)
        box.least_w = min(old[2], new[2])
        stores = [*box.spec.replicas]
        while len(stores) < new[0]:
            stores.append(box.newcomer())
        async with under_load(box, a):
            await reform(box, tuple(stores[-new[0] :]), *new[1:])
            await eventually(lambda: using(a, 3))


async def test_the_next_owner_finds_everything_after_each_step(tmp_path: Path) -> None:
    """Fenced, waited for and raised under the joint version, and under the new one alone."""
    async with (
        open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box,
        box.node(step=STEP, lease_ttl_s=0.5) as a,
        box.node(step=STEP, lease_ttl_s=0.5) as b,
    ):
        caller = Caller(box)
        uids = [0, 100, 200, 300]
        await box.own(a)
        await caller.next_many(a, uids)
        joint = await join(box, (*box.spec.replicas[1:], box.newcomer()), 2, 2)
        await eventually(lambda: using(a, 2) and using(b, 2))
        await box.own(b)
        await caller.next_many(b, uids)
        await fill(box, joint)
        await switch(box)
        await eventually(lambda: using(a, 3) and using(b, 3))
        await box.own(a)
        await caller.next_many(a, uids)
        await box.move(0, 3, b)
        assert await caller.next_many(b, uids)


async def test_a_map_that_is_ahead_of_the_replicas_stops_nobody(tmp_path: Path) -> None:
    """Whoever changes the membership may stop for long after writing it, before anybody adopts."""
    async with (
        open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box,
        box.node(step=STEP, lease_ttl_s=0.5) as a,
    ):
        await box.own(a)
        spec = await written(box)
        new = (*spec.replicas[1:], box.newcomer())
        async with under_load(box, a) as load:
            joint = replace(spec, membership=2, joint=Joint(new, 2, 2))
            await write(box, joint)
            await eventually(lambda: len(a.node.membership._lines) == 2)
            await asyncio.sleep(1.5)  # three times the lease
            assert using(a, 1)
            await load.goes_on()
            await adopt(box, joint, *spec.replicas)
            await eventually(lambda: using(a, 2))


async def test_a_node_that_starts_with_a_map_ahead_of_the_replicas_serves(tmp_path: Path) -> None:
    async with open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box:
        spec = await written(box)
        new = (*spec.replicas[1:], box.newcomer())
        box.spec = await write(box, replace(spec, membership=2, joint=Joint(new, 2, 2)))
        async with box.node(step=STEP) as a:
            await box.own(a)
            assert using(a, 1)
            async with under_load(box, a):
                await adopt(box, box.spec, *spec.replicas)
                await eventually(lambda: using(a, 2))


async def test_a_node_that_hears_nothing_of_the_map_reads_it_when_replicas_refuse(
    tmp_path: Path,
) -> None:
    """It follows the map by a watch that is silent, and lists it again much later."""
    async with open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box:
        map_ = FaultyMap(box.coordinator)
        async with box.node(step=STEP, coordinator=map_) as a:
            await box.own(a)
            map_.silence()
            async with under_load(box, a):
                await reform(box, (*box.spec.replicas[1:], box.newcomer()), 2, 2)
                await eventually(lambda: using(a, 3))


async def test_an_acquisition_that_a_change_overtakes_starts_over(tmp_path: Path) -> None:
    """Rule 4: fenced under one version, it must not have its first raise under another."""
    async with (
        open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box,
        box.node(step=STEP, lease_ttl_s=2.0) as a,
        box.node(step=STEP, lease_ttl_s=2.0) as b,
    ):
        caller = Caller(box)
        await box.own(a)
        await caller.next(a, 0)
        await box.assign(b, 0, 0)  # it has to wait for the lease of a
        await eventually(lambda: not a.serves(0))
        epoch = b.node._intent.begun[0]
        await join(box, (*box.spec.replicas[1:], box.newcomer()), 2, 2)
        async with asyncio.timeout(20):
            while not any(floor.epoch >= epoch for floor in (await box.document()).floors):
                await asyncio.sleep(0.01)
        assert not b.serves(0)
        assert not any(box.record(i, 0).owner_epoch >= epoch for i in range(3)), "a first raise"
        await box.own(b, 0, 0)
        await caller.next(b, 0)


async def test_a_map_that_goes_back_or_contradicts_itself_is_not_followed(tmp_path: Path) -> None:
    async with open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box, box.node(step=STEP) as a:
        await box.own(a)
        first = await written(box)
        spec = await reform(box, (*first.replicas[1:], box.newcomer()), 2, 2)
        await eventually(lambda: using(a, 3))
        membership = a.node.membership
        membership.offer(first)
        membership.offer(replace(spec, replicas=(*first.replicas[:2], spec.replicas[2])))
        assert [line.spec for line in membership._lines] == [spec]
        moved = Replica(spec.replicas[0].name, "elsewhere:1", spec.replicas[0].store_id)
        box.replicas[1] = moved
        await write(box, replace(spec, replicas=(moved, *spec.replicas[1:])))
        reached = {moved, *spec.replicas[1:]}
        await eventually(lambda: set(membership._transports) == reached, "its new address")
        assert using(a, 3)


async def test_a_learner_is_not_counted_before_it_has_been_filled(tmp_path: Path) -> None:
    """One that grants nothing cannot stand in for a member that is away."""
    async with (
        open_box(tmp_path, 3, 2, 2, max_ttl_s=2.0) as box,
        box.node(step=STEP, lease_ttl_s=0.5) as a,
    ):
        await box.own(a)
        new = (*box.spec.replicas[1:], box.newcomer())
        joint = await join(box, new, 2, 2)
        await eventually(lambda: using(a, 2))
        a.links[1].fail()
        await eventually(lambda: not a.holds_lease(), "the lease to lapse")
        await copy(box, joint, list(box.spec.replicas[:2]), new[2])
        assert not a.holds_lease()
        await adopt(box, joint, new[2])
        await eventually(a.holds_lease)
