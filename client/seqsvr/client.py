"""The client of a message service: numbers for uids, wherever their sections are served.

A call is checked, routed by the table, put into the owner's session and awaited; that is all for
a call that goes well. One that fails is driven by its own caller (`_insist`): no task, no queue of
retries. Keeps ROUTE-1 through routing.Router; PROTOCOL.md, "Client and routing table".
"""

import asyncio
import random
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from operator import itemgetter
from os import PathLike
from types import TracebackType
from typing import Self

import grpc.aio

from seqsvr import tracing
from seqsvr.advancing import CLOSED, Advancing
from seqsvr.calls import (
    UID_CEILING,
    Advance,
    Bulk,
    Current,
    Entry,
    Failure,
    Op,
    Tally,
    checked_count,
    checked_floor,
    checked_timeout,
    checked_uid,
    error_of,
    refused,
    sort_repeated,
)
from seqsvr.channels import parse_seeds
from seqsvr.credentials import Credentials
from seqsvr.errors import SeqError, error_for
from seqsvr.finder import RouteFinder
from seqsvr.history import History
from seqsvr.pause import Pause
from seqsvr.renewal import Renewal
from seqsvr.retry import delay_s
from seqsvr.routing import Router, RoutingTable
from seqsvr.sections import MAX_BATCH, MAX_JUMP, SECTION_SIZE
from seqsvr.session import Session
from seqsvr.tls import Tls
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import table_from_wire

TIMEOUT_S = 2.0
MAX_IN_FLIGHT = 2  # more of them cut the batches small, and cost more than they hide
MAX_QUEUE = 65_536
BULK_FROM = 16
"""Uids from which on `next_many` takes them together instead of one by one."""
_WINDOW = 16_384
"""Entries of one `next_many` that are on their way at a time."""


