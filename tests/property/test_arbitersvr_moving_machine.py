"""A section between two Sets, whatever stops, comes late or is told wrongly. SEQ-1..3, FENCE-1,
LEASE-1.

The real mover (moving_sets.py) and the real replicas, with everything between them in Hypothesis's
hands: each request to a replica, and each transaction, waits in a pool until it is delivered, which
may be long after the arbiter that sent it was deposed; or its answer is lost. Nodes fence, raise,
release and renew as the protocol says, at what epoch the map says, or at any other.
"""

import asyncio
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from allocsvr.acquisition import Acquisition, FenceAnswer, Stage
from allocsvr.lease import Grants, Lease
from arbitersvr.jobs import Journal, Outdated
from arbitersvr.moving_sets import MovingSets
from clustermap import placement
from clustermap.coordinator import Listing, Versioned
from clustermap.errors import MapUnavailable, ReplicaFailed
from clustermap.jobs import ACTIVE, Job, Move, State, job_key
from clustermap.membership import one_group
from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqsvr.v1 import store_pb2 as pb
from storesvr.memory import Disk, MemoryEngine
from storesvr.messages import epoch_ranges, fence_response, ranges, stored_record, to_stored
from storesvr.port import Identity
from storesvr.replica import Replica as Stored

N, R, W = 3, 2, 2
TTL_NS = 2_000_000_000
STEP = 3
MASKS = st.sampled_from([(0, 1, 2), (0, 1, 2), (0, 1), (1, 2), (0, 2)])
LEADER = "elections/arbiter"

T = TypeVar("T")


class Pool:
    """What is on its way. Delivering is one thing, answering another."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def send(self, act: Callable[[], Any]) -> "asyncio.Future[Any]":
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((act, answer))
        return answer

    def deliver(self, index: int, *, answered: bool = True) -> None:
        act, answer = self.waiting.pop(index % len(self.waiting))
        try:
            result = act()
        except ReplicaFailed as error:
            result = error
        if answer.done():
            return
        if not answered:
            answer.set_exception(ReplicaFailed("TIMEOUT", "the answer was lost"))
        elif isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)


class Door:
    """arbitersvr.stores.Store over a replica, through the pool."""

    def __init__(self, world: "TwoSetsMachine", name: str, index: int) -> None:
        self._world, self._name, self._index = world, name, index

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        return await self._send(
            lambda r: fence_response(
                r.identity.store_id,
                r.fence(ranges(request), self._world.now_ns, through_seal=request.through_seal),
            )
        )

    async def seal(self, request: pb.SealRequest) -> pb.SealResponse:
        entries = [(e.section, e.epoch) for e in request.entries]
        return await self._send(
            lambda r: pb.SealResponse(
                store_id=r.identity.store_id, refused=epoch_ranges(r.seal(entries))
            )
        )

    async def put_at_least(self, request: pb.PutAtLeastRequest) -> pb.PutAtLeastResponse:
        entries = [stored_record(one) for one in request.records]
        whole = request.with_promises
        return await self._send(
            lambda r: pb.PutAtLeastResponse(
                store_id=r.identity.store_id, raised=r.put_at_least(entries, with_promises=whole)
            )
        )

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        def act(r: Stored) -> pb.ScanResponse:
            found, following = r.scan(request.first, request.last, 0, with_snapshots=True)
            records = [to_stored(record, payload) for record, payload in found]
            return pb.ScanResponse(store_id=r.identity.store_id, records=records, next=following)

        return await self._send(act)

    async def aclose(self) -> None:
        pass

    async def _send(self, act: Callable[[Stored], T]) -> T:
        world = self._world

        def acted() -> Any:
            result = act(world.replicas[self._name][self._index])
            world.commit(self._name, self._index)
            return result

        answer: T = await world.pool.send(acted)
        return answer


class Map:
    """A coordinator whose transactions wait in the pool."""

    def __init__(self, world: "TwoSetsMachine") -> None:
        self._world = world
        self.revision = 1
        self.entries: dict[str, Versioned] = {}

    def put(self, puts: dict[str, bytes]) -> int:
        self.revision += 1
        self.entries.update((k, Versioned(v, self.revision)) for k, v in puts.items())
        return self.revision

    async def get(self, prefix: str) -> Listing:
        found = {k: v for k, v in self.entries.items() if k.startswith(prefix)}
        return Listing(self.revision, found)

    async def transact(self, expected: dict[str, int], puts: dict[str, bytes]) -> int | None:
        def act() -> int | None:
            held = {k: v.revision for k, v in self.entries.items()}
            if any(held.get(key, 0) != revision for key, revision in expected.items()):
                return None
            return self.put(puts)

        answer: int | None = await self._world.pool.send(act)
        return answer


class Mover:
    """One arbiter's work, until it is deposed."""

    def __init__(self, world: "TwoSetsMachine") -> None:
        revision = world.map.put({LEADER: b"me"})
        office = SimpleNamespace(
            leadership=SimpleNamespace(key=LEADER, revision=revision),
            coordinator=world.map,
            clock=self,
            deposed=asyncio.Event(),
            metrics=SimpleNamespace(
                changes=SimpleNamespace(labels=lambda _: SimpleNamespace(inc=lambda: None))
            ),
        )
        self._world = world
        self.sleepers: list[tuple[int, asyncio.Future[None]]] = []
        self.journal = Journal("j", office)  # type: ignore[arg-type]
        self.moving = MovingSets(self, lambda a: world.doors[a], 0.0)
        self.task = world.loop.create_task(self._run())

    def now_ns(self) -> int:
        return self._world.now_ns

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self._world.now_ns + int(seconds * 1e9), wake))
        await wake

    def pass_time(self) -> None:
        for due, wake in list(self.sleepers):
            if due <= self._world.now_ns and not wake.done():
                wake.set_result(None)
        self.sleepers = [(due, wake) for due, wake in self.sleepers if not wake.done()]

    async def _run(self) -> None:
        while True:
            try:
                job = await self.journal.read()
                if job is not None and job.state in ACTIVE:
                    wait_s = await self.moving.step(self.journal)
                else:
                    wait_s = 0.001
            except (Outdated, ReplicaFailed, MapUnavailable):
                wait_s = 0.001
            except ExceptionGroup as group:
                assert group.split(ReplicaFailed)[1] is None
                wait_s = 0.001
            await self.sleep(min(max(wait_s, 0.001), 0.01))


