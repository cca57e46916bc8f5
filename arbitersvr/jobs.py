"""Jobs at work: each unfinished one has a task of its own, as long as this arbiter leads.

    see(picture) --a job--> task: read the map -> one step of its work -> wait for news, or a while

A job's document is its journal. A step decides by the map as it was just read and by what replicas
say, and writes by transactions that expect the key of the election, the job's document as it was
read and whatever else it was decided on. So one who was deposed writes nothing, and neither does a
step whose job has been paused or aborted meanwhile: what the operator says is seen between any two
writes. Steps are idempotent, since nobody knows how far the arbiter before us has come.

Whatever a step fails with (the map, a replica, a fault of ours) is complained of and tried again
after a while, everything read anew. Only CannotBeDone ends a job: as FAILED, with its text as note.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from arbitersvr.tending import MAP_TIMEOUT_S, Office
from clustermap.coordinator import Versioned
from clustermap.errors import MapCorrupt, MapUnavailable, ReplicaFailed
from clustermap.jobs import ACTIVE, FINISHED, JOBS_PREFIX, Job, State, job_key
from seqsvr.invariants import BrokenInvariant

NOTE_NS = 10**9
"""A note alone is written once in this time at most."""
_RETRY_S = 0.05
_MAX_RETRY_S = 2.0
_CONFLICT_S = 0.01
_IDLE_S = 60.0

_log = logging.getLogger(__name__)


class CannotBeDone(Exception):
    """The job cannot go on, whatever is waited for; the text says why."""


class Outdated(Exception):
    """A transaction was refused: something that it rests on has changed. Read again."""


class Journal:
    """One job and the map, as just read; every write of a step goes through here.

    entries: the whole map; what is written here shows in it at once.
    """

    def __init__(self, name: str, office: Office) -> None:
        self.key = job_key(name)
        self.entries: dict[str, Versioned] = {}
        self._office = office
        self._job: Job | None = None
        self._noted_ns = 0

    @property
    def job(self) -> Job:
        """Raises MapUnavailable where the map has none: it was deleted, or was never read."""
        if self._job is None:
            raise MapUnavailable(f"the map has no {self.key!r}")
        return self._job

    @property
    def now_ns(self) -> int:
        return self._office.clock.now_ns()

    async def read(self) -> Job | None:
        """Read the map; None: the job is gone. Raises MapUnavailable, MapCorrupt, TimeoutError."""
        async with asyncio.timeout(MAP_TIMEOUT_S):
            listing = await self._office.coordinator.get("")
        leadership = self._office.leadership
        led = listing.entries.get(leadership.key)
        if led is None or led.revision != leadership.revision:
            self._office.deposed.set()
            raise MapUnavailable("somebody else was elected")
        self.entries = dict(listing.entries)
        held = self.entries.get(self.key)
        self._job = Job.from_json(held.value) if held is not None else None
        return self._job

    async def write(self, puts: Mapping[str, bytes], *others: str, job: Job | None = None) -> None:
        """One transaction; job: the next document, None: it stays.

        Expects what is put, and `others`, to stand as in `entries` (or not to be there, as there).
        Raises Outdated, and MapUnavailable and TimeoutError, after which the outcome is unknown.
        """
        office, whole = self._office, dict(puts)
        if job is not None and job != self.job:
            whole[self.key] = job.to_json()
        expected = {key: self.revision(key) for key in {*whole, *others, self.key}}
        expected[office.leadership.key] = office.leadership.revision
        outcome = "unknown"
        try:
            async with asyncio.timeout(MAP_TIMEOUT_S):
                revision = await office.coordinator.transact(expected, whole)
            outcome = "refused" if revision is None else "written"
        finally:
            office.metrics.changes.labels(outcome).inc()
        if revision is None:
            raise Outdated(f"{sorted(whole)} were refused")
        self.entries.update((key, Versioned(value, revision)) for key, value in whole.items())
        if job is not None:
            self._job = job

    def revision(self, key: str) -> int:
        """At which the key was last written; 0: it is not there."""
        held = self.entries.get(key)
        return held.revision if held is not None else 0

    async def end(self, state: State, note: str) -> None:
        """The job is done, aborted or failed."""
        job = replace(self.job, state=state, note=note)
        await self.write({}, job=job)
        _log.info("event=job_ended job=%s state=%s note=%r", job.id, state.value, note)

    async def tell(self, note: str) -> None:
        """Have the operator see what is done or waited for; not at once if told just now."""
        if note == self.job.note or self.now_ns - self._noted_ns < NOTE_NS:
            return
        self._noted_ns = self.now_ns
        await self.write({}, job=replace(self.job, note=note))


class Work(Protocol):
    """One kind of job."""

    async def step(self, journal: Journal) -> float:
        """Do one idempotent step of `journal.job`, which is ACTIVE; or PAUSED, if it is a move, and
        is to begin nothing then.

        Returns in how many seconds the next is worth trying, unless the map changes before. May
        raise what a map and replicas fail with, Outdated, and CannotBeDone. A step that waits for
        somebody is to return soon, since only the next one sees what the operator says.
        """
        ...


class Jobs:
    """All jobs of the map while this arbiter leads; their tasks run in `group`.

    kinds: who does the work, by the field of the document that says what it is (`move`, `reform`).
    """

    def __init__(self, office: Office, group: asyncio.TaskGroup, kinds: Mapping[str, Work]) -> None:
        self._office = office
        self._group = group
        self._kinds = kinds
        self._news: dict[str, asyncio.Event] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def see(self, picture: Mapping[str, Versioned]) -> None:
        """A picture of the whole map."""
        for name in (k.removeprefix(JOBS_PREFIX) for k in picture if k.startswith(JOBS_PREFIX)):
            running = self._running.get(name)
            if running is None or running.done():
                if _finished(picture[job_key(name)]):
                    continue
                self._news[name] = asyncio.Event()
                self._running[name] = self._group.create_task(self._run(name, self._news[name]))
        for news in self._news.values():
            news.set()

    async def _run(self, name: str, news: asyncio.Event) -> None:
        """Until the job is finished or gone, or we are cancelled."""
        journal, retry_s = Journal(name, self._office), _RETRY_S
        while True:
            news.clear()
            wait_s = random.uniform(retry_s / 2, retry_s)
            try:
                job = await journal.read()
                if job is None or job.state in FINISHED:
                    return
                wait_s, retry_s = await self._step(journal, job), _RETRY_S
                if wait_s <= 0.0:
                    continue
                await self._pause(news, wait_s)
                continue
            except Outdated:
                wait_s = random.uniform(_CONFLICT_S / 2, _CONFLICT_S)
            except (MapUnavailable, MapCorrupt, TimeoutError, ReplicaFailed) as error:
                self._complain(name, error, None)
                retry_s = min(2 * retry_s, _MAX_RETRY_S)
            except BrokenInvariant:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the Sets are tended on
                self._complain(name, error, error)
                retry_s = min(2 * retry_s, _MAX_RETRY_S)
            await self._office.clock.sleep(wait_s)

    async def _step(self, journal: Journal, job: Job) -> float:
        paused = job.state is State.PAUSED and job.move is not None
        if job.state not in ACTIVE and not paused:  # a paused move may have sections to give back
            return _IDLE_S
        try:
            work = self._kinds.get("move" if job.move is not None else "reform")
            if work is None:
                raise CannotBeDone("this version of the arbiter does not know how")
            return await work.step(journal)
        except CannotBeDone as error:
            await journal.end(State.FAILED, str(error))
            return 0.0

    async def _pause(self, news: asyncio.Event, seconds: float) -> None:
        """Until the map has changed, or so much time has passed."""
        waits = [
            asyncio.create_task(news.wait()),
            asyncio.create_task(self._office.clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.wait(waits)

    def _complain(self, name: str, error: Exception, trace: Exception | None) -> None:
        office = self._office
        office.complaints.tell(office.clock.now_ns(), "job_waits", name, repr(error), trace)


def _finished(held: Versioned) -> bool:
    try:
        return Job.from_json(held.value).state in FINISHED
    except MapCorrupt:
        return False  # its task complains
