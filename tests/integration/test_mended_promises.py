"""Promises that nodes hear of, and what the map is told: neither too much nor too little.

Every number passes through a Caller, which checks SEQ-1..SEQ-4 against all nodes at once.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from allocsvr.section import State
from cluster_in_a_box import Box, Caller, Member, NotServed, eventually, open_box
from clustermap import placement
from clustermap.model import Assignment, Assignments, Floor, assignments_key
from clustermap.nodes import Node
from seqsvr.v1 import store_pb2 as pb

TTL_S = 0.6
KEY = assignments_key("set-0")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


def _deaf(document: object) -> None:
    """A node whose map says nothing new."""


def entry(document: Assignments, section: int) -> Assignment:
    found = document.owner(section)
    assert found is not None
    return found


async def floors(box: Box) -> tuple[Floor, ...]:
    """What the map was told to outbid, once it was told anything."""
    async with asyncio.timeout(20):
        while not (found := (await box.document()).floors):
            await asyncio.sleep(0.01)
    return found


async def rule(box: Box, member: Member) -> None:
    """The arbiter of one node: outbids what is refused."""
    await box.change(lambda d: placement.sole_owner(d, box.spec, member.at) or d)


def events(member: Member, event: str) -> float:
    return sum(
        sample.value
        for metric in member.node.metrics.epoch_changes.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["event"] == event
    )


# -- a lawful successor ------------------------------------------------------------------------


async def test_the_promise_of_a_lawful_successor_is_no_floor_and_it_goes_on_densely(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a)
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        await box.own(b, 0, 2)
        first = await caller.next(b, 5)
        before = await box.document()
        await eventually(lambda: a.node.ledger.sections.keys() == {3}, "A to have heard of it")
        await box.promise(3, 9)  # of nobody that the map knows: what A says of it, it says last
        assert await floors(box) == (Floor(3, 3, 9),), "A had its successor outbid"
        await rule(box, b)
        assert entry(await box.document(), 2) == entry(before, 2)
        await eventually(lambda: b.serves(3))
        assert [await caller.next(b, 5) for _ in range(3)] == [first + 1, first + 2, first + 3]


async def test_a_promise_above_the_successor_that_the_map_names_is_a_floor(box: Box) -> None:
    gone = Node(0xB0B, "gone:1", "set-0")
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a, 0, 0)
        a.node._reconcile = _deaf  # type: ignore[method-assign]
        await box.change(lambda d: placement.reassign(d, 0, 0, gone))
        await box.promise(0, 9)
        assert entry(await box.document(), 0).epoch == 2
        assert await floors(box) == (Floor(0, 0, 9),)


async def test_a_promise_at_an_owner_s_own_epoch_is_a_floor_though_the_map_names_it(
    box: Box,
) -> None:
    """Its own fence was spent in vain: no successor of it is meant."""
    async with box.node(lease_ttl_s=TTL_S) as a:
        for link in a.links[1:]:
            link.fail("fence")
        await box.assign(a, 0, 0)  # one replica promises, two do not answer
        assert await floors(box) == (Floor(0, 0, 1),)
        for link in a.links:
            link.heal()
        await rule(box, a)
        await eventually(lambda: a.serves(0))


# -- releases ----------------------------------------------------------------------------------


async def raised_everywhere(box: Box, owner: Member) -> None:
    """A section is served as soon as W replicas know its owner."""
    incarnation, held = owner.node.incarnation, list(owner.node.ledger.sections)
    await eventually(
        lambda: all(box.record(i, s).owner == incarnation for i in range(3) for s in held)
    )


async def test_sections_whose_release_is_refused_are_abandoned_and_the_promise_is_noted(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=30.0) as a:
        await box.own(a)
        await raised_everywhere(box, a)
        a.node.membership.renewal._on_promise = lambda *promise: None  # only the refusals tell
        await box.promise(1, 9)
        await box.promise(2, 9)
        await a.node.drain()
        for i in range(3):  # the drain waits for W of them
            await eventually(lambda i=i: box.record(i, 0).released and box.record(i, 3).released)  # type: ignore[misc]
            assert not box.record(i, 1).released and not box.record(i, 2).released
        assert (events(a, "released"), events(a, "abandoned")) == (2, 2)
        assert [a.node.ledger.promises.highest(s) for s in (1, 2)] == [9, 9]


async def test_a_release_refused_by_one_replica_of_three_is_one_and_the_promise_is_noted(
    box: Box,
) -> None:
    async with box.node(lease_ttl_s=30.0) as a:
        await box.own(a, 0, 0)
        await raised_everywhere(box, a)
        a.node.membership.renewal._on_promise = lambda *promise: None
        await box.promise(0, 9, 1)
        await a.node.drain()
        assert (events(a, "released"), events(a, "abandoned")) == (1, 0)
        await eventually(lambda: a.node.ledger.promises.highest(0) == 9)


# -- one epoch given to two --------------------------------------------------------------------


async def test_a_section_whose_epoch_another_owner_raised_under_is_lost_and_slows_no_other(
    tmp_path: Path,
) -> None:
    """The map gave one epoch to two. Neither can win W, and asking again and again is no use."""
    caller_uid, other = 105, 0xB0B
    async with open_box(tmp_path, 3, 1, 3) as box, box.node(lease_ttl_s=TTL_S, step=10) as a:
        caller = Caller(box)
        for link in a.links[1:]:
            link.fail("fence")
        for link in a.links:
            link.hang("raise_max")
        await box.assign(a)
        await eventually(lambda: all(link.calls["raise_max"] for link in a.links))
        held = a.node.ledger.sections[0]
        await box.stores[1].raise_max(
            pb.RaiseRequest(
                header=pb.StoreHeader(cluster=box.cluster.id, set="set-0", membership=1),
                incarnation=other,
                entries=[pb.RaiseEntry(section=0, epoch=held.epoch, max_seq=50)],
            )
        )
        for link in a.links:
            link.heal()
        await eventually(lambda: held.state is State.LOST, "the section to be given up")
        await eventually(lambda: all(a.serves(s) for s in (1, 2, 3)))
        assert await floors(box) == (Floor(0, 0, held.epoch),)
        assert box.record(1, 0).owner == other
        for link in a.links:
            link.requests.clear()
        start_s = asyncio.get_running_loop().time()
        for _ in range(40):  # each takes a raise of its own
            await caller.next(a, caller_uid, 10)
        assert asyncio.get_running_loop().time() - start_s < 4.0
        asked = {e.section for m, r in a.links[0].requests if m == "raise_max" for e in r.entries}
        assert asked == {1}, "what was lost is still asked for"
        await rule(box, a)  # above what both were given
        await eventually(lambda: a.serves(0))
        await caller.next(a, 5)


# -- a map that knows less than its nodes ------------------------------------------------------


async def test_an_owner_outlives_a_map_that_began_anew_at_lower_epochs(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        for _ in range(3):
            await box.own(a, 0, 1)
        await eventually(lambda: a.node.ledger.sections[0].epoch == 3 and a.serves(0))
        await caller.next_many(a, [5, 105], [30, 40])
        keys = (await box.coordinator.get("")).entries
        puts: dict[str, bytes | None] = {key: held.value for key, held in keys.items()}
        await box.coordinator.transact({}, dict.fromkeys(keys))
        begun = placement.sole_owner(Assignments("set-0"), box.spec, a.at)
        assert begun is not None and entry(begun, 0).epoch == 1
        await box.coordinator.transact({}, {**puts, KEY: begun.to_json()})
        async with asyncio.timeout(20):
            while entry(await box.document(), 0).epoch < 3:
                await caller.next_many(a, [5, 105])  # not one call is refused meanwhile
                await asyncio.sleep(0.005)
        held = a.node.ledger.sections[0]
        assert held.epoch == 3
        until_s = asyncio.get_running_loop().time() + 2 * TTL_S
        while asyncio.get_running_loop().time() < until_s:
            await caller.next_many(a, [5, 105])
            await asyncio.sleep(0.005)
        await rule(box, a)
        document = await box.document()
        assert (entry(document, 1).epoch, document.floors) == (3, ())
        await eventually(lambda: all(a.serves(s) for s in range(4)))
        await caller.next_many(a, [5, 105, 205])
        assert a.node.ledger.sections[0] is held, "an owner paused for the map's sake"


async def test_an_owner_outlives_a_map_that_began_anew_and_names_another_at_a_lower_epoch(
    box: Box,
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        for _ in range(3):
            await box.own(a)
        await eventually(lambda: all(a.serves(s) for s in range(4)))
        await caller.next(a, 5)
        blank = Assignments("set-0")
        await box.change(lambda _: placement.reassign(blank, 0, 3, b.at))  # epoch 1
        async with asyncio.timeout(20):
            while entry(await box.document(), 0).incarnation != a.node.incarnation:
                await caller.next(a, 5)
                await asyncio.sleep(0.005)
        assert entry(await box.document(), 3).epoch == 3
        await caller.next(a, 5)
        await rule(box, b)  # what the map wants is done once it is above what stands
        await eventually(lambda: all(b.serves(s) for s in range(4)))
        await caller.next(b, 5)
        with pytest.raises(NotServed):
            await caller.next(a, 5)
