"""A node in the cluster map: registered whatever happens, true about itself, and free to go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from allocsvr import presence
from allocsvr.presence import Presence
from cluster_in_a_box import Box, Caller, FaultyMap, Member, NotServed, eventually, open_box
from cluster_in_a_box.arbitrating import registered, relieving
from clustermap.coordinator import Coordinator
from clustermap.errors import MapUnavailable
from clustermap.nodes import Node

TTL_S = 30.0


@pytest.fixture
async def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Box]:
    monkeypatch.setattr(presence, "STALLED_S", 0.4)
    monkeypatch.setattr(presence, "LOAD_S", 0.1)
    monkeypatch.setattr(presence, "SAMPLE_S", 0.05)
    monkeypatch.setattr(presence, "MAP_TIMEOUT_S", 0.5)
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


@asynccontextmanager
async def present(
    box: Box, member: Member, coordinator: Coordinator | None = None
) -> AsyncIterator[Presence]:
    """The presence of a node, run until the block ends."""
    held = Presence(member.node, coordinator or box.coordinator, member.node.address, 2.0)
    task = asyncio.create_task(held.run())
    try:
        yield held
        if task.done():
            await task
    finally:
        task.cancel()


async def said(box: Box, member: Member, holds: Callable[[Node | None], object]) -> None:
    """Wait until what the map says of a node is as it should be."""
    async with asyncio.timeout(20):
        while not holds((await registered(box)).get(member.node.incarnation)):
            await asyncio.sleep(0.01)


# -- registered --------------------------------------------------------------------------------


async def test_a_node_registers_and_tells_its_lease_at_once(box: Box) -> None:
    async with box.node(lease_ttl_s=0.5) as a, present(box, a):
        await said(box, a, lambda node: node and node.leased and node.address == a.node.address)
        for link in a.links[1:]:
            link.fail("renew")
        await said(box, a, lambda node: node and not node.leased)
        for link in a.links:
            link.heal()
        await said(box, a, lambda node: node and node.leased)


async def test_a_registration_that_is_lost_is_made_again(box: Box) -> None:
    flaky = FaultyMap(box.coordinator)
    async with box.node(lease_ttl_s=TTL_S) as a, present(box, a, flaky):
        await said(box, a, lambda node: node)
        flaky.fail("register", "update")
        before = flaky.calls["register"]
        flaky.lose_registrations()
        await eventually(lambda: flaky.calls["register"] >= before + 2)
        flaky.heal()
        await eventually(lambda: len(flaky._registrations) == 2)
        await said(box, a, lambda node: node)


async def test_a_node_whose_map_is_away_serves_on_unregistered_lease_2(box: Box) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with box.node(lease_ttl_s=0.5) as a, present(box, a, flaky):
        await box.own(a)
        flaky.fail()
        flaky.lose_registrations()
        until_s = asyncio.get_running_loop().time() + 0.8
        while asyncio.get_running_loop().time() < until_s:
            await caller.next_many(a, [5, 105])
            await asyncio.sleep(0.005)
        assert flaky.calls["register"] >= 2


async def test_the_load_is_told_with_the_hottest_sections(box: Box) -> None:
    async with box.node(lease_ttl_s=TTL_S) as a, present(box, a):
        await box.own(a)
        running = True

        async def call() -> None:
            while running:
                a.node.ledger.next_batch([5, 105], [30, 1], a.node.clock.now_ns())
                await asyncio.sleep(0.002)

        calls = asyncio.create_task(call())
        await said(
            box,
            a,
            lambda node: (
                node
                and node.load.serving == 4
                and [section for section, _ in node.load.hot][:1] == [0]
                and node.load.per_second > 20
            ),
        )
        running = False
        await calls


# -- going -------------------------------------------------------------------------------------


async def test_a_drain_hands_everything_over_and_the_node_leaves_the_map(box: Box) -> None:
    caller = Caller(box)
    async with (
        box.node(lease_ttl_s=TTL_S) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        box.node(lease_ttl_s=TTL_S) as c,
        present(box, a) as going,
        present(box, b),
        present(box, c),
        relieving(box),
    ):
        await box.own(a)
        uids = [5, 105, 205, 305]
        await caller.next_many(a, uids, [7] * 4)
        for member in (a, b, c):
            await said(box, member, lambda node: node)
        await going.drain(20)
        assert not a.node.ledger.sections and not a.node.assigned
        assert a.node.incarnation not in await registered(box)
        with pytest.raises(NotServed) as refused:
            await caller.next(a, 5)
        assert refused.value.reason == "NOT_OWNER", "callers are not told where to go"
        await eventually(lambda: [s for s in range(4) if b.serves(s)] == [0, 2])
        await eventually(lambda: [s for s in range(4) if c.serves(s)] == [1, 3])
        assert await caller.next_many(b, [5, 205]) == [8, 8]
        assert await caller.next_many(c, [105, 305]) == [8, 8]


async def test_the_last_node_leaves_its_sections_to_nobody_and_the_next_one_goes_on_densely(
    box: Box,
) -> None:
    caller = Caller(box)
    for expected in (1, 8, 15):
        async with box.node(lease_ttl_s=TTL_S) as a, present(box, a) as going, relieving(box):
            await box.own(a)
            await said(box, a, lambda node: node)
            assert await caller.next(a, 5, 7) == expected
            await going.drain(20)
            assert not (await box.document()).entries


async def test_without_an_arbiter_a_node_releases_and_withdraws_by_itself(box: Box) -> None:
    caller = Caller(box)
    async with (
        box.node(lease_ttl_s=TTL_S) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        present(box, a) as going,
    ):
        await box.own(a)
        await caller.next(a, 5, 42)
        await going.drain(20)
        document = await box.document()
        assert not document.entries
        assert [(f.first, f.last, f.epoch) for f in document.floors] == [(0, 3, 1)]
        assert a.node.incarnation not in await registered(box)
        await box.own(b)
        assert await caller.next(b, 5) == 43


async def test_an_arbiter_that_dies_in_the_middle_leaves_nothing_undone(box: Box) -> None:
    """It has marked a part: that goes to its successor, the rest to nobody, both densely."""
    caller = Caller(box)
    async with (
        box.node(lease_ttl_s=TTL_S) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        present(box, a) as going,
    ):
        await box.own(a)
        await caller.next_many(a, [5, 305], [42, 42])
        await box.leave(0, 1, b)
        await going.drain(20)
        await eventually(lambda: b.serves(0) and b.serves(1))
        assert [(e.first, e.last) for e in (await box.document()).entries] == [(0, 1)]
        await box.own(b, 2, 3)
        assert await caller.next_many(b, [5, 305]) == [43, 43]


async def test_a_node_drains_without_the_map_too(box: Box) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        present(box, a, flaky) as going,
    ):
        await box.own(a)
        await caller.next(a, 5, 42)
        flaky.fail()
        await box.leave(0, 3, b)
        await going.drain(20)
        assert not a.node.ledger.sections
        flaky.heal()
        await box.own(b)
        assert await caller.next(b, 5) == 43


async def test_a_drain_whose_map_breaks_after_a_release_ends_too(box: Box) -> None:
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S, coordinator=flaky) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        present(box, a, flaky) as going,
    ):
        await box.own(a)
        await caller.next(a, 5, 42)
        flaky.fail("transact")
        await box.leave(0, 0, b)
        await eventually(lambda: flaky.calls["transact"])
        await going.drain(20)
        assert not a.node.ledger.sections
        await box.own(b)
        assert await caller.next(b, 5) == 43


async def test_a_drain_that_the_replicas_hold_up_says_so_in_time(box: Box) -> None:
    async with box.node(lease_ttl_s=TTL_S, replica_timeout_s=30) as a, present(box, a) as going:
        await box.own(a)
        for link in a.links:
            link.hang("release")
        with pytest.raises(TimeoutError):
            await going.drain(1.0)


async def test_a_deposed_owner_that_goes_writes_nothing_that_counts(box: Box) -> None:
    """TiDB #46444. It has not heard of it, and says good-bye to replicas and map as ever."""
    caller = Caller(box)
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=0.5, coordinator=flaky) as a,
        box.node(lease_ttl_s=0.5) as b,
        present(box, a, flaky) as going,
    ):
        await box.own(a)
        await caller.next(a, 5, 50)
        flaky.silence()
        for link in a.links:
            link.fail()
        await box.own(b)
        await caller.next(b, 5, 250)
        await eventually(lambda: not b.node._raising._flying, "stragglers of its raises")
        await eventually(
            lambda: all(len({box.record(i, s) for i in range(3)}) == 1 for s in range(4))
        )
        records = [[box.record(i, s) for i in range(3)] for s in range(4)]
        before = await box.document()
        for link in a.links:
            link.heal()
        a.node.membership.renewal._on_promise = lambda *promise: None
        await eventually(a.holds_lease)
        await going.drain(20)
        assert any(link.done["release"] for link in a.links), "it never said good-bye"
        assert [[box.record(i, s) for i in range(3)] for s in range(4)] == records
        assert await box.document() == before
        await caller.next(b, 5)
        assert (await caller.current(b, 5))[1]