class Owned:
    """A node of a Set as far as one section goes."""

    def __init__(self, world: "TwoSetsMachine", name: str, incarnation: int) -> None:
        self.world, self.name, self.incarnation = world, name, incarnation
        self.lease = Lease(TTL_NS, 0.0)
        self.grants = Grants(self.lease, one_group(N, W))
        self.tried = self.heard = self.epoch = self.cur = self.max_seq = 0
        self.serving = False
        self.since = [0] * N

    @property
    def serves(self) -> bool:
        good = self.serving and self.heard <= self.epoch
        return good and self.lease.held(self.world.now_ns)

    def renew(self, mask: tuple[int, ...]) -> None:
        now = self.world.now_ns
        for i in mask:
            replica = self.world.replicas[self.name][i]
            store = replica.identity.store_id
            version, told = replica.renew(self.incarnation, TTL_NS, self.since[i], store, now)
            self.since[i] = version
            for _, _, epoch in told:
                self.heard = max(self.heard, epoch)
            self.grants.granted(i, now)

    def win(self, epoch: int, mask: tuple[int, ...]) -> None:
        self.serving, self.tried = False, max(self.tried, epoch)
        if self.heard > epoch:
            return
        attempt = Acquisition(0, epoch, self.incarnation, one_group(N, R))
        world = self.world
        for i in range(N):
            if i not in mask:
                attempt.failed(i)
                continue
            answer = world.replicas[self.name][i].fence([(0, 0, epoch)], world.now_ns)
            world.commit(self.name, i)
            (record, granted), leases = answer.entries[0], dict(answer.leases)
            if record.promised > epoch:
                self.heard = max(self.heard, record.promised)
            known = FenceAnswer(
                granted, record.promised, record.max_seq, record.owner, record.owner_epoch,
                record.released, record.snapshot_epoch, leases, answer.boot_grace_ns,
            )  # fmt: skip
            attempt.fenced(i, known, world.now_ns, 0.0)
        if attempt.stage is Stage.LOST:
            return
        world.pass_until(attempt.ready_ns)
        cur = attempt.found
        for i in attempt.snapshot_from[:1]:
            [(_, left)], _ = world.replicas[self.name][i].scan(0, 0, 1, with_snapshots=True)
            cur = int(left)
        self.renew(mask)
        self.cur, self.epoch = cur, epoch
        self.serving = self.raise_max(max(attempt.found, cur + STEP), mask)

    def raise_max(self, target: int, mask: tuple[int, ...]) -> bool:
        acks = 0
        for i in mask:
            replica = self.world.replicas[self.name][i]
            refused = replica.raise_max(self.incarnation, [(0, self.epoch, target)])
            self.world.commit(self.name, i)
            self.heard = max([self.heard, *(e for e in refused.values())])
            acks += not refused
        if acks >= W:
            self.max_seq = target
        return acks >= W and self.heard <= self.epoch

    def release(self, mask: tuple[int, ...]) -> None:
        self.serving = False
        for i in mask:
            replica = self.world.replicas[self.name][i]
            replica.release(self.incarnation, [(0, self.epoch, b"%d" % self.cur)])
            self.world.commit(self.name, i)


