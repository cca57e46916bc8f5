"""The service over a store: group commit, cancellation, refusals, and the end of the process."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb
from storesvr import commits
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Batch
from storesvr.replica import Replica
from storesvr.service import StoreService, open_service
from storesvr_world import HEADER, IDENTITY, A, B, S, fence, raising, release, renew, scan

WAIT_S = 30


class SlowEngine(MemoryEngine):
    """Its commits wait for the gate, and are counted."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[Batch] = []

    def commit(self, batch: Batch) -> None:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        super().commit(batch)
        self.batches.append(batch)


@dataclass
class World:
    disk: Disk = field(default_factory=lambda: Disk(IDENTITY._replace(store_id=7)))
    now: int = 0
    deaths: list[str] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def open(self, **options: Any) -> None:
        self.engine = SlowEngine(self.disk)
        self.service = StoreService(
            Replica(self.engine, now_ns=0),
            self.engine,
            registry=self.registry,
            now_ns=lambda: self.now,
            fatal=self.deaths.append,
            **options,
        )

    async def stuck(self) -> "asyncio.Task[Any]":
        """A raise of section 0 whose commit waits for the gate."""
        self.engine.gate.clear()
        self.engine.entered.clear()
        task = asyncio.create_task(self.service.raise_max(raising(A, (0, 1, 10))))
        await asyncio.to_thread(self.engine.entered.wait, WAIT_S)
        return task

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"seqsvr_store_{name}", labels) or 0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.open()
    yield world
    world.engine.gate.set()
    await world.service.aclose()


async def refused(call: Any) -> ReplicaFailed:
    with pytest.raises(ReplicaFailed) as caught:
        await call
    return caught.value


async def test_a_section_is_won_served_and_handed_over(tmp_path: Path) -> None:
    service = open_service(tmp_path / "store", IDENTITY, create=True)
    store_id = service.identity.store_id
    granted = await service.fence(fence(3, 5, 1))
    assert list(zip(granted.promised, granted.granted, strict=True)) == [(1, True)] * 3
    assert granted.store_id == store_id
    assert granted.boot_grace_ns == 0
    assert (await service.raise_max(raising(A, (3, 1, 100), (4, 1, 100)))).refused == []
    assert (await service.release(release(A, (3, 1, b"left"), (9, 1, b"")))).refused == [
        pb.EpochRange(first=9, last=9, epoch=0)
    ]
    await service.renew(renew(A))
    await service.aclose()

    service = open_service(tmp_path / "store", IDENTITY, create=False, boot_grace_ns=60 * S)
    told = await service.renew(renew(B, since=1, store=store_id))
    assert told.fence_version == 3
    assert told.promises == [pb.EpochRange(first=4, last=5, epoch=1)]
    answer = await service.fence(fence(3, 4, 2))
    assert 0 < answer.boot_grace_ns <= 60 * S
    assert [lease.incarnation for lease in answer.leases] == [B]
    assert list(zip(answer.promised, answer.granted, strict=True)) == [(2, True)] * 2
    owners = zip(answer.max_seq, answer.owner, answer.owner_epoch, strict=True)
    assert list(owners) == [(100, A, 1)] * 2
    assert list(zip(answer.released, answer.snapshot_epoch, strict=True)) == [(True, 1), (False, 0)]
    late = await service.raise_max(raising(A, (3, 1, 900), (4, 1, 900), (5, 1, 900)))
    assert late.refused == [pb.EpochRange(first=3, last=4, epoch=2)]
    scanned = await service.scan(scan(3, 3, with_snapshots=True))
    assert scanned.records[0].snapshot == b"left"
    assert scanned.records[0].max_seq == 100
    await service.aclose()
    await service.aclose()


async def test_writers_that_wait_for_the_disk_share_one_commit(world: World) -> None:
    stuck = await world.stuck()
    tasks = [
        asyncio.create_task(world.service.raise_max(raising(A, (section, 1, 10))))
        for section in range(1, 101)
    ]
    await asyncio.sleep(0)
    assert not any(task.done() for task in (stuck, *tasks))
    world.engine.gate.set()
    await asyncio.gather(stuck, *tasks)
    assert [len(batch.records) for batch in world.engine.batches] == [1, 100]
    assert world.count("commit_requests_sum") == 101
    assert world.count("commit_seconds_count") == 2
    assert world.count("records") == 101
    assert world.count("requests_total", rpc="Raise", outcome="ok") == 101


