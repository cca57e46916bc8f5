"""What every implementation of the coordinator port must do.

One suite for all: another implementation adds its opener to `IMPLEMENTATIONS`. An opener takes a
scratch directory and the address of an etcd, and gives an open coordinator of an empty map.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from clustermap.coordinator import Change, Coordinator, Versioned, follow
from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import MapUnavailable
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import EtcdServers

PATIENCE_S = 20.0

maps = itertools.count()


async def open_embedded(directory: Path, etcd: str) -> Coordinator:
    return await EmbeddedCoordinator.open(directory)


async def open_etcd(directory: Path, etcd: str) -> Coordinator:
    return await EtcdCoordinator.open(EtcdOptions((etcd,), prefix=f"/map-{next(maps)}/"))


IMPLEMENTATIONS: dict[str, Callable[[Path, str], Awaitable[Coordinator]]] = {
    "embedded": open_embedded,
    "etcd": open_etcd,
}


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EtcdServers(tmp_path_factory.mktemp("etcd"), fsync=False) as servers:
        yield servers.endpoints[0]


@pytest.fixture(params=IMPLEMENTATIONS)
async def coordinator(
    request: pytest.FixtureRequest, tmp_path: Path, etcd: str
) -> AsyncIterator[Coordinator]:
    opened = await IMPLEMENTATIONS[request.param](tmp_path, etcd)
    yield opened
    await opened.aclose()


async def put(coordinator: Coordinator, **values: bytes | None) -> int:
    revision = await coordinator.transact({}, values)
    assert revision is not None
    return revision


async def to_the_end(changes: AsyncGenerator[Change, None]) -> None:
    async for _ in changes:
        pass


async def test_an_empty_map_lists_nothing(coordinator: Coordinator) -> None:
    assert (await coordinator.get("")).entries == {}


async def test_what_was_put_is_listed_by_prefix_with_its_revision(
    coordinator: Coordinator,
) -> None:
    first = await coordinator.transact({"a/1": 0, "b/1": 0}, {"a/1": b"x", "b/1": b"\xff\x00"})
    second = await coordinator.transact({}, {"a/2": b"y"})
    assert first is not None
    assert second is not None
    assert 0 < first < second
    listing = await coordinator.get("a/")
    assert listing.revision >= second
    assert listing.entries == {"a/1": Versioned(b"x", first), "a/2": Versioned(b"y", second)}
    assert (await coordinator.get("b/")).entries["b/1"].value == b"\xff\x00"


async def test_a_key_is_deleted_and_may_then_be_made_again(coordinator: Coordinator) -> None:
    revision = await put(coordinator, k=b"1")
    assert await coordinator.transact({"k": 0}, {"k": b"2"}) is None
    assert await coordinator.transact({"k": revision}, {"k": None}) is not None
    assert (await coordinator.get("")).entries == {}
    assert await coordinator.transact({"k": revision}, {"k": b"3"}) is None
    assert await coordinator.transact({"k": 0}, {"k": b"3"}) is not None


async def test_an_expectation_that_fails_leaves_everything_as_it_was(
    coordinator: Coordinator,
) -> None:
    await put(coordinator, a=b"1", b=b"1")
    before = await coordinator.get("")
    wrong = {"a": before.entries["a"].revision, "b": before.entries["b"].revision + 1}
    assert await coordinator.transact(wrong, {"a": b"2", "b": b"2", "c": b"2"}) is None
    assert (await coordinator.get("")).entries == before.entries


async def test_a_transaction_may_expect_keys_it_does_not_write(coordinator: Coordinator) -> None:
    revision = await put(coordinator, guard=b"1")
    assert await coordinator.transact({"guard": revision}, {"a": b"1"}) is not None
    await put(coordinator, guard=b"2")
    assert await coordinator.transact({"guard": revision}, {"a": b"2"}) is None


async def test_of_concurrent_transactions_exactly_one_wins(coordinator: Coordinator) -> None:
    revision = await put(coordinator, k=b"start")
    for round_ in range(5):
        results = await asyncio.gather(
            *(
                coordinator.transact({"k": revision}, {"k": f"{round_}-{i}".encode()})
                for i in range(20)
            )
        )
        winners = [(i, result) for i, result in enumerate(results) if result is not None]
        assert len(winners) == 1
        index, won = winners[0]
        held = (await coordinator.get("k")).entries["k"]
        assert held == Versioned(f"{round_}-{index}".encode(), won)
        revision = won


async def test_counting_by_compare_and_swap_loses_no_count(coordinator: Coordinator) -> None:
    async def count() -> None:
        for _ in range(10):
            while True:
                held = (await coordinator.get("n")).entries.get("n", Versioned(b"0", 0))
                value = str(int(held.value) + 1).encode()
                if await coordinator.transact({"n": held.revision}, {"n": value}) is not None:
                    break

    await asyncio.gather(*(count() for _ in range(4)))
    assert (await coordinator.get("n")).entries["n"].value == b"40"


async def test_a_watch_tells_every_later_change_in_order_and_whole(
    coordinator: Coordinator,
) -> None:
    start = await put(coordinator, **{"a/0": b"0"})
    async with aclosing(coordinator.watch("a/", start)) as changes:
        first = await put(coordinator, **{"a/1": b"1", "a/2": b"2", "b/1": b"no"})
        await put(coordinator, **{"b/2": b"no"})
        async with asyncio.timeout(PATIENCE_S):
            got = await anext(changes)
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            last = await put(coordinator, **{"a/1": None})
            assert got == Change(
                first, {"a/1": Versioned(b"1", first), "a/2": Versioned(b"2", first)}
            )
            assert await waiting == Change(last, {"a/1": None})


async def test_a_registration_is_seen_updated_and_gone(coordinator: Coordinator) -> None:
    registration = await coordinator.register("nodes/s/1", b"1", 5.0)
    first = (await coordinator.get("nodes/")).entries["nodes/s/1"]
    assert first.value == b"1"
    await registration.update(b"2")
    second = (await coordinator.get("nodes/")).entries["nodes/s/1"]
    assert second.value == b"2"
    assert second.revision > first.revision
    assert not registration.lost.is_set()
    await registration.aclose()
    await registration.aclose()
    assert registration.lost.is_set()
    assert (await coordinator.get("nodes/")).entries == {}
    with pytest.raises(MapUnavailable):
        await registration.update(b"3")


async def test_registering_a_key_again_loses_the_earlier_registration(
    coordinator: Coordinator,
) -> None:
    earlier = await coordinator.register("nodes/s/1", b"1", 5.0)
    later = await coordinator.register("nodes/s/1", b"2", 5.0)
    async with asyncio.timeout(PATIENCE_S):
        await earlier.lost.wait()
    await earlier.aclose()
    assert (await coordinator.get("nodes/")).entries["nodes/s/1"].value == b"2"
    await later.aclose()


async def test_a_transaction_can_expect_a_registration_but_not_write_it(
    coordinator: Coordinator,
) -> None:
    registration = await coordinator.register("nodes/s/1", b"1", 5.0)
    revision = (await coordinator.get("nodes/")).entries["nodes/s/1"].revision
    assert await coordinator.transact({"nodes/s/1": revision}, {"a": b"1"}) is not None
    with pytest.raises(ValueError, match="bound to its holder"):
        await coordinator.transact({}, {"nodes/s/1": b"2"})
    await registration.aclose()
    assert await coordinator.transact({"nodes/s/1": revision}, {"a": b"2"}) is None


async def test_one_candidate_leads_at_a_time_and_the_next_after_it_resigned(
    coordinator: Coordinator,
) -> None:
    first = await coordinator.elect("arbiter", b"a")
    second = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
    other = await coordinator.elect("another", b"x")
    await asyncio.sleep(0.05)
    assert not second.done()
    assert (await coordinator.get(first.key)).entries[first.key].value == b"a"
    assert await coordinator.transact({first.key: first.revision}, {"k": b"1"}) is not None
    await first.resign()
    assert first.lost.is_set()
    async with asyncio.timeout(PATIENCE_S):
        successor = await second
    assert await coordinator.transact({first.key: first.revision}, {"k": b"2"}) is None
    assert await coordinator.transact({successor.key: successor.revision}, {"k": b"3"}) is not None
    await successor.resign()
    await other.resign()


async def test_a_candidate_that_gives_up_waiting_does_not_lead(coordinator: Coordinator) -> None:
    first = await coordinator.elect("arbiter", b"a")
    impatient = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
    patient = asyncio.ensure_future(coordinator.elect("arbiter", b"c"))
    await asyncio.sleep(0.02)
    impatient.cancel()
    await asyncio.wait([impatient])
    await first.resign()
    async with asyncio.timeout(PATIENCE_S):
        leader = await patient
    assert (await coordinator.get(leader.key)).entries[leader.key].value == b"c"


async def test_after_closing_everything_is_lost_and_nothing_is_possible(
    coordinator: Coordinator,
) -> None:
    registration = await coordinator.register("nodes/s/1", b"1", 5.0)
    leadership = await coordinator.elect("arbiter", b"a")
    waiting = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
    changes = coordinator.watch("", (await coordinator.get("")).revision)
    watching = asyncio.ensure_future(to_the_end(changes))
    await asyncio.sleep(0.02)
    await coordinator.aclose()
    await coordinator.aclose()
    assert registration.lost.is_set()
    assert leadership.lost.is_set()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(MapUnavailable):
            await waiting
        with contextlib.suppress(MapUnavailable):
            await watching
    with pytest.raises(MapUnavailable):
        await coordinator.get("")
    with pytest.raises(MapUnavailable):
        await coordinator.transact({}, {"a": b"1"})
    with pytest.raises(MapUnavailable):
        await coordinator.register("nodes/s/2", b"1", 5.0)
    await registration.aclose()
    await leadership.resign()


async def test_a_follower_sees_the_last_state_however_fast_it_changes(
    coordinator: Coordinator,
) -> None:
    async def write() -> None:
        for i in range(40):
            await put(coordinator, **{"a/x": b"%d" % i, "a/y": b"%d" % i})

    writing = asyncio.ensure_future(write())
    async with asyncio.timeout(PATIENCE_S), aclosing(follow(coordinator, "a/")) as pictures:
        async for picture in pictures:
            values = {held.value for held in picture.values()}
            assert len(values) <= 1, "half a transaction was seen"
            if values == {b"39"}:
                break
    await writing