class TwoSetsMachine(RuleBasedStateMachine):
    """One section, which begins in Set "a"."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now_ns = 1
        self.pool = Pool()
        self.map = Map(self)
        self.had = {"a"}  # Sets that ever had the section
        self.highest = 0
        self.disturbed = False
        self.incarnations = itertools.count(1)
        self.replicas: dict[str, list[Stored]] = {}
        self.engines: dict[str, list[MemoryEngine]] = {}
        self.doors: dict[str, Door] = {}
        puts = {CLUSTER_KEY: Cluster("c", 10, 10).to_json()}
        for k, name in enumerate("ab"):
            ids = [Identity("c", name, f"s{i}", 10, 10, 1, 10 * k + i + 1) for i in range(N)]
            self.engines[name] = [MemoryEngine(Disk(identity)) for identity in ids]
            self.replicas[name] = [
                Stored(engine, now_ns=0, max_ttl_ns=TTL_NS) for engine in self.engines[name]
            ]
            listed = tuple(Replica(f"s{i}", f"{name}:{i}", 10 * k + i + 1) for i in range(N))
            self.doors.update((f"{name}:{i}", Door(self, name, i)) for i in range(N))
            had = (Range(0, 0),) if name == "a" else ()
            puts[set_key(name)] = SetSpec(name, had, listed, R, W).to_json()
            puts[assignments_key(name)] = Assignments(name).to_json()
        self.map.put(puts)
        self.nodes = {name: self.new_node(name) for name in "ab"}
        self.ghosts: list[Owned] = []
        self.jobs = 0

    def teardown(self) -> None:
        self.mover.task.cancel()
        for _, answer in self.pool.waiting:
            answer.cancel()
        self.spin()
        rest = asyncio.all_tasks(self.loop)
        for task in rest:
            task.cancel()
        if rest:
            self.loop.run_until_complete(asyncio.wait(rest))
        self.loop.close()

    # -- what the rules are made of

    def spin(self) -> None:
        """Until nobody has anything to do but wait."""

        async def turns() -> None:
            for _ in range(40):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        task = self.mover.task
        assert not task.done() or task.cancelled() or task.exception() is None, task.exception()

    def commit(self, name: str, index: int) -> None:
        replica = self.replicas[name][index]
        self.engines[name][index].commit(replica.take_staged())
        replica.committed()

    def pass_until(self, at_ns: int) -> None:
        self.now_ns = max(self.now_ns, at_ns)

    def new_node(self, name: str) -> Owned:
        node = Owned(self, name, next(self.incarnations))
        registered = Node(node.incarnation, f"{name}{node.incarnation}:1", name)
        self.map.put({node_key(name, node.incarnation): registered.to_json()})
        return node

    def document(self, name: str) -> Assignments:
        return Assignments.from_json(self.map.entries[assignments_key(name)].value)

    def write(self, name: str, new: Assignments) -> None:
        self.map.put({assignments_key(name): new.to_json()})

    def home(self) -> str:
        [name] = [
            name for name in "ab" if SetSpec.from_json(self.map.entries[set_key(name)].value).ranges
        ]
        self.had.add(name)
        return name

    def job(self) -> Job | None:
        held = self.map.entries.get(job_key("j"))
        return Job.from_json(held.value) if held else None

    # -- rules

    @initialize()
    def begin(self) -> None:
        self.mover = Mover(self)
        self.plan()
        self.follow("a", (0, 1, 2))
        assert self.nodes["a"].serves

    @rule()
    def plan(self) -> None:
        """As the arbiter that tends a Set does: nobody's sections, and those of the dead."""
        name = self.home()
        document, node = self.document(name), self.nodes[name]
        entry = document.owner(0)
        own = {n.incarnation for n in self.nodes.values()}
        jobs = {j.move.incarnation for j in [self.job()] if j and j.move}
        floor = max((f.epoch for f in document.floors), default=0)
        if entry is not None and entry.incarnation in jobs:
            return
        dead = entry is not None and entry.incarnation not in own
        spent = entry is not None and floor >= entry.epoch
        if entry is None or dead or spent:
            heir = entry.successor if entry is not None else None
            to = Node(node.incarnation, f"{name}{node.incarnation}:1", name)
            if heir is not None and heir.incarnation in jobs:
                to = Node(heir.incarnation, heir.address, name)
            self.write(name, placement.reassign(document, 0, 0, to))

    @rule(name=st.sampled_from("ab"), mask=MASKS)
    def follow(self, name: str, mask: tuple[int, ...]) -> None:
        """A node does what the map says."""
        node, document = self.nodes[name], self.document(name)
        entry = document.owner(0)
        if entry is None or entry.incarnation != node.incarnation:
            node.serving = node.serving and document.highest_epoch(0, 0) < node.epoch
            return
        if entry.leaving:
            if node.serving and node.epoch == entry.epoch:
                node.release((0, 1, 2))
            self.write(name, placement.hand_over(document, [Range(0, 0)], node.incarnation))
        elif entry.epoch > node.tried:
            node.win(entry.epoch, mask)
        if entry.epoch <= node.tried and not node.serving and not entry.leaving:
            spent = max(node.heard, node.tried)
            self.disturbed = True
            self.write(name, placement.raise_floor(self.document(name), 0, 0, spent))

    @rule(name=st.sampled_from("ab"), above=st.integers(-2, 3), mask=MASKS)
    def be_told_wrongly(self, name: str, above: int, mask: tuple[int, ...]) -> None:
        """By a map that was restored, say. Not of a Set that never had the section."""
        self.home()
        node = self.nodes[name]
        if name in self.had and not node.serving:
            self.disturbed = True
            highest = max(self.document(n).highest_epoch(0, 0) for n in "ab")
            node.win(max(1, highest + above), mask)

    @rule(name=st.sampled_from("ab"))
    def crash_node(self, name: str) -> None:
        self.disturbed = True
        self.nodes[name] = self.new_node(name)

    @rule(name=st.sampled_from("ab"))
    def give_up_node(self, name: str) -> None:
        """Everybody takes it for dead, and it goes on as long as its lease lets it."""
        self.ghosts.append(self.nodes[name])
        self.crash_node(name)

    @rule(name=st.sampled_from("ab"), mask=MASKS)
    def renew(self, name: str, mask: tuple[int, ...]) -> None:
        self.nodes[name].renew(mask)

    @rule(name=st.sampled_from("ab"), count=st.integers(1, 4))
    def take(self, name: str, count: int) -> None:
        self.take_from(self.nodes[name], count)

    @rule(count=st.integers(1, 4))
    def take_from_ghosts(self, count: int) -> None:
        for ghost in self.ghosts:
            self.take_from(ghost, count)

    def take_from(self, node: Owned, count: int) -> None:
        for _ in range(count):
            if not node.serves:
                return
            if node.cur == node.max_seq:
                if not node.raise_max(node.max_seq + STEP, (0, 1, 2)):
                    return
                if not node.serves:
                    return
            node.cur += 1
            assert node.cur > self.highest, f"SEQ-1, SEQ-2: {node.cur} after {self.highest}"
            durable = sorted(
                r.scan(0, 0, 1, with_snapshots=False)[0][0][0].max_seq
                for r in self.replicas[node.name]
                if r.sections
            )
            assert sum(m >= node.cur for m in durable) >= W, "SEQ-3"
            assert self.disturbed or node.cur == self.highest + 1, f"SEQ-5: {node.cur}"
            self.highest = node.cur

    @rule(ms=st.sampled_from([1, 10, 10, 700, 2500]))
    def time_passes(self, ms: int) -> None:
        self.now_ns += ms * 10**6
        self.mover.pass_time()
        self.spin()

    @rule()
    def ask_for_a_move(self) -> None:
        """To the other Set, once no move is under way."""
        job = self.job()
        if job is not None and job.state in (*ACTIVE, State.PAUSED):
            return
        source = self.home()
        target = "b" if source == "a" else "a"
        self.jobs += 1
        move = Move(source, target, (Range(0, 0),), 1000 + self.jobs, 1)
        self.map.put({job_key("j"): Job("j", State.RUNNING, "x", 1, move=move).to_json()})
        self.time_passes(10)

    @rule(state=st.sampled_from([State.ABORTING, State.PAUSED, State.RUNNING]))
    def say(self, state: State) -> None:
        job = self.job()
        if job is None or job.move is None or job.state not in (*ACTIVE, State.PAUSED):
            return
        said = Job("j", state, "x", 1, move=job.move)
        self.map.put({job_key("j"): said.to_json()})

    @rule(count=st.integers(1, 8), which=st.integers(0, 2))
    def deliver(self, count: int, which: int) -> None:
        """What is on its way gets there, now and then out of turn."""
        for _ in range(count):
            if not self.pool.waiting:
                self.time_passes(10)
            if self.pool.waiting:
                self.pool.deliver(which)
                self.spin()

    @rule(rounds=st.integers(5, 60))
    def let_things_go_on(self, rounds: int) -> None:
        """For a while everything works."""
        for _ in range(rounds):
            self.plan()
            self.follow("a", (0, 1, 2))
            self.follow("b", (0, 1, 2))
            while self.pool.waiting:
                self.pool.deliver(0)
                self.spin()
            self.time_passes(10)
        for name in "ab":
            self.renew(name, (0, 1, 2))
            self.take(name, 1)

    @rule(which=st.integers(0, 9))
    def lose_an_answer(self, which: int) -> None:
        """The request took effect, and nobody hears of it."""
        if self.pool.waiting:
            self.pool.deliver(which, answered=False)
            self.spin()

    @rule()
    def depose(self) -> None:
        """Another arbiter leads; what this one has sent is still on its way."""
        self.mover.task.cancel()
        self.spin()
        self.mover = Mover(self)
        self.spin()

    @invariant()
    def at_most_one_serves(self) -> None:
        everybody = [*self.nodes.values(), *self.ghosts]
        serving = [node.name for node in everybody if node.serves]
        assert len(serving) <= 1, f"LEASE-1: {serving}"


TwoSetsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestTwoSets = TwoSetsMachine.TestCase


def test_nothing_but_good_luck_moves_a_section_to_and_fro_and_numbers_stay_dense() -> None:
    machine = TwoSetsMachine()
    try:
        machine.begin()
        for home in "baba":
            machine.take("a", 2)
            machine.take("b", 2)
            machine.ask_for_a_move()
            machine.let_things_go_on(60)
            assert machine.home() == home
            assert machine.nodes[home].serves
        assert machine.highest > 8 and not machine.disturbed
    finally:
        machine.teardown()


def test_a_section_that_was_moved_is_won_by_nobody_in_its_old_set_whatever_the_map_says() -> None:
    for count in range(60):
        machine = TwoSetsMachine()
        try:
            machine.begin()
            machine.take("a", 2)
            machine.ask_for_a_move()
            for _ in range(count):
                machine.follow("a", (0, 1, 2))
                machine.deliver(1, 0)
            if machine.home() == "a":
                continue
            for mask in ((0, 1), (1, 2), (0, 1, 2)):
                machine.be_told_wrongly("a", 3, mask)
                assert not machine.nodes["a"].serving, "FENCE-1"
            machine.let_things_go_on(20)
            assert machine.nodes["b"].serves
        finally:
            machine.teardown()


