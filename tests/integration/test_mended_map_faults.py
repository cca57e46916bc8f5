"""Whatever the map or its client runs into, an owner that holds its quorum serves on (LEASE-2)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from cluster_in_a_box import Box, Caller, Member, eventually, open_box
from clustermap import placement
from clustermap.coordinator import Change, Coordinator, Listing
from clustermap.embedded import EmbeddedCoordinator
from clustermap.model import SETS_PREFIX
from seqsvr.invariants import BrokenInvariant

TTL_S = 0.5


class Flaky:
    """The map as one node sees it. Methods named in `failing` raise `error`; counts how often."""

    def __init__(self, target: Coordinator) -> None:
        self._target = target
        self.failing: tuple[str, ...] = ()
        self.error: BaseException = OSError("connection reset by peer")
        self.raised = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def _fail(self, method: str) -> None:
        if method in self.failing:
            self.raised += 1
            raise self.error

    async def get(self, prefix: str) -> Listing:
        self._fail("get")
        return await self._target.get(prefix)

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        self._fail("transact")
        return await self._target.transact(expected, puts)

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        self._fail("watch")
        async for change in self._target.watch(prefix, after_revision):
            self._fail("watch")
            yield change


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path, 3, 2, 2) as made:
        yield made


@asynccontextmanager
async def flaky_node(box: Box) -> AsyncIterator[tuple[Member, Flaky]]:
    """A node whose map fails on demand; the test's own access to the map does not."""
    kept, flaky = box.coordinator, Flaky(box.coordinator)
    box.coordinator = cast(EmbeddedCoordinator, flaky)
    try:
        async with box.node(lease_ttl_s=TTL_S) as member:
            box.coordinator = kept
            yield member, flaky
    finally:
        box.coordinator = kept


async def outlive(node: Member, flaky: Flaky, caller: Caller, uids: list[int]) -> None:
    """Call until the map has failed more than once and for longer than a lease time."""
    now_s = asyncio.get_running_loop().time
    until_s = now_s() + 1.4 * TTL_S
    async with asyncio.timeout(20):
        while flaky.raised < 2 or now_s() < until_s:
            await caller.next_many(node, uids)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (("watch",), OSError("reset")),
        (("get", "watch"), OSError("reset")),
        (("get", "watch"), RuntimeError("a bug")),
    ],
    ids=repr,
)
async def test_a_node_whose_map_client_breaks_serves_on_and_follows_the_map_again_lease_2(
    box: Box, failing: tuple[str, ...], error: Exception
) -> None:
    caller = Caller(box)
    async with flaky_node(box) as (node, flaky):
        await box.own(node, 0, 1)
        flaky.failing, flaky.error = failing, error
        await box.assign(node, 2, 2)  # wakes the watch
        await outlive(node, flaky, caller, [5, 105])
        flaky.failing = ()
        await eventually(lambda: node.serves(2), "what was assigned meanwhile")
        await box.own(node, 3, 3)
        await caller.next_many(node, [5, 105, 205, 305])


@pytest.mark.parametrize("failing", ["get", "transact"])
async def test_a_node_that_cannot_report_a_promise_serves_on_and_reports_it_later_lease_2(
    box: Box, failing: str
) -> None:
    caller = Caller(box)
    async with flaky_node(box) as (node, flaky):
        await box.own(node)
        flaky.failing = (failing,)
        await box.promise(1, 9)
        await outlive(node, flaky, caller, [5])
        assert not (await box.document()).floors
        flaky.failing = ()
        async with asyncio.timeout(20):
            while not (await box.document()).floors:
                await asyncio.sleep(0.01)
        await box.change(lambda d: placement.sole_owner(d, box.spec, node.at) or d)
        await eventually(lambda: node.serves(1))
        await caller.next_many(node, [5, 105])


@pytest.mark.parametrize("failing", ["get", "watch"])
async def test_a_node_that_starts_while_its_map_client_is_broken_gets_its_sections_later(
    box: Box, failing: str
) -> None:
    async with flaky_node(box) as (node, flaky):
        flaky.failing = (failing,)
        await eventually(lambda: flaky.raised >= 2)
        await box.assign(node)
        flaky.failing = ()
        await eventually(lambda: all(node.serves(s) for s in range(4)))


@pytest.mark.parametrize("failing", ["get", "watch", "transact"])
async def test_a_broken_invariant_in_the_map_client_still_ends_the_node(
    box: Box, failing: str
) -> None:
    with pytest.raises(BrokenInvariant, match="one above two"):
        async with flaky_node(box) as (node, flaky):
            await box.own(node)
            flaky.failing, flaky.error = (failing,), BrokenInvariant("one above two")
            await box.promise(1, 9)
            await box.coordinator.transact({}, {"jobs/x": b"{}"})
            await asyncio.sleep(20)


GARBAGE = [b"\xff\xfe\x00", b'{"format":2,"set":"other"}', b"[" * 100_000]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda raw: repr(raw[:8]))
@pytest.mark.parametrize("key", ["assignments/other", SETS_PREFIX + "other"])
async def test_an_unreadable_document_of_another_set_keeps_no_node_from_its_own(
    box: Box, key: str, garbage: bytes
) -> None:
    caller = Caller(box)
    await box.coordinator.transact({}, {key: garbage})
    async with box.node(lease_ttl_s=TTL_S) as node:
        await box.own(node, 0, 1)
        await caller.next_many(node, [5, 105])
        await box.coordinator.transact({}, {key: garbage + b" "})
        await box.own(node, 2, 3)
        await box.change(lambda d: placement.unassign(d, 0, 0))
        await eventually(lambda: 0 not in node.node.ledger.sections)
        await caller.next_many(node, [105, 205])
        await box.coordinator.transact({}, {key: None})
        version = (await box.document()).version
        await eventually(lambda: node.node.router.version == version, "routes once it is gone")
