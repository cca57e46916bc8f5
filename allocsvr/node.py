"""One AllocSvr node: where clock, replicas and cluster map meet.

The map says which sections this incarnation should have, at which epochs. What is new is won
(winning.py), what is marked as leaving is released, what has gone to others is dropped. A promise
above our epoch, from whichever answer it comes, drops a section at once and is reported to the map
(reporting.py), so that the next assignment goes above it (docs/PROTOCOL.md, section 4, step 7).

The map may be late, silent or wrong. Nothing here serves a section because the map says so.
"""

import asyncio
import logging
import random
from array import array
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from allocsvr.acquisition import Acquisition
from allocsvr.lease import Lease
from allocsvr.ledger import Ledger
from allocsvr.metrics import Metrics
from allocsvr.raising import Raising
from allocsvr.releasing import Releasing
from allocsvr.renewal import Renewal
from allocsvr.replicas import Replicas, ReplicaTransport
from allocsvr.reporting import RETRY_S, Reporting
from allocsvr.section import MAX_STEP, Section, State
from allocsvr.waiting import Waiting
from allocsvr.winning import CHUNK, Winning
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator, Versioned, follow
from clustermap.errors import MapCorrupt
from clustermap.model import (
    ASSIGNMENTS_PREFIX,
    SETS_PREFIX,
    Assignments,
    Cluster,
    SetSpec,
    assignments_key,
    routing_table,
)
from seqsvr.invariants import BrokenInvariant
from seqsvr.routing import Router, RoutingTable
from seqsvr.sections import STEP
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

