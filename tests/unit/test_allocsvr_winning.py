"""Answers to a fence of many sections, on a clock that jumps. FENCE-1, LEASE-1, NRW-2."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from prometheus_client import CollectorRegistry

from allocsvr.acquisition import Acquisition
from allocsvr.generation import Generation
from allocsvr.lease import Lease
from allocsvr.ledger import Ledger
from allocsvr.metrics import Metrics
from allocsvr.replicas import Replicas
from allocsvr.section import Section
from allocsvr.winning import CHUNK, STRETCH, Winning
from cluster_in_a_box import JumpingClock
from clustermap.errors import ReplicaFailed
from clustermap.membership import one_group
from seqsvr.sections import Layout
from seqsvr.v1 import store_pb2 as pb

S = 10**9
ME, OTHER = 7, 8
EPOCH = 20
SIZE = 100
COLUMNS = (
    "promised",
    "granted",
    "max_seq",
    "owner",
    "owner_epoch",
    "released",
    "snapshot_epoch",
)


def granted(count: int = 1, **columns: Any) -> pb.FenceResponse:
    """The answer of a replica that knows nothing of the sections, but for `columns`."""
    blank: dict[str, Any] = {name: [0] * count for name in COLUMNS}
    blank |= {"promised": [EPOCH] * count, "granted": [True] * count}
    return pb.FenceResponse(**blank | columns)


class Replica:
    """Answers what a test wants, once its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.says: pb.FenceResponse | ReplicaFailed = ReplicaFailed("UNREACHABLE", "not asked")

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        await self.gate.wait()
        if isinstance(self.says, ReplicaFailed):
            raise self.says
        return self.says


async def renewed(_: int, replica: object) -> pb.RenewResponse:
    return pb.RenewResponse()


