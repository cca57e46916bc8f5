"""An operator who moves sections between two Sets, pauses, goes on, aborts, and moves them back.

By compare and swap past the network, as somebody does who is quick: what is tried here is the
arbiter, not the operator. Nothing is begun once faults are over, and nothing is left paused.
"""

import asyncio
import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from clustermap.jobs import ACTIVE, Job, Move, State, job_key
from clustermap.model import SetSpec, set_key
from clustermap.ranges import Range
from clustermap.spans import overlaps

if TYPE_CHECKING:
    from simsvr.world import World


async def operate(world: "World") -> None:
    """One job after the other until faults are over; then the last one is let go on."""
    rng = random.Random(f"moves {world.plan.seed}")
    number = 0
    while True:
        await asyncio.sleep(rng.choice((rng.uniform(0.002, 0.08), rng.uniform(0.2, 1.5))))
        job = _read(world, number)
        if world.healed:
            if job is not None and job.state is State.PAUSED:
                _say(world, number, State.RUNNING)
        elif job is None or job.state not in {*ACTIVE, State.PAUSED}:
            number += _begin(world, rng, number + 1)
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


def _begin(world: "World", rng: random.Random, number: int) -> bool:
    """Whether there is anything to be moved, and a map that takes it."""
    names = [spec.name for spec in world.specs]
    source, target = names if rng.random() < 0.6 else names[::-1]
    held = world.map_disk.read_true(set_key(source)).entries.get(set_key(source))
    if held is None or world.map_disk.server is None:
        return False
    first, last = sorted(rng.randrange(world.plan.sections) for _ in range(2))
    shared = overlaps(SetSpec.from_json(held.value).ranges, [Range(first, last)])
    ranges = tuple(Range(low, high) for _, _, low, high in shared)
    if not ranges:
        return False
    own = (1 << 40) + world.incarnation()
    move = Move(source, target, ranges, own, rng.choice((1, 2, 8)))
    job = Job(f"j{number}", State.RUNNING, "operator", 0, move=move)
    key = job_key(job.id)
    world.note("operator", f"moves {[str(span) for span in ranges]} from {source} to {target}")
    return world.map_disk.server.transact({key: 0}, {key: job.to_json()}) is not None


def _read(world: "World", number: int) -> Job | None:
    key = job_key(f"j{number}")
    held = world.map_disk.read_true(key).entries.get(key)
    return Job.from_json(held.value) if held is not None else None


def _say(world: "World", number: int, state: State, *, undo: bool = False) -> None:
    key = job_key(f"j{number}")
    held = world.map_disk.read_true(key).entries[key]
    job = Job.from_json(held.value)
    if job.move is None or world.map_disk.server is None:
        return
    undone = replace(job.move, undo=undo and state is State.ABORTING)
    world.note("operator", f"{job.id}: {state.value}{' with undo' if undone.undo else ''}")
    new = replace(job, state=state, move=undone)
    world.map_disk.server.transact({key: held.revision}, {key: new.to_json()})