MAX_DRIFT = 0.01
LEASE_TTL_S = 2.0
MIN_TTL_S = 0.1
MAX_TTL_S = 60.0
REPLICA_TIMEOUT_S = 10.0
LAG_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds; step in numbers; max_drift as a fraction. Raises ValueError."""

    step: int = STEP
    lease_ttl_s: float = LEASE_TTL_S
    max_drift: float = MAX_DRIFT
    replica_timeout_s: float = REPLICA_TIMEOUT_S
    max_waiting: int = 100_000

    def __post_init__(self) -> None:
        if not 1 <= self.step <= MAX_STEP:
            raise ValueError(f"step must be in 1..{MAX_STEP}, not {self.step}")
        if not MIN_TTL_S <= self.lease_ttl_s <= MAX_TTL_S:
            text = f"lease_ttl_s must be in {MIN_TTL_S}..{MAX_TTL_S}, not {self.lease_ttl_s}"
            raise ValueError(text)


class AllocNode:
    """The sections of one incarnation. Use `running` to bring it to life."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        spec: SetSpec,
        incarnation: int,
        address: str,
        clock: Clock,
        coordinator: Coordinator,
        metrics: Metrics,
        options: Options | None = None,
    ) -> None:
        self.options = options or Options()
        self.cluster = cluster
        self.spec = spec
        self.incarnation = incarnation
        self.address = address
        self.clock = clock
        self.metrics = metrics
        self.router = Router()
        quorum = spec.quorum
        ttl_ns = int(self.options.lease_ttl_s * 1e9)
        lease = Lease(quorum.n, quorum.w, ttl_ns, self.options.max_drift)
        self.ledger = Ledger(cluster.layout, lease)
        self.settled = asyncio.Event()
        self.waiting = Waiting(self.options.max_waiting)
        self.reporting = Reporting(clock, coordinator, spec.name, incarnation)
        self._coordinator = coordinator
        self._header = pb.StoreHeader(cluster=cluster.id, set=spec.name, membership=spec.membership)
        self._desired: dict[int, int] = {}
        self._begun: dict[int, int] = {}
        self._won = metrics.epoch_changes.labels("won")
        self._seen: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unserved: set[int] = set()

    # -- life ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, transports: Sequence[ReplicaTransport]) -> AsyncIterator["AllocNode"]:
        """Hold the lease and follow the map inside the `async with`; does not release at its end.

        A fault in any of the node's duties ends the block with an exception group.
        """
        quorum = self.spec.quorum
        async with asyncio.TaskGroup() as group:
            self._group = group
            ttl_s, timeout_s = self.options.lease_ttl_s, self.options.replica_timeout_s
            replicas = Replicas(
                transports,
                self._spawn,
                timeout_s,
                min(timeout_s, ttl_s / 2),
                [replica.store_id for replica in self.spec.replicas],
            )
            self._raising = Raising(
                self.clock,
                replicas,
                quorum.w,
                self._header,
                self.incarnation,
                self._raised,
                self.promise,
                self._outdone,
                self.metrics,
            )
            self._renewal = Renewal(
                self.clock,
                replicas,
                self._header,
                self.incarnation,
                self.ledger.lease,
                self.promise,
                self.metrics,
            )
            self._winning = Winning(
                self.clock,
                replicas,
                quorum.r,
                self.options.max_drift,
                self.options.step,
                self._header,
                self.incarnation,
                self.ledger,
                self._still_wanted,
                self._new_section,
                self._attempts_lost,
                self.promise,
                self.metrics,
            )
            self._releasing = Releasing(
                replicas, quorum.w, self._header, self.incarnation, self.promise, self.metrics
            )
            self.ledger.why_lapsed = self._renewal.why_lapsed
            self._watch_gauges()
            for index in range(len(replicas)):
                self._spawn(self._renewal.run(index))
            self._spawn(self._raising.run())
            self._spawn(self._follow_map())
            self._spawn(self.reporting.run())
            self._spawn(self._watch_loop())
            try:
                yield self
            finally:
                for task in self._tasks:
                    task.cancel()
                self.waiting.wake_all()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that ends with the node, and whose fault ends the node."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Stop serving, and leave every section to the next owner with its counters.

        Callers are told DRAINING from here on. May take as long as the replicas do; what could not
        be released is waited out by the next owner instead.
        """
        self.ledger.draining = True
        await self._release(list(self.ledger.sections.values()))
        while self.ledger.sections:  # releases that the map had asked for before
            await self.clock.sleep(0.001)

    async def ready(self) -> None:
        """Return once every section that is ours is served, and the lease is held."""
        await self.settled.wait()
        while not self.is_ready():
            await self.clock.sleep(0.01)

    def is_ready(self) -> bool:
        """Whether just now every section that is ours is served."""
        return self.settled.is_set() and self.ledger.lease.held(self.clock.now_ns())

    # -- what callers come for -----------------------------------------------------------------

    def broken(self, invariant: BrokenInvariant) -> None:
        """A handler found a contradiction: the node ends with it."""
        self._spawn(_raise(invariant))

    @property
    def table(self) -> RoutingTable | None:
        return self.router.table

    # -- what replicas say ---------------------------------------------------------------------

    def promise(self, first: int, last: int, epoch: int) -> None:
        """Some replica has promised `epoch` for these sections."""
        lost = self.ledger.promise(first, last, epoch)
        if lost:
            self._lost(lost, epoch)

    def _outdone(self, section: Section) -> None:
        """A raise was refused at its own epoch: a broken map gave that to somebody else too."""
        self.ledger.lose(section)
        self._lost([section], section.epoch)

    def _raised(self, section: Section, max_seq: int) -> None:
        first_time = section.state is State.RAISING
        self.ledger.raised(section, max_seq)
        self.waiting.wake([section.id])
        if first_time:
            self._won.inc()
            self.reporting.calm()
            self._unserved.discard(section.id)
            self._check_settled()

    def _lost(self, lost: Sequence[Section], epoch: int) -> None:
        logger.warning(
            "event=sections_lost count=%d first=%d promised=%d", len(lost), lost[0].id, epoch
        )
        self.metrics.epoch_changes.labels("lost").inc(len(lost))
        self.waiting.wake([section.id for section in lost])
        self._unserved.update(section.id for section in lost)
        self._check_settled()
        self.reporting.report({section.id: epoch for section in lost})

    def _attempts_lost(self, attempts: list[Acquisition]) -> None:
        """A fence that did not win leaves its promises behind: the next epoch must be above."""
        first = attempts[0]
        logger.warning(
            "event=acquisition_lost count=%d first=%d epoch=%d promised=%d",
            len(attempts),
            first.section,
            first.epoch,
            first.promised,
        )
        unanswered = {a.section: a.epoch for a in attempts if not a.promised}
        for attempt in attempts:
            if attempt.promised and self._begun.get(attempt.section) == attempt.epoch:
                self.ledger.acquiring.discard(attempt.section)
        self.reporting.report({a.section: a.promised for a in attempts if a.promised})
        if unanswered:
            # They may have promised all the same, so that epoch is spent. No hurry.
            self._spawn(self.reporting.report_later(unanswered))

    def _still_wanted(self, section: int, epoch: int) -> bool:
        return not self.ledger.draining and self._desired.get(section) == epoch

    def _new_section(
        self, attempt: Acquisition, base: int, pages: "list[array[int] | None] | None"
    ) -> Section:
        section = Section(
            attempt.section,
            attempt.epoch,
            base,
            found=attempt.found,
            size=self.cluster.section_size,
            step=self.options.step,
            seq_limit=self.cluster.seq_limit,
            on_hungry=self._raising.want,
            pages=pages,
        )
        self._raising.want(section)
        return section

    # -- what the map says ---------------------------------------------------------------------

    async def _follow_map(self) -> None:
        """Whatever the map's client runs into, an owner that holds its quorum goes on (LEASE-2)."""
        while True:
            try:
                async with aclosing(follow(self._coordinator, "")) as pictures:
                    async for picture in pictures:
                        self._installed(picture)
            except BrokenInvariant:
                raise
            except Exception:
                logger.exception("event=map_not_followed")
            await self.clock.sleep(random.uniform(RETRY_S / 2, RETRY_S))

    def _installed(self, picture: Mapping[str, Versioned]) -> None:
        """First our own Set, so that what others wrote about theirs cannot keep us from it."""
        revisions = {
            key: held.revision
            for key, held in picture.items()
            if key.startswith((SETS_PREFIX, ASSIGNMENTS_PREFIX))
        }
        if revisions == self._seen:
            return
        try:
            own = picture.get(assignments_key(self.spec.name))
            if own is not None:
                self._reconcile(Assignments.from_json(own.value))
            specs = [SetSpec.from_json(v.value) for v in _under(picture, SETS_PREFIX)]
            documents = [
                Assignments.from_json(v.value) for v in _under(picture, ASSIGNMENTS_PREFIX)
            ]
            table = routing_table(
                self.cluster, {s.name: s for s in specs}, {d.set: d for d in documents}
            )
            if self.router.install(table):
                self.metrics.route_version.set(self.router.version)
        except MapCorrupt as corrupt:
            logger.error("event=map_corrupt error=%s", corrupt)
        self._seen = revisions

    def _reconcile(self, document: Assignments) -> None:
        """Bring what we have and what we should have together."""
        mine = [e for e in document.entries if e.incarnation == self.incarnation]
        desired = {s: e.epoch for e in mine if not e.leaving for s in range(e.first, e.last + 1)}
        leaving = {s for e in mine if e.leaving for s in range(e.first, e.last + 1)}
        self._desired = desired
        self.ledger.acquiring &= desired.keys()
        held = self.ledger.sections
        live = (State.SERVING, State.RAISING)
        release = [held[s] for s in leaving if s in held and held[s].state in live]
        strays = [
            section
            for section in held.values()
            if section.id not in leaving and desired.get(section.id) != section.epoch
        ]
        if strays:
            self._part_with(strays, document)
        if release:
            self._spawn(self._release(release))
        if not self.ledger.draining:
            self._begin(desired)
        self._unserved = {s for s in desired if s not in held or not held[s].serving}
        self._check_settled()

    def _part_with(self, strays: list[Section], document: Assignments) -> None:
        """Sections that the map gives to others, or to nobody, under an epoch not below ours.

        A map that knows less than our epoch was wiped or is an older copy: it takes nothing away,
        and is told.
        """
        floors: dict[int, int] = {}
        for floor in document.floors:
            floors.update(dict.fromkeys(range(floor.first, floor.last + 1), floor.epoch))
        ahead = {}
        for section in strays:
            entry = document.owner(section.id)
            known = entry.epoch if entry is not None else floors.get(section.id, 0)
            if known < section.epoch >= floors.get(section.id, 0):
                ahead[section.id] = section.epoch
        gone = [s for s in strays if s.id not in ahead]
        for section in gone:
            self.ledger.lose(section)
        self.waiting.wake([section.id for section in gone])
        self.metrics.epoch_changes.labels("lost").inc(len(gone))
        self.reporting.report(ahead)

    def _begin(self, desired: Mapping[int, int]) -> None:
        """Start to win what is new. An epoch is tried once: a second fence of it is refused."""
        promised, held = self.ledger.promises.highest, self.ledger.sections
        new = {}
        stale = {}
        for section, epoch in desired.items():
            spent = max(promised(section), self._begun.get(section, 0))
            if spent > epoch:
                stale[section] = spent
            elif self._begun.get(section, 0) < epoch and section not in held:
                new[section] = epoch
        self.reporting.report(stale)
        self._begun.update(new)
        self.ledger.acquiring.update(new)
        wanted = sorted(new.items())
        for at in range(0, len(wanted), CHUNK):
            self._spawn(self._winning.win(dict(wanted[at : at + CHUNK])))

    async def _release(self, sections: Iterable[Section]) -> None:
        """What was only just being raised is released too: its owner record may be ours already."""
        leaving = [s for s in sections if s.state in (State.SERVING, State.RAISING)]
        for section in leaving:
            self.ledger.leave(section)
        self.waiting.wake([section.id for section in leaving])
        await self._raising.quiesce(leaving)
        await self._releasing.release([s for s in leaving if s.state is State.LEAVING])
        for section in leaving:
            self.ledger.lose(section)

    # -- small duties --------------------------------------------------------------------------

    def _check_settled(self) -> None:
        """`settled` is set while every section that is ours by the map is served."""
        if self._unserved or not self._desired:
            self.settled.clear()
        else:
            self.settled.set()

    def _watch_gauges(self) -> None:
        """Read at each scrape, from the thread that serves it: copies, no iteration over ours."""
        ledger, metrics = self.ledger, self.metrics

        def lease_left() -> float:
            return max(0, ledger.lease.deadline_ns - self.clock.now_ns()) / 1e9

        def window_left() -> float:
            windows = (s.window for s in list(ledger.sections.values()) if s.serving)
            return min(windows, default=0)

        def in_state(state: State) -> float:
            return sum(s.state is state for s in list(ledger.sections.values()))

        metrics.lease_left.set_function(lease_left)
        metrics.window_left.set_function(window_left)
        for state in State:
            metrics.sections.labels(state.value).set_function(partial(in_state, state))
        metrics.sections.labels("acquiring").set_function(lambda: len(ledger.acquiring))

    async def _watch_loop(self) -> None:
        """How late timers run: a busy loop must not starve the lease unnoticed."""
        while True:
            due_ns = self.clock.now_ns() + int(LAG_PERIOD_S * 1e9)
            await self.clock.sleep(LAG_PERIOD_S)
            self.metrics.loop_lag.set(max(0, self.clock.now_ns() - due_ns) / 1e9)


async def _raise(error: BaseException) -> None:
    raise error


def _under(picture: Mapping[str, Versioned], prefix: str) -> Iterator[Versioned]:
    return (value for key, value in picture.items() if key.startswith(prefix))