async def test_renew_and_reading_do_not_wait_for_a_commit(world: World) -> None:
    stuck = await world.stuck()
    told = await world.service.renew(renew(B))
    assert told.promises == [pb.EpochRange(first=0, last=0, epoch=1)]
    assert told.fence_version == 0
    assert (await world.service.scan(scan(0, 9))).records == []
    assert (await world.service.info(pb.InfoRequest())).sections == 0
    assert not stuck.done()
    world.engine.gate.set()
    await stuck
    assert (await world.service.renew(renew(B))).fence_version == 1


async def test_a_fence_that_waits_for_the_disk_reports_a_lease_granted_meanwhile(
    world: World,
) -> None:
    stuck = await world.stuck()
    fencing = asyncio.create_task(world.service.fence(fence(5, 5, 1)))
    await asyncio.sleep(0)
    told = await world.service.renew(renew(B))
    assert all(r.first != 5 for r in told.promises), "the promise is not made yet"
    world.engine.gate.set()
    await stuck
    assert [lease.incarnation for lease in (await fencing).leases] == [B]


async def test_a_request_that_is_refused_does_not_harm_the_others_of_its_batch(
    world: World,
) -> None:
    stuck = await world.stuck()
    bad = asyncio.create_task(world.service.raise_max(raising(A, (1, 1, 10), (10**6, 1, 10))))
    good = asyncio.create_task(world.service.raise_max(raising(A, (2, 1, 10))))
    await asyncio.sleep(0)
    world.engine.gate.set()
    assert (await refused(bad)).reason == "MALFORMED"
    await asyncio.gather(stuck, good)
    assert sorted(world.disk.records) == [0, 2]


async def test_cancelled_callers_harm_nobody(world: World) -> None:
    stuck = await world.stuck()
    tasks = [
        asyncio.create_task(world.service.raise_max(raising(A, (section, 1, 10))))
        for section in range(1, 11)
    ]
    await asyncio.sleep(0)
    for task in (stuck, *tasks[::2]):
        task.cancel()
    world.engine.gate.set()
    results = await asyncio.gather(stuck, *tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 6
    assert sorted(world.disk.records) == [0, 2, 4, 6, 8, 10]
    await world.service.raise_max(raising(A, (20, 1, 10)))
    assert world.deaths == []


async def test_a_full_queue_refuses_more() -> None:
    small = World(disk=Disk(IDENTITY._replace(store_id=7)))
    small.open(max_waiting=3)
    stuck = await small.stuck()
    waiting = [
        asyncio.create_task(small.service.raise_max(raising(A, (s, 1, 10)))) for s in range(1, 4)
    ]
    await asyncio.sleep(0)
    assert (await refused(small.service.fence(fence(9, 9, 1)))).reason == "OVERLOADED"
    small.engine.gate.set()
    await asyncio.gather(stuck, *waiting)
    await small.service.fence(fence(9, 9, 1))
    await small.service.aclose()


async def test_a_failed_commit_ends_the_process_and_acknowledges_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = await world.stuck()
    other = asyncio.create_task(world.service.raise_max(raising(A, (1, 1, 10))))
    await asyncio.sleep(0)
    world.disk.fails = "fsync: Input/output error"
    world.engine.gate.set()
    for task in (stuck, other):
        failed = await refused(task)
        assert (failed.reason, "unknown" in failed.text) == ("INTERNAL", True)
    assert world.deaths == ["EngineFailed: fsync: Input/output error"]
    lines = [r.getMessage() for r in caplog.records if r.levelname == "CRITICAL"]
    assert len(lines) == 1
    assert "the process stops: EngineFailed: fsync: Input/output error" in lines[0]
    world.disk.fails = ""
    requests: list[Callable[[], Any]] = [
        lambda: world.service.raise_max(raising(A, (0, 1, 10))),
        lambda: world.service.renew(renew(A)),
    ]
    for request in requests:
        assert (await refused(request())).reason == "UNREACHABLE"
    assert world.disk.records == {}


async def test_a_fault_while_staging_ends_the_process_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Replica, "raise_max", broken)
    assert (await refused(world.service.raise_max(raising(A, (0, 1, 10))))).reason == "INTERNAL"
    assert world.deaths == ["ZeroDivisionError: a bug"]


