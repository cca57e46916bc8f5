"""Gives sections up with their counters: docs/PROTOCOL.md, section 4, step 6, and section 7.

The sections have stopped serving and have no raise in flight, so the counters in a snapshot are the
last ones. A release that does not reach W replicas breaks nothing: the next owner waits the lease
out, or starts from the ceiling.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from allocsvr.generation import Current, Generation
from allocsvr.metrics import Metrics
from allocsvr.quorum import Outcome, Tally
from allocsvr.replicas import ReplicaTransport
from allocsvr.section import Section, State
from allocsvr.snapshot import encode
from clustermap.clock import Clock
from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

MAX_SECTIONS = 1024
MAX_BYTES = 2 << 20
CHANGES = 4  # attempts, if the membership changes meanwhile
CHANGE_S = 0.5
CHANGE_TURNS = 50


class Releasing:
    """Releases of one incarnation."""

    def __init__(
        self,
        clock: Clock,
        current: Current,
        incarnation: int,
        on_promise: Callable[[int, int, int], None],
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._current = current
        self._incarnation = incarnation
        self._on_promise = on_promise
        self._metrics = metrics

    async def release(self, sections: Sequence[Section]) -> None:
        """Returns once each request is decided; what failed is logged."""
        async for chunk in self._chunks(sections):
            released = await self._repeatedly(chunk)
            abandoned = len(chunk) - released
            self._metrics.epoch_changes.labels("released").inc(released)
            if abandoned:
                self._metrics.epoch_changes.labels("abandoned").inc(abandoned)
                logger.warning(
                    "event=release_failed sections=%d first=%d", abandoned, chunk[0].section
                )

    async def _chunks(self, sections: Sequence[Section]) -> AsyncIterator[list[pb.ReleaseEntry]]:
        chunk: list[pb.ReleaseEntry] = []
        size = 0
        for section in sections:
            if section.state is not State.LEAVING:
                continue  # it was lost meanwhile, and its counters with it
            entry = pb.ReleaseEntry(
                section=section.id, epoch=section.epoch, snapshot=encode(section)
            )
            if chunk and (len(chunk) == MAX_SECTIONS or size + len(entry.snapshot) > MAX_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(entry)
            size += len(entry.snapshot)
            if section.touched:
                await asyncio.sleep(0)  # a full one takes milliseconds: others have their turn
        if chunk:
            yield chunk

    async def _repeatedly(self, chunk: list[pb.ReleaseEntry]) -> int:
        """How many sections W replicas have marked as released, under one membership or the next.

        Repeating a release is no refusal. Nothing but a change of the membership is waited for.
        """
        for _ in range(CHANGES):
            asked = self._current()
            released, changing = await self._release(chunk, asked)
            if released == len(chunk) or not changing:
                break
            await self._changed(asked)
        return released

    async def _changed(self, asked: Generation) -> None:
        """Return once another membership is in use, or when it is time to ask again."""
        for _ in range(CHANGE_TURNS):
            if self._current() is not asked:
                return
            await self._clock.sleep(CHANGE_S / CHANGE_TURNS)

    async def _release(self, chunk: list[pb.ReleaseEntry], asked: Generation) -> tuple[int, bool]:
        """How many W replicas have released, and whether any had another membership."""
        request = pb.ReleaseRequest(
            header=asked.header, incarnation=self._incarnation, entries=chunk
        )
        tallies = {e.section: Tally(asked.write) for e in chunk}
        decided = asyncio.Event()
        changing = False

        async def send(_: int, replica: ReplicaTransport) -> pb.ReleaseResponse:
            return await replica.release(request)

        def on_answer(index: int, answer: pb.ReleaseResponse | ReplicaFailed) -> None:
            nonlocal changing
            refused: set[int] = set()
            if isinstance(answer, ReplicaFailed):
                changing = changing or answer.reason == "MEMBERSHIP"
                asked.replicas.complain("release_failed", index, answer)
                refused = set(tallies)
            else:
                for entry in answer.refused:
                    refused.update(range(entry.first, entry.last + 1))
                    self._on_promise(entry.first, entry.last, entry.epoch)
            outcomes = {t.vote(index, s not in refused) for s, t in tallies.items()}
            if Outcome.PENDING not in outcomes:
                decided.set()

        asked.replicas.ask(send, on_answer)
        await decided.wait()
        return sum(tally.outcome is Outcome.WON for tally in tallies.values()), changing
