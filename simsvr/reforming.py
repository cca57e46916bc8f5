"""An operator who gives the first Set other replicas, or more or fewer of them.

Sizes are such that a Set gets over the loss of one replica, as that is what runs do to it. A job
that failed between two versions is taken up again, by another that wants the same.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clustermap.jobs import Job, Reform, State
from clustermap.model import Replica, SetSpec, set_key
from simsvr import operating
from simsvr.network import Network, Weather

if TYPE_CHECKING:
    from simsvr.world import World

SIZES = {3: ((2, 2),), 4: ((2, 3), (3, 2))}
"""By number of replicas: R and W that may be chosen."""
MOST_STORES = 9


async def operate(world: "World") -> None:
    """Until the run ends; see operating."""
    await operating.operate(world, random.Random(f"replicas {world.plan.seed}"), _reform)


def _reform(world: "World", rng: random.Random, name: str) -> Job | None:
    if rng.random() < 0.6:
        return None
    key = set_key(world.plan.set_name)
    held = world.map_disk.read_true(key).entries.get(key)
    if held is None:
        return None
    spec = SetSpec.from_json(held.value)
    reform = _finishing(spec) if spec.joint else _changed(world, rng, spec)
    if reform is None:
        return None
    _disturb(world, rng)
    world.note("operator", f"wants {[r.name for r in reform.replicas]} {reform.r} {reform.w}")
    return Job(name, State.RUNNING, "operator", 0, reform=reform)


def _disturb(world: "World", rng: random.Random) -> None:
    """A change takes some tens of milliseconds. What else is done to this cluster often comes just
    then, or the arbiter and the replicas are so slow that it takes seconds.
    """
    faults, network = world.faults, world.network
    if world.plan.kinds and rng.random() < 0.6:
        kind = rng.choice(world.plan.kinds)
        faults.later(rng.uniform(0.0, 0.06), lambda: faults.begin(kind))
    if world.plan.kinds and not world.plan.map_alone and rng.random() < 0.5:
        slow = Weather(least_ns=int(rng.uniform(0.01, 0.2) * 1e9), excess_ns=50_000_000)
        stores = [name for name in world.places if name.startswith("store")]
        pairs = [(f"arbiter-{i}", store) for i in range(world.plan.arbiters) for store in stores]
        for arbiter, store in pairs:
            network.set_weather(arbiter, store, slow)
        world.note("network", f"{slow.told()} from arbiters to stores")
        faults.later(rng.uniform(0.5, 4.0), lambda: _mend(network, pairs))


def _mend(network: Network, pairs: Sequence[tuple[str, str]]) -> None:
    for one, other in pairs:
        network.set_weather(one, other, None)


def _finishing(spec: SetSpec) -> Reform | None:
    joint = spec.joint
    return Reform(spec.name, joint.replicas, joint.r, joint.w) if joint else None


def _changed(world: "World", rng: random.Random, spec: SetSpec) -> Reform | None:
    """One more, one less, or as many, of whom one or two are new."""
    size = rng.choice((3, 3, 4))
    leaving = _leaving(world, rng, spec)[: rng.choice((1, 1, 1, 2))]
    if size < len(spec.replicas):
        leaving = leaving[: rng.choice((1, 2))]
    staying = [one for one in spec.replicas if one not in leaving]
    if size > len(spec.replicas) and rng.random() < 0.7:
        staying = list(spec.replicas)
    missing = size - len(staying)
    if len(world.disks) + missing > MOST_STORES:
        return None
    replicas: Sequence[Replica] = [*staying[:size], *(world.new_store() for _ in range(missing))]
    r, w = rng.choice(SIZES[size])
    return Reform(spec.name, tuple(replicas), r, w)


def _leaving(world: "World", rng: random.Random, spec: SetSpec) -> list[Replica]:
    """Whoever is spoilt first, as operators do, but not always."""
    found = rng.sample(spec.replicas, len(spec.replicas))
    spoilt = f"store-{world.faults.spoilt}"
    if rng.random() < 0.8:
        found.sort(key=lambda one: one.name != spoilt)
    return found