def test_the_process_ends_with_70_by_default() -> None:
    assert commits.EXIT_WRITE_FAILED == 70
    assert inspect.signature(StoreService).parameters["fatal"].default is commits.end_process


async def test_closing_commits_what_waits_and_refuses_the_rest(world: World) -> None:
    stuck = await world.stuck()
    waiting = asyncio.create_task(world.service.raise_max(raising(A, (1, 1, 10))))
    await asyncio.sleep(0)
    closing = asyncio.create_task(world.service.aclose())
    await asyncio.sleep(0)
    assert (await refused(world.service.fence(fence(9, 9, 1)))).reason == "UNREACHABLE"
    world.engine.gate.set()
    await asyncio.gather(stuck, waiting, closing)
    assert sorted(world.disk.records) == [0, 1]
    assert not world.disk.opened


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (pb.StoreHeader(), "FOREIGN"),
        (pb.StoreHeader(cluster="c2", set="set-0", membership=1), "FOREIGN"),
        (pb.StoreHeader(cluster="c1", set="set-1", membership=1), "FOREIGN"),
        (pb.StoreHeader(cluster="c1", set="set-0", membership=0), "MEMBERSHIP"),
        (pb.StoreHeader(cluster="c1", set="set-0", membership=2), "MEMBERSHIP"),
    ],
)
async def test_a_request_for_somebody_else_is_refused_by_every_method(
    world: World, header: pb.StoreHeader, reason: str
) -> None:
    service = world.service
    for call in (
        service.fence(pb.FenceRequest(header=header)),
        service.raise_max(pb.RaiseRequest(header=header)),
        service.release(pb.ReleaseRequest(header=header)),
        service.renew(pb.RenewRequest(header=header)),
        service.scan(pb.ScanRequest(header=header)),
        service.digest(pb.DigestRequest(header=header)),
        service.put_at_least(pb.PutAtLeastRequest(header=header)),
    ):
        assert (await refused(call)).reason == reason


def adopt(version: int, *, learning: bool = False, retired: bool = False) -> pb.AdoptRequest:
    header = pb.StoreHeader(cluster="c1", set="set-0", membership=version)
    return pb.AdoptRequest(header=header, store_id=7, learning=learning, retired=retired)


async def test_what_waits_for_the_disk_is_refused_if_another_membership_came_before_it(
    world: World,
) -> None:
    """Rule 1: once Adopt is answered, nothing of the version before is acknowledged any more."""
    stuck = await world.stuck()
    adopted = asyncio.create_task(world.service.adopt(adopt(2)))
    await asyncio.sleep(0)
    late = asyncio.create_task(world.service.raise_max(raising(A, (0, 1, 9))))
    await asyncio.sleep(0)
    world.engine.gate.set()
    await asyncio.gather(stuck, adopted)
    failed = await refused(late)
    assert (failed.reason, failed.membership) == ("MEMBERSHIP", 1)  # 2 was not durable just then
    assert world.disk.identity.membership == 2
    assert (await refused(world.service.renew(renew(A)))).membership == 2


async def test_a_membership_is_said_by_nobody_before_it_is_durable(world: World) -> None:
    """Rules 1 and 2: who counts on a replica that says so must be able to, also after a crash; and
    what was staged before is acknowledged, but not to be read until then."""
    world.engine.gate.clear()
    world.engine.entered.clear()
    adopting = asyncio.create_task(world.service.adopt(adopt(2)))
    await asyncio.to_thread(world.engine.entered.wait, WAIT_S)
    assert (await world.service.info(pb.InfoRequest())).membership == 1
    for refusing in (world.service.renew(renew(A)), world.service.scan(scan(0, 0))):
        failed = await refused(refusing)
        assert (failed.reason, failed.membership) == ("MEMBERSHIP", 1)
    assert world.disk.identity.membership == 1
    world.engine.gate.set()
    await adopting
    assert (await world.service.info(pb.InfoRequest())).membership == 2
    assert (await refused(world.service.renew(renew(A)))).membership == 2


