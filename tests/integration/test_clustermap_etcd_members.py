"""Three real etcd members, one of which is killed or frozen: the map goes on within seconds."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing

import pytest

from clustermap.coordinator import Coordinator, Registration, follow
from clustermap.errors import MapUnavailable
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import EtcdServers, Member

PATIENCE_S = 30.0
SECONDS = 12.0
"""What "within seconds" is taken to mean on a busy machine."""

prefixes = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServers]:
    with EtcdServers(tmp_path_factory.mktemp("etcd"), 3, fsync=False) as started:
        yield started


@pytest.fixture
def etcd(cluster: EtcdServers) -> Iterator[EtcdServers]:
    """All of them run, and do so again at the end."""
    yield cluster
    for member in cluster.members:
        if member.frozen:
            member.thaw()
    cluster.start()


@pytest.fixture
async def connect(
    etcd: EtcdServers,
) -> AsyncIterator[Callable[[], Awaitable[EtcdCoordinator]]]:
    """Opens coordinators of one map, new in each test."""
    options = EtcdOptions(etcd.endpoints, prefix=f"/m{next(prefixes)}/")
    opened: list[EtcdCoordinator] = []

    async def open_one() -> EtcdCoordinator:
        opened.append(await EtcdCoordinator.open(options))
        return opened[-1]

    yield open_one
    for coordinator in opened:
        await coordinator.aclose()


Connect = Callable[[], Awaitable[EtcdCoordinator]]


def used(etcd: EtcdServers, coordinator: EtcdCoordinator) -> Member:
    """The member that the coordinator asks first."""
    address = coordinator._endpoints.best().address
    return next(member for member in etcd.members if member.endpoint == address)


async def until_done(coordinator: Coordinator, key: str, value: bytes) -> None:
    """Put, as callers do: after an unknown outcome read, and put again if need be."""
    while True:
        try:
            held = (await coordinator.get(key)).entries.get(key)
            if held is not None and held.value == value:
                return
            expected = {key: 0 if held is None else held.revision}
            if await coordinator.transact(expected, {key: value}) is not None:
                return
        except MapUnavailable:
            await asyncio.sleep(0.05)


async def standing(coordinator: Coordinator, registration: Registration) -> Registration:
    """The registration if it stands, else a new one."""
    while True:
        try:
            if not registration.lost.is_set():
                await registration.update(b"again")
                return registration
            registration = await coordinator.register("node", b"again", 2.0)
        except MapUnavailable:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
@pytest.mark.parametrize("whom", ["the leader", "the one in use, which follows"])
async def test_with_one_member_gone_everything_goes_on(
    etcd: EtcdServers, connect: Connect, whom: str, fault: str
) -> None:
    leader = etcd.leader()
    coordinator = await connect()
    while (used(etcd, coordinator) is leader) != (whom == "the leader"):
        coordinator = await connect()
    registration = await coordinator.register("node", b"1", 2.0)
    async with aclosing(follow(coordinator, "k")) as pictures:
        assert await anext(pictures) == {}
        member = used(etcd, coordinator)
        member.kill() if fault == "killed" else member.freeze()
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            await until_done(coordinator, "k", b"1")
            await until_done(coordinator, "k2", b"2")
            async for picture in pictures:
                if len(picture) == 2:
                    break
            await standing(coordinator, registration)
        assert time.monotonic() - started < SECONDS
        # And nobody pays for the lost member any more.
        started = time.monotonic()
        for i in range(20):
            assert await coordinator.transact({}, {"k3": b"%d" % i}) is not None
        assert time.monotonic() - started < SECONDS / 4


async def test_a_watch_whose_members_die_one_after_another_tells_each_change_once(
    etcd: EtcdServers, connect: Connect
) -> None:
    writer, reader = await connect(), await connect()
    start = (await reader.get("")).revision
    told: list[bytes] = []

    async def write() -> None:
        for i in range(150):
            await until_done(writer, "n", b"%d" % i)
            await asyncio.sleep(0.02)

    async def read() -> None:
        revision = start
        while told[-1:] != [b"149"]:
            try:
                async with aclosing(reader.watch("n", revision)) as changes:
                    async for change in changes:
                        assert change.revision > revision
                        revision = change.revision
                        held = change.entries["n"]
                        assert held is not None
                        told.append(held.value)
                        if held.value == b"149":
                            return
            except MapUnavailable:
                continue

    async with asyncio.timeout(PATIENCE_S * 2), asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(read())
        for fault in ("killed", "frozen"):
            await asyncio.sleep(0.5)
            while len(told) < 10:
                await asyncio.sleep(0.02)
            member = used(etcd, reader)
            member.kill() if fault == "killed" else member.freeze()
            await asyncio.sleep(1.5)
            if fault == "killed":
                await asyncio.to_thread(etcd.start)
    assert told == [b"%d" % i for i in range(150)]


async def test_with_the_whole_etcd_frozen_leases_end_by_their_own_count(
    etcd: EtcdServers, connect: Connect
) -> None:
    coordinator = await connect()
    registration = await coordinator.register("node", b"1", 2.0)
    leadership = await coordinator.elect("arbiter", b"a")
    etcd.freeze()
    started = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        await registration.lost.wait()
        await leadership.lost.wait()
    assert time.monotonic() - started < 6.0
    etcd.thaw()
    async with asyncio.timeout(PATIENCE_S):
        await standing(coordinator, registration)
        while True:
            try:
                await coordinator.elect("arbiter", b"a")
                break
            except MapUnavailable:
                continue
    assert (await coordinator.get("node")).entries["node"].value == b"again"


async def test_a_leader_cut_off_from_etcd_counts_itself_deposed_and_another_leads(
    etcd: EtcdServers, connect: Connect
) -> None:
    first, second = await connect(), await connect()
    leadership = await first.elect("arbiter", b"a")
    waiting = asyncio.ensure_future(second.elect("arbiter", b"b"))
    for endpoint in first._endpoints._all:
        await endpoint.aclose()  # nothing from it reaches etcd any more
    async with asyncio.timeout(PATIENCE_S):
        await leadership.lost.wait()
        successor = await waiting
    assert await second.transact({leadership.key: leadership.revision}, {"k": b"1"}) is None
    assert await second.transact({successor.key: successor.revision}, {"k": b"1"}) is not None


async def test_the_whole_etcd_restarted_is_found_again(etcd: EtcdServers, connect: Connect) -> None:
    coordinator = await connect()
    await coordinator.transact({}, {"k": b"1"})
    async with aclosing(follow(coordinator, "k")) as pictures:
        assert (await anext(pictures))["k"].value == b"1"
        etcd.kill()
        await asyncio.sleep(1.0)
        await asyncio.to_thread(etcd.start)
        async with asyncio.timeout(PATIENCE_S):
            await until_done(coordinator, "k", b"2")
            assert (await anext(pictures))["k"].value == b"2"


async def test_a_wiped_etcd_is_taken_for_what_it_is(etcd: EtcdServers, connect: Connect) -> None:
    coordinator = await connect()
    for i in range(50):
        await coordinator.transact({}, {"k": b"%d" % i})
    registration = await coordinator.register("node", b"1", 2.0)
    async with aclosing(follow(coordinator, "k", relist_s=0.5)) as pictures:
        assert (await anext(pictures))["k"].value == b"49"
        etcd.wipe()
        await asyncio.to_thread(etcd.start)
        async with asyncio.timeout(PATIENCE_S):
            async for picture in pictures:
                if picture == {}:
                    break
            await until_done(coordinator, "k", b"new")
            async for picture in pictures:
                if picture["k"].value == b"new":
                    break
            await registration.lost.wait()
            await standing(coordinator, registration)
