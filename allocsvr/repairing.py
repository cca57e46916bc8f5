"""Brings replicas level that have missed something, in the background.  Keeps NRW-1 and NRW-2.

The node compares, at the replicas that grant it leases, digests of the sections that it serves,
reads the records where those differ, waits, and reads them again. A replica that is still behind
what the first look found gets the greatest record that the second one found. A raise that was only
on its way has arrived by then, so a busy section is not copied again and again. Replicas that are
ejected, blank, foreign or corrupt grant nothing, so they are neither read nor written here.

Why no copy can break a promise, whenever it arrives, even long after its sender has lost the
section. Repair between replicas carries max_seq and the owner record, never promises
(docs/PROTOCOL.md, "StoreSvr"), and PutAtLeast only raises:

* max_seq is an upper bound. A greater one, also that of a raise which was never acknowledged, can
  at worst become a gap (SEQ-5). No window grows by it: windows grow by W acknowledgements of the
  owner's own raises (SEQ-3).
* Promises stay as they are, so what R replicas have refused they go on refusing (FENCE-1). A
  replica whose owner record is above its promise still takes raises of epochs that it has not
  promised away, and then keeps the greater owner.
* An owner record of epoch e exists only because the owner of e sent its first raise, before which
  it had fenced e and waited for the leases of all owners before. So whoever finds a copy of it may
  disregard those, as with the original (LEASE-1). A copy of a lower epoch changes no owner.
* "Released" is only added to the same owner at the same epoch, and that one has said it itself.
* A snapshot travels with the released record of its epoch. Where a later owner has been, W records
  have a greater epoch, R answers to a fence include one of them, and there the copy is refused and
  the snapshot is of another epoch than the one that counts.

A round is bounded: at most MAX_CHUNKS chunks are read, the rest has its turn in the next one; small
questions, one at a time per replica, with pauses, so that serving comes first at both ends.

Digests make a replica read all that it has. Once all replicas were found level, and as long as none
of them has failed to answer since the round before that, they have missed nothing; then only one
round in CALM_ROUNDS is held, against what no failure shows.
"""

import asyncio
import logging
import random
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from allocsvr.generation import Current
from allocsvr.ledger import Ledger
from allocsvr.metrics import Metrics
from allocsvr.replicas import Replicas, ReplicaTransport
from clustermap.clock import Clock
from clustermap.errors import ReplicaFailed
from clustermap.levelling import Records, batches, differing, goals, is_behind, windows
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

PERIOD_S = 10.0
CALM_ROUNDS = 6
SPAN = 512  # sections per question for digests: some 7 ms of the replica's time
CHUNK = 128  # sections per digest
MAX_CHUNKS = 128  # read per round
SECOND_LOOK_S = 1.0
PAUSE_S = 0.005

Goals = dict[int, pb.StoredRecord]

T = TypeVar("T")