async def test_a_replica_that_adopts_reports_boot_grace_anew(world: World) -> None:
    header = pb.StoreHeader(cluster="c1", set="set-0", membership=2)
    before = await world.service.fence(fence(0, 0, 1))
    assert before.boot_grace_ns == 0
    await world.service.adopt(adopt(2))
    asked = pb.FenceRequest(header=header, ranges=[pb.EpochRange(first=0, last=0, epoch=2)])
    assert (await world.service.fence(asked)).boot_grace_ns == 60 * S


async def test_a_learner_is_read_and_written_and_not_counted_and_one_that_retired_is_neither(
    world: World,
) -> None:
    header = pb.StoreHeader(cluster="c1", set="set-0", membership=2)
    await world.service.adopt(adopt(2, learning=True))
    for call in (
        world.service.fence(pb.FenceRequest(header=header)),
        world.service.raise_max(pb.RaiseRequest(header=header)),
        world.service.release(pb.ReleaseRequest(header=header)),
        world.service.renew(pb.RenewRequest(header=header)),
    ):
        assert (await refused(call)).reason == "LEARNING"
    await world.service.put_at_least(pb.PutAtLeastRequest(header=header))
    await world.service.scan(pb.ScanRequest(header=header, last=9))
    assert (await world.service.info(pb.InfoRequest())).learning
    assert (await refused(world.service.adopt(adopt(3)))).reason == "MEMBERSHIP"
    await world.service.adopt(adopt(2))
    await world.service.raise_max(pb.RaiseRequest(header=header, incarnation=A))
    await world.service.adopt(adopt(3, retired=True))
    later = pb.StoreHeader(cluster="c1", set="set-0", membership=3)
    assert (await refused(world.service.scan(pb.ScanRequest(header=later)))).reason == "MEMBERSHIP"
    assert (await world.service.info(pb.InfoRequest())).retired


async def test_adopt_is_for_the_store_that_it_names(world: World) -> None:
    foreign = adopt(2)
    foreign.store_id = 8
    assert (await refused(world.service.adopt(foreign))).reason == "FOREIGN"
    assert (await refused(world.service.adopt(pb.AdoptRequest(store_id=7)))).reason == "FOREIGN"


async def test_info_answers_any_membership_but_no_other_cluster(world: World) -> None:
    for header in (None, HEADER, pb.StoreHeader(cluster="c1", set="set-0", membership=9)):
        info = await world.service.info(pb.InfoRequest(header=header))
        assert (info.cluster, info.set, info.replica) == ("c1", "set-0", "store-0")
        assert info.store_id == 7
        assert (info.membership, info.section_size) == (1, 100_000)
    other = pb.InfoRequest(header=pb.StoreHeader(cluster="c2", set="set-0"))
    assert (await refused(world.service.info(other))).reason == "FOREIGN"


async def test_repair_copies_records_and_snapshots_and_the_digests_agree(world: World) -> None:
    await world.service.raise_max(raising(A, *((s, 1, 10 + s) for s in range(20))))
    await world.service.release(release(A, (3, 1, b"left")))
    other = World(disk=Disk(IDENTITY._replace(store_id=8)))
    other.open()
    found = await world.service.scan(scan(0, 2**63, with_snapshots=True))
    put = pb.PutAtLeastRequest(header=HEADER, records=found.records)
    assert (await other.service.put_at_least(put)).raised == 20
    assert (await other.service.put_at_least(put)).raised == 0
    digest = pb.DigestRequest(header=HEADER, first=0, last=99, chunk=7)
    ours, theirs = await world.service.digest(digest), await other.service.digest(digest)
    assert ours.chunks == theirs.chunks
    assert [(c.first, c.records) for c in ours.chunks] == [(0, 7), (7, 7), (14, 6)]
    copied = (await other.service.scan(scan(3, 3, with_snapshots=True))).records[0]
    assert (copied.snapshot, copied.snapshot_epoch, copied.promised) == (b"left", 1, 0)
    await other.service.aclose()