class AsyncClient:
    """Hands out numbers; for one event loop, and any number of its tasks.

    seeds: any nodes, "host:port", one string (commas allowed) or a sequence; the rest is learnt
    from them. timeout: seconds that a call may take, retries included, unless it says otherwise.
    history: a file that gets a line for each finished call (see seqsvr.history). max_in_flight:
    batches per owner that wait for their first answer while calls gather for the next one, at
    least 1. max_queue: calls per owner, queued or in flight, beyond which more are refused with
    Overloaded, at least 1. tls: None for connections in the clear; token_file: holds a bearer token
    on its first line, which goes with every call (in the clear, too, if there is no tls). Files are
    read here, which may raise OSError or ValueError, and again when they change: calls go on
    meanwhile, and files that are not sound, or do not connect, change nothing.

    Calls raise below SeqError: InvalidArgument, NotAllowed and SequenceExhausted (give up),
    Unavailable (retry later), OutcomeUnknown (numbers may have been taken; a retry leaves a gap),
    DataLoss (alert). Cancelling a call is always safe and may leave a gap.
    """

    def __init__(
        self,
        seeds: str | Sequence[str],
        *,
        timeout: float = TIMEOUT_S,
        history: str | PathLike[str] | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_queue: int = MAX_QUEUE,
        tls: Tls | None = None,
        token_file: str | PathLike[str] | None = None,
    ) -> None:
        if min(max_in_flight, max_queue) < 1:
            raise ValueError("max_in_flight and max_queue must be at least 1")
        self._seeds = parse_seeds(seeds)
        self._timeout_s = checked_timeout(timeout)
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._router = Router()
        self._credentials = own = Credentials(tls, token_file)
        self._finder = RouteFinder(self._candidates, lambda: self._router.version, self._learn, own)
        self._advancing = Advancing(self._learn, self._candidates, own)
        self._renewal = Renewal(own, lambda: list(self._sessions.values()), self._follow)
        self._pauses = Pause()
        self._sessions: dict[str, Session] = {}
        self._retired: weakref.WeakSet[Session] = weakref.WeakSet()
        # section -> session of its owner; what the router says, found once per section and table.
        self._owners: dict[int, Session] = {}
        self._section_size = SECTION_SIZE
        self._bulk_from = BULK_FROM
        self._uid_limit = UID_CEILING
        self._bound_loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._history = None if history is None else History(history)
        tracing.trace_calls(self)

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # --- calls

    async def next(self, uid: int, *, timeout: float | None = None) -> int:
        """The next number of `uid`, above every number of it that was answered before this call.

        timeout: seconds, the client's default if None. Errors: see the class.
        """
        entry = self._entry(Op.NEXT, uid, 1, timeout)
        # What nearly every call does, without a coroutine more than this one.
        waiter = self._submitted(entry) if self._history is None else None
        if waiter is None:
            await self._finish(entry)
            return entry.seq or 0
        await waiter
        if entry.failure is not None:
            await self._insist([entry])
        return entry.seq or 0

    async def next_range(self, uid: int, count: int, *, timeout: float | None = None) -> range:
        """The next `count` (1..10000) numbers of `uid`, adjacent and rising."""
        entry = self._entry(Op.NEXT, uid, checked_count(count, uid), timeout)
        await self._finish(entry)
        first = entry.seq or 0
        return range(first, first + entry.count)

    async def next_many(self, uids: Iterable[int], *, timeout: float | None = None) -> list[int]:
        """One number for each of any number of uids, in their order.

        A uid may occur more than once and gets rising numbers. If an entry finally fails, the
        error of the first such one is raised, `.uid` says which, and the other numbers are a gap.
        """
        asked = list(uids)
        if self._history is None and self._is_plain(asked):
            return await self._next_bulks(asked, self._deadline(timeout))
        return [entry.seq or 0 for entry in await self._finish_many(Op.NEXT, asked, timeout)]

    async def current(self, uid: int, *, timeout: float | None = None) -> Current:
        """The last number of `uid` handed out, or a ceiling of it. Allocates nothing."""
        entry = self._entry(Op.CURRENT, uid, 1, timeout)
        await self._finish(entry)
        return Current(entry.seq or 0, entry.exact)

    async def current_many(
        self, uids: Iterable[int], *, timeout: float | None = None
    ) -> list[Current]:
        """`current` of any number of uids, in their order; errors as of `next_many`."""
        entries = await self._finish_many(Op.CURRENT, uids, timeout)
        return [Current(entry.seq or 0, entry.exact) for entry in entries]

    async def advance(
        self, uid: int, at_least: int, *, max_jump: int = MAX_JUMP, timeout: float | None = None
    ) -> int:
        """Have all numbers of `uid` from now on be above `at_least`; where it stands after that.

        Idempotent: a uid that stands higher stays there. max_jump: how far it may rise, else
        InvalidArgument, reason JUMP_TOO_LARGE; after a crash all uids of its section may continue
        from as high as it was raised. For those who come from another service, or from a backup.
        """
        pairs = [(uid, at_least)]
        return (await self.advance_many(pairs, max_jump=max_jump, timeout=timeout))[0]

    async def advance_many(
        self,
        floors: Iterable[tuple[int, int]],
        *,
        max_jump: int = MAX_JUMP,
        timeout: float | None = None,
    ) -> list[int]:
        """`advance` of any number of (uid, at_least), in their order; errors as of `next_many`.

        Where one of them fails, others may have been advanced; to ask again does no harm.
        """
        deadline_s, limit = self._deadline(timeout), self._uid_limit
        most = checked_floor(max_jump, None, "max_jump")
        entries = []
        for uid, at_least in floors:
            checked = checked_uid(uid, limit)
            entries.append(Advance(checked, checked_floor(at_least, checked), most, deadline_s))
        await self._finish_all(entries)
        return [entry.seq or 0 for entry in entries]

    def table(self) -> RoutingTable | None:
        """The newest routing table seen; None before the first call."""
        return self._router.table

    async def refresh(self, *, timeout: float | None = None) -> RoutingTable:
        """Ask the nodes for a newer routing table, and return the newest. Raises Unavailable."""
        deadline_s = self._deadline(timeout)
        while True:
            in_time = await self._finder.ask(deadline_s)
            table = self._router.table
            if in_time and self._finder.failure is None and table is not None:
                return table
            failure = self._hopeless(deadline_s)
            if failure is not None:
                raise error_for(failure.reason, failure.text)

    async def route(self, *, timeout: float | None = None) -> RoutingTable:
        """The newest routing table that the nodes know of. Raises Unavailable."""
        return await self.refresh(timeout=timeout)

    async def aclose(self) -> None:
        """Close. Calls outstanding end with OutcomeUnknown if sent, else Unavailable (CLOSED).

        Raises OSError if the history could not be written. Idempotent.
        """
        self._closed = True
        self._pauses.wake()
        await self._renewal.aclose()
        sessions = [*self._sessions.values(), *self._retired]
        self._sessions, self._owners = {}, {}
        for session in sessions:
            await session.aclose()
        await self._advancing.aclose()
        await self._finder.aclose()
        if self._history is not None:
            # All callers have been let go by now and need only their turn to write their lines.
            while self._history.open_calls:  # noqa: ASYNC110
                await asyncio.sleep(0)
            self._history.close()

    # --- the way of one call

    def _entry(self, op: Op, uid: int, count: int, timeout: float | None) -> Entry:
        deadline_s = self._deadline(timeout)
        if type(uid) is not int or not 0 <= uid < self._uid_limit:
            uid = checked_uid(uid, self._uid_limit)
        return Entry(op, uid, count, deadline_s)

    async def _finish(self, entry: Entry) -> None:
        """Return when the entry is answered; raise when it finally failed."""
        if self._history is None:
            await self._drive(entry)
        else:
            with self._history.call((entry,)):
                await self._drive(entry)

    async def _drive(self, entry: Entry) -> None:
        waiter = self._submitted(entry)
        if waiter is None:
            await self._drive_all([entry])
            return
        await waiter
        if entry.failure is not None:
            await self._insist([entry])

    def _submitted(self, entry: Entry) -> "asyncio.Future[None] | None":
        """Hand an entry to the owner of its section; None: it is not known yet."""
        entry.section = section = entry.uid // self._section_size
        session = self._owners.get(section)
        if session is None:
            return None
        entry.waiter = waiter = session.loop.create_future()
        session.submit(entry)
        return waiter

    # --- the way of a call of another thread

    def _begin(self, entry: Entry, patience_s: float | None) -> None:
        """Settle an entry that has a waiter of its own if that takes no task, or leave it as it is.

        For the loop's own thread. An entry that comes back without a number or with a failure is to
        be completed.
        """
        session = self._owners.get(entry.uid // self._section_size)
        loop = asyncio.get_running_loop()
        entry.deadline_s = loop.time() + (self._timeout_s if patience_s is None else patience_s)
        if session is None or self._history is not None or entry.uid >= self._uid_limit:
            entry.waiter.set_result(None)
            return
        entry.section = entry.uid // self._section_size
        session.submit(entry)

    async def _complete(self, entry: Entry) -> None:
        """What `_begin` began, to its end; raises what became of it."""
        if entry.failure is None:
            checked_uid(entry.uid, self._uid_limit)
            if self._closed or self._bound_loop is not asyncio.get_running_loop():
                self._bind()
            await self._finish(entry)
        else:
            await self._insist([entry])

    # --- the way of many

    def _is_plain(self, uids: list[int]) -> bool:
        """Whether they may go as bulks: enough of them, each once, and all of them sound."""
        return (
            len(uids) >= self._bulk_from
            and self._router.table is not None
            and set(map(type, uids)) == {int}
            and len(set(uids)) == len(uids)
            and min(uids) >= 0
            and max(uids) < self._uid_limit
        )

    async def _next_bulks(self, uids: list[int], deadline_s: float) -> list[int]:
        seqs: list[int] = []
        size = min(_WINDOW, self._max_queue)
        for start in range(0, len(uids), size):
            seqs += await self._next_window(uids[start : start + size], deadline_s)
        return seqs

    async def _next_window(self, uids: list[int], deadline_s: float) -> list[int]:
        """One bulk for each owner of some of the uids; what fails goes on as entries."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = Tally(future, len(uids))
        bulks: list[tuple[list[int], Bulk]] = []
        for session, places in self._by_owner(uids).items():
            for at in range(0, len(places), MAX_BATCH):
                part = places[at : at + MAX_BATCH]
                own = [uids[place] for place in part]
                sections = [uid // self._section_size for uid in own]
                bulk = Bulk(own, sections, deadline_s, waiter)
                bulks.append((part, bulk))
                if session is not None:
                    session.submit_bulk(bulk)
                else:
                    for entry in bulk.unpack(doubt=0):
                        text = f"section {entry.section} has no owner"
                        entry.fail(refused("NOT_OWNER", text, ""))
        await future
        return await self._gathered(bulks, len(uids))

    def _by_owner(self, uids: list[int]) -> dict[Session | None, list[int]]:
        """Places of the uids by session."""
        owners, size = self._owners, self._section_size
        groups: dict[Session | None, list[int]] = {}
        for place, uid in enumerate(uids):
            session = owners.get(uid // size) or self._owner(uid // size)
            group = groups.get(session)
            if group is None:
                group = groups[session] = []
            group.append(place)
        return groups

    async def _gathered(self, bulks: list[tuple[list[int], Bulk]], size: int) -> list[int]:
        """The numbers in the order of the call; raises as `next_many` does."""
        unpacked = [at for places, bulk in bulks for at in zip(places, bulk.entries, strict=False)]
        if unpacked:
            await self._insist([entry for _, entry in sorted(unpacked, key=itemgetter(0))])
        seqs = [0] * size
        for places, bulk in bulks:
            numbers = bulk.seqs or [entry.seq or 0 for entry in bulk.entries]
            for place, seq in zip(places, numbers, strict=True):
                seqs[place] = seq
        return seqs

    async def _finish_many(self, op: Op, uids: Iterable[int], timeout: float | None) -> list[Entry]:
        deadline_s = self._deadline(timeout)
        limit = self._uid_limit
        entries = [Entry(op, checked_uid(uid, limit), 1, deadline_s) for uid in uids]
        await self._finish_all(entries)
        return entries

    async def _finish_all(self, entries: Sequence[Entry]) -> None:
        size = min(_WINDOW, self._max_queue)
        with self._history.call(entries) if self._history else nullcontext():
            for start in range(0, len(entries), size):
                await self._drive_all(list(entries[start : start + size]))

    async def _drive_all(self, entries: list[Entry]) -> None:
        if not entries:
            return
        if self._router.table is None:
            await self._first_table(entries)
        for entry in entries:
            checked_uid(entry.uid, self._uid_limit)
        await self._attempt(entries)
        await self._insist(entries)
        if entries[0].op is Op.NEXT:
            sort_repeated(entries)

    async def _first_table(self, entries: list[Entry]) -> None:
        deadline_s = entries[0].deadline_s
        while self._router.table is None:
            await self._finder.ask(deadline_s)
            failure = self._hopeless(deadline_s) if self._router.table is None else None
            if failure is not None:
                raise _given_up(entries, failure)

    async def _attempt(self, entries: list[Entry]) -> None:
        """Send entries to the owners of their sections; return when all of them are settled."""
        if entries[0].op is Op.ADVANCE:  # then all of them are
            for entry in entries:
                entry.section = entry.uid // self._section_size
            advances = [entry for entry in entries if isinstance(entry, Advance)]
            await self._advancing.attempt(advances, self._router)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = Tally(future, len(entries))
        size, owners = self._section_size, self._owners
        for entry in entries:
            entry.waiter = waiter
            entry.section = section = entry.uid // size
            session = owners.get(section) or self._owner(section)
            if session is not None:
                session.submit(entry)
            else:
                entry.fail(refused("NOT_OWNER", f"section {section} has no owner", ""))
        await future

    async def _insist(self, entries: list[Entry]) -> None:
        """Try again what failed, until all is answered or there is no hope or time left.

        No more than one attempt without a pause is due to any one table: what fails before anybody
        is asked would fail for ever in one turn of the loop.
        """
        attempt, hurried = 0, -1
        while failed := [entry for entry in entries if entry.failure is not None]:
            version = self._router.version
            pause_s = self._next_pause(failed, attempt, version > hurried)
            attempt += 1
            if not pause_s:
                hurried = version
            else:
                await self._pauses.until(self._now_s() + pause_s)
            if self._closed:
                raise _given_up(failed, CLOSED)
            last = [entry.failure for entry in failed]
            await self._attempt(failed)
            for entry, failure in zip(failed, last, strict=True):
                # A second attempt that never got out says less than the first one's refusal.
                if entry.failure is not None and entry.failure.reason == "TIMEOUT" and failure:
                    entry.failure = Failure(failure.reason, failure.text, failure.address)

    def _next_pause(self, failed: list[Entry], attempt: int, moved: bool) -> float:
        """Seconds until the next attempt; raises the first entry's error if there is to be none.

        moved: whether the sections may be elsewhere by now.
        """
        asked_s = 0.0
        for entry in failed:
            failure = entry.failure or _LATE
            if not failure.retry:
                raise error_of(entry, failure)
            if failure.reroute:
                self._finder.poke()
            asked_s = max(asked_s, failure.retry_after_s)
            moved = moved and self._router.owner(entry.section) not in (None, failure.address)
        first = failed[0]
        # Where the route has changed since, there is nothing to wait for.
        pause_s = 0.0 if moved else delay_s(attempt, random.random(), asked_s)
        if self._now_s() + pause_s >= first.deadline_s:
            raise error_of(first, first.failure or _LATE)
        return pause_s

    # --- routing

    def _owner(self, section: int) -> Session | None:
        address = self._router.owner(section)
        if address is None or self._closed:
            return None
        session = self._sessions.get(address)
        if session is None:
            session = self._sessions[address] = self._session(address)
        self._owners[section] = session
        return session

    def _session(self, address: str, channel: grpc.aio.Channel | None = None) -> Session:
        return Session(
            address,
            self._router,
            learn=self._learn,
            suspect=self._finder.poke,
            credentials=self._credentials,
            channel=channel,
            max_in_flight=self._max_in_flight,
            max_queue=self._max_queue,
        )

    def _follow(self, before: Session, channel: grpc.aio.Channel | None) -> bool:
        """See Renewal."""
        if self._sessions.get(before.address) is not before:
            return False
        after = self._sessions[before.address] = self._session(before.address, channel)
        self._owners.clear()
        self._retired.add(before)
        after.succeed(before)
        return True

    def _learn(self, message: alloc_pb2.RoutingTable) -> bool:
        """Install a table if it is newer; say so. Raises ForeignCluster, ValueError."""
        held = self._router.table
        if held and message.cluster == held.cluster and message.version <= held.version:
            return False  # not worth decoding
        table = table_from_wire(message)
        if not self._router.install(table):
            return False
        self._section_size = table.layout.section_size
        self._uid_limit = table.layout.uid_limit
        self._owners.clear()
        living = set(table.addresses())
        for address, session in list(self._sessions.items()):
            session.evict(partial(self._has_left, address))
            if address not in living:
                self._retired.add(self._sessions.pop(address))
                session.retire()
        return True

    def _has_left(self, address: str, section: int) -> bool:
        return self._router.owner(section) != address

    def _candidates(self) -> list[str]:
        table = self._router.table
        return [*self._seeds, *(table.addresses() if table else ())]

    def _hopeless(self, deadline_s: float) -> Failure | None:
        """Why there is no point in asking for a table once more; None: there is."""
        failure = self._finder.failure
        if self._closed:
            return CLOSED
        if self._now_s() >= deadline_s:
            return failure or _LATE
        return failure if failure is not None and not failure.retry else None

    # --- time and loop

    def _deadline(self, timeout: float | None) -> float:
        loop = asyncio.get_running_loop()
        if self._closed or self._bound_loop is not loop:
            self._bind()
        return loop.time() + (self._timeout_s if timeout is None else checked_timeout(timeout))

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _bind(self) -> None:
        """Belong to the loop that is running, from first use to the end."""
        running = asyncio.get_running_loop()
        if self._bound_loop is None:
            self._bound_loop = running
            self._renewal.start()
        elif self._bound_loop is not running:
            raise RuntimeError("an AsyncClient belongs to the event loop that used it first")
        if self._closed:
            raise error_for(CLOSED.reason, CLOSED.text)


_LATE = Failure("TIMEOUT", "no node answered in time")


def _given_up(entries: list[Entry], failure: Failure) -> SeqError:
    """Fail entries outside of any session; the error of the first one."""
    for entry in entries:
        entry.failure = failure
    return error_of(entries[0], failure)
