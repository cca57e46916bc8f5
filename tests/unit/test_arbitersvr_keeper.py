"""What a keeper decides, and on which conditions it is to be written."""

from dataclasses import replace

import pytest

from arbitersvr import keeper
from arbitersvr.detection import Outcome
from arbitersvr.keeper import MAX_GIVEN_UP, Change, Keeper, Options
from clustermap.coordinator import Versioned
from clustermap.model import (
    Assignments,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    set_key,
)
from clustermap.nodes import Load, Node
from clustermap.orders import Orders, Pin, orders_key
from clustermap.placement import mark_leaving, reassign
from clustermap.ranges import Range
from clustermap.scene import DRAIN, FAILURE, PINNED, SUCCESSOR, UNOWNED, Limits

S = 10**9
SPEC = SetSpec("s", (Range(0, 199),), (Replica("store-0", "s:1", 1),), 1, 1)
ROUND_NS = S // 2


def node(incarnation: int) -> Node:
    return Node(incarnation, f"n:{incarnation}", "s")


class World:
    """A map that changes by hand, and a keeper that looks at it."""

    def __init__(self, options: Options | None = None) -> None:
        self.keeper = Keeper("s", options or Options(gather_s=0.0))
        self.entries = {set_key("s"): Versioned(SPEC.to_json(), 1)}
        self.revision = 1
        self.now_ns = 1_000 * S

    def write(self, document: Assignments) -> None:
        self.revision += 1
        self.entries[assignments_key("s")] = Versioned(document.to_json(), self.revision)

    def register(self, *nodes: Node) -> None:
        for one in nodes:
            self.revision += 1
            self.entries[node_key("s", one.incarnation)] = Versioned(one.to_json(), self.revision)

    def end(self, *incarnations: int) -> None:
        for incarnation in incarnations:
            del self.entries[node_key("s", incarnation)]

    def see(self, *, certain: bool = False) -> list[str]:
        return self.keeper.see(self.entries, self.now_ns, certain=certain)

    def probe(self, outcome: Outcome) -> None:
        for probe in self.keeper.due(self.now_ns):
            self.keeper.probed(probe, outcome)

    def decide(self) -> Change | None:
        return self.keeper.decide(self.now_ns)

    def obey(self) -> Change:
        """Write what it decides."""
        change = self.decide()
        assert change is not None
        self.write(change.plan.document)
        self.keeper.written(change, self.revision)
        return change


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def settled(world: World) -> World:
    """Three nodes that share the Set."""
    world.register(node(1), node(2), node(3))
    world.see()
    world.obey()
    world.see()
    assert world.decide() is None
    return world


def causes(change: Change) -> set[str]:
    return {move.cause for move in change.plan.moves}


def test_the_first_assignments_expect_that_there_are_none(world: World) -> None:
    world.register(node(1))
    world.see()
    change = world.obey()
    assert causes(change) == {UNOWNED}
    assert change.expected == {assignments_key("s"): 0, set_key("s"): 1}


def test_a_given_up_node_must_still_be_unregistered_when_it_is_replaced(settled: World) -> None:
    settled.end(2)
    settled.see()
    settled.probe(Outcome.GONE)
    change = settled.decide()
    assert change is not None and causes(change) == {FAILURE}
    assert change.expected[node_key("s", 2)] == 0
    assert set(change.expected) == {assignments_key("s"), set_key("s"), node_key("s", 2)}


def test_a_node_without_a_lease_must_still_say_so_when_it_is_replaced(settled: World) -> None:
    settled.register(replace(node(2), leased=False))
    settled.see()
    settled.now_ns += 4 * S + 1
    change = settled.decide()
    assert change is not None
    assert change.expected[node_key("s", 2)] == settled.entries[node_key("s", 2)].revision


def test_a_drain_depends_on_nobodys_registration(settled: World) -> None:
    settled.register(replace(node(2), draining=True))
    settled.see()
    change = settled.decide()
    assert change is not None and causes(change) == {DRAIN}
    assert set(change.expected) == {assignments_key("s"), set_key("s")}


def test_a_given_up_heir_must_still_be_unregistered_when_it_is_passed_over(settled: World) -> None:
    settled.write(mark_leaving(settled.keeper.document, 0, 9, node(9).owner))
    settled.see()
    settled.probe(Outcome.GONE)
    change = settled.decide()
    assert change is not None and causes(change) == {SUCCESSOR}
    assert change.expected[node_key("s", 9)] == 0


