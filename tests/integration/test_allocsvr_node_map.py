"""Maps that were wiped, restored or spoiled: owners serve on, and the map comes round to them.

Every number passes through a Caller, which checks SEQ-1..SEQ-4 against all nodes at once.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster_in_a_box import Box, Caller, FaultyMap, Member, eventually, open_box
from cluster_in_a_box.box import KEY
from clustermap import placement
from clustermap.model import (
    Assignment,
    Assignments,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range

TTL_S = 0.6


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


async def serving(caller: Caller, until: asyncio.Event, *owners: tuple[Member, int]) -> int:
    """Call without a pause until told to stop; not one call may be refused."""
    calls = 0
    while not until.is_set():
        for member, uid in owners:
            await caller.next(member, uid)
            calls += 1
        await asyncio.sleep(0.002)
    return calls


async def shows(box: Box, *epochs: int) -> None:
    """Wait until the map gives each section an epoch, from section 0 on; 0: none."""
    async with asyncio.timeout(20):
        while True:
            document = await box.document()
            owners = [document.owner(section) for section in range(len(epochs))]
            if [owner.epoch if owner else 0 for owner in owners] == list(epochs):
                return
            await asyncio.sleep(0.01)


async def test_owners_claim_what_a_wiped_map_has_forgotten_and_never_pause(box: Box) -> None:
    caller, done = Caller(box), asyncio.Event()
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        for _ in range(3):
            await box.own(a, 0, 1)
        await box.own(b, 2, 3)
        await eventually(lambda: a.node.ledger.sections[0].epoch == 3 and a.serves(0))
        seen = [a.node.router.version, b.node.router.version]
        load = asyncio.create_task(serving(caller, done, (a, 5), (a, 105), (b, 205), (b, 305)))
        held = [dict(m.node.ledger.sections) for m in (a, b)]
        await asyncio.sleep(0.05)
        await box.wipe()
        await shows(box, 3, 3, 1, 1)
        document = await box.document()
        assert document.owner(0) == Assignment(0, 1, a.node.incarnation, a.node.address, 3)
        assert not document.floors
        await asyncio.sleep(2 * TTL_S)
        done.set()
        assert await load > 20
        assert [dict(m.node.ledger.sections) for m in (a, b)] == held
        async with asyncio.timeout(20):  # and what changes from now on reaches every client
            while (await box.document()).version <= max(seen):
                await asyncio.sleep(0.01)
        await box.move(0, 0, b)
        await eventually(lambda: a.node.router.owner(0) == b.node.address)
        await eventually(lambda: b.node.router.owner(0) == b.node.address)
        assert a.node.router.version > max(seen)


async def test_a_map_that_began_anew_and_gave_all_to_one_node_comes_round_without_a_pause(
    box: Box,
) -> None:
    """The arbiter was faster than the claims. B must not report A's own promise as a floor."""
    caller, done = Caller(box), asyncio.Event()
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        for _ in range(3):
            await box.own(a, 0, 1)
            await box.own(b, 2, 3)
        await eventually(lambda: a.node.ledger.sections[0].epoch == 3 and a.serves(0))
        await eventually(lambda: b.node.ledger.sections[2].epoch == 3 and b.serves(2))
        load = asyncio.create_task(serving(caller, done, (a, 5), (a, 105), (b, 205), (b, 305)))
        await box.change(lambda d: placement.reassign(Assignments(d.set), 0, 3, b.at))
        await shows(box, 3, 3, 3, 3)
        await asyncio.sleep(TTL_S)
        done.set()
        assert await load > 20
        document = await box.document()
        owners = [document.owner(section) for section in range(4)]
        assert [owner and owner.incarnation for owner in owners] == [
            a.node.incarnation,
            a.node.incarnation,
            b.node.incarnation,
            b.node.incarnation,
        ]


