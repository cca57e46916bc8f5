"""An operator who gives the first Set other replicas, or more or fewer of them.

Sizes are such that a Set gets over the loss of one replica, as that is what runs do to it. A job
that failed between two versions is taken up again, by another that wants the same.
"""

import random
from collections.abc import Sequence
from functools import partial
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
    rng = random.Random(f"replicas {world.plan.seed}")
    await operating.operate(world, rng, _Reformer(world, rng).begin)


class _Reformer:
    """spares: stores that were started in good time, so that their first grace is over by now."""

    def __init__(self, world: "World", rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._spares: list[Replica] = []
        self._shrinking = random.Random(f"shrinking {world.plan.seed}")
        self._smaller: Reform | None = None

    def begin(self, name: str) -> Job | None:
        """The next job."""
        world, rng = self._world, self._rng
        if self._smaller is not None:
            smaller, self._smaller = self._smaller, None
            return self._shrunk(name, smaller)
        if rng.random() < 0.6:
            self._prepare()
            return None
        key = set_key(world.plan.set_name)
        held = world.map_disk.read_true(key).entries.get(key)
        if held is None:
            return None
        spec = SetSpec.from_json(held.value)
        if world.plan.kinds and not spec.joint and self._prepare_to_shrink(spec):
            return None
        reform = _finishing(spec) if spec.joint else self._changed(spec)
        if reform is None:
            return None
        names = [one.name for one in reform.replicas]
        world.note("operator", f"wants {names}, R {reform.r}, W {reform.w}")
        if world.plan.kinds:
            self._disturb()
        return Job(name, State.RUNNING, "operator", 0, reform=reform)

    def _prepare(self) -> None:
        world = self._world
        if len(self._spares) < 2 and len(world.disks) < MOST_STORES:
            self._spares.append(world.new_store())

    def _changed(self, spec: SetSpec) -> Reform | None:
        """One more, one less, or as many, of whom one or two are new."""
        rng = self._rng
        size = rng.choice((3, 3, 4))
        leaving = self._leaving(spec)[: rng.choice((1, 1, 2))]
        if size > len(spec.replicas) and rng.random() < 0.7:
            leaving = []
        staying = [one for one in spec.replicas if one not in leaving][:size]
        missing = size - len(staying) - len(self._spares)
        if len(self._world.disks) + missing > MOST_STORES:
            return None
        newcomers = [self._newcomer() for _ in range(size - len(staying))]
        r, w = rng.choice(SIZES[size])
        if size == 4 and self._shrinking.random() < 0.6:
            r, w = SIZES[4][1]
        return Reform(spec.name, (*staying, *newcomers), r, w)

    # -- those who stay have missed what those who leave know

    def _prepare_to_shrink(self, spec: SetSpec) -> bool:
        """Where rule 2 has those who stay written to though nobody is new: have them miss raises,
        as nodes do not reach them for a while; then one of them is left out.
        """
        rng, staying = self._shrinking, spec.replicas[1:]
        r, w = SIZES[3][0]
        if len(staying) != 3 or len(spec.replicas) - spec.w < r or rng.random() < 0.2:
            return False
        blind = rng.sample([one.name for one in staying], len(staying) + 1 - spec.w)
        nodes = self._world.faults.named("node")
        pairs = [pair for n in nodes for s in blind for pair in ((n, s), (s, n))]
        for one, other in pairs:
            self._world.network.set_weather(one, other, Weather(cut=True))
        self._world.note("network", f"nodes are cut off from {blind}")
        self._smaller = Reform(spec.name, staying, r, w)
        self._world.faults.later(rng.uniform(0.5, 2.5), lambda: _mend(self._world.network, pairs))
        return True

    def _shrunk(self, name: str, reform: Reform) -> Job:
        """The job for it; often some owner dies, and the next one asks who was left."""
        world, rng = self._world, self._shrinking
        node = rng.choice(world.faults.named("node"))
        world.note("operator", f"leaves one out: {[one.name for one in reform.replicas]}")
        world.faults.later(rng.uniform(0.0, 0.3), lambda: world.kill(node))
        world.faults.later(rng.uniform(1.0, 3.0), lambda: world.restart(node))
        return Job(name, State.RUNNING, "operator", 0, reform=reform)

    def _newcomer(self) -> Replica:
        return self._spares.pop(0) if self._spares else self._world.new_store()

    def _leaving(self, spec: SetSpec) -> list[Replica]:
        """Whoever is spoilt first, as operators do, but not always."""
        rng = self._rng
        found = rng.sample(spec.replicas, len(spec.replicas))
        spoilt = f"store-{self._world.faults.spoilt}"
        if rng.random() < 0.8:
            found.sort(key=lambda one: one.name != spoilt)
        return found

    # -- what happens meanwhile

    def _disturb(self) -> None:
        """A change takes some tens of milliseconds. What else is done to this cluster often comes
        just then; or it takes seconds, as the arbiters are so far from the replicas, or die.
        """
        world, rng, faults = self._world, self._rng, self._world.faults
        within_s = 0.06
        if not world.plan.map_alone and rng.random() < 0.5:
            within_s = 1.0
            self._slow_down()
        if rng.random() < 0.6:
            kind = rng.choice(world.plan.kinds)
            faults.later(rng.uniform(0.0, within_s), lambda: faults.begin(kind))
        if rng.random() < 0.4:
            faults.later(rng.uniform(0.01, within_s), self._leave_alone)

    def _slow_down(self) -> None:
        world, rng = self._world, self._rng
        slow = Weather(least_ns=int(rng.uniform(0.01, 0.2) * 1e9), excess_ns=50_000_000)
        stores = [name for name in world.places if name.startswith("store")]
        pairs = [(f"arbiter-{i}", store) for i in range(world.plan.arbiters) for store in stores]
        for arbiter, store in pairs:
            world.network.set_weather(arbiter, store, slow)
        world.note("network", f"{slow.told()} from arbiters to stores")
        world.faults.later(rng.uniform(0.5, 4.0), lambda: _mend(world.network, pairs))

    def _leave_alone(self) -> None:
        """All arbiters die, wherever the job is just then."""
        world = self._world
        for index in range(world.plan.arbiters):
            world.kill(f"arbiter-{index}")
            after_s = self._rng.uniform(0.3, 4.0)
            world.network.at(int(after_s * 1e9), partial(world.restart, f"arbiter-{index}"))


def _mend(network: Network, pairs: Sequence[tuple[str, str]]) -> None:
    for one, other in pairs:
        network.set_weather(one, other, None)


def _finishing(spec: SetSpec) -> Reform | None:
    joint = spec.joint
    return Reform(spec.name, joint.replicas, joint.r, joint.w) if joint else None
