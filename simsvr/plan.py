"""What a run is made of, drawn from its seed: sizes, speeds, which faults and how often.

Pure. A plan says nothing about when what happens; that comes from the same seed, step by step.
"""

import random
from dataclasses import dataclass, field, replace

from allocsvr.ledger import VECTOR_FROM

MAP_KINDS = ("kill_map", "pause_map", "map_lies", "wipe_map", "kill_arbiter", "pause_arbiter")
"""Faults that touch neither nodes nor replicas nor what is between them."""

FORGETTING = ("wipe_map", "forget")
"""Faults by which the map forgets where sections are: an operator would have to find that out."""

PLOT_KINDS = (
    "overthrow",
    "partition",
    "slow_news",
    "freeze",
    "reboot",
    "leave_behind",
    "catch_up",
    "overtaken",
    "forget",
)
"""Those of plots.py: they are the more telling the less they are disturbed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Times in seconds of true time.

    uids: those that callers use; skew: how much more often the first of them than the others;
    resharding: there is a second Set, and sections move between the two;
    reforming: replicas are replaced, added and taken away;
    advances: the share of calls that raise uids to a floor;
    wild: clocks jump and run off beyond max_drift, so that only SEQ-2, SEQ-3, NRW-* and FENCE-1 are
    promised; faulty_s: how long faults are begun; calm_s: how long they are over at the end.
    """

    seed: int
    set_name: str = "set-0"
    sections: int = 6
    section_size: int = 40
    stores: int = 3
    r: int = 2
    w: int = 2
    nodes: int = 3
    arbiters: int = 2
    clients: int = 2
    callers: int = 4
    step: int = 40
    lease_ttl_s: float = 2.0
    replica_timeout_s: float = 3.0
    repair_period_s: float = 5.0
    max_drift: float = 0.01
    think_s: float = 0.08
    uids: tuple[int, ...] = ()
    skew: float = 0.0
    advances: float = 0.0
    wild: bool = False
    faulty_s: float = 18.0
    calm_s: float = 12.0
    faults_every_s: float = 1.2
    kinds: tuple[str, ...] = field(default_factory=tuple)
    vector_from: int = VECTOR_FROM
    resharding: bool = False
    reforming: bool = False

    @property
    def map_alone(self) -> bool:
        """Only the map and the arbiters suffer: who serves goes on serving (LEASE-2)."""
        return bool(self.kinds) and set(self.kinds) <= set(MAP_KINDS)

    @property
    def uid_limit(self) -> int:
        return self.sections * self.section_size


def drawn(seed: int, kinds: tuple[str, ...]) -> Plan:
    """The plan of a seed. kinds: every fault there is; a run has some of them."""
    rng = random.Random(f"plan {seed}")
    sections = rng.choice((2, 4, 6, 6, 8))
    size = rng.choice((10, 40, 300))
    uids = []
    for section in range(sections):
        first = section * size
        uids += [first, first + size - 1, first + rng.randrange(size)]
    chosen = _mixture(rng.random(), kinds)
    resharding = random.Random(f"resharding {seed}").random() < 0.34
    reforming = not resharding and random.Random(f"reforming {seed}").random() < 0.38
    plan = Plan(
        seed,
        sections=sections,
        section_size=size,
        nodes=rng.choice((2, 3, 3, 4)),
        clients=rng.choice((1, 2, 2)),
        callers=rng.choice((2, 3, 4)),
        step=rng.choice((8, 40, 40, 200)),
        think_s=rng.choice((0.05, 0.1, 0.2)),
        uids=tuple(dict.fromkeys(uids)),
        skew=rng.choice((0.0, 0.0, 0.8)),
        wild=rng.random() < 0.1,
        faulty_s=rng.choice((6.0, 10.0, 16.0)),
        faults_every_s=rng.choice((0.4, 0.8, 1.6)),
        kinds=tuple(rng.sample(chosen, min(len(chosen), rng.randint(3, 9)))),
        stores=3,
        vector_from=rng.choice((1, 1, VECTOR_FROM)),
        advances=rng.choice((0.0, 0.0, 0.1)),
    )
    if not (resharding or reforming):
        return plan
    lasting = tuple(kind for kind in plan.kinds if kind not in FORGETTING)
    return replace(plan, kinds=lasting, resharding=resharding, reforming=reforming)


def _mixture(share: float, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Where a run takes its faults from: most from all, some from plots or the map alone."""
    if share < 0.55:
        return kinds
    return PLOT_KINDS if share < 0.85 else MAP_KINDS if share < 0.92 else ()
