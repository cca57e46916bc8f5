"""An operator who moves sections between two Sets, and back."""

import random
from functools import partial
from typing import TYPE_CHECKING

from clustermap.jobs import Job, Move, State
from clustermap.model import SetSpec, set_key
from clustermap.ranges import Range
from clustermap.spans import overlaps
from simsvr import operating

if TYPE_CHECKING:
    from simsvr.world import World


async def operate(world: "World") -> None:
    """Until the run ends; see operating."""
    rng = random.Random(f"moves {world.plan.seed}")
    await operating.operate(world, rng, partial(_move, world, rng))


def _move(world: "World", rng: random.Random, name: str) -> Job | None:
    """Some of the sections that one of the two Sets has, to the other."""
    names = [spec.name for spec in world.specs]
    source, target = names if rng.random() < 0.6 else names[::-1]
    held = world.map_disk.read_true(set_key(source)).entries.get(set_key(source))
    if held is None:
        return None
    first, last = sorted(rng.randrange(world.plan.sections) for _ in range(2))
    shared = overlaps(SetSpec.from_json(held.value).ranges, [Range(first, last)])
    ranges = tuple(Range(low, high) for _, _, low, high in shared)
    if not ranges:
        return None
    own = (1 << 40) + world.incarnation()
    move = Move(source, target, ranges, own, rng.choice((1, 2, 8)))
    world.note("operator", f"moves {[str(span) for span in ranges]} from {source} to {target}")
    return Job(name, State.RUNNING, "operator", 0, move=move)