def test_only_so_many_nodes_are_replaced_at_once_as_a_transaction_can_name(world: World) -> None:
    document = Assignments("s")
    for incarnation in range(1, 101):
        document = reassign(document, 2 * incarnation - 2, 2 * incarnation - 1, node(incarnation))
    world.write(document)
    world.register(node(500))
    world.see()
    world.probe(Outcome.GONE)
    options = Options(limits=Limits(max_move_share=1.0))
    world.keeper = Keeper("s", options)
    world.see()
    world.probe(Outcome.GONE)
    first = world.obey()
    assert len(first.expected) == MAX_GIVEN_UP + 2
    world.obey()
    world.see()
    assert {entry.incarnation for entry in world.keeper.document.entries} == {500}


def test_what_was_written_is_not_taken_back_by_an_older_picture(settled: World) -> None:
    old = dict(settled.entries)
    settled.end(2)
    settled.see()
    settled.probe(Outcome.GONE)
    settled.obey()
    del old[node_key("s", 2)]
    settled.keeper.see(old, settled.now_ns)
    assert settled.decide() is None
    settled.keeper.see(old, settled.now_ns, certain=True)
    settled.probe(Outcome.GONE)
    assert settled.decide() is not None


def test_loads_alone_are_no_reason_to_plan_within_a_round(settled: World) -> None:
    settled.now_ns += ROUND_NS
    assert settled.decide() is None
    before = settled.keeper._memory
    settled.register(replace(node(1), load=Load(per_second=1000, serving=60)))
    settled.see()
    assert settled.decide() is None
    assert settled.keeper._memory is before
    settled.now_ns += ROUND_NS
    settled.decide()
    assert settled.keeper._memory != before


