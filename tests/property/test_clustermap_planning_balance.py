"""Balancing by load comes to rest, and what it does on its way is bounded.

The world obeys at once: what is marked is handed over before the next round, and loads stay as they
are. Each round is one plan with a new reading of the loads.
"""

from math import ceil
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.model import Assignments, Replica, SetSpec
from clustermap.nodes import MAX_HOT, Load, Node
from clustermap.placement import hand_over, reassign
from clustermap.planning import Memory, plan
from clustermap.ranges import Range
from clustermap.scene import BALANCE, Limits, Scene
from clustermap.weights import IDLE_SET, MILLI

SECTIONS = 40
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), (Replica("store-0", "s:1", 1),), 1, 1)
LIMITS = Limits(balance_rounds=2)
AT_MOST = ceil(LIMITS.balance_share * SECTIONS)
IDLE = IDLE_SET // SECTIONS // MILLI  # numbers per second that an idle section counts as
ROUNDS = 400


class World:
    """Nodes that hand over at once, and report what callers ask of their sections."""

    def __init__(
        self, rates: list[int], owners: list[int], nodes: int, limits: Limits = LIMITS
    ) -> None:
        self.rates = rates
        self.limits = limits
        self.keys = range(1, nodes + 1)
        self.document = Assignments("s")
        for section, owner in enumerate(owners):
            node = Node(owner, f"n:{owner}", "s")
            self.document = reassign(self.document, section, section, node)
        self.memory = Memory()

    def held(self, key: int) -> list[int]:
        return [s for s in range(SECTIONS) if self.owner(s) == key]

    def owner(self, section: int) -> int:
        entry = self.document.owner(section)
        assert entry is not None
        return entry.incarnation

    def weight(self, key: int) -> int:
        return sum(IDLE + self.rates[s] for s in self.held(key))

    def node(self, key: int) -> Node:
        own = self.held(key)
        rates = sorted(((s, self.rates[s]) for s in own), key=lambda pair: -pair[1])[:MAX_HOT]
        load = Load(sum(self.rates[s] for s in own), tuple(rates), len(own))
        return Node(key, f"n:{key}", "s", load=load)

    def round(self) -> int:
        """How many sections were moved."""
        scene = Scene(SPEC, tuple(self.node(key) for key in self.keys))
        made = plan(self.document, scene, self.memory, self.limits, budget=SECTIONS, new_round=True)
        assert {move.cause for move in made.moves} <= {BALANCE}
        self.document, self.memory = made.document, made.memory
        for key in self.keys:
            self.document = hand_over(self.document, [Range(0, SECTIONS - 1)], key)
        return sum(move.sections for move in made.moves)

    def spread(self) -> float:
        """How far the one that is furthest off is off the mean, as a fraction of it."""
        weights = [self.weight(key) for key in self.keys]
        mean = sum(weights) / len(weights)
        return max(abs(weight - mean) for weight in weights) / mean

    def could_improve(self) -> bool:
        """Whether some section would be much better off at the lightest node."""
        weights = {key: self.weight(key) for key in self.keys}
        low = min(weights, key=lambda key: (weights[key], key))
        return any(
            4 * (IDLE + self.rates[s]) <= 2.9 * (weights[key] - weights[low])
            for key in self.keys
            for s in self.held(key)
        )


rates = st.lists(
    st.one_of(st.just(0), st.integers(0, 2_000), st.integers(0, 60_000)),
    min_size=SECTIONS,
    max_size=SECTIONS,
)


@settings(max_examples=30)
@given(st.data(), rates, st.integers(2, 5))
def test_with_constant_loads_it_reaches_an_even_state_and_stays_still(
    data: st.DataObject, rates: list[int], nodes: int
) -> None:
    owners = data.draw(
        st.lists(st.integers(1, nodes), min_size=SECTIONS, max_size=SECTIONS), label="owners"
    )
    world = World(rates, owners, nodes)
    calm = 0
    for _ in range(ROUNDS):
        moved = world.round()
        assert moved <= AT_MOST
        calm = 0 if moved else calm + 1
        if calm == 40:
            break
    assert calm == 40, "it never comes to rest"
    # Loads are smoothed in whole numbers, so what it knows is off by a hair.
    assert world.spread() <= LIMITS.hysteresis + 0.01 or not world.could_improve()


def test_a_new_node_gets_its_share_of_an_idle_set() -> None:
    world = World([0] * SECTIONS, [1 + s % 3 for s in range(SECTIONS)], 3)
    world.keys = range(1, 5)
    for _ in range(40):
        world.round()
    assert all(8 <= len(world.held(key)) <= 12 for key in world.keys)


def test_one_of_many_nodes_that_has_nothing_is_enough_of_a_reason() -> None:
    world = World([0] * SECTIONS, [1 + s % 9 for s in range(SECTIONS)], 9)
    world.keys = range(1, 11)
    for _ in range(40):
        world.round()
    assert len(world.held(10)) >= 3


def test_a_section_too_hot_for_anybody_stays_and_the_others_make_room() -> None:
    rates = [0] * SECTIONS
    rates[7] = 50_000
    world = World(rates, [1 + s % 2 for s in range(SECTIONS)], 2)
    hot_owner = world.owner(7)
    for _ in range(60):
        world.round()
        assert world.owner(7) == hot_owner
    assert world.held(hot_owner) == [7]


def test_a_short_unevenness_moves_nothing() -> None:
    world = World([0] * SECTIONS, [1 + s % 2 for s in range(SECTIONS)], 2, Limits())
    assert world.round() == 0
    world.rates = [2_000 if s % 2 else 0 for s in range(SECTIONS)]
    assert world.round() == 0
    world.rates = [0] * SECTIONS
    assert sum(world.round() for _ in range(20)) == 0
    world.rates = [2_000 if s % 2 else 0 for s in range(SECTIONS)]
    assert sum(world.round() for _ in range(20)) > 0


@settings(max_examples=20)
@given(st.integers(0, 10**9))
def test_noise_within_the_hysteresis_moves_nothing(seed: int) -> None:
    draw = Random(seed)
    world = World([1_000] * SECTIONS, [1 + s % 4 for s in range(SECTIONS)], 4)
    for _ in range(50):
        world.rates = [draw.randint(800, 1_200) for _ in range(SECTIONS)]
        assert world.round() == 0
