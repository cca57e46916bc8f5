"""One AllocSvr node: where clock, replicas and cluster map meet.

The map says which sections this incarnation should have, at which epochs (intent.py). What is new
is won (winning.py), what is marked as leaving is handed over (moving.py), what has gone to others
is dropped. A promise above our epoch, from whichever answer it comes, drops a section at once and
is reported to the map (reporting.py), so that the next assignment goes above it (docs/PROTOCOL.md,
section 4, step 7).

The map may be late, silent or wrong. Nothing here serves a section because the map says so.
"""

import asyncio
import logging
import random
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from allocsvr.acquisition import Acquisition
from allocsvr.generation import Current
from allocsvr.intent import Intent
from allocsvr.lagging import watch_loop
from allocsvr.lease import Lease
from allocsvr.ledger import VECTOR_FROM, Ledger
from allocsvr.membership import Membership
from allocsvr.metrics import Metrics
from allocsvr.moving import Moving
from allocsvr.pictures import MapView
from allocsvr.raising import Raising
from allocsvr.releasing import Releasing
from allocsvr.repairing import PERIOD_S, Repairing
from allocsvr.replicas import ReplicaTransport
from allocsvr.reporting import RETRY_S, Reporting
from allocsvr.section import MAX_STEP, Pages, Section, State
from allocsvr.waiting import Waiting
from allocsvr.winning import CHUNK, Winning
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator, Versioned, follow
from clustermap.documents import hex64
from clustermap.drift import MAX_DRIFT
from clustermap.model import Assignments, Cluster, Owner, Replica, SetSpec
from seqsvr.invariants import BrokenInvariant
from seqsvr.routing import Router, RoutingTable
from seqsvr.sections import STEP
from svrprocess.store_client import QUICK_S

logger = logging.getLogger(__name__)

