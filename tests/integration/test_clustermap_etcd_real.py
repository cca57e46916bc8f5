"""What etcd alone can show: other processes, compaction, size, certificates, passwords."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from etcd3.etcdrpc import rpc_pb2 as pb
from etcd3.etcdrpc import rpc_pb2_grpc
from prometheus_client import CollectorRegistry

from clustermap.coordinator import follow
from clustermap.errors import MapUnavailable
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import Certificates, EtcdServers
from etcd_servers.holder import Holder
from processes.service import free_port
from seqsvr.credentials import Credentials

PATIENCE_S = 30.0

prefixes = itertools.count()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServers]:
    with EtcdServers(tmp_path_factory.mktemp("etcd"), fsync=False) as started:
        yield started


@pytest.fixture
def prefix() -> str:
    return f"/r{next(prefixes)}/"


@pytest.fixture
async def connect(
    etcd: EtcdServers, prefix: str
) -> AsyncIterator[Callable[[], Awaitable[EtcdCoordinator]]]:
    """Opens coordinators of one map, new in each test."""
    opened: list[EtcdCoordinator] = []

    async def open_one() -> EtcdCoordinator:
        opened.append(await EtcdCoordinator.open(EtcdOptions(etcd.endpoints, prefix=prefix)))
        return opened[-1]

    yield open_one
    for coordinator in opened:
        await coordinator.aclose()


Connect = Callable[[], Awaitable[EtcdCoordinator]]


# -- other processes


async def test_the_keys_of_a_killed_process_go_and_another_leads(
    etcd: EtcdServers, connect: Connect, prefix: str
) -> None:
    coordinator = await connect()
    with Holder(etcd.endpoints, prefix, "nodes/1", "arbiter") as holder:
        assert (await coordinator.get("nodes/")).entries["nodes/1"].value == b"holder"
        waiting = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
        await asyncio.sleep(2.8)
        assert "nodes/1" in (await coordinator.get("nodes/")).entries, "it is kept while it lives"
        assert not waiting.done()
        holder.kill()
        async with asyncio.timeout(PATIENCE_S), aclosing(follow(coordinator, "nodes/")) as pictures:
            async for picture in pictures:
                if not picture:
                    break
            leadership = await waiting
    elections = (await coordinator.get("elections/")).entries
    assert list(elections) == [leadership.key]
    assert elections[leadership.key].revision == leadership.revision


async def test_of_many_candidates_exactly_one_leads_at_a_time(connect: Connect) -> None:
    coordinators = [await connect() for _ in range(4)]
    leading = 0

    async def candidate(coordinator: EtcdCoordinator, name: bytes) -> None:
        nonlocal leading
        for _ in range(3):
            leadership = await coordinator.elect("arbiter", name)
            leading += 1
            assert leading == 1
            await asyncio.sleep(0.01)
            leading -= 1
            await leadership.resign()

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(candidate(c, b"%d" % i) for i, c in enumerate(coordinators)))
    assert (await coordinators[0].get("elections/")).entries == {}


async def test_a_key_registered_by_another_process_is_lost_here(connect: Connect) -> None:
    ours, theirs = await connect(), await connect()
    earlier = await ours.register("nodes/1", b"ours", 2.0)
    await theirs.register("nodes/1", b"theirs", 2.0)
    with pytest.raises(MapUnavailable):
        await earlier.update(b"ours again")
    assert earlier.lost.is_set()
    await earlier.aclose()
    assert (await ours.get("")).entries["nodes/1"].value == b"theirs"


async def test_without_an_update_it_finds_out_as_well(connect: Connect) -> None:
    ours, theirs = await connect(), await connect()
    earlier = await ours.register("nodes/1", b"ours", 2.0)
    await theirs.register("nodes/1", b"theirs", 2.0)
    async with asyncio.timeout(PATIENCE_S):
        await earlier.lost.wait()


async def test_the_registration_of_another_process_is_not_written_over(connect: Connect) -> None:
    ours, theirs = await connect(), await connect()
    await theirs.register("nodes/1", b"theirs", 5.0)
    for value in (b"ours", None):
        with pytest.raises(ValueError, match="bound to its holder"):
            await ours.transact({}, {"a": b"1", "nodes/1": value})
    assert (await ours.get("a")).entries == {}
    leadership = await theirs.elect("arbiter", b"b")
    with pytest.raises(ValueError, match="bound to its holder"):
        await ours.transact({}, {leadership.key: None})


async def test_a_lasting_document_is_not_registered(connect: Connect) -> None:
    coordinator = await connect()
    await coordinator.transact({}, {"k": b"1"})
    with pytest.raises(ValueError, match="lasting document"):
        await coordinator.register("k", b"2", 2.0)
    assert (await coordinator.get("k")).entries["k"].value == b"1"


async def test_maps_with_other_prefixes_are_not_seen(etcd: EtcdServers) -> None:
    one = await EtcdCoordinator.open(EtcdOptions(etcd.endpoints, prefix="/one/"))
    two = await EtcdCoordinator.open(EtcdOptions(etcd.endpoints, prefix="/one-two/"))
    await one.transact({}, {"k": b"1"})
    await two.transact({"k": 0}, {"k": b"2"})
    assert [held.value for held in (await one.get("")).entries.values()] == [b"1"]
    assert [held.value for held in (await two.get("")).entries.values()] == [b"2"]
    await one.aclose()
    await two.aclose()


# -- watches


async def test_a_watch_from_before_a_compaction_has_to_list_again(
    etcd: EtcdServers, connect: Connect
) -> None:
    coordinator = await connect()
    start = (await coordinator.get("")).revision
    for i in range(5):
        await coordinator.transact({}, {"k": b"%d" % i})
    etcd.compact()
    with pytest.raises(MapUnavailable, match="no longer known"):
        async with asyncio.timeout(PATIENCE_S), aclosing(coordinator.watch("k", start)) as changes:
            await anext(changes)
    listing = await coordinator.get("k")
    async with asyncio.timeout(PATIENCE_S):
        async with aclosing(coordinator.watch("k", listing.revision)) as changes:
            revision = await coordinator.transact({}, {"k": b"new"})
            assert (await anext(changes)).revision == revision


async def test_a_quiet_watch_is_still_told_at_once(
    etcd: EtcdServers, connect: Connect, prefix: str
) -> None:
    writer = await connect()
    options = EtcdOptions(etcd.endpoints, prefix=prefix, quiet_s=0.1)
    reader = await EtcdCoordinator.open(options)
    start = (await reader.get("")).revision
    async with aclosing(reader.watch("k", start)) as changes:
        upcoming = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(1.0)  # it has been checked several times by now
        started = time.monotonic()
        await writer.transact({}, {"k": b"1"})
        async with asyncio.timeout(PATIENCE_S):
            await upcoming
            assert time.monotonic() - started < 2.0
    await reader.aclose()


async def test_megabytes_are_listed_and_watched(connect: Connect) -> None:
    coordinator = await connect()
    start = (await coordinator.get("")).revision
    big = bytes(1_000_000)
    for i in range(12):
        await coordinator.transact({}, {f"k{i}": big})
    assert len((await coordinator.get("")).entries) == 12
    async with asyncio.timeout(PATIENCE_S), aclosing(coordinator.watch("", start)) as changes:
        for i in range(12):
            held = (await anext(changes)).entries[f"k{i}"]
            assert held is not None
            assert held.value == big


async def test_what_etcd_refuses_for_its_size_is_not_taken_for_a_failure_of_the_member(
    connect: Connect,
) -> None:
    coordinator = await connect()
    with pytest.raises(MapUnavailable, match="too large"):
        await coordinator.transact({}, {"k": bytes(1_700_000)})
    assert await coordinator.transact({"k": 0}, {"k": b"1"}) is not None


# -- reaching it


async def test_nothing_is_left_running_after_closing(connect: Connect) -> None:
    before = asyncio.all_tasks()
    coordinator = await connect()
    await coordinator.register("nodes/1", b"1", 2.0)
    await coordinator.elect("arbiter", b"a")
    waiting = asyncio.ensure_future(coordinator.elect("arbiter", b"b"))
    pictures = follow(coordinator, "")
    await anext(pictures)
    watching = coordinator.watch("", (await coordinator.get("")).revision)
    assert await coordinator.transact({}, {"k": b"1"}) is not None
    await anext(watching)
    await asyncio.sleep(0.1)
    await coordinator.aclose()
    await asyncio.wait([waiting])
    assert isinstance(waiting.exception(), MapUnavailable)
    await pictures.aclose()
    await watching.aclose()
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    other = await connect()
    assert list((await other.get("")).entries) == ["k"], "the bound ones went with it"


async def test_a_coordinator_may_be_opened_before_etcd_is(tmp_path: Path) -> None:
    servers = EtcdServers(tmp_path, fsync=False)
    nobody = f"127.0.0.1:{free_port()}"
    options = EtcdOptions((*servers.endpoints, nobody), timeout_s=0.4, attempt_s=0.2)
    coordinator = await EtcdCoordinator.open(options)
    started = time.monotonic()
    for attempt in (
        coordinator.get(""),
        coordinator.transact({}, {"k": b"1"}),
        coordinator.register("n", b"1", 2.0),
        coordinator.elect("arbiter", b"a"),
        anext(coordinator.watch("", 1)),
    ):
        with pytest.raises(MapUnavailable):
            await attempt
    assert time.monotonic() - started < PATIENCE_S
    async with aclosing(follow(coordinator, "")) as pictures:
        upcoming = asyncio.ensure_future(anext(pictures))
        with servers:
            async with asyncio.timeout(PATIENCE_S):
                assert await upcoming == {}
    await coordinator.aclose()


async def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    made = Certificates(tmp_path / "certificates")
    with EtcdServers(tmp_path / "etcd", fsync=False, certificates=made) as servers:
        good = EtcdOptions(
            servers.endpoints, ca=made.ca, cert=made.client_cert, key=made.client_key
        )
        coordinator = await EtcdCoordinator.open(good)
        registration = await coordinator.register("n", b"1", 2.0)
        async with aclosing(coordinator.watch("", 1)) as changes:
            assert "n" in (await anext(changes)).entries
        await registration.aclose()
        await coordinator.aclose()
        for bad in (
            EtcdOptions(servers.endpoints, timeout_s=0.4, attempt_s=0.2),
            EtcdOptions(servers.endpoints, ca=made.ca, timeout_s=0.4, attempt_s=0.2),
        ):
            coordinator = await EtcdCoordinator.open(bad)
            with pytest.raises(MapUnavailable):
                await coordinator.get("")
            await coordinator.aclose()


async def test_watch_registration_and_leadership_outlive_three_renewals_of_certificates(
    tmp_path: Path,
) -> None:
    made = Certificates(tmp_path / "certificates")
    registry = CollectorRegistry()
    with EtcdServers(tmp_path / "etcd", fsync=False, certificates=made) as servers:
        options = EtcdOptions(
            servers.endpoints, ca=made.ca, cert=made.client_cert, key=made.client_key
        )
        credentials = Credentials(options.tls)
        coordinator = await EtcdCoordinator.open(options, registry, credentials)
        registered = await coordinator.register("n", b"1", 2.0)
        leading = await coordinator.elect("e", b"me")
        async with aclosing(coordinator.watch("", 1)) as changes:
            for turn in range(4):
                if turn:
                    made.renew()
                    assert credentials.refresh()
                    await asyncio.sleep(3)  # more than either lease lasts
                await coordinator.transact({}, {f"k{turn}": b"v"})
                async with asyncio.timeout(PATIENCE_S):
                    while f"k{turn}" not in (await anext(changes)).entries:
                        pass
            [endpoint] = coordinator._endpoints._all
            assert endpoint.link._line is not None
            assert endpoint.link._line.generation == credentials.generation == 4
            assert [line.users for line in endpoint.link._draining] == [1], "the watch's own"
        assert not registered.lost.is_set() and not leading.lost.is_set()
        metrics = {m.name: m for m in registry.collect()}
        assert not metrics["seqsvr_etcd_watch_restarts"].samples
        requests = metrics["seqsvr_etcd_requests"].samples
        failed = [s for s in requests if s.name.endswith("_total") and s.labels["outcome"] != "ok"]
        assert not failed
        await coordinator.aclose()


async def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        await EtcdCoordinator.open(EtcdOptions(("a:1",), ca=tmp_path / "missing.pem"))


def enable_authentication(address: str) -> None:
    """root, who may do all, and `seq`, who may do so under /seqsvr/; password as the name."""
    with grpc.insecure_channel(address) as channel:
        auth = rpc_pb2_grpc.AuthStub(channel)
        for name in ("root", "seq"):
            auth.UserAdd(pb.AuthUserAddRequest(name=name, password=name))
            auth.RoleAdd(pb.AuthRoleAddRequest(name=name))
            auth.UserGrantRole(pb.AuthUserGrantRoleRequest(user=name, role=name))
        permission = {"permType": 2, "key": b"/seqsvr/", "range_end": b"/seqsvr0"}
        auth.RoleGrantPermission(pb.AuthRoleGrantPermissionRequest(name="seq", perm=permission))
        auth.AuthEnable(pb.AuthEnableRequest())


AUTH = ["--auth-token-ttl", "1", "--bcrypt-cost", "4"]


async def test_user_and_password_and_a_token_that_runs_out(tmp_path: Path) -> None:
    with EtcdServers(tmp_path, fsync=False, options=AUTH) as servers:
        enable_authentication(servers.endpoints[0])
        options = EtcdOptions(servers.endpoints, user="seq", password="seq")
        coordinator = await EtcdCoordinator.open(options)
        registration = await coordinator.register("n", b"1", 2.0)
        leadership = await coordinator.elect("arbiter", b"a")
        async with aclosing(follow(coordinator, "k")) as pictures:
            assert await anext(pictures) == {}
            await asyncio.sleep(1.5)
            revision = await coordinator.transact(
                {leadership.key: leadership.revision}, {"k": b"1"}
            )
            assert revision is not None
            async with asyncio.timeout(PATIENCE_S):
                assert (await anext(pictures))["k"].revision == revision
        await registration.update(b"2")
        idle = await EtcdCoordinator.open(options)
        await idle.get("")
        await asyncio.sleep(2.5)  # nobody uses its token, which ends by that
        assert (await idle.get("k")).entries["k"].value == b"1"
        assert not registration.lost.is_set()
        await idle.aclose()
        await coordinator.aclose()
        for wrong in (
            EtcdOptions(servers.endpoints, user="seq", password="wrong"),
            EtcdOptions(servers.endpoints),
            EtcdOptions(servers.endpoints, prefix="/other/", user="seq", password="seq"),
        ):
            refused = await EtcdCoordinator.open(wrong)
            with pytest.raises(MapUnavailable, match=r"authentication failed|empty|permission"):
                await refused.get("")
            await refused.aclose()