def test_where_nothing_has_changed_nothing_is_planned_within_a_round(
    settled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_plan(*arguments: object, **more: object) -> None:
        raise AssertionError("planned")

    monkeypatch.setattr(keeper, "plan", no_plan)
    settled.register(replace(node(1), load=Load(per_second=1000, serving=60)))
    settled.see()
    assert settled.decide() is None
    settled.register(replace(node(1), draining=True))
    settled.see()
    with pytest.raises(AssertionError, match="planned"):
        settled.decide()


def test_the_budget_is_per_round_and_not_spent_by_what_was_not_written() -> None:
    world = World(Options(gather_s=0.0, limits=Limits(max_move_share=0.1)))
    world.register(node(1), node(2))
    world.see()
    world.obey()
    world.end(1)
    world.now_ns += ROUND_NS
    world.see()
    world.probe(Outcome.GONE)
    for _ in range(3):
        refused = world.decide()
        assert refused is not None and refused.plan.taken == 20
    world.obey()
    world.see()
    assert world.decide() is None
    world.now_ns += ROUND_NS
    change = world.decide()
    assert change is not None and change.plan.taken == 20


def test_documents_that_cannot_be_read_stop_everything_but_say_why(settled: World) -> None:
    good = dict(settled.entries)
    for key in (set_key("s"), assignments_key("s")):
        settled.revision += 1
        settled.entries[key] = Versioned(b"garbage", settled.revision)
        settled.end(2)
        (complaint,) = settled.see()
        assert "JSON" in complaint or "Expecting" in complaint
        assert settled.keeper.due(settled.now_ns) == []
        assert settled.decide() is None
        settled.entries = dict(good)
    assert settled.see(certain=True) == []


def test_assignments_of_another_set_are_refused(world: World) -> None:
    world.register(node(1))
    world.write(Assignments("another"))
    assert "another" in world.see()[0]
    assert world.decide() is None


def test_a_node_that_cannot_be_read_counts_as_registered_and_gets_nothing(world: World) -> None:
    world.register(node(1), node(2))
    world.entries[node_key("s", 2)] = Versioned(b"{}", 50)
    assert len(world.see()) == 1
    world.obey()
    assert {entry.incarnation for entry in world.keeper.document.entries} == {1}


def test_sections_are_counted_by_state(settled: World) -> None:
    settled.write(mark_leaving(settled.keeper.document, 0, 9))
    settled.end(3)
    settled.see()
    settled.probe(Outcome.GONE)
    counts = settled.keeper.sections()
    assert counts["leaving"] == 10
    assert counts["given_up"] in (66, 67)
    assert sum(counts.values()) == 200


def test_it_wants_to_be_asked_again_within_a_round(settled: World) -> None:
    assert settled.now_ns < settled.keeper.next_ns() <= settled.now_ns + ROUND_NS
    settled.end(2)
    settled.see()
    assert settled.keeper.next_ns() == settled.now_ns


def test_a_map_that_stays_older_than_what_was_written_is_doubted_and_then_believed(
    settled: World,
) -> None:
    """It was put back to an older state with our election in it: nothing will be refused to us."""
    old = dict(settled.entries)
    settled.write(mark_leaving(settled.keeper.document, 0, 0))
    assert settled.see() == []
    newer = settled.keeper.document
    settled.keeper.see(old, settled.now_ns)
    settled.now_ns += S
    settled.keeper.see(old, settled.now_ns)
    assert not settled.keeper.in_doubt(settled.now_ns), "a watch may be late"
    settled.now_ns += S
    assert settled.keeper.in_doubt(settled.now_ns)
    assert settled.keeper.document == newer
    settled.keeper.see(old, settled.now_ns, certain=True)
    assert settled.keeper.document != newer
    assert not settled.keeper.in_doubt(settled.now_ns)


def test_a_set_that_has_gone_from_the_map_is_looked_at_once_a_round(settled: World) -> None:
    """Not without end: its next round was for ever in the past."""
    del settled.entries[set_key("s")]
    settled.see()
    settled.now_ns += 10 * S
    assert settled.decide() is None
    assert settled.now_ns < settled.keeper.next_ns() <= settled.now_ns + ROUND_NS


def test_a_set_without_sections_is_left_alone_and_shown_as_such() -> None:
    world = World()
    world.entries[set_key("s")] = Versioned(replace(SPEC, ranges=()).to_json(), 1)
    world.register(node(1), node(2))
    assert world.see() == []
    for _ in range(3):
        assert world.keeper.decide(world.now_ns) is None
        world.now_ns += ROUND_NS
    assert sum(world.keeper.sections().values()) == 0


# -- orders of the operator


def order(world: World, orders: Orders) -> None:
    world.revision += 1
    world.entries[orders_key("s")] = Versioned(orders.to_json(), world.revision)
    assert world.see() == []


def test_a_node_that_is_to_be_relieved_is_drained_as_if_it_had_asked(settled: World) -> None:
    order(settled, Orders("s").draining("n:1"))
    assert settled.keeper.nodes()["draining"] == 1
    change = settled.obey()
    assert {move.cause for move in change.plan.moves} == {DRAIN}
    assert all(e.leaving for e in change.plan.document.entries if e.incarnation == 1)
    assert change.expected[orders_key("s")] == settled.entries[orders_key("s")].revision


def test_without_orders_nothing_is_expected_of_them(world: World) -> None:
    world.register(node(1))
    world.see()
    change = world.decide()
    assert change is not None
    assert orders_key("s") not in change.expected


def test_nobody_is_relieved_where_nobody_else_is_left(world: World) -> None:
    world.register(node(1))
    world.see()
    world.obey()
    order(world, Orders("s").draining("n:1"))
    assert world.decide() is None


def test_orders_that_cannot_be_read_stop_the_planning_and_are_complained_about(
    settled: World,
) -> None:
    settled.revision += 1
    settled.entries[orders_key("s")] = Versioned(b"{}", settled.revision)
    assert "orders" in settled.see()[0]
    order(settled, Orders("s"))
    other = Versioned(Orders("t").to_json(), settled.revision + 1)
    settled.entries[orders_key("s")] = other
    assert "orders of Set 's' are those of 't'" in settled.see()[0]


def test_orders_that_are_taken_back_are_forgotten(settled: World) -> None:
    order(settled, Orders("s").draining("n:1"))
    del settled.entries[orders_key("s")]
    settled.see()
    assert settled.decide() is None


def test_a_pin_is_obeyed_at_once_and_not_only_in_the_next_round(settled: World) -> None:
    assert settled.decide() is None
    owner = settled.keeper.document.owner(0)
    assert owner is not None
    there = next(n for n in ("n:1", "n:2") if n != owner.address)
    order(settled, Orders("s").pinning(Pin(0, 0, there)))
    change = settled.obey()
    assert [(m.first, m.last, m.cause) for m in change.plan.moves] == [(0, 0, PINNED)]


def test_a_node_is_probed_at_its_second_port_where_it_has_one(world: World) -> None:
    plain, apart = node(1), replace(node(2), peer_address="n:2002")
    document = reassign(reassign(Assignments("s"), 0, 99, plain), 100, 199, apart)
    world.write(mark_leaving(document, 0, 9, replace(node(3), peer_address="n:2003").owner))
    world.register(plain, apart)
    world.see()
    world.end(1, 2)
    world.see()
    world.now_ns += ROUND_NS
    found = {probe.incarnation: probe.address for probe in world.keeper.due(world.now_ns)}
    assert found == {1: "n:1", 2: "n:2002", 3: "n:2003"}