LEASE_TTL_S = 2.0
MIN_TTL_S = 0.1
MAX_TTL_S = 60.0
REPLICA_TIMEOUT_S = 10.0
REMIND_S = 3.0
SEALED_S = 15.0
# By which a caller may have the version of the map raised at a time, be it mad or malicious.
MAX_LEAP = 2**32


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds; step in numbers; max_drift as a fraction. Raises ValueError.

    vector_from: entries from which on a batch is tried as a whole (ledger.py).
    """

    step: int = STEP
    lease_ttl_s: float = LEASE_TTL_S
    max_drift: float = MAX_DRIFT
    replica_timeout_s: float = REPLICA_TIMEOUT_S
    max_waiting: int = 100_000
    repair_period_s: float = PERIOD_S
    vector_from: int = VECTOR_FROM

    def __post_init__(self) -> None:
        if not 1 <= self.step <= MAX_STEP:
            raise ValueError(f"step must be in 1..{MAX_STEP}, not {self.step}")
        if not MIN_TTL_S <= self.lease_ttl_s <= MAX_TTL_S:
            text = f"lease_ttl_s must be in {MIN_TTL_S}..{MAX_TTL_S}, not {self.lease_ttl_s}"
            raise ValueError(text)


async def _leave_open(replica: ReplicaTransport) -> None:
    del replica


class AllocNode:
    """The sections of one incarnation. Use `running` to bring it to life."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        spec: SetSpec,
        incarnation: int,
        address: str,
        peer_address: str = "",
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
        self.peer_address = peer_address
        self.clock = clock
        self.metrics = metrics
        self.router = Router()
        lease = Lease(int(self.options.lease_ttl_s * 1e9), self.options.max_drift)
        self.ledger = Ledger(cluster.layout, lease, self.options.vector_from)
        self.settled = asyncio.Event()
        self.waiting = Waiting(self.options.max_waiting)
        self.reporting = Reporting(
            clock, coordinator, spec.name, Owner(incarnation, address, peer_address), self._held_at
        )
        self.moving = Moving(
            clock,
            coordinator,
            spec.name,
            incarnation,
            self.ledger,
            self._stop,
            self._released,
            self._drop,
        )
        self._intent = Intent(
            spec.name,
            incarnation,
            self.ledger,
            self.moving,
            self.reporting,
            self._drop,
            self._begin,
            address,
        )
        self._coordinator = coordinator
        self._won = metrics.epoch_changes.labels("won")
        self._view = MapView(cluster)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beyond = 0
        self._peer_table: tuple[RoutingTable | None, RoutingTable | None] = (None, None)

    # -- life ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(
        self,
        connect: Callable[[Replica], ReplicaTransport],
        disconnect: Callable[[ReplicaTransport], Awaitable[None]] = _leave_open,
    ) -> AsyncIterator["AllocNode"]:
        """Hold the lease and follow the map inside the `async with`; does not release at its end.

        connect, disconnect: how to begin and to end to talk to a replica. A fault in any of the
        node's duties ends the block with an exception group.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            ttl_s, timeout_s = self.options.lease_ttl_s, self.options.replica_timeout_s
            self.membership = Membership(
                self.spec,
                cluster=self.cluster.id,
                incarnation=self.incarnation,
                clock=self.clock,
                coordinator=self._coordinator,
                lease=self.ledger.lease,
                timeouts_s=(timeout_s, min(timeout_s, ttl_s / 2, QUICK_S)),
                connect=connect,
                disconnect=disconnect,
                spawn=self._spawn,
                on_promise=self.promise,
                on_changed=lambda: self._raising.calm(),
                metrics=self.metrics,
            )
            self._ask_by(lambda: self.membership.current)
            self.ledger.why_lapsed = lambda: self.membership.renewal.why_lapsed()
            self._watch_gauges()
            self.membership.start()
            repairing = Repairing(
                self.clock,
                lambda: self.membership.current,
                self.ledger,
                self.metrics,
                self.options.repair_period_s,
            )
            self._spawn(repairing.run())
            self._spawn(self._raising.run())
            self._spawn(self._follow_map())
            self._spawn(self.reporting.run())
            self._spawn(self._remind())
            self._spawn(self.moving.run())
            self._spawn(watch_loop(self.clock, self.metrics, ttl_s))
            try:
                yield self
            finally:
                for task in self._tasks:
                    task.cancel()
                self.waiting.wake_all()
                await self.membership.aclose()

    def _ask_by(self, current: Current) -> None:
        """What asks replicas, besides the renewal of the lease."""
        self._raising = Raising(
            self.clock,
            current,
            self.incarnation,
            self._raised,
            self.promise,
            self._outdone,
            self._overtaken,
            self.metrics,
        )
        self._winning = Winning(
            self.clock,
            current,
            self.options.max_drift,
            self.options.step,
            self.incarnation,
            self.ledger,
            self._still_wanted,
            self._new_section,
            self._attempts_lost,
            self.promise,
            self.metrics,
        )
        self._releasing = Releasing(
            self.clock, current, self.incarnation, self.promise, self.metrics
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that ends with the node, and whose fault ends the node."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self) -> None:
        """Stop serving, and leave every section to the next owner with its counters.

        Without the map: it is not told. Callers are told DRAINING from here on. May take as long as
        the replicas do; what could not be released is waited out by the next owner instead.
        """
        self.ledger.draining = True
        sections = list(self.ledger.sections.values())
        leaving = [s for s in sections if s.state in (State.SERVING, State.RAISING)]
        self._stop(leaving)
        await self._released(leaving)
        await self.moving.end()
        self._drop(list(self.ledger.sections.values()))

    async def ready(self) -> None:
        """Return once there are sections that are ours, all are served, and the lease is held."""
        await self.settled.wait()
        while not self.is_ready():
            await self.clock.sleep(0.01)

    def is_ready(self) -> bool:
        """Whether just now there are sections that are ours, and every one is served."""
        return self.settled.is_set() and self.holds_lease()

    def has_joined(self) -> bool:
        """The same for a node of many, which may have no section: it can tell who has."""
        return self.table is not None and not self.unserved and self.holds_lease()

    def holds_lease(self) -> bool:
        return self.ledger.lease.held(self.clock.now_ns())

    # -- what callers come for -----------------------------------------------------------------

    def broken(self, invariant: BrokenInvariant) -> None:
        """A handler found a contradiction: the node ends with it."""
        self._spawn(_raise(invariant))

    @property
    def table(self) -> RoutingTable | None:
        return self.router.table

    def reached(self, address: str) -> str:
        """Where servers and operators reach the node that callers reach at `address`."""
        return self._view.peers().get(address, address)

    @property
    def peer_table(self) -> RoutingTable | None:
        """The same with the addresses at which operators reach the nodes."""
        table = self.table
        if table is None or table is self._peer_table[0]:
            return self._peer_table[1]
        routes = tuple(
            replace(route, address=self.reached(route.address)) for route in table.routes
        )
        self._peer_table = table, replace(table, routes=routes)
        return self._peer_table[1]

    def known_beyond(self, version: int) -> None:
        """A caller's table is of no earlier version than ours, and has led it here wrongly."""
        self._beyond = max(self._beyond, version)

    @property
    def unserved(self) -> int:
        """How many sections are ours by the map, are to stay so, and are not served."""
        return len(self._intent.unserved)

    @property
    def assigned(self) -> int:
        """How many sections are ours by the map, those included that are to leave."""
        return len(self._intent.desired) + len(self.moving.leaving)

    def hurry(self) -> None:
        """Callers wait for windows to grow: raises are not to be paced now."""
        self._raising.hurry()

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

    def _overtaken(self, sections: Sequence[Section]) -> None:
        """Fenced under another membership than their first raise would be: to be won anew."""
        self._drop(sections)
        self._intent.lost(sections)
        self._check_settled()
        self.reporting.report({section.id: section.epoch for section in sections})

    def _raised(self, section: Section, max_seq: int) -> None:
        first_time = section.state is State.RAISING
        self.ledger.raised(section, max_seq)
        self.waiting.wake([section.id])
        if first_time:
            self._won.inc()
            self.reporting.calm()
            self._intent.unserved.discard(section.id)
            self._check_settled()

    def _lost(self, lost: Sequence[Section], epoch: int) -> None:
        logger.warning(
            "event=sections_lost count=%d first=%d promised=%d", len(lost), lost[0].id, epoch
        )
        self.metrics.epoch_changes.labels("lost").inc(len(lost))
        self.waiting.wake([section.id for section in lost])
        self._intent.lost(lost)
        self._check_settled()
        begun = self._intent.begun  # a later attempt of our own may be what was promised
        self.reporting.report({s.id: epoch for s in lost if epoch > begun.get(s.id, 0)})

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
        begun = self._intent.begun
        sealed = {a.section: a.epoch for a in attempts if 0 < a.promised < a.epoch}
        current = [a for a in attempts if a.promised >= a.epoch == begun.get(a.section)]
        # One that a later attempt of our own has overtaken says nothing new: to report what that
        # one was promised would spend its epoch while it is under way.
        beyond = [a for a in attempts if a.promised > begun.get(a.section, 0)]
        self.reporting.report({a.section: a.promised for a in (*current, *beyond)})
        self._intent.given_up(a.section for a in current)
        unanswered = {a.section: a.epoch for a in attempts if not a.promised}
        if unanswered:
            # They may have promised all the same, so that epoch is spent. No hurry.
            self._spawn(self._report_later(unanswered))
        if sealed:
            self._spawn(self._report_sealed(sealed))

    async def _report_later(self, unanswered: Mapping[int, int]) -> None:
        await self.reporting.report_later(unanswered)
        self._ended(unanswered)

    async def _report_sealed(self, sealed: Mapping[int, int]) -> None:
        """They went to another Set, whatever the map says; another epoch would not help soon."""
        logger.error("event=sections_sealed count=%d first=%d", len(sealed), min(sealed))
        await self.clock.sleep(random.uniform(SEALED_S / 2, SEALED_S))
        self.reporting.report(sealed)
        self._ended(sealed)

    def _ended(self, attempts: Mapping[int, int]) -> None:
        begun = self._intent.begun
        self._intent.given_up(s for s, epoch in attempts.items() if begun.get(s) == epoch)

    async def _remind(self) -> None:
        """What the map was told once it may have lost since, and looks as if nothing had been."""
        before = 0
        while True:
            await self.clock.sleep(random.uniform(REMIND_S / 2, REMIND_S))
            self.reporting.report(self._intent.spent())
            now, self._beyond = self._beyond, 0
            self._catch_up(min(now, before))
            before = now

    def _catch_up(self, version: int) -> None:
        """Callers have held another table for longer than a watch is late: the map went back."""
        table, own = self.table, self._view.assignments(self.spec.name)
        if version and table is not None and own is not None and version >= table.version:
            leap = min(version - table.version, MAX_LEAP)
            self.reporting.raise_version(own.version + leap + 1)

    def _still_wanted(self, section: int, epoch: int) -> bool:
        return not self.ledger.draining and self._intent.desired.get(section) == epoch

    def _new_section(self, attempt: Acquisition, base: int, pages: Pages | None) -> Section:
        section = Section(
            attempt.section,
            attempt.epoch,
            base,
            found=attempt.found,
            size=self.cluster.section_size,
            step=self.options.step,
            seq_limit=self.cluster.seq_limit,
            on_hungry=self._raising.want,
            counters=self.ledger.counters,
            pages=pages,
            membership=attempt.membership,
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
        """Our own Set first: nothing that others wrote about theirs can keep us from it."""
        if not self._view.take(picture):
            return
        own, spec = self._view.assignments(self.spec.name), self._view.spec(self.spec.name)
        if spec is not None:
            self.membership.offer(spec)
        if own is not None:
            self._reconcile(own)
        table, held = self._view.table(), self.router.table
        if self.router.install(table):
            self.metrics.route_version.set(self.router.version)
        elif own is not None and held is not None and _contradicts(table, held):
            # A map that was wiped counts from an earlier version on.
            self.reporting.raise_version(own.version + held.version - table.version + 1)

    def _reconcile(self, document: Assignments) -> None:
        """Bring what we have and what we should have together."""
        changed = self._intent.follow(document)
        if self.waiting.count:
            for piece in changed:
                self.waiting.wake(range(piece.first, piece.last + 1))
        self._check_settled()

    @property
    def _desired(self) -> Mapping[int, int]:
        return self._intent.desired

    def _begin(self, new: Mapping[int, int]) -> None:
        """Start to win what is new."""
        wanted = sorted(new.items())
        for at in range(0, len(wanted), CHUNK):
            self._spawn(self._winning.win(dict(wanted[at : at + CHUNK])))

    def _held_at(self, section: int) -> int:
        """The epoch under which we serve a section, or are about to; 0: we do not."""
        held = self.ledger.sections.get(section)
        live = held is not None and held.state in (State.SERVING, State.RAISING)
        return held.epoch if held is not None and live else 0

    # -- sections that go, in this order --------------------------------------------------------

    def _stop(self, sections: Iterable[Section]) -> None:
        for section in sections:
            self.ledger.leave(section)
            self.waiting.wake([section.id])

    async def _released(self, sections: Sequence[Section]) -> None:
        """What was only just being raised is released too: its owner record may be ours already."""
        await self._raising.quiesce(sections)
        await self._releasing.release([s for s in sections if s.state is State.LEAVING])

    def _drop(self, sections: Sequence[Section]) -> None:
        taken = sum(section.state is not State.LEAVING for section in sections)
        for section in sections:
            self.ledger.lose(section)
        self.waiting.wake([section.id for section in sections])
        self.metrics.epoch_changes.labels("lost").inc(taken)

    # -- small duties --------------------------------------------------------------------------

    def _check_settled(self) -> None:
        """`settled` is set while every section that is ours by the map is served."""
        if self._intent.unserved or not self._intent.desired:
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

        def space_used() -> float:
            highest = max((s.max_seq for s in list(ledger.sections.values())), default=0)
            return highest / self.cluster.seq_limit

        metrics.lease_left.set_function(lease_left)
        counted = metrics.replicas.labels
        membership = self.membership
        counted("all").set_function(lambda: len(membership.current.replicas))
        counted("needed").set_function(lambda: max(g.need for g in membership.current.write))
        counted("granting").set_function(lambda: membership.renewal.granting)
        metrics.space_used.set_function(space_used)
        metrics.unserved.set_function(lambda: self.unserved)
        metrics.waiting.set_function(lambda: self.waiting.count)
        metrics.info.labels(self.spec.name, hex64(self.incarnation), self.address).set(1)
        metrics.window_left.set_function(window_left)
        for state in State:
            metrics.sections.labels(state.value).set_function(partial(in_state, state))
        metrics.sections.labels("acquiring").set_function(lambda: len(ledger.acquiring))


async def _raise(error: BaseException) -> None:
    raise error


def _contradicts(table: RoutingTable, held: RoutingTable) -> bool:
    """Two tables that no one history of a map can have shown in this order."""
    return table.version < held.version or table.routes != held.routes
