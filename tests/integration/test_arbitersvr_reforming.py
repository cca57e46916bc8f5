"""Other replicas for a Set, against real stores: every step by another arbiter, and taken back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from arbiter_world import World
from arbitersvr.jobs import Journal
from arbitersvr.reforming import Reforming
from clustermap.embedded import EmbeddedCoordinator
from clustermap.jobs import Job, Reform, State, job_key
from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    Joint,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.ranges import Range
from seqsvr.v1 import store_pb2 as pb
from some_stores import SECTIONS, Stores
from storesvr_world import fence, raising, scan

KEY, NAME = job_key("j"), "set-0"


class Changed:
    """A Set of three stores that holds something, a fourth one, and the map."""

    def __init__(self, world: World, stores: Stores) -> None:
        self.world, self.stores = world, stores

    @property
    def replicas(self) -> tuple[Replica, ...]:
        identities = [service.identity for service in self.stores.services]
        pairs = zip(identities, self.stores.addresses, strict=True)
        return tuple(Replica(one.replica, where, one.store_id) for one, where in pairs)

    async def begin(self, *, old: tuple[int, ...] = (0, 1, 2)) -> None:
        spec = SetSpec(
            NAME, (Range(0, SECTIONS - 1),), tuple(self.replicas[i] for i in old), *sizes(old)
        )
        await self.world.put(
            {
                CLUSTER_KEY: Cluster("c1", 1_000, SECTIONS * 1_000).to_json(),
                set_key(NAME): spec.to_json(),
                assignments_key(NAME): Assignments(NAME).to_json(),
            }
        )

    async def ask(self, new: tuple[int, ...], state: State = State.RUNNING) -> None:
        reform = Reform(NAME, tuple(self.replicas[i] for i in new), *sizes(new))
        await self.world.put({KEY: Job("j", state, "ann", 1, reform=reform).to_json()})

    async def say(self, state: State) -> None:
        await self.world.put({KEY: replace(await self.job(), state=state).to_json()})

    async def job(self) -> Job:
        return Job.from_json((await self.world.coordinator.get(KEY)).entries[KEY].value)

    async def spec(self) -> SetSpec:
        key = set_key(NAME)
        return SetSpec.from_json((await self.world.coordinator.get(key)).entries[key].value)

    async def ended(self) -> Job:
        async with asyncio.timeout(60):
            while (job := await self.job()).state in (State.RUNNING, State.ABORTING):
                await asyncio.sleep(0.01)
        return job

    async def held(self, index: int) -> list[pb.StoredRecord]:
        request = scan(0, SECTIONS - 1, with_snapshots=True)
        request.header.membership = self.stores.services[index].identity.membership
        return list((await self.stores.services[index].scan(request)).records)


def sizes(of: tuple[int, ...]) -> tuple[int, int]:
    """R and W of so many."""
    return len(of) // 2 + 1, len(of) // 2 + 1


class Forgetful:
    """The first FORGOTTEN steps at each state of the Set by arbiters that know of none before."""

    FORGOTTEN = 3

    def __init__(self) -> None:
        self.memberships: list[tuple[int, bool]] = []
        self._work = Reforming()
        self._steps: dict[bytes, int] = {}

    async def step(self, journal: Journal) -> float:
        raw = journal.entries[set_key(NAME)].value
        spec = SetSpec.from_json(raw)
        if (spec.membership, spec.joint is not None) not in self.memberships:
            self.memberships.append((spec.membership, spec.joint is not None))
        self._steps[raw] = self._steps.get(raw, 0) + 1
        if self._steps[raw] <= self.FORGOTTEN:
            self._work = Reforming()
        return await self._work.step(journal)


@pytest.fixture
async def changed(tmp_path: Path) -> AsyncIterator[Changed]:
    (tmp_path / "map").mkdir()
    coordinator = await EmbeddedCoordinator.open(tmp_path / "map")
    stores = Stores(tmp_path / "stores")
    for index in range(5):
        await stores.add(f"store-{index}")
        if index == 2:
            await stores.use()
    async with World(coordinator) as world:
        made = Changed(world, stores)
        await made.begin()
        yield made
    await coordinator.aclose()
    await stores.aclose()


async def test_a_replica_is_replaced_by_one_arbiter_after_the_other(
    changed: Changed,
) -> None:
    """The newcomer knows what W of the old ones did, promises too; the old one is told."""
    for service in changed.stores.services[:2]:
        await service.raise_max(raising(0xA1, (29, 7, 55)))
    work = Forgetful()
    await changed.ask((1, 2, 3))
    changed.world.arbiter(kinds={"reform": work})
    job = await changed.ended()
    assert job.state is State.DONE, job.note
    assert work.memberships == [(1, False), (2, True), (3, False)]
    spec = await changed.spec()
    assert spec.replicas == tuple(changed.replicas[i] for i in (1, 2, 3))
    assert not spec.learners and spec.joint is None
    known = {one.section: (one.max_seq, one.promised) for one in await changed.held(3)}
    assert known == {**dict.fromkeys(range(5), (10, 1)), 29: (55, 7)}
    counted = [service.identity for service in changed.stores.services]
    assert not counted[3].learning and counted[0].retired
    assert {one.membership for one in counted[1:4]} == {3}


async def test_newcomers_refuse_what_was_refused_of_sections_that_have_gone_to_another_set_fence_1(
    changed: Changed,
) -> None:
    """Else an owner of before, which woke up and has heard of the new replicas but not of the move,
    would serve and raise beside the one in the other Set; and so would one of a wrong map."""
    old, new = changed.stores.services[:3], changed.stores.services[3:]
    for service in old:
        await service.raise_max(raising(0xA1, (20, 5, 1000)))
        request = scan(0, 0)
        sealing = pb.SealRequest(header=request.header, entries=[pb.SealEntry(section=20, epoch=9)])
        assert not (await service.seal(sealing)).refused
    spec = await changed.spec()
    await changed.world.put({set_key(NAME): replace(spec, ranges=(Range(0, 19),)).to_json()})
    await changed.ask((2, 3, 4))
    changed.world.arbiter(kinds={"reform": Forgetful()})
    assert (await changed.ended()).state is State.DONE
    for service in new:
        late, wrong = raising(0xA1, (20, 5, 2000)), fence(20, 20, 100)
        late.header.membership = wrong.header.membership = 3
        assert [one.epoch for one in (await service.raise_max(late)).refused] == [9]
        assert list((await service.fence(wrong)).granted) == [False]
    assert (await changed.job()).reform == replace(
        Reform(NAME, tuple(changed.replicas[i] for i in (2, 3, 4)), 2, 2),
        copied=20,
        leaving=changed.replicas[:2],
    )


@pytest.mark.parametrize("new", [(0, 1, 2, 3, 4), (0, 1), (0,)])
async def test_a_set_grows_and_shrinks(changed: Changed, new: tuple[int, ...]) -> None:
    await changed.ask(new)
    changed.world.arbiter(kinds={"reform": Forgetful()})
    assert (await changed.ended()).state is State.DONE
    spec = await changed.spec()
    assert [one.name for one in spec.replicas] == [f"store-{i}" for i in new]
    assert (spec.r, spec.w) == sizes(new)
    for index in new:
        if index > 2:
            assert {one.max_seq for one in await changed.held(index)} == {10}


async def test_a_dead_replica_is_replaced(changed: Changed) -> None:
    await changed.stores.servers[0].stop(0)
    await changed.ask((1, 2, 3))
    changed.world.arbiter(kinds={"reform": Forgetful()})
    assert (await changed.ended()).state is State.DONE
    assert len(await changed.held(3)) == 5


async def test_an_abort_before_the_joint_version_leaves_everything_as_it_was(
    changed: Changed,
) -> None:
    before = await changed.spec()
    await changed.ask((1, 2, 3))
    await changed.stores.servers[3].stop(0)  # so that it waits for the newcomer
    changed.world.arbiter(kinds={"reform": Forgetful()})
    await until_note(changed, "waits for store-3")
    assert (await changed.spec()).learners == (changed.replicas[3],)
    await changed.say(State.ABORTING)
    assert (await changed.ended()).state is State.ABORTED
    assert await changed.spec() == before


async def test_an_abort_of_the_joint_version_goes_back_to_the_old_ones(changed: Changed) -> None:
    """The newcomer is at the joint version already, and may not be counted after it."""
    before = await changed.spec()
    joint = Joint(tuple(changed.replicas[i] for i in (1, 2, 3)), 2, 2)
    await changed.ask((1, 2, 3), State.PAUSED)
    await changed.world.put({set_key(NAME): replace(before, joint=joint, membership=2).to_json()})
    changed.world.arbiter(kinds={"reform": Forgetful()})
    await changed.say(State.ABORTING)
    assert (await changed.ended()).state is State.ABORTED
    assert await changed.spec() == replace(before, membership=3)
    identities = [service.identity for service in changed.stores.services]
    assert {one.membership for one in identities[:3]} == {3}
    assert identities[3].retired


@pytest.mark.parametrize("new", [(0, 1), (0, 1, 3)])
async def test_a_map_that_is_older_than_the_memberships_of_its_stores_is_not_built_upon_seq_2(
    changed: Changed, new: tuple[int, ...]
) -> None:
    """All of the Set was replaced, the old stores were not there to be told; then the map was
    restored. They would count themselves for the joint version of then, and begin from old
    numbers."""
    before = await changed.spec()
    for replica, service in zip(changed.replicas[:3], changed.stores.services[:3], strict=True):
        header = pb.StoreHeader(cluster="c1", set=NAME, membership=2)
        await service.adopt(pb.AdoptRequest(header=header, store_id=replica.store_id))
    await changed.ask(new)
    changed.world.arbiter(kinds={"reform": Forgetful()})
    job = await changed.ended()
    assert job.state is State.FAILED and "the map is behind it" in job.note
    assert replace(await changed.spec(), learners=()) == before


async def test_a_store_of_another_set_is_no_newcomer(changed: Changed) -> None:
    where = await changed.stores.add("store-9", "set-9")
    strange = Replica("store-9", where, changed.stores.services[-1].identity.store_id)
    reform = Reform(NAME, (*changed.replicas[1:3], strange), 2, 2)
    await changed.world.put({KEY: Job("j", State.RUNNING, "ann", 1, reform=reform).to_json()})
    changed.world.arbiter(kinds={"reform": Forgetful()})
    job = await changed.ended()
    assert job.state is State.FAILED and "cannot be a replica" in job.note


@pytest.mark.parametrize("state", [State.RUNNING, State.ABORTING])
async def test_nobody_counts_alone_before_the_version_before_the_joint_one_is_over(
    changed: Changed, state: State
) -> None:
    """Two of three old ones do not answer: a quorum of the old version may still be there."""
    joint = Joint(tuple(changed.replicas[i] for i in (1, 2, 3)), 2, 2)
    before = await changed.spec()
    await changed.ask((1, 2, 3), state)
    await changed.stores.servers[0].stop(0)
    await changed.stores.servers[1].stop(0)
    await changed.world.put({set_key(NAME): replace(before, joint=joint, membership=2).to_json()})
    changed.world.arbiter(kinds={"reform": Forgetful()})
    await until_note(changed, "to adopt the joint version")
    await asyncio.sleep(1)
    assert (await changed.spec()).membership == 2
    identity = changed.stores.services[3].identity
    assert identity.learning or identity.membership == 1


async def until_note(changed: Changed, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in (await changed.job()).note:
            await asyncio.sleep(0.01)


async def test_a_newcomer_is_filled_under_the_joint_version_whatever_it_got_before(
    changed: Changed,
) -> None:
    """Nothing of the copy before: what was written since then must be in this one."""
    joint = Joint(tuple(changed.replicas[i] for i in (1, 2, 3)), 2, 2)
    spec = replace(await changed.spec(), joint=joint, membership=2)
    await changed.ask((1, 2, 3))
    await changed.world.put({set_key(NAME): spec.to_json()})
    changed.world.arbiter(kinds={"reform": Forgetful()})
    assert (await changed.ended()).state is State.DONE
    assert {(one.max_seq, one.promised) for one in await changed.held(3)} == {(10, 1)}