class World:
    def __init__(self, n: int, r: int, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.clock = JumpingClock()
        self.replicas = [Replica() for _ in range(n)]
        self.ledger = Ledger(Layout(SIZE, SIZE * 10_000), Lease(2 * S, 0.01))
        self.begun: list[Acquisition] = []
        self.lost: list[Acquisition] = []
        self.promises: list[tuple[int, int, int]] = []
        self.turn = 0
        self.turns: dict[int, int] = {}  # section -> turn of the loop at which it began
        self.heard: dict[int, int] = {}  # section -> turn at which a promise above ours was heard
        self.asked = Replicas(self.replicas, self.spawn, 5.0, 5.0)  # type: ignore[arg-type]
        header = pb.StoreHeader(cluster="c", set="set-0", membership=1)
        self.generation = Generation(header, self.asked, one_group(n, r), one_group(n, n))
        self.winning = Winning(
            self.clock,
            lambda: self.generation,
            0.01,
            100,
            ME,
            self.ledger,
            lambda section, epoch: True,
            self.new_section,
            self.lost.extend,
            self.promised,
            Metrics(CollectorRegistry()),
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.group.create_task(work)

    def new_section(self, attempt: Acquisition, base: int, pages: Any) -> Section:
        self.begun.append(attempt)
        self.turns[attempt.section] = self.turn
        return Section(
            attempt.section,
            attempt.epoch,
            base,
            found=attempt.found,
            size=SIZE,
            on_hungry=lambda section: None,
            pages=pages,
        )

    def promised(self, first: int, last: int, epoch: int) -> None:
        self.promises.append((first, last, epoch))
        self.heard[first] = self.turn

    async def win(self, *sections: int) -> None:
        """At EPOCH, all replicas granting leases."""
        for index in range(len(self.replicas)):
            await self.asked.probe(index, renewed)
        await self.winning.win(dict.fromkeys(sections, EPOCH))

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def test_an_answer_for_fewer_sections_than_were_asked_for_is_no_answer_nrw_2() -> None:
    for column in COLUMNS:
        async with asyncio.TaskGroup() as group:
            world = World(2, 1, group)
            world.replicas[0].says = granted(3, **{"max_seq": [90] * 3, column: [1, 1]})
            world.replicas[1].says = granted(3, max_seq=[50, 60, 70])
            await world.win(4, 5, 6)
            assert [(a.section, a.found) for a in world.begun] == [(4, 50), (5, 60), (6, 70)]


async def test_a_replica_that_promised_another_epoch_is_not_counted_fence_1() -> None:
    for promised in (EPOCH - 1, EPOCH + 1):
        async with asyncio.TaskGroup() as group:
            world = World(2, 2, group)
            for replica in world.replicas:
                replica.says = granted()
            world.replicas[0].says = granted(promised=[promised])
            await world.win(4)
            assert [attempt.section for attempt in world.lost] == [4]
            assert world.begun == []
            assert world.promises == ([(4, 4, promised)] if promised > EPOCH else [])


async def test_a_refusal_that_comes_after_the_decision_is_heard_all_the_same_fence_1() -> None:
    async with asyncio.TaskGroup() as group:
        world = World(3, 2, group)
        for replica in world.replicas:
            replica.says = granted(2)
        late = world.replicas[2]
        late.gate.clear()
        late.says = granted(2, promised=[EPOCH, EPOCH + 5], granted=[True, False])
        await world.win(4, 5)
        assert (len(world.begun), world.promises) == (2, [])
        late.gate.set()
    assert world.promises == [(5, 5, EPOCH + 5)]


async def test_sections_keep_the_answers_of_their_own_rows() -> None:
    """One never owned, one released, one of ours, one whose owner's lease has to be waited out."""
    async with asyncio.TaskGroup() as group:
        world = World(1, 1, group)
        world.replicas[0].says = granted(
            4,
            max_seq=[0, 10, 20, 30],
            owner=[0, OTHER, ME, OTHER],
            owner_epoch=[0, 3, 4, 5],
            released=[False, True, False, False],
            leases=[pb.LeaseLeft(incarnation=OTHER, left_ns=2 * S)],
        )
        start_ns = world.clock.now_ns()
        await world.win(3, 5, 7, 9)
        assert [(a.section, a.found) for a in world.begun] == [(3, 0), (5, 10), (7, 20), (9, 30)]
        assert [a.ready_ns > start_ns + 2 * S for a in world.begun] == [False] * 3 + [True]
        assert world.clock.now_ns() > start_ns + 2 * S


async def test_others_have_their_turn_between_the_many_that_waited_for_one_lease() -> None:
    """A node that takes a whole Set over must renew its own lease meanwhile."""
    async with asyncio.TaskGroup() as group:
        world = World(1, 1, group)
        world.replicas[0].says = granted(
            10,
            owner=[OTHER] * 10,
            owner_epoch=[3] * 10,
            leases=[pb.LeaseLeft(incarnation=OTHER, left_ns=2 * S)],
        )
        counting = group.create_task(world.count_turns())
        chunks = [range(at, at + 10) for at in range(0, 500, 10)]
        await asyncio.gather(*(world.win(*chunk) for chunk in chunks))
        counting.cancel()
    turns = [{world.turns[section] for section in chunk} for chunk in chunks]
    assert all(len(turn) == 1 for turn in turns)
    assert len(set.union(*turns)) == len(chunks)


async def test_others_have_their_turn_while_one_long_answer_is_read() -> None:
    async with asyncio.TaskGroup() as group:
        world = World(1, 1, group)
        world.replicas[0].says = granted(
            CHUNK, promised=[EPOCH + 1] * CHUNK, granted=[False] * CHUNK
        )
        counting = group.create_task(world.count_turns())
        await world.win(*range(CHUNK))
        counting.cancel()
    assert len(world.lost) == len(world.promises) == CHUNK
    assert max(Counter(world.heard.values()).values()) == STRETCH < CHUNK


async def test_an_answer_that_comes_while_the_deciding_one_is_read_is_heard_fence_1() -> None:
    async with asyncio.TaskGroup() as group:
        world = World(2, 1, group)
        world.replicas[0].says = granted(CHUNK)
        last = CHUNK - 1
        promised = [EPOCH] * last + [EPOCH + 5]
        world.replicas[1].says = granted(CHUNK, promised=promised, granted=[True] * last + [False])
        await world.win(*range(CHUNK))
    assert world.promises == [(last, last, EPOCH + 5)]
    assert len(world.begun) == CHUNK


async def test_a_lease_is_waited_out_from_when_its_answer_came_lease_1() -> None:
    """Not from when it was read: what is read before it must not make a fail-over longer."""
    async with asyncio.TaskGroup() as group:
        world = World(1, 1, group)
        replica = world.replicas[0]
        left = [pb.LeaseLeft(incarnation=OTHER, left_ns=2 * S)]
        replica.says = granted(owner=[OTHER], owner_epoch=[3], leases=left)
        replica.gate.clear()
        winning = group.create_task(world.win(4))
        for _ in range(100):
            await asyncio.sleep(0)
        came_ns = world.clock.now_ns()
        async with world.winning._pace:
            replica.gate.set()
            for _ in range(100):
                await asyncio.sleep(0)
            world.clock.advance(1.0)
        await winning
    assert came_ns + 2 * S < world.begun[0].ready_ns < came_ns + 2.1 * S


async def test_numbers_skipped_by_ceilings_are_counted_once_for_all_sections() -> None:
    async with asyncio.TaskGroup() as group:
        world = World(1, 1, group)
        world.replicas[0].says = granted(3, max_seq=[0, 40, 5000])
        await world.win(1, 2, 3)
        skipped = world.winning._metrics.skipped.labels("ceiling")
        assert skipped._value.get() == 40 + 100


async def test_counters_for_which_there_is_no_room_are_a_jump_and_no_end() -> None:
    async with asyncio.TaskGroup() as group:
        world = World(1, 1, group)
        world.replicas[0].says = granted(1, max_seq=[90])
        taken = world.winning._new_section

        def no_room(attempt: Acquisition, base: int, pages: Any) -> Section:
            if pages is not None:
                raise MemoryError("no addresses")
            return taken(attempt, base, pages)

        world.winning._new_section = no_room

        async def snapshots(attempts: list[Acquisition], _: Generation) -> dict[int, Any]:
            return {attempt.section: (10, [None]) for attempt in attempts}

        world.winning._snapshots = snapshots  # type: ignore[assignment,method-assign]
        await world.win(4)
        assert world.ledger.sections[4].base == 90, "the ceiling"