class Repairing:
    """The repairs of one node. period_s: from round to round, jittered."""

    def __init__(
        self,
        clock: Clock,
        current: Current,
        ledger: Ledger,
        metrics: Metrics,
        period_s: float = PERIOD_S,
    ) -> None:
        self._clock = clock
        self._current = current
        self._asked = current()
        self._ledger = ledger
        self._metrics = metrics
        self._period_s = period_s
        self._second_look_s = min(SECOND_LOOK_S, period_s / 4)
        self._from = 0  # where the last round has left off
        self._failed: set[int] = set()
        self._known = -1  # Replicas.failures when the last round began
        self._level: int | None = None  # Replicas.failures when all were last found level

    async def run(self) -> None:
        """Rounds, until cancelled."""
        while True:
            for _ in range(CALM_ROUNDS):
                await self._clock.sleep(self._period_s * random.uniform(0.5, 1.0))
                if self._asked is not self._current() or self._level != self._replicas.failures:
                    break
            if len(self._current().replicas) > 1:
                await self.round()

    @property
    def _replicas(self) -> Replicas:
        return self._asked.replicas

    async def round(self) -> int:
        """Compare what is served here, and repair; returns how many records were raised."""
        if self._asked is not self._current():  # whose failures are counted from 0
            self._asked, self._known, self._level = self._current(), -1, None
        self._failed = set()
        before, self._known = self._known, self._replicas.failures
        suspects = await self._first_look()
        whole = len(self._replicas.granting) == len(self._replicas) and not self._from
        calm = whole and not suspects and before == self._known  # else others may write just now
        self._level = self._known if calm else None
        if suspects:
            await self._clock.sleep(self._second_look_s * random.uniform(0.5, 1.0))
        behind = await self._second_look(suspects)
        self._metrics.replicas_behind.set(len(behind))
        raised = 0
        for index, records in behind.items():
            raised += await self._put(index, records)
        return raised

    # -- looking -------------------------------------------------------------------------------

    async def _first_look(self) -> Goals:
        """What some replica seems to have missed."""
        served = self._served()
        at = bisect_left(served, self._from // SPAN * SPAN)  # no window is cut in two
        suspects: Goals = {}
        chunks = 0
        self._from = 0
        for first, last in windows(served[at:] + served[:at], SPAN):
            for start in await self._differing(first, last):
                end = min(start + CHUNK - 1, last)
                sections = self._served(start, end)
                if sections:
                    chunks += 1
                    suspects |= goals(await self._records(start, end), sections)
            if chunks >= MAX_CHUNKS:
                self._from = last + 1
                break
        return suspects

    async def _second_look(self, suspects: Goals) -> dict[int, list[pb.StoredRecord]]:
        """By replica: what it is to be raised to, having missed it for certain."""
        behind: dict[int, list[pb.StoredRecord]] = {}
        for first, last in windows(sorted(suspects), CHUNK):
            released = any(suspects[s].released for s in range(first, last + 1) if s in suspects)
            found = await self._by_replica(first, last, with_snapshots=released)
            now = goals(list(found.values()), self._served(first, last))
            for section, record in now.items():
                was = suspects.get(section)
                if was is None:
                    continue
                for index, records in found.items():
                    if is_behind(records.get(section), was):
                        behind.setdefault(index, []).append(record)
        return behind

    def _served(self, first: int = 0, last: int | None = None) -> list[int]:
        """Sections that are served here, in order."""
        held = self._ledger.sections
        wanted: Iterable[int] = sorted(held) if last is None else range(first, last + 1)
        return [s for s in wanted if (section := held.get(s)) is not None and section.serving]

    async def _differing(self, first: int, last: int) -> list[int]:
        """First sections of the chunks of first..last in which replicas differ."""
        request = pb.DigestRequest(header=self._asked.header, first=first, last=last, chunk=CHUNK)

        async def send(_: int, replica: ReplicaTransport) -> pb.DigestResponse:
            return await replica.digest(request)

        async def ask(index: int) -> Sequence[pb.ChunkDigest] | None:
            answer = await self._replicas.ask_one(index, send, self._replicas.quick_s)
            if isinstance(answer, ReplicaFailed):
                self._gave_up(index, answer)
                return None
            return answer.chunks

        return differing((await self._of_each(ask)).values())

    async def _records(self, first: int, last: int) -> list[Records]:
        return list((await self._by_replica(first, last, with_snapshots=False)).values())

    async def _by_replica(
        self, first: int, last: int, *, with_snapshots: bool
    ) -> dict[int, Records]:
        """The records of first..last at every replica that answers in full."""
        return await self._of_each(lambda i: self._scan(i, first, last, with_snapshots))

    async def _scan(
        self, index: int, first: int, last: int, with_snapshots: bool
    ) -> Records | None:
        found: dict[int, pb.StoredRecord] = {}
        while first <= last:
            request = pb.ScanRequest(
                header=self._asked.header,
                first=first,
                last=last,
                limit=CHUNK,
                with_snapshots=with_snapshots,
            )

            async def send(
                _: int, replica: ReplicaTransport, request: pb.ScanRequest = request
            ) -> pb.ScanResponse:
                return await replica.scan(request)

            answer = await self._replicas.ask_one(index, send, self._replicas.quick_s)
            if isinstance(answer, ReplicaFailed):
                self._gave_up(index, answer)
                return None
            found.update((record.section, record) for record in answer.records)
            if answer.next <= first:  # 0: that was all
                break
            first = answer.next
        return found

    async def _of_each(self, ask: Callable[[int], Coroutine[Any, Any, T | None]]) -> dict[int, T]:
        """What each replica in good standing answers; nothing where there is but one to ask."""
        asked = [index for index in self._replicas.granting if index not in self._failed]
        if len(asked) < 2:
            return {}
        async with asyncio.TaskGroup() as group:
            tasks = {index: group.create_task(ask(index)) for index in asked}
        await self._clock.sleep(PAUSE_S)
        answers = {index: task.result() for index, task in tasks.items()}
        return {index: answer for index, answer in answers.items() if answer is not None}

    def _gave_up(self, index: int, failed: ReplicaFailed) -> None:
        """No further question to it in this round."""
        self._failed.add(index)
        self._replicas.complain("repair_failed", index, failed)

    # -- repairing -----------------------------------------------------------------------------

    async def _put(self, index: int, records: list[pb.StoredRecord]) -> int:
        """Raise one replica; returns how many records rose."""
        raised = failed = 0
        for batch in batches(records):
            request = pb.PutAtLeastRequest(header=self._asked.header, records=batch)

            async def send(
                _: int, replica: ReplicaTransport, request: pb.PutAtLeastRequest = request
            ) -> pb.PutAtLeastResponse:
                return await replica.put_at_least(request)

            if index in self._failed:
                failed += len(batch)
                continue
            answer = await self._replicas.ask_one(index, send)
            if isinstance(answer, ReplicaFailed):
                self._gave_up(index, answer)
                failed += len(batch)
            else:
                raised += min(answer.raised, len(batch))
            await self._clock.sleep(PAUSE_S)
        needless = len(records) - raised - failed
        for outcome, count in (("raised", raised), ("needless", needless), ("failed", failed)):
            if count:
                self._metrics.repairs.labels(outcome).inc(count)
        first = records[0].section
        text = "event=replica_repaired replica=%d first=%d raised=%d needless=%d failed=%d"
        logger.info(text, index, first, raised, needless, failed)
        return raised