# -- joining -----------------------------------------------------------------------------------


async def test_a_node_without_sections_has_joined_once_it_has_lease_and_table(box: Box) -> None:
    async with box.node(lease_ttl_s=0.5) as a, box.node(lease_ttl_s=0.5) as b:
        assert not b.node.has_joined()
        await box.own(a)
        await eventually(b.node.has_joined)
        assert not b.node.is_ready(), "it serves nothing"
        for link in b.links:
            link.hang("fence")
        await box.leave(0, 0, b)
        await eventually(lambda: b.node.unserved == 1)
        assert not b.node.has_joined()
        for link in b.links:
            link.heal()
        await eventually(b.node.has_joined)
        await eventually(b.node.is_ready)


async def test_a_drain_asked_for_while_the_map_is_away_for_a_moment_is_told_again(
    box: Box,
) -> None:
    flaky = FaultyMap(box.coordinator)
    async with (
        box.node(lease_ttl_s=TTL_S) as a,
        box.node(lease_ttl_s=TTL_S) as b,
        present(box, a, flaky) as going,
        present(box, b),
        relieving(box),
    ):
        await box.own(a)
        await said(box, a, lambda node: node)
        await said(box, b, lambda node: node)
        failures = 0

        async def fail_twice(method: str) -> None:
            nonlocal failures
            if method in ("update", "register") and failures < 2:
                failures += 1
                raise MapUnavailable("a moment")

        flaky.before = fail_twice
        await going.drain(20)
        await eventually(lambda: all(b.serves(s) for s in range(4)))
        assert failures == 2


async def test_a_sample_of_many_sections_counts_each_once_and_its_numbers_once(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_SLICE", 2)
    async with box.node() as a:
        await box.own(a)
        held = Presence(a.node, box.coordinator, a.node.address, 2.0)
        samples: list[list[tuple[int, int]]] = []
        monkeypatch.setattr(held._rates, "sample", lambda taken, _: samples.append(taken))
        assert await Caller(box).next(a, 305, 7) == 1
        sampling = asyncio.create_task(held._sample())
        await eventually(lambda: len(samples) > 2)
        sampling.cancel()
        assert held._load().serving == len(a.node.ledger.sections) > 2
        assert samples[:3] == [[(3, 7)], [], []]
