"""An operator who has one job done after the other, pauses it, lets it go on, or aborts it.

By compare and swap past the network, as somebody does who is quick: what is tried here is the
arbiter, not the operator. Nothing is begun once faults are over, and nothing is left paused.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from clustermap.jobs import ACTIVE, Job, State, job_key

if TYPE_CHECKING:
    from simsvr.world import World

Begin = Callable[[str], Job | None]
"""The next job, of that id; None: there is nothing to do, or the map does not take it."""


async def operate(world: "World", rng: random.Random, begin: Begin) -> None:
    """One job after the other until faults are over; then the last one is let go on."""
    number = 0
    while True:
        await asyncio.sleep(rng.choice((rng.uniform(0.002, 0.08), rng.uniform(0.2, 1.5))))
        job = _read(world, number)
        if world.healed:
            if job is not None and job.state is State.PAUSED:
                _say(world, number, State.RUNNING)
        elif job is None or job.state not in {*ACTIVE, State.PAUSED}:
            if world.map_disk.server is not None:
                number += _write(world, begin(f"j{number + 1}"))
        else:
            _meddle(world, rng, number, job)


def _meddle(world: "World", rng: random.Random, number: int, job: Job) -> None:
    luck = rng.random()
    if job.state is State.PAUSED:
        _say(world, number, State.RUNNING if luck < 0.7 else State.ABORTING, undo=luck < 0.85)
    elif job.state is State.RUNNING and luck < 0.15:
        _say(world, number, State.PAUSED)
    elif job.state is State.RUNNING and luck < 0.3:
        _say(world, number, State.ABORTING, undo=luck < 0.25)
    elif luck < 0.4 and not world.undisturbed:
        arbiter = f"arbiter-{rng.randrange(world.plan.arbiters)}"
        world.kill(arbiter)
        world.network.at(int(rng.uniform(0.1, 1.5) * 1e9), partial(world.restart, arbiter))


def _read(world: "World", number: int) -> Job | None:
    key = job_key(f"j{number}")
    held = world.map_disk.read_true(key).entries.get(key)
    return Job.from_json(held.value) if held is not None else None


def _write(world: "World", job: Job | None) -> bool:
    if job is None or world.map_disk.server is None:
        return False
    key = job_key(job.id)
    return world.map_disk.server.transact({key: 0}, {key: job.to_json()}) is not None


def _say(world: "World", number: int, state: State, *, undo: bool = False) -> None:
    key = job_key(f"j{number}")
    held = world.map_disk.read_true(key).entries[key]
    job = replace(Job.from_json(held.value), state=state)
    if world.map_disk.server is None:
        return
    if job.move is not None:
        job = replace(job, move=replace(job.move, undo=undo and state is State.ABORTING))
    undone = job.move is not None and job.move.undo
    world.note("operator", f"{job.id}: {state.value}{' with undo' if undone else ''}")
    world.map_disk.server.transact({key: held.revision}, {key: job.to_json()})
