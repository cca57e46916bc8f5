"""Moves sections from one Set to another, chunk by chunk: docs/PROTOCOL.md, section 7.

Everything is one step, `settle`: a chunk that the job has, of the Set `home`, ends with the Set
`dest`, and the other Set of the two can win it no more. It serves for going on and for taking back,
for the first time and after any crash; only who is `dest` differs (source for an abort, else
target).

    1. the map gives the chunk to the job at an epoch e (clustermap.switching), its owner having
       released it with its counters, or having died, or been refused
    2. fence at e, through seals, in both Sets; wait out whoever has not released
    3. seal at e at W of the other Set
    4. write whole records at `dest` (the job's, released, epoch e, the greatest max_seq, the last
       owner's counters tagged e)
    5. one transaction: the spec of `home` loses the chunk and that of `dest` gains it, floors e,
       entries of a node of `dest` at e + 1
    6. that node wins the chunk as any other, and finds "released" and counters of epoch e

Why at most one Set can serve a section, whatever the map says and wherever we stop:

* Call a Set *open* for a section if some R of its replicas would grant some fence of a node. A Set
  is closed from the W-th seal at e on: any R replicas meet one that is sealed and refuses every
  epoch. That is final but for records of an owner_epoch above e, and only step 4 of a later settle
  with this Set as `dest` writes those: its nodes can raise nothing, since a raise needs a fence
  granted before, at an epoch above e, by R replicas, of which one has sealed at e later, which it
  refuses below its promise. (LEASE-1, SEQ-2; FENCE-1 in both Sets by the same rule.)
* Before step 3 nothing has changed but promises: `home` is as open as it was, and the other as
  closed. Step 4 opens `dest` only after the other one was closed by step 3, and after every earlier
  owner's lease has run out by step 2. Nobody serves between; so at no instant two Sets are open
  that both were not before.
* A Set that never had the section is not closed; it is blank, and a map that was never written by
  anybody (one that gives it a section that no job brought there) is not guarded against here.
* max_seq of the records is the greatest of R of either Set, taken after fences at e: no raise below
  e is acknowledged later. So SEQ-1 and SEQ-3 hold for what `dest` hands out; and counters are taken
  over only from the last owner of all, who has released.

Redo. A step may have happened, in part or in whole, or may yet happen: a message of ours, or of an
arbiter that was deposed, may arrive at any later time. Each redo has a new epoch e' > e: a fence of
e was granted by more than half, so it is granted to nobody twice, and e is never used for another
attempt. Late messages carry e at most, and change nothing that counts: a late fence or seal is
refused where e' is promised, which is at R replicas of both Sets; so at most N - R can be sealed by
it, and these are not needed by anybody (records are written at R or more). A late record of e
merges below the owner_epoch e' of a newer one, and where the Set has been sealed at e' since, it
stays sealed. Late transactions expect the key of the election, and the job as it was.

A job that is paused ends the chunk under way, which is stopped, and begins no other.

So redo, abort at any step and moving back are all a settle at a higher epoch, and A -> B -> A works
since epochs rise: the records that bring it back are above the seal. A move that is paused brings
the chunk that it is at to its end, since nobody serves it meanwhile, and begins no other. A chunk
whose owner has not stopped by the time of the abort is settled to where it came from, too: it may
stop at any instant.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from arbitersvr import asking
from arbitersvr.jobs import CannotBeDone, Journal
from arbitersvr.settling import Found, Inquiry, Outcome, combined
from arbitersvr.stores import Connect, Store, Stores, connecting
from clustermap.clock import Clock
from clustermap.coordinator import Versioned
from clustermap.documents import hex64
from clustermap.drift import MAX_DRIFT
from clustermap.errors import MapCorrupt, MapUnavailable, ReplicaFailed
from clustermap.jobs import Job, Move, State
from clustermap.model import (
    CLUSTER_KEY,
    Assignments,
    Cluster,
    SetSpec,
    assignments_key,
    nodes_prefix,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from clustermap.spans import overlaps, union
from clustermap.switching import (
    Home,
    claimed,
    epochs,
    next_chunk,
    spent,
    switched,
    under_way,
)

FIRST_SECTIONS = 16
MIN_SECTIONS = 4
MAX_SECTIONS = 1024
AIM_S = 0.1
"""From asking the owners of a chunk to release it, until it is served again."""
POLL_S = 0.005
WATCH_NS = 100_000_000
"""For as long a step waits for a chunk to be served: what the operator says is seen after it."""
IDLE_S = 1.0
NOWHERE = "nowhere:0"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """What is known of one job besides the map. All of it may be lost.

    tried: section -> epoch that was fenced, so is not to be fenced again; handed: section -> epoch,
    of the last chunk, until its new owners serve it.
    """

    size: int = FIRST_SECTIONS
    begun_ns: int = 0
    tried: dict[int, int] = field(default_factory=dict)
    handed: dict[int, int] = field(default_factory=dict)
    handed_to: str = ""


@dataclass(frozen=True, slots=True)
class _Scene:
    """The map as the step reads it."""

    job: Job
    move: Move
    cluster: Cluster
    homes: Mapping[str, Home]

    @property
    def dest(self) -> str:
        aborting = self.job.state is State.ABORTING
        return self.move.source if aborting else self.move.target

    @property
    def other(self) -> str:
        return self.move.target if self.dest == self.move.source else self.move.source


class Overtaken(Exception):
    """Some replica has promised more, or the epoch is spent; a higher one has been written down."""


class MovingSets:
    """arbitersvr.jobs.Work of moves. connect: to a replica's address."""

    def __init__(
        self, clock: Clock, connect: Connect | None = None, max_drift: float = MAX_DRIFT
    ) -> None:
        self._clock = clock
        self._connect = connect or connecting()
        self._max_drift = max_drift
        self._progress: dict[str, _Progress] = {}
        self._stores: dict[str, Store] = {}
        self._late: set[asyncio.Task[object]] = set()

    async def aclose(self) -> None:
        """Close all connections, under stragglers too."""
        stores, self._stores = self._stores, {}
        for store in stores.values():
            await store.aclose()

    async def step(self, journal: Journal) -> float:
        scene = _scene(journal)
        for home in scene.homes.values():
            if home.spec.joint is not None or home.spec.learners:
                await journal.tell(f"waits for the replicas of Set {home.spec.name} to be changed")
                return IDLE_S
        progress = self._progress.setdefault(scene.job.id, _Progress())
        if progress.handed_to != scene.dest:  # turned round: what that Set makes of it is all one
            progress.handed.clear()
        if progress.handed and not await self._soon_taken_over(scene, progress):
            await journal.tell(f"waits for Set {progress.handed_to} to serve what it was given")
            return POLL_S
        for name in (scene.other, scene.dest):
            chunk = under_way(scene.homes[name].assignments, scene.move.incarnation)
            if chunk:
                return await self._go_on(journal, scene, progress, name, chunk)
        return await self._begin(journal, scene, progress)

    # -- one chunk after the other -------------------------------------------------------------

    async def _begin(self, journal: Journal, scene: _Scene, progress: _Progress) -> float:
        """Ask for the next chunk; or there is none, and the job is done."""
        home, move = scene.homes[scene.other], scene.move
        chunk: list[Range] = []
        if scene.job.state is State.PAUSED:
            return IDLE_S
        if scene.job.state is State.RUNNING or move.undo:
            chunk = next_chunk(home.spec, move.ranges, max(1, min(progress.size, move.chunk)))
        if not chunk:
            await self._end(journal, scene)
            return 0.0
        if not willing(journal.entries, scene.dest):
            await journal.tell(f"waits for a node of Set {scene.dest}")
            return IDLE_S
        progress.begun_ns = self._clock.now_ns()
        await self._claim(journal, scene, scene.other, home.assignments, chunk)
        return POLL_S

    async def _end(self, journal: Journal, scene: _Scene) -> None:
        self._progress.pop(scene.job.id, None)
        moved = _shared(scene.homes[scene.move.target].spec.ranges, scene.move.ranges)
        if scene.job.state is State.ABORTING:
            note = f"{moved} sections are with Set {scene.move.target}"
            await journal.end(State.ABORTED, note)
        elif moved < scene.move.sections:
            strange = scene.move.sections - moved
            raise CannotBeDone(f"{strange} sections are in neither of the two Sets")
        else:
            await journal.end(State.DONE, f"{moved} sections moved")

    async def _claim(
        self, journal: Journal, scene: _Scene, name: str, old: Assignments, chunk: Sequence[Range]
    ) -> bool:
        """Have the map give the chunk to the job, as far as that can be; False: it says so."""
        known = [node.address for node in willing(journal.entries, scene.dest)]
        new = claimed(old, chunk, scene.move.incarnation, known[0] if known else NOWHERE)
        if new is scene.homes[name].assignments:
            return False
        await journal.write({assignments_key(name): new.to_json()}, set_key(name))
        return True

    async def _go_on(
        self,
        journal: Journal,
        scene: _Scene,
        progress: _Progress,
        name: str,
        chunk: Sequence[Range],
    ) -> float:
        """The next step of the chunk under way, which the map has in the Set `name`."""
        old = scene.homes[name].assignments
        if await self._claim(journal, scene, name, old, chunk):
            return POLL_S
        won = epochs(old, chunk, scene.move.incarnation)
        if won is None:
            await journal.tell(f"waits for the release of sections of Set {name}")
            return IDLE_S
        again = {s: e for s, e in won.items() if progress.tried.get(s) == e}
        if again:
            await self._claim(journal, scene, name, spent(old, again), chunk)
            return 0.0
        progress.tried.update(won)
        try:
            await self._settle(journal, scene, progress, name, won)
        except Overtaken:
            return 0.0
        return 0.0

    async def _soon_taken_over(self, scene: _Scene, progress: _Progress) -> bool:
        """Ask for WATCH_NS: replicas alone, since all of the map is read before each step."""
        until_ns = self._clock.now_ns() + WATCH_NS
        while not (done := await self._taken_over(scene, progress)):
            if self._clock.now_ns() >= until_ns:
                break
            await self._clock.sleep(POLL_S)
        return done

    async def _taken_over(self, scene: _Scene, progress: _Progress) -> bool:
        """Whether the last chunk is served again; asks one replica after the other."""
        stores = self._of(scene, progress.handed_to)
        left = progress.handed
        for index in range(len(stores.spec.replicas)):
            for record in await asking.records(stores, index, left, with_snapshots=False):
                if record.owner_epoch > left.get(record.section, record.owner_epoch):
                    del left[record.section]
            if not left:
                break
        if left:
            return False
        if progress.begun_ns:
            self._learn(progress, (self._clock.now_ns() - progress.begun_ns) / 1e9)
        return True

    @staticmethod
    def _learn(progress: _Progress, took_s: float) -> None:
        """How many sections to take at a time from now on."""
        progress.begun_ns = 0
        if took_s > AIM_S:
            progress.size = max(progress.size // 2, MIN_SECTIONS)
        elif took_s < AIM_S / 2:
            progress.size = min(progress.size * 2, MAX_SECTIONS)

    # -- settling ------------------------------------------------------------------------------

    async def _settle(
        self,
        journal: Journal,
        scene: _Scene,
        progress: _Progress,
        name: str,
        won: Mapping[int, int],
    ) -> None:
        """Steps 2 to 5. Raises Overtaken, ReplicaFailed where too few replicas answer."""
        dest, other = self._of(scene, scene.dest), self._of(scene, scene.other)
        job = scene.move.incarnation
        inquiries = [
            Inquiry(stores.spec.name, won, stores.spec.quorum, job, self._max_drift)
            for stores in (dest, other)
        ]
        async with asyncio.TaskGroup() as group:
            for stores, inquiry in zip((dest, other), inquiries, strict=True):
                group.create_task(asking.fence(self._clock, stores, inquiry, won))
        refused: dict[int, int] = {}
        for inquiry in inquiries:
            for section, promised in inquiry.refused.items():
                refused[section] = max(promised, refused.get(section, 0))
        for inquiry in inquiries:
            if inquiry.outcome is not Outcome.WON:
                await self._outbid(journal, scene, name, won, refused)
        found = [combined(*both) for both in zip(*(i.found() for i in inquiries), strict=True)]
        await self._wait(found)
        refused = await asking.seal(other, won)
        if refused:
            await self._outbid(journal, scene, name, won, refused)
        left = await asking.counters({s.spec.name: s for s in (dest, other)}, found)
        whole = [
            asking.record(one, won[one.section], job, left.get(one.section, b"")) for one in found
        ]
        await asking.put(dest, whole)
        await self._switch(journal, scene, progress, name, won)

    async def _outbid(
        self,
        journal: Journal,
        scene: _Scene,
        name: str,
        won: Mapping[int, int],
        refused: Mapping[int, int],
    ) -> None:
        """Take a new epoch, above all that was promised; always raises."""
        if not refused:
            raise ReplicaFailed("UNREACHABLE", "too few replicas answer in both Sets")
        above = {section: max(epoch, refused.get(section, 0)) for section, epoch in won.items()}
        old = spent(scene.homes[name].assignments, above)
        await self._claim(journal, scene, name, old, union(Range(s, s) for s in won))
        raise Overtaken(f"{len(refused)} sections are promised to higher epochs")

    async def _wait(self, found: Iterable[Found]) -> None:
        """Until no earlier owner can serve any more."""
        until_ns = max(one.until_ns for one in found)
        while (left_ns := until_ns - self._clock.now_ns()) > 0:
            await self._clock.sleep(left_ns / 1e9)

    async def _switch(
        self,
        journal: Journal,
        scene: _Scene,
        progress: _Progress,
        name: str,
        won: Mapping[int, int],
    ) -> None:
        """Step 5: everything in one transaction."""
        home, dest = scene.homes[name], scene.homes[scene.dest]
        nodes = [node.owner for node in willing(journal.entries, scene.dest)]
        left, gained = switched(home, dest, won, nodes)
        puts = {assignments_key(scene.dest): gained.assignments.to_json()}
        if name != scene.dest:
            puts[assignments_key(name)] = left.assignments.to_json()
            puts[set_key(name)] = left.spec.to_json()
            puts[set_key(scene.dest)] = gained.spec.to_json()
        move, there = scene.move, scene.homes[scene.move.target].spec
        if name != scene.dest:
            there = gained.spec if scene.dest == move.target else left.spec
        moved = _shared(there.ranges, move.ranges)
        job = replace(scene.job, move=replace(move, moved=moved), note=f"{moved} sections moved")
        await journal.write(puts, set_key(name), set_key(scene.dest), job=job)
        _log.info(
            "event=sections_settled job=%s set=%s sections=%d by=%s",
            scene.job.id,
            scene.dest,
            len(won),
            hex64(move.incarnation),
        )
        progress.tried.clear()
        if nodes:
            progress.handed, progress.handed_to = dict(won), scene.dest

    def _of(self, scene: _Scene, name: str) -> Stores:
        spec = scene.homes[name].spec
        stores = []
        for replica in spec.replicas:
            if replica.address not in self._stores:
                self._stores[replica.address] = self._connect(replica.address)
            stores.append(self._stores[replica.address])
        return Stores(scene.cluster, spec, stores, self._late)


def willing(entries: Mapping[str, Versioned], name: str) -> list[Node]:
    """The registered nodes of a Set that may be given sections, in an order that does not change.

    What cannot be read is not counted: whoever tends the Set complains of it.
    """
    prefix, found = nodes_prefix(name), []
    for key in sorted(key for key in entries if key.startswith(prefix)):
        with suppress(MapCorrupt):
            node = Node.from_json(entries[key].value)
            if node.leased and not node.draining:
                found.append(node)
    return found


def _scene(journal: Journal) -> _Scene:
    """Raises CannotBeDone where a Set is missing, MapCorrupt, MapUnavailable."""
    job, entries = journal.job, journal.entries
    if job.move is None or CLUSTER_KEY not in entries:
        raise MapUnavailable("the map says neither what is to be moved nor of which cluster")
    homes = {}
    for name in (job.move.source, job.move.target):
        spec, held = entries.get(set_key(name)), entries.get(assignments_key(name))
        if spec is None or held is None:
            raise CannotBeDone(f"the map has no Set {name!r}")
        homes[name] = Home(SetSpec.from_json(spec.value), Assignments.from_json(held.value))
    return _Scene(job, job.move, Cluster.from_json(entries[CLUSTER_KEY].value), homes)


def _shared(some: Sequence[Range], others: Sequence[Range]) -> int:
    """How many sections are in both."""
    return sum(last - first + 1 for _, _, first, last in overlaps(some, others))