async def test_a_claim_made_after_the_promise_was_reported_is_made_all_the_same(box: Box) -> None:
    """As above, in the other order: the loser of the fence was first with its floor."""
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
    ):
        for _ in range(3):
            await box.own(a)
        await eventually(lambda: all(a.serves(s) for s in range(4)))
        held = a.node.ledger.sections[0]
        flaky.fail("transact")
        await box.change(lambda d: placement.reassign(Assignments(d.set), 0, 3, b.at))
        async with asyncio.timeout(20):
            while not (await box.document()).floors:
                await caller.next(a, 5)
                await asyncio.sleep(0.005)
        flaky.heal()
        await shows(box, 3, 3, 3, 3)
        await caller.next(a, 5)
        assert a.node.ledger.sections[0] is held
        assert not (await box.document()).floors


async def test_an_unassigned_section_is_not_claimed_back(box: Box) -> None:
    flaky = FaultyMap(box.coordinator)
    async with box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a:
        await box.own(a)
        flaky.fail("get")
        await box.wipe()
        await eventually(lambda: flaky.calls["get"] > 2)
        await box.change(lambda _: placement.unassign(_owned(a), 0, 3))
        flaky.heal()
        await eventually(lambda: not a.node.ledger.sections)
        assert not (await box.document()).entries


async def test_a_promise_above_our_epoch_that_the_map_knows_of_takes_the_section(
    box: Box,
) -> None:
    """Though its entry is below: a replica has promised it, so it is lost in any case."""
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        for _ in range(3):
            await box.own(a)
        anew = placement.reassign(Assignments("set-0"), 0, 3, b.at)
        await box.change(lambda _: placement.raise_floor(anew, 0, 0, 9))
        await eventually(lambda: sorted(a.node.ledger.sections) == [1, 2, 3])
        await shows(box, 1, 3, 3, 3)


def _owned(member: Member) -> Assignments:
    return placement.reassign(Assignments("set-0"), 0, 3, member.at)


# -- documents that are none -------------------------------------------------------------------


async def test_a_document_under_the_key_of_another_set_spoils_no_route(box: Box) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a, box.node(lease_ttl_s=TTL_S) as b:
        await box.own(a)
        stranger = placement.reassign(Assignments("set-0", version=99), 0, 3, b.at)
        await box.coordinator.transact({}, {assignments_key("other"): stranger.to_json()})
        await box.own(a, 1, 2)
        version = (await box.document()).version
        await eventually(lambda: a.node.router.version == version)
        assert [a.node.router.owner(s) for s in range(4)] == [a.node.address] * 4
        assert not b.node.ledger.sections
        await caller.next_many(a, [5, 105, 205, 305])


@pytest.mark.parametrize("spoiled", [b"{}", Assignments("other", 9).to_json()], ids=repr)
async def test_an_owner_whose_own_document_is_spoiled_serves_on_and_keeps_its_routes(
    box: Box, spoiled: bytes
) -> None:
    caller = Caller(box)
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a)
        before, table = await box.document(), a.node.table
        await box.coordinator.transact({}, {KEY: spoiled})
        await asyncio.sleep(0.1)
        await caller.next_many(a, [5, 105, 205, 305])
        assert a.node.table is table
        moved = placement.unassign(before, 3, 3)
        await box.coordinator.transact({}, {KEY: moved.to_json()})
        await eventually(lambda: sorted(a.node.ledger.sections) == [0, 1, 2])
        await eventually(lambda: a.node.router.version == moved.version)


async def test_the_sets_of_a_cluster_that_are_sound_keep_their_routes(box: Box) -> None:
    """Another Set claims sections of ours: what it says is no route, whatever its name."""
    replicas = (Replica("other-0", "127.0.0.1:9", 9),)
    for name in ("a-set", "z-set"):
        spec = SetSpec(name, (Range(2, 3),), replicas, 1, 1)
        node = replace((await _nobody(box)), set=name)
        document = placement.reassign(Assignments(name), 2, 3, node)
        outside = replace(document, entries=(replace(document.entries[0], first=0),))
        await box.coordinator.transact(
            {}, {set_key(name): spec.to_json(), assignments_key(name): outside.to_json()}
        )
    async with box.node(lease_ttl_s=TTL_S) as a:
        await box.own(a)
        await eventually(lambda: a.node.router.version == 3)
        assert [a.node.router.owner(s) for s in range(4)] == [a.node.address] * 4


async def _nobody(box: Box) -> Node:
    return Node(0xB0B, "nobody:1", box.spec.name)