def test_an_owner_that_only_seems_dead_is_waited_out_before_another_set_serves() -> None:
    machine = TwoSetsMachine()
    try:
        machine.begin()
        machine.take("a", 2)
        machine.give_up_node("a")
        machine.ask_for_a_move()
        machine.deliver(2, 0)  # the sections are leaving to the job, and nobody releases them
        for _ in range(300):
            for _ in range(5):
                machine.plan()
                machine.deliver(3, 0)
                machine.follow("b", (0, 1, 2))
                machine.at_most_one_serves()
            machine.time_passes(10)
            machine.take_from_ghosts(1)
            machine.take("b", 1)
        assert machine.home() == "b" and machine.nodes["b"].serving
    finally:
        machine.teardown()


def test_an_abort_at_any_message_leaves_the_section_where_it_was_or_takes_it_back() -> None:
    for count in range(40):
        machine = TwoSetsMachine()
        try:
            machine.begin()
            machine.take("a", 2)
            machine.ask_for_a_move()
            for _ in range(count):
                machine.follow("a", (0, 1, 2))
                machine.deliver(1, 0)
            machine.say(State.ABORTING)
            if count % 2:
                machine.depose()
            machine.let_things_go_on(60)
            job = machine.job()
            assert job is not None and job.state in (State.ABORTED, State.DONE), (count, job)
            assert machine.nodes[machine.home()].serves, count
            machine.take(machine.home(), 1)
            assert not machine.disturbed, count
        finally:
            machine.teardown()


def test_whoever_is_deposed_after_any_message_another_goes_on() -> None:
    for count in range(40):
        machine = TwoSetsMachine()
        try:
            machine.begin()
            machine.take("a", 2)
            machine.ask_for_a_move()
            for _ in range(count):
                machine.follow("a", (0, 1, 2))
                machine.deliver(1, count % 3)
            machine.depose()
            machine.let_things_go_on(60)
            assert machine.home() == "b" and machine.nodes["b"].serves, count
            machine.take("b", 1)
            assert not machine.disturbed, count
        finally:
            machine.teardown()
