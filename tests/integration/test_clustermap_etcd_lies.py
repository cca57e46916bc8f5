"""An etcd that lies: the map is late at worst, never wedged, and nothing is done twice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

import pytest

from clustermap.coordinator import Change, Versioned, follow
from clustermap.errors import MapUnavailable
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from clustermap.etcd_lease import Bound
from fake_etcd import FakeEtcd

PATIENCE_S = 20.0
RELIST_S = 0.3
TTL_S = 2.0


def options(*etcds: FakeEtcd, user: str | None = None) -> EtcdOptions:
    return EtcdOptions(
        tuple(etcd.endpoint for etcd in etcds),
        prefix="/t/",
        user=user,
        password=user,
        timeout_s=1.2,
        attempt_s=0.4,
        quiet_s=0.1,
    )


@pytest.fixture
async def etcd() -> AsyncIterator[FakeEtcd]:
    async with FakeEtcd() as started:
        yield started


@pytest.fixture
async def coordinator(etcd: FakeEtcd) -> AsyncIterator[EtcdCoordinator]:
    opened = await EtcdCoordinator.open(options(etcd))
    yield opened
    await opened.aclose()


async def follow_until(pictures: AsyncGenerator[dict[str, Versioned], None], **wanted: int) -> None:
    """Wait for a picture of exactly these keys, with these values."""
    async with asyncio.timeout(PATIENCE_S):
        async for picture in pictures:
            if {key: int(held.value) for key, held in picture.items()} == wanted:
                return


async def lost(registration: object) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await cast(Bound, registration).lost.wait()


# -- leases


async def test_a_lease_that_is_confirmed_after_it_was_revoked_is_lost_all_the_same(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    registration = await coordinator.register("n", b"1", TTL_S)
    (lease,) = etcd.state.leases
    etcd.state.drop(lease, remember=True)
    await lost(registration)
    with pytest.raises(MapUnavailable, match="is lost"):
        await registration.update(b"2")
    assert (await coordinator.get("")).entries == {}
    again = await coordinator.register("n", b"3", TTL_S)
    assert (await coordinator.get("")).entries["n"].value == b"3"
    assert not again.lost.is_set()


async def test_an_update_never_revives_a_key_that_went_without_a_word(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    registration = await coordinator.register("n", b"1", TTL_S)
    (lease,) = etcd.state.leases
    etcd.state.drop(lease, remember=True)
    with pytest.raises(MapUnavailable):
        await registration.update(b"2")
    assert registration.lost.is_set()
    assert (await coordinator.get("")).entries == {}


async def test_a_lease_that_is_revoked_early_is_lost(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    leadership = await coordinator.elect("arbiter", b"a")
    (lease,) = etcd.state.leases
    etcd.state.drop(lease)
    await lost(leadership)
    assert await coordinator.transact({leadership.key: leadership.revision}, {"k": b"1"}) is None


async def test_a_registration_survives_reads_of_an_old_state_for_a_moment(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    registration = await coordinator.register("n", b"1", TTL_S)
    etcd.old_reads = 1
    reads = etcd.count("Range")
    async with asyncio.timeout(PATIENCE_S):
        while etcd.count("Range") < reads + 2:
            await asyncio.sleep(0.05)
    etcd.old_reads = None
    await asyncio.sleep(1.0)
    assert not registration.lost.is_set()


async def test_a_registration_in_a_map_that_went_back_for_good_is_lost(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    registration = await coordinator.register("n", b"1", TTL_S)
    etcd.old_reads = 1
    await lost(registration)


async def test_a_candidate_does_not_lead_by_a_state_from_before_its_own_key(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    leader = await coordinator.elect("arbiter", b"a")
    etcd.old_reads = 1
    waiting = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    etcd.old_reads = None
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await leader.resign()
    async with asyncio.timeout(PATIENCE_S):
        await waiting


@pytest.mark.parametrize("lie", ["silent", "eventless"])
async def test_a_candidate_whose_watch_lies_leads_a_little_later(
    etcd: FakeEtcd, coordinator: EtcdCoordinator, lie: str
) -> None:
    leader = await coordinator.elect("arbiter", b"a")
    setattr(etcd, lie, True)
    waiting = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
    await asyncio.sleep(0.3)
    await leader.resign()
    async with asyncio.timeout(PATIENCE_S):
        await waiting


# -- transactions


async def test_a_transaction_without_an_answer_is_not_sent_again(
    etcd: FakeEtcd,
) -> None:
    async with FakeEtcd(etcd.state) as other:
        coordinator = await EtcdCoordinator.open(options(etcd, other))
        etcd.mute = other.mute = True
        with pytest.raises(MapUnavailable):
            await coordinator.transact({}, {"k": b"1"})
        assert etcd.count("Txn") + other.count("Txn") == 1
        etcd.mute = other.mute = False
        assert (await coordinator.get("")).entries["k"].value == b"1"
        await coordinator.aclose()


async def test_an_update_that_is_applied_late_does_not_undo_a_later_one(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    registration = await coordinator.register("n", b"1", 10.0)
    etcd.hold = True
    with pytest.raises(MapUnavailable):
        await registration.update(b"2")
    etcd.hold = False
    await registration.update(b"3")
    etcd.release()
    assert (await coordinator.get("")).entries["n"].value == b"3"


async def test_an_update_whose_answer_was_lost_does_not_stand_in_the_way_of_the_next(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    registration = await coordinator.register("n", b"1", 10.0)
    etcd.mute = True
    with pytest.raises(MapUnavailable):
        await registration.update(b"2")
    etcd.mute = False
    await registration.update(b"3")
    assert (await coordinator.get("")).entries["n"].value == b"3"
    assert not registration.lost.is_set()


async def test_a_registration_whose_outcome_is_unknown_leaves_no_key_behind(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.mute = True
    with pytest.raises(MapUnavailable):
        await coordinator.register("n", b"1", TTL_S)
    async with asyncio.timeout(PATIENCE_S):
        while (await coordinator.get("")).entries:
            await asyncio.sleep(0.02)
    assert etcd.state.leases == {}


# -- watches


async def test_repeated_and_old_events_are_told_once(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.repeats = True
    etcd.state.put(b"/t/a", b"0")
    start = etcd.state.revision
    told: list[Change] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(coordinator.watch("", start)) as changes:
        for i in range(1, 4):
            etcd.state.put(b"/t/a", b"%d" % i)
            told.append(await anext(changes))
    assert told == [Change(start + i, {"a": Versioned(b"%d" % i, start + i)}) for i in (1, 2, 3)]


async def test_a_cancelled_watch_goes_on_after_the_last_change_it_told(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.cancels = 3
    start = etcd.state.put(b"/t/a", b"0")
    async with asyncio.timeout(PATIENCE_S), aclosing(coordinator.watch("", start)) as changes:
        revision = etcd.state.put(b"/t/a", b"1")
        assert (await anext(changes)).revision == revision
    assert etcd.watches == [start + 1] * 4


async def test_a_watch_that_is_always_cancelled_gives_up(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.cancels = 10**6
    with pytest.raises(MapUnavailable, match="for no reason"):
        async with asyncio.timeout(PATIENCE_S), aclosing(coordinator.watch("", 1)) as changes:
            await anext(changes)


async def test_a_compacted_watch_says_so_at_once(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.compacted = 7
    with pytest.raises(MapUnavailable, match="no longer known"):
        async with asyncio.timeout(PATIENCE_S), aclosing(coordinator.watch("", 1)) as changes:
            await anext(changes)
    assert len(etcd.watches) == 1


async def test_a_watch_at_a_silent_member_moves_to_another(etcd: FakeEtcd) -> None:
    async with FakeEtcd(etcd.state) as other:
        coordinator = await EtcdCoordinator.open(options(etcd, other))
        etcd.state.put(b"/t/a", b"0")
        async with aclosing(coordinator.watch("", etcd.state.revision)) as changes:
            waiting = asyncio.ensure_future(anext(changes))
            async with asyncio.timeout(PATIENCE_S):
                while not etcd.watches and not other.watches:
                    await asyncio.sleep(0.01)
            (etcd if etcd.watches else other).silent = True
            revision = etcd.state.put(b"/t/a", b"1")
            async with asyncio.timeout(PATIENCE_S):
                assert (await waiting).revision == revision
        assert etcd.watches
        assert other.watches
        await coordinator.aclose()


async def test_a_watch_that_nothing_happens_on_stays_where_it_is(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.no_progress = True  # as real ones do before the watch's first revision
    async with aclosing(coordinator.watch("", etcd.state.revision)) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(1.5)
        revision = etcd.state.put(b"/t/a", b"1")
        async with asyncio.timeout(PATIENCE_S):
            assert (await waiting).revision == revision
    assert len(etcd.watches) == 1


@pytest.mark.parametrize("lie", ["silent", "eventless", "repeats", "cancels", "compacted"])
async def test_a_follower_gets_the_right_picture_however_the_watch_lies(
    etcd: FakeEtcd, coordinator: EtcdCoordinator, lie: str
) -> None:
    setattr(etcd, lie, 10**6)
    async with aclosing(follow(coordinator, "", relist_s=RELIST_S)) as pictures:
        await follow_until(pictures)
        for i in range(3):
            etcd.state.put(b"/t/a", b"%d" % i)
            await follow_until(pictures, a=i)


async def test_a_follower_does_not_go_back_with_reads_that_do(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    etcd.silent = True
    etcd.state.put(b"/t/a", b"1")
    old = etcd.state.put(b"/t/a", b"2")
    etcd.state.put(b"/t/a", b"3")
    async with aclosing(follow(coordinator, "", relist_s=RELIST_S)) as pictures:
        await follow_until(pictures, a=3)
        etcd.old_reads = old
        upcoming = asyncio.ensure_future(anext(pictures))
        await asyncio.sleep(RELIST_S * 1.5)
        assert not upcoming.done()
        etcd.old_reads = None
        etcd.state.put(b"/t/a", b"4")
        async with asyncio.timeout(PATIENCE_S):
            assert (await upcoming)["a"].value == b"4"


# -- who we are


async def test_a_token_that_has_run_out_is_fetched_anew_everywhere(etcd: FakeEtcd) -> None:
    etcd.token = "first"
    coordinator = await EtcdCoordinator.open(options(etcd, user="u"))
    registration = await coordinator.register("n", b"1", TTL_S)
    async with aclosing(coordinator.watch("", etcd.state.revision)) as changes:
        etcd.token = "second"
        await asyncio.gather(*(coordinator.get("") for _ in range(5)))
        assert etcd.authentications == 2
        etcd.token = "third"
        revision = await coordinator.transact({}, {"a": b"1"})
        etcd.token = "fourth"
        async with asyncio.timeout(PATIENCE_S):
            assert (await anext(changes)).revision == revision
    await asyncio.sleep(1.0)
    assert not registration.lost.is_set()
    await coordinator.aclose()
    assert etcd.state.leases == {}


async def test_a_password_where_none_is_asked_for_does_no_harm(etcd: FakeEtcd) -> None:
    coordinator = await EtcdCoordinator.open(options(etcd, user="u"))
    assert await coordinator.transact({}, {"a": b"1"}) is not None
    assert (await coordinator.get("")).entries["a"].value == b"1"
    assert etcd.authentications == 1
    etcd.token = "now it is"
    assert (await coordinator.get("")).entries["a"].value == b"1"
    await coordinator.aclose()


async def test_streams_ask_for_a_member_that_has_a_leader(
    etcd: FakeEtcd, coordinator: EtcdCoordinator
) -> None:
    await coordinator.register("n", b"1", TTL_S)
    async with aclosing(coordinator.watch("", 1)) as changes:
        await anext(changes)
    async with asyncio.timeout(PATIENCE_S):
        while not etcd.count("LeaseKeepAlive"):
            await asyncio.sleep(0.05)
    streams = [metadata for name, metadata in etcd.calls if name in ("Watch", "LeaseKeepAlive")]
    assert streams
    assert all(metadata["hasleader"] == "true" for metadata in streams)
