"""What every implementation of the replica transport port must do.

One suite for a StoreService called in process, and for one behind the wire. Another implementation
adds its opener to `IMPLEMENTATIONS`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import pytest

from allocsvr.replicas import Replicas, ReplicaTransport
from cluster_in_a_box import Link
from cluster_in_a_box.box import opened
from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb
from storesvr.memory import Disk
from storesvr.port import Identity
from storesvr.service import add_to_server
from storesvr.servicer import SERVER_OPTIONS
from svrprocess.store_client import GrpcReplica

HEADER = pb.StoreHeader(cluster="c", set="set-0", membership=1)
STORE_ID = 99
A, B = 0xA, 0xB
METHODS = {
    "fence": pb.FenceRequest,
    "raise_max": pb.RaiseRequest,
    "release": pb.ReleaseRequest,
    "renew": pb.RenewRequest,
    "scan": pb.ScanRequest,
    "digest": pb.DigestRequest,
    "put_at_least": pb.PutAtLeastRequest,
}


@asynccontextmanager
async def in_process(disk: Disk) -> AsyncIterator[ReplicaTransport]:
    store = opened(disk)
    yield store
    await store.aclose()


@asynccontextmanager
async def over_the_wire(disk: Disk) -> AsyncIterator[ReplicaTransport]:
    store = opened(disk)
    server = grpc.aio.server(options=list(SERVER_OPTIONS))
    port = server.add_insecure_port("127.0.0.1:0")
    add_to_server(store, server)
    await server.start()
    replica = GrpcReplica(f"127.0.0.1:{port}")
    yield replica
    await replica.aclose()
    await server.stop(0)
    await store.aclose()


@asynccontextmanager
async def through_a_link(disk: Disk) -> AsyncIterator[ReplicaTransport]:
    async with in_process(disk) as store:
        yield Link(store)


IMPLEMENTATIONS: dict[str, Callable[[Disk], AbstractAsyncContextManager[ReplicaTransport]]] = {
    "in-process": in_process,
    "grpc": over_the_wire,
    "link": through_a_link,
}


@pytest.fixture
def disk() -> Disk:
    return Disk(Identity("c", "set-0", "store-0", 100, 10_000 * 100, 1, STORE_ID))


@pytest.fixture(params=IMPLEMENTATIONS)
async def replica(request: pytest.FixtureRequest, disk: Disk) -> AsyncIterator[ReplicaTransport]:
    async with IMPLEMENTATIONS[request.param](disk) as made:
        yield made


def fence(first: int, last: int, epoch: int) -> pb.FenceRequest:
    return pb.FenceRequest(
        header=HEADER, ranges=[pb.EpochRange(first=first, last=last, epoch=epoch)]
    )


def raise_(section: int, epoch: int, max_seq: int, who: int = A) -> pb.RaiseRequest:
    entry = pb.RaiseEntry(section=section, epoch=epoch, max_seq=max_seq)
    return pb.RaiseRequest(header=HEADER, incarnation=who, entries=[entry])


async def test_a_section_is_fenced_raised_released_and_read(replica: ReplicaTransport) -> None:
    fenced = await replica.fence(fence(3, 4, 5))
    rows = zip(fenced.promised, fenced.granted, fenced.max_seq, strict=True)
    assert list(rows) == [(5, True, 0)] * 2
    assert fenced.store_id == STORE_ID
    assert await replica.raise_max(raise_(3, 5, 700)) == pb.RaiseResponse(store_id=STORE_ID)
    entries = [pb.ReleaseEntry(section=3, epoch=5, snapshot=b"\x00counters")]
    request = pb.ReleaseRequest(header=HEADER, incarnation=A, entries=entries)
    assert await replica.release(request) == pb.ReleaseResponse(store_id=STORE_ID)
    scan = pb.ScanRequest(header=HEADER, first=0, last=10, with_snapshots=True)
    found = await replica.scan(scan)
    assert found.records[0] == pb.StoredRecord(
        section=3,
        promised=5,
        max_seq=700,
        owner_epoch=5,
        owner=A,
        released=True,
        snapshot_epoch=5,
        snapshot=b"\x00counters",
    )
    assert [record.section for record in found.records] == [3, 4]


async def test_refusals_of_sections_are_answers_and_name_the_promise(
    replica: ReplicaTransport,
) -> None:
    await replica.fence(fence(3, 3, 5))
    told = await replica.fence(fence(3, 3, 5))
    assert list(zip(told.granted, told.promised, strict=True)) == [(False, 5)]
    answer = await replica.raise_max(raise_(3, 4, 700))
    assert list(answer.refused) == [pb.EpochRange(first=3, last=3, epoch=5)]
    release = pb.ReleaseEntry(section=3, epoch=4)
    request = pb.ReleaseRequest(header=HEADER, incarnation=A, entries=[release])
    assert list((await replica.release(request)).refused) == [
        pb.EpochRange(first=3, last=3, epoch=5)
    ]


async def test_a_grant_comes_with_the_promises_and_the_next_fence_tells_of_it(
    replica: ReplicaTransport,
) -> None:
    await replica.fence(fence(3, 5, 7))
    renew = pb.RenewRequest(header=HEADER, incarnation=A, ttl_ns=10**9)
    granted = await replica.renew(renew)
    assert list(granted.promises) == [pb.EpochRange(first=3, last=5, epoch=7)]
    renew.since, renew.since_store_id = granted.fence_version, granted.store_id
    assert list((await replica.renew(renew)).promises) == []
    fenced = await replica.fence(fence(3, 3, 8))
    (lease,) = fenced.leases
    assert lease.incarnation == A
    assert 0 < lease.left_ns <= 10**9


async def test_records_are_compared_by_digest_and_only_ever_raised(
    replica: ReplicaTransport,
) -> None:
    await replica.raise_max(raise_(3, 5, 700))
    digest = pb.DigestRequest(header=HEADER, first=0, last=9, chunk=4)
    before = await replica.digest(digest)
    assert [(chunk.first, chunk.records) for chunk in before.chunks] == [(0, 1)]
    record = pb.StoredRecord(section=3, max_seq=600, owner_epoch=4, owner=B)
    put = pb.PutAtLeastRequest(header=HEADER, records=[record])
    assert await replica.put_at_least(put) == pb.PutAtLeastResponse(store_id=STORE_ID)
    assert await replica.digest(digest) == before
    put.records[0].max_seq, put.records[0].owner_epoch = 800, 6
    put.records.add(section=8, max_seq=1, owner_epoch=1, owner=A)
    assert await replica.put_at_least(put) == pb.PutAtLeastResponse(store_id=STORE_ID, raised=2)
    after = await replica.digest(digest)
    assert [chunk.first for chunk in after.chunks] == [0, 8]
    assert after.chunks[0].digest != before.chunks[0].digest
    found = (await replica.scan(pb.ScanRequest(header=HEADER, first=3, last=3))).records[0]
    assert (found.promised, found.max_seq, found.owner_epoch, found.owner) == (5, 800, 6, B)


async def test_what_a_replica_refuses_as_a_whole_has_the_same_reason_everywhere(
    replica: ReplicaTransport,
) -> None:
    def header(**other: Any) -> pb.StoreHeader:
        return pb.StoreHeader(**{"cluster": "c", "set": "set-0", "membership": 1, **other})

    foreign = [header(cluster="d"), header(set="set-1"), pb.StoreHeader()]
    for method, kind in METHODS.items():
        for reason, headers in (
            ("FOREIGN", foreign),
            ("MEMBERSHIP", [header(membership=0), header(membership=2)]),
        ):
            for wrong in headers:
                with pytest.raises(ReplicaFailed) as failed:
                    await getattr(replica, method)(kind(header=wrong))
                assert failed.value.reason == reason


async def test_malformed_requests_are_refused_as_such(replica: ReplicaTransport) -> None:
    malformed: list[tuple[str, Any]] = [
        ("fence", fence(4, 3, 5)),
        ("fence", fence(0, 4096, 5)),
        ("fence", fence(10_000, 10_000, 5)),
        ("fence", fence(0, 0, 0)),
        ("raise_max", raise_(3, 5, 10, who=0)),
        ("raise_max", raise_(3, 5, 2**63)),
        ("renew", pb.RenewRequest(header=HEADER, incarnation=A, ttl_ns=0)),
        ("renew", pb.RenewRequest(header=HEADER, incarnation=0, ttl_ns=10**9)),
        ("scan", pb.ScanRequest(header=HEADER, first=5, last=4)),
        ("digest", pb.DigestRequest(header=HEADER, first=0, last=4)),
        ("put_at_least", pb.PutAtLeastRequest(header=HEADER, records=[pb.StoredRecord(owner=A)])),
    ]
    for method, request in malformed:
        with pytest.raises(ReplicaFailed) as failed:
            await getattr(replica, method)(request)
        assert failed.value.reason == "MALFORMED", (method, request)


async def test_the_largest_requests_fit(replica: ReplicaTransport) -> None:
    assert len((await replica.fence(fence(0, 4095, 5))).granted) == 4096
    request = pb.RaiseRequest(header=HEADER, incarnation=A)
    for section in range(4096):
        request.entries.add(section=section, epoch=5, max_seq=2**63 - 1)
    assert list((await replica.raise_max(request)).refused) == []
    release = pb.ReleaseRequest(header=HEADER, incarnation=A)
    for section in range(1024):
        release.entries.add(section=section, epoch=5, snapshot=bytes(2048))
    assert list((await replica.release(release)).refused) == []
    found = 0
    at = 0
    while True:
        scan = pb.ScanRequest(header=HEADER, first=at, last=1023, with_snapshots=True)
        page = await replica.scan(scan)
        found += sum(len(record.snapshot) for record in page.records)
        if not page.next:
            break
        at = page.next
    assert found == 1024 * 2048


async def test_a_store_that_closes_is_unreachable(disk: Disk) -> None:
    async with in_process(disk) as store:
        await store.aclose()  # type: ignore[attr-defined]
        with pytest.raises(ReplicaFailed) as failed:
            await store.renew(pb.RenewRequest(header=HEADER, incarnation=A, ttl_ns=1))
        assert failed.value.reason == "UNREACHABLE"
    async with over_the_wire(disk) as replica:
        assert isinstance(replica, GrpcReplica)
        address = replica.address
    gone = GrpcReplica(address)
    with pytest.raises(ReplicaFailed) as failed:
        await gone.renew(pb.RenewRequest(header=HEADER, incarnation=A, ttl_ns=1))
    assert failed.value.reason == "UNREACHABLE"
    assert address in failed.value.text
    await gone.aclose()


async def test_a_replica_that_does_not_answer_in_time_is_a_timeout(disk: Disk) -> None:
    async with in_process(disk) as store:
        link = Link(store)
        link.hang()
        replicas = Replicas([link], lambda work: None, 0.05, 0.05)
        answer = await replicas.ask_one(0, lambda _, r: r.fence(fence(0, 0, 1)))
        assert isinstance(answer, ReplicaFailed)
        assert answer.reason == "TIMEOUT"
