"""One round of renewal at one replica, on a clock that jumps. LEASE-1, LEASE-2, FENCE-1."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from allocsvr.generation import Generation
from allocsvr.lease import Grants, Lease
from allocsvr.metrics import Metrics
from allocsvr.renewal import Heard, Renewal
from allocsvr.replicas import Replicas
from cluster_in_a_box import JumpingClock
from clustermap.errors import ReplicaFailed
from clustermap.membership import one_group
from seqsvr.v1 import store_pb2 as pb

S = 10**9
STORE = 0


class Replica:
    """Says what a test wants, after `takes_s` on the clock."""

    def __init__(self, clock: JumpingClock) -> None:
        self.clock = clock
        self.takes_s = 0.0
        self.asked: list[pb.RenewRequest] = []
        self.says: Any = pb.RenewResponse()

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        self.asked.append(request)
        self.clock.advance(self.takes_s)
        if isinstance(self.says, Exception):
            raise self.says
        return pb.RenewResponse(**self.says) if isinstance(self.says, dict) else self.says


class Round:
    def __init__(self, n: int = 1, w: int = 1) -> None:
        self.clock = JumpingClock()
        self.replicas = [Replica(self.clock) for _ in range(n)]
        self.lease = Lease(2 * S, 0.01)
        self.heard: list[tuple[int, int, int, bool]] = []
        self.asked_of = Replicas(self.replicas, lambda work: None, 5.0, 5.0)  # type: ignore[arg-type]
        header, groups = pb.StoreHeader(cluster="c", set="set-0", membership=1), one_group(n, w)
        self.renewal = Renewal(
            self.clock,
            Generation(header, self.asked_of, groups, groups),
            7,
            Grants(self.lease, groups),
            Heard(),
            self.promise,
            lambda: None,
            Metrics(CollectorRegistry()),
        )

    def promise(self, first: int, last: int, epoch: int) -> None:
        self.heard.append((first, last, epoch, self.lease.held(self.clock.now_ns())))


@pytest.fixture
def round_() -> Round:
    return Round()


async def test_a_grant_counts_from_before_the_send_not_from_the_answer(round_: Round) -> None:
    round_.replicas[0].takes_s = 1.5
    sent_ns = round_.clock.now_ns()
    assert await round_.renewal.once(0)
    assert round_.lease.deadline_ns <= sent_ns + 2 * S
    round_.replicas[0].takes_s = 3.0
    assert await round_.renewal.once(0)
    assert not round_.lease.held(round_.clock.now_ns())


async def test_promises_are_noted_before_the_grant_they_came_with_is_counted(
    round_: Round,
) -> None:
    promises = [pb.EpochRange(first=3, last=4, epoch=9), pb.EpochRange(first=8, last=8, epoch=2)]
    round_.replicas[0].says = {"promises": promises}
    assert await round_.renewal.once(0)
    assert round_.heard == [(3, 4, 9, False), (8, 8, 2, False)]
    assert round_.lease.held(round_.clock.now_ns())


async def test_it_says_how_far_it_has_heard_and_of_which_store(round_: Round) -> None:
    (replica,) = round_.replicas
    for store_id, version in ((5, 30), (5, 41), (6, 2), (6, 2)):
        replica.says = {"store_id": store_id, "fence_version": version}
        await round_.renewal.once(0)
    replica.says = ReplicaFailed("TIMEOUT", "")
    assert not await round_.renewal.once(0)
    assert not await round_.renewal.once(0)
    said = [(request.since_store_id, request.since) for request in replica.asked]
    assert said == [(0, 0), (5, 30), (5, 41), (6, 2), (6, 2), (6, 2)]
    assert {request.ttl_ns for request in replica.asked} == {2 * S}


async def test_a_failure_grants_nothing_and_says_why_the_lease_lapsed() -> None:
    three = Round(3, 2)
    for index, reason in enumerate(("CORRUPT", "CORRUPT", "TIMEOUT")):
        three.replicas[index].says = ReplicaFailed(reason, "")
    assert not await three.renewal.once(0)
    assert three.renewal.why_lapsed() == "LEASE_EXPIRED"  # two might still grant
    assert not await three.renewal.once(1)
    assert three.renewal.why_lapsed() == "CORRUPT"
    assert not await three.renewal.once(2)
    assert three.renewal.why_lapsed() == "STORE_UNAVAILABLE"
    assert three.lease.deadline_ns == 0 and three.renewal.granting == 0
    for index in (0, 1):
        three.replicas[index].says = pb.RenewResponse()
        assert await three.renewal.once(index)
        assert three.renewal.granting == index + 1
    assert three.lease.held(three.clock.now_ns())


async def test_renewals_alone_eject_a_replica_and_bring_it_back() -> None:
    three = Round(3, 2)
    replicas = three.asked_of

    async def scan(_: int, __: object) -> pb.ScanResponse:
        return pb.ScanResponse()

    assert replicas.granting == []
    for index in range(3):
        await three.renewal.once(index)
    assert replicas.granting == [0, 1, 2]
    three.replicas[1].says = ReplicaFailed("TIMEOUT", "")
    await three.renewal.once(1)
    assert (replicas.granting, replicas.ejected) == ([0, 2], 1)
    assert isinstance(await replicas.ask_one(0, scan), pb.ScanResponse)
    refused = await replicas.ask_one(1, scan)
    assert isinstance(refused, ReplicaFailed)
    assert refused.reason == "UNREACHABLE"
    assert "ejected" in refused.text
    three.replicas[2].says = ReplicaFailed("CORRUPT", "")
    await three.renewal.once(2)
    assert (replicas.granting, replicas.ejected) == ([0], 1)
    three.replicas[1].says = pb.RenewResponse()
    assert await three.renewal.once(1)
    assert (replicas.granting, replicas.ejected) == ([0, 1], 0)
    assert isinstance(await replicas.ask_one(1, scan), pb.ScanResponse)


async def test_the_reason_of_a_long_ejection_does_not_grow(round_: Round) -> None:
    round_.replicas[0].says = ReplicaFailed("TIMEOUT", "silent")
    texts = set()
    for _ in range(5):
        await round_.renewal.once(0)
        texts.add(str(round_.asked_of._lines[0].standing.ejected))
    assert texts == {"TIMEOUT: silent"}


async def test_a_failing_replica_is_tried_again_within_0_4_seconds_whatever_the_ttl() -> None:
    slow = Round()
    slow.lease.ttl_ns = 60 * S
    slow.replicas[0].says = ReplicaFailed("UNREACHABLE", "")
    loop = asyncio.create_task(slow.renewal.run(0))
    began_ns = slow.clock.now_ns()
    while len(slow.replicas[0].asked) < 50:
        await asyncio.sleep(0)
    assert slow.clock.now_ns() - began_ns <= 50 * 0.4 * S
    assert slow.clock.now_ns() - began_ns >= 50 * 0.1 * S, "it is tried without a pause"
    loop.cancel()


async def test_a_store_that_has_forgotten_promises_is_not_counted_any_more_nrw_2() -> None:
    """An older copy of a data directory has the same store id, and a lower fence_version."""
    one = Round()
    (replica,) = one.replicas
    replica.says = {"store_id": 5, "fence_version": 30}
    assert await one.renewal.once(0)
    before_ns = one.lease.deadline_ns
    one.clock.advance(0.1)
    for version in (29, 30, 31):  # nor when others have made it catch up
        replica.says = {"store_id": 5, "fence_version": version}
        assert not await one.renewal.once(0)
    assert one.lease.deadline_ns == before_ns
    assert one.renewal.why_lapsed() == "CORRUPT"
    assert one.asked_of.granting == []
    replica.says = {"store_id": 6, "fence_version": 1}
    assert await one.renewal.once(0)


async def test_waiting_for_a_quorum_ends_with_the_grant_that_completes_it() -> None:
    three = Round(3, 2)
    waiting = asyncio.create_task(three.asked_of.reachable(one_group(3, 2)))
    for index in (0, 2):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        await three.renewal.once(index)
    await asyncio.wait_for(waiting, 10)
    await three.asked_of.reachable(one_group(3, 2))
