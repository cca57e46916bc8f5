"""Several arbiters, and maps that fail them: one leads, the next one completes what it left."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from arbiter_world import Meddler, World, eventually
from arbitersvr.detection import Outcome
from clustermap import placement
from clustermap.coordinator import RELIST_S
from clustermap.embedded import EmbeddedCoordinator
from clustermap.model import Assignments

A_FEW_ROUNDS_S = 0.3


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    coordinator = await EmbeddedCoordinator.open(tmp_path)
    async with World(coordinator) as world:
        yield world
    await coordinator.aclose()


async def test_of_several_exactly_one_leads_and_the_next_takes_over_when_it_stops(
    world: World,
) -> None:
    arbiters = [world.arbiter() for _ in range(3)]
    await eventually(lambda: any(one.leads for one in arbiters), "an election")
    for left in (2, 1, 0):
        await asyncio.sleep(0.05)
        leading = [one for one in arbiters if one.leads]
        assert len(leading) == 1
        assert leading[0].count("leader") == 1
        await leading[0].stop()
        assert leading[0].count("leader") == 0
        arbiters.remove(leading[0])
        if left:
            await eventually(lambda: any(one.leads for one in arbiters), "a successor")


async def _death(world: World) -> None:
    await world.die(2)


async def _drain(world: World) -> None:
    await world.come(2, draining=True)


async def _release(world: World) -> None:
    await world.change(lambda d: placement.unassign(d, 0, 14))


async def _refusal(world: World) -> None:
    await world.change(lambda d: placement.raise_floor(d, 0, 29, 50))


async def _death_of_an_heir(world: World) -> None:
    heir = world.node(3).owner
    await world.die(3)
    await world.change(lambda d: placement.mark_leaving(d, 0, 4, heir))


CHANGES: dict[str, Callable[[World], Awaitable[None]]] = {
    "death": _death,
    "drain": _drain,
    "release": _release,
    "refusal": _refusal,
    "death of an heir": _death_of_an_heir,
}


def done(document: Assignments, change: str) -> bool:
    owners = {entry.incarnation for entry in document.entries}
    heirs = {e.successor.incarnation for e in document.entries if e.successor}
    whole = sum(World.counts(document).values()) == 30
    if change == "drain":
        return whole and all(e.leaving for e in document.entries if e.incarnation == 2)
    if change == "death of an heir":
        return whole and 3 not in owners | heirs
    return whole and not document.floors and (change != "death" or 2 not in owners)


@pytest.mark.parametrize("written", [False, True], ids=["before it is written", "after it"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_leader_that_ends_in_the_middle_of_a_change_leaves_it_to_the_other(
    world: World, change: str, written: bool
) -> None:
    meddler = Meddler(world.coordinator)
    first = world.arbiter(meddler)
    await eventually(lambda: first.leads, "an election")
    await world.come(1, 2, 3)
    await world.until_owned_by(1, 2, 3)
    second = world.arbiter()
    meddler.writes_pass.clear()
    begun = meddler.begun
    await CHANGES[change](world)
    await eventually(lambda: meddler.begun > begun, "a write")
    if written:
        meddler.lose_answers = 1
        meddler.writes_pass.set()
        await eventually(lambda: not meddler.lose_answers, "a lost answer")
    await first.stop()
    await eventually(lambda: second.leads, "a successor")
    await world.until(lambda d: done(d, change), f"{change} is not completed")


async def test_of_two_that_both_think_they_lead_only_the_elected_one_can_write(
    world: World,
) -> None:
    meddler = Meddler(world.coordinator, deaf=True)
    stale = world.arbiter(meddler)
    await world.come(1, 2, 3)
    await world.until_owned_by(1, 2, 3)
    assert stale.leads
    elected = world.arbiter()
    # What it writes from now on is held up until it has been deposed, which nobody tells it.
    meddler.writes_pass.clear()
    begun = meddler.begun
    await world.die(2)
    await eventually(lambda: meddler.begun > begun, "a write of the stale one")
    await meddler.leaderships[0].resign()
    await eventually(lambda: elected.leads, "the other's election")
    assert stale.leads
    document = await world.until_owned_by(1, 3)
    meddler.writes_pass.set()
    await eventually(lambda: meddler.refused == 1, "its refusal")
    await eventually(lambda: not stale.leads, "that it steps down")
    assert await world.look() == document
    assert elected.leads and not stale.task.done()


async def test_what_a_deposed_arbiter_has_on_its_way_is_refused_though_nothing_else_has_changed(
    world: World,
) -> None:
    meddler = Meddler(world.coordinator, deaf=True)
    stale = world.arbiter(meddler)
    await world.come(1, 2)
    before = await world.until_owned_by(1, 2)
    meddler.writes_pass.clear()
    begun = meddler.begun
    await world.die(2)
    await eventually(lambda: meddler.begun > begun, "a write of the stale one")
    await meddler.leaderships[0].resign()
    elected = await world.coordinator.elect("arbiter", b"one that does nothing")
    meddler.writes_pass.set()
    await eventually(lambda: meddler.refused == 1, "its refusal")
    await eventually(lambda: not stale.leads, "that it steps down")
    assert await world.look() == before
    await elected.resign()
    await world.until_owned_by(1)


async def test_a_watch_that_shows_nothing_is_made_up_for_by_reading_after_a_refusal(
    world: World,
) -> None:
    meddler = Meddler(world.coordinator)
    world.arbiter(meddler)
    await world.come(1, 2)
    await world.until_owned_by(1, 2)
    meddler.writes_pass.clear()
    begun = meddler.begun
    await world.die(2)
    await eventually(lambda: meddler.begun > begun, "a write")
    meddler.blind = True
    await world.change(lambda d: placement.raise_version(d, d.version + 7))
    meddler.writes_pass.set()
    # Far sooner than the map is listed again (clustermap.coordinator.RELIST_S).
    async with asyncio.timeout(RELIST_S / 2):
        await world.until_owned_by(1)
    assert meddler.refused == 1


async def test_a_leader_that_hears_of_its_loss_stops_at_once_and_stands_again(
    world: World,
) -> None:
    meddler = Meddler(world.coordinator)
    first = world.arbiter(meddler)
    await eventually(lambda: first.leads, "an election")
    await meddler.leaderships[0].resign()
    await eventually(lambda: len(meddler.leaderships) == 2 and first.leads, "another election")
    await world.come(1)
    await world.until_owned_by(1)


async def test_a_node_that_comes_back_while_it_is_being_replaced_keeps_its_sections(
    world: World,
) -> None:
    meddler = Meddler(world.coordinator)
    running = world.arbiter(meddler)
    await world.come(1, 2, 3)
    before = await world.until_owned_by(1, 2, 3)
    meddler.writes_pass.clear()
    begun = meddler.begun
    await world.die(2)
    await eventually(lambda: meddler.begun > begun, "a write")
    world.prober.outcomes[2] = Outcome.ALIVE
    await world.come(2)
    meddler.writes_pass.set()
    await eventually(lambda: running.count("changes_total", outcome="refused") == 1, "a refusal")
    await asyncio.sleep(A_FEW_ROUNDS_S)
    assert await world.look() == before


async def test_with_the_map_down_nothing_moves_and_afterwards_everything_goes_on(
    world: World,
) -> None:
    meddler = Meddler(world.coordinator)
    running = world.arbiter(meddler)
    await world.come(1, 2, 3)
    before = await world.until_owned_by(1, 2, 3)
    assert running.arbiter.reachable.is_set()
    meddler.break_down()
    await world.die(2)
    await asyncio.sleep(A_FEW_ROUNDS_S)
    assert await world.look() == before
    assert not running.task.done()
    await eventually(lambda: not running.arbiter.reachable.is_set(), "that it says so")
    meddler.recover()
    await world.until_owned_by(1, 3)
    await eventually(running.arbiter.reachable.is_set, "that it says so")


async def test_an_arbiter_that_starts_while_the_map_is_down_is_elected_later(world: World) -> None:
    meddler = Meddler(world.coordinator)
    meddler.break_down()
    running = world.arbiter(meddler)
    await asyncio.sleep(A_FEW_ROUNDS_S)
    assert not running.leads and not running.task.done()
    meddler.recover()
    await world.come(1)
    await world.until_owned_by(1)


async def test_a_change_whose_outcome_is_unknown_is_not_made_twice(world: World) -> None:
    meddler = Meddler(world.coordinator)
    world.arbiter(meddler)
    meddler.lose_answers = 1
    await world.come(1, 2, 3)
    document = await world.until_owned_by(1, 2, 3)
    await asyncio.sleep(A_FEW_ROUNDS_S)
    assert await world.look() == document
    assert {entry.epoch for entry in document.entries} == {1}


async def test_one_who_writes_at_the_same_time_delays_a_change_and_loses_nothing(
    world: World,
) -> None:
    world.arbiter()
    await world.come(1, 2, 3)
    await world.until_owned_by(1, 2, 3)

    async def scribble() -> None:
        for epoch in range(100, 160):
            await world.change(lambda d, e=epoch: placement.raise_version(d, d.version + e))  # type: ignore[misc]

    writing = asyncio.create_task(scribble())
    await world.die(2)
    await world.until_owned_by(1, 3)
    await writing


async def test_a_new_arbiter_probes_for_itself_before_it_gives_anybody_up(world: World) -> None:
    first = world.arbiter()
    await world.come(1, 2)
    before = await world.until_owned_by(1, 2)
    await world.go(1)
    await eventually(lambda: world.prober.asked.get(1, 0) > 2, "probing")
    second = world.arbiter()
    await first.stop()
    await eventually(lambda: second.leads, "a successor")
    asked = world.prober.asked[1]
    await eventually(lambda: world.prober.asked[1] > asked + 2, "probing by the new one")
    assert await world.look() == before
    world.prober.outcomes[1] = Outcome.GONE
    await world.until_owned_by(2)
