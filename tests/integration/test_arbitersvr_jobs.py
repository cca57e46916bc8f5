"""Jobs at work: which steps are done, by whom, and what stops them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from arbiter_world import World, eventually
from arbitersvr.jobs import CannotBeDone, Journal
from clustermap.documents import encode
from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import ReplicaFailed
from clustermap.jobs import Job, Move, State, job_key
from clustermap.model import Assignments, assignments_key, set_key
from clustermap.ranges import Range

MOVE = Move("s", "t", (Range(0, 9),), 77, 1)


class Steps:
    """Work of so many steps; each is counted in the document, by `moved`."""

    def __init__(self, count: int = 3) -> None:
        self.count = count
        self.fails: list[Exception] = []
        self.during: Callable[[Journal], object] = lambda journal: None
        self.tried = 0

    async def step(self, journal: Journal) -> float:
        self.tried += 1
        if self.fails:
            raise self.fails.pop(0)
        job = journal.job
        assert job.move is not None
        if job.state is State.PAUSED:
            return 60.0
        if job.state is State.ABORTING:
            await journal.end(State.ABORTED, "taken back")
            return 0.0
        if job.move.moved == self.count:
            await journal.end(State.DONE, "all done")
            return 0.0
        done = self.during(journal)
        if asyncio.iscoroutine(done):
            await done
        moved = replace(job.move, moved=job.move.moved + 1)
        await journal.write({}, job=replace(job, move=moved))
        return 60.0  # news of the map come first


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    coordinator = await EmbeddedCoordinator.open(tmp_path)
    async with World(coordinator) as world:
        yield world
    await coordinator.aclose()


async def ask(world: World, state: State = State.RUNNING, name: str = "j") -> None:
    await world.put({job_key(name): Job(name, state, "ann", 1, move=MOVE).to_json()})


async def look(world: World, name: str = "j") -> Job:
    key = job_key(name)
    return Job.from_json((await world.coordinator.get(key)).entries[key].value)


async def say(world: World, state: State, name: str = "j") -> None:
    await world.put({job_key(name): replace(await look(world, name), state=state).to_json()})


async def until(world: World, holds: Callable[[Job], bool], name: str = "j") -> Job:
    found = await look(world, name)
    async with asyncio.timeout(30):
        while not holds(found := await look(world, name)):
            await asyncio.sleep(0.002)
    return found


async def test_all_steps_of_a_running_job_are_done_and_then_no_more(world: World) -> None:
    work = Steps()
    await ask(world)
    world.arbiter(kinds={"move": work})
    job = await until(world, lambda job: job.state is State.DONE)
    assert job.move is not None and job.move.moved == 3 and job.note == "all done"
    tried = work.tried
    await world.come(1)
    await world.until_owned_by(1)
    assert work.tried == tried == 4


async def test_a_job_that_is_only_planned_waits_for_its_start(world: World) -> None:
    work = Steps()
    await ask(world, State.PLANNED)
    world.arbiter(kinds={"move": work})
    await world.come(1)
    await world.until_owned_by(1)
    assert work.tried == 0
    await say(world, State.RUNNING)
    await until(world, lambda job: job.state is State.DONE)


async def test_a_pause_between_reading_and_writing_is_not_overwritten(world: World) -> None:
    work = Steps()

    async def pause(journal: Journal) -> None:
        if journal.job.move and journal.job.move.moved == 1:
            await say(world, State.PAUSED)

    work.during = pause
    await ask(world)
    world.arbiter(kinds={"move": work})
    job = await until(world, lambda job: job.state is State.PAUSED)
    assert job.move is not None and job.move.moved == 1
    await asyncio.sleep(0.1)
    assert await look(world) == job
    work.during = lambda journal: None
    await say(world, State.RUNNING)
    await until(world, lambda job: job.state is State.DONE)


async def test_an_abort_is_seen_between_two_steps(world: World) -> None:
    work = Steps(count=10**6)
    await ask(world)
    world.arbiter(kinds={"move": work})
    await until(world, lambda job: job.move is not None and job.move.moved > 2)
    while not await aborted(world):
        pass
    job = await until(world, lambda job: job.state is State.ABORTED)
    assert job.note == "taken back"


async def aborted(world: World) -> bool:
    held = (await world.coordinator.get(job_key("j"))).entries[job_key("j")]
    new = replace(Job.from_json(held.value), state=State.ABORTING).to_json()
    return bool(
        await world.coordinator.transact({job_key("j"): held.revision}, {job_key("j"): new})
    )


async def test_what_fails_for_a_while_is_tried_again(world: World) -> None:
    work = Steps()
    work.fails = [ReplicaFailed("TIMEOUT", "late"), TimeoutError(), ValueError("a fault of ours")]
    await ask(world)
    world.arbiter(kinds={"move": work})
    await until(world, lambda job: job.state is State.DONE)
    assert work.tried == 7


async def test_what_cannot_be_done_fails_with_its_reason_and_may_be_started_again(
    world: World,
) -> None:
    work = Steps()
    work.fails = [CannotBeDone("there is no such Set")]
    await ask(world)
    world.arbiter(kinds={"move": work})
    job = await until(world, lambda job: job.state is State.FAILED)
    assert job.note == "there is no such Set"
    await say(world, State.RUNNING)
    await until(world, lambda job: job.state is State.DONE)


async def test_a_job_of_a_kind_that_is_not_known_fails_and_says_so(world: World) -> None:
    await ask(world)
    world.arbiter()
    job = await until(world, lambda job: job.state is State.FAILED)
    assert "does not know how" in job.note


async def test_jobs_do_not_wait_for_each_other_nor_for_one_that_cannot_be_read(
    world: World,
) -> None:
    await world.put({job_key("broken"): encode({"id": "broken"})})
    for name in ("a", "b"):
        await ask(world, name=name)
    running = world.arbiter(kinds={"move": Steps()})
    for name in ("a", "b"):
        await until(world, lambda job: job.state is State.DONE, name)
    assert running.leads


async def test_a_note_is_written_now_and_then_and_always_at_the_end(world: World) -> None:
    class Talking(Steps):
        async def step(self, journal: Journal) -> float:
            for number in range(50):
                await journal.tell(f"note {number}")
            notes.append(journal.job.note)
            return await super().step(journal)

    notes: list[str] = []
    await ask(world)
    world.arbiter(kinds={"move": Talking()})
    job = await until(world, lambda job: job.state is State.DONE)
    assert job.note == "all done"
    assert notes[0] == "note 0"


async def test_one_who_was_deposed_writes_nothing(world: World) -> None:
    """Its successor has begun, and its own write, long under way, finds another leader."""
    held_up, go_on = asyncio.Event(), asyncio.Event()
    old = Steps(count=10**6)

    async def hang(_: Journal) -> None:
        held_up.set()
        await go_on.wait()

    old.during = hang
    await ask(world)
    first = world.arbiter(kinds={"move": old})
    await held_up.wait()
    led = [key for key in (await world.coordinator.get("")).entries if "elect" in key]
    assert led
    await first.stop()  # its step is cancelled with it
    go_on.set()
    new = Steps()
    world.arbiter(kinds={"move": new})
    job = await until(world, lambda job: job.state is State.DONE)
    assert job.move is not None and job.move.moved == 3
    assert old.tried == 1


async def test_a_transaction_expects_all_that_it_is_said_to_rest_on(world: World) -> None:
    class Resting(Steps):
        async def step(self, journal: Journal) -> float:
            if self.tried == 0:
                key = assignments_key("s")
                await world.put({key: Assignments("s", 5).to_json()})
                self.tried += 1
                await journal.write({}, key, set_key("s"), job=replace(journal.job, note="wrong"))
            return await super().step(journal)

    await ask(world)
    world.arbiter(kinds={"move": Resting()})
    job = await until(world, lambda job: job.state is State.DONE)
    assert job.note == "all done"
    await eventually(lambda: world.arbiters[0].count("changes_total", outcome="refused") >= 1)