async def test_a_corrupt_record_is_said_once_loudly_and_by_info(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    left: list[str] = []
    world.service.left_quorum = left.append
    await world.service.raise_max(raising(A, (0, 1, 10), (1, 1, 10)))
    world.disk.records[1] = world.disk.records[0]
    for _ in range(3):
        failed = await refused(world.service.fence(fence(1, 1, 2)))
        assert failed.reason == "CORRUPT"
        assert (await refused(world.service.renew(renew(A)))).reason == "CORRUPT"
    why = (await world.service.info(pb.InfoRequest())).out_of_quorum
    assert "section 1" in why
    assert left == [why]
    assert [r.levelname for r in caplog.records].count("CRITICAL") == 1
    assert world.count("out_of_quorum") == 1
    assert world.count("requests_total", rpc="Fence", outcome="CORRUPT") == 3
    assert world.deaths == []


async def test_every_section_of_a_cluster_is_fenced_and_raised_in_time(tmp_path: Path) -> None:
    service = open_service(tmp_path / "store", IDENTITY, create=True)
    spans = [(first, min(first + 4_095, 42_949)) for first in range(0, 42_950, 4_096)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    for first, last in spans:
        answer = await service.fence(fence(first, last, 1))
        assert answer.granted == [True] * (last - first + 1)
    for first, last in spans:
        entries = ((section, 1, 10_000) for section in range(first, last + 1))
        assert not (await service.raise_max(raising(A, *entries))).refused
    assert loop.time() - began < 20, "it takes about one second"
    info = await service.info(pb.InfoRequest())
    assert (info.sections, info.fence_version) == (42_950, 42_950)
    told = await service.renew(renew(A))
    assert told.promises == [pb.EpochRange(first=0, last=42_949, epoch=1)]
    await service.aclose()


async def test_what_waits_for_the_disk_is_shown_while_it_waits(world: World) -> None:
    assert (world.count("waiting_requests"), world.count("commit_running_seconds")) == (0, 0)
    stuck = await world.stuck()
    more = [
        asyncio.create_task(world.service.raise_max(raising(A, (s, 1, 10)))) for s in range(1, 4)
    ]
    await asyncio.sleep(0.01)
    assert world.count("waiting_requests") == 3
    before = world.count("commit_running_seconds")
    assert 0 < before < world.count("commit_running_seconds")
    world.engine.gate.set()
    await asyncio.gather(stuck, *more)
    assert (world.count("waiting_requests"), world.count("commit_running_seconds")) == (0, 0)
    assert world.count("request_seconds_count", rpc="Raise") == 4


async def test_refused_sections_are_counted_by_rpc(world: World) -> None:
    await world.service.fence(fence(0, 3, 5))
    await world.service.fence(fence(2, 5, 5))
    await world.service.raise_max(raising(A, (0, 4, 10), (1, 5, 10), (2, 3, 10)))
    await world.service.release(release(B, (1, 5, b"")))
    counts = {rpc: world.count("refused_sections_total", rpc=rpc) for rpc in ("Fence", "Raise")}
    assert counts == {"Fence": 2, "Raise": 2}
    assert world.count("refused_sections_total", rpc="Release") == 1


async def test_the_room_of_a_store_on_disk_is_shown(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = open_service(
        tmp_path / "store", IDENTITY, create=True, map_size=2**24, registry=registry
    )
    try:
        await service.raise_max(raising(A, (0, 1, 10)))
        read = registry.get_sample_value
        assert read("seqsvr_store_data_limit_bytes") == 2**24
        assert read("seqsvr_store_data_bytes") == (tmp_path / "store" / "data.mdb").stat().st_size
        assert (read("seqsvr_store_disk_free_bytes") or 0) > 0
        identity = service.identity
        labels = {"cluster": identity.cluster, "set": identity.set, "replica": identity.replica}
        labels["store_id"] = f"{identity.store_id:016x}"
        assert read("seqsvr_store_info", labels) == 1
    finally:
        await service.aclose()
