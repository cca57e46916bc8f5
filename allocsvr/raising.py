"""Raises max_seq of hungry sections in the background.  Keeps SEQ-3 and NRW-1.

One raise in flight per section, many sections in one request, several requests on their way. A
section's window grows only once W replicas have acknowledged its target; whatever a straggler says
later changes nothing. A raise that too few replicas acknowledged may or may not have happened, so
it is asked for again, with back-off, as long as the section is ours. A raise is counted under the
membership under which it was sent; only a first one must be that of the section's fence, or the
section is to be won anew (rule 4 of clustermap/membership.py).

A request costs each replica a commit, whatever it holds. So what got hungry goes at once only if
nothing went just before; else together, PACE_S after that, or when it fills a request. It can wait
that long, since half a window is left. Where there is none left, everything goes at once.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

from allocsvr.generation import Current, Generation
from allocsvr.metrics import Metrics
from allocsvr.quorum import Ballot, Outcome
from allocsvr.replicas import ReplicaTransport
from allocsvr.section import Section, State
from clustermap.clock import Clock
from clustermap.errors import ReplicaFailed
from seqsvr import tracing
from seqsvr.v1 import store_pb2 as pb

MAX_SECTIONS = 4096
MAX_FLIGHTS = 16
PACE_S = 0.01
RETRY_S = 0.05
MAX_RETRY_S = 0.5

_DECIDED = (Outcome.WON, Outcome.LOST)
_OURS = (State.RAISING, State.SERVING)


class _Flight:
    """One request to all replicas, and what is still undecided of it."""

    __slots__ = ("ballot", "sections", "sent_ns")

    def __init__(self, sections: Iterable[tuple[Section, int]], asked: Generation, now_ns: int):
        self.sections = {section.id: (section, target) for section, target in sections}
        self.ballot = Ballot(self.sections, asked.write)
        self.sent_ns = now_ns


class Raising:
    """The raises of one node. `want` a section, and `on_raised` says when its window has grown."""

    def __init__(
        self,
        clock: Clock,
        current: Current,
        incarnation: int,
        on_raised: Callable[[Section, int], None],
        on_promise: Callable[[int, int, int], None],
        on_outdone: Callable[[Section], None],
        on_overtaken: Callable[[list[Section]], None],
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._current = current
        self._incarnation = incarnation
        self._on_raised = on_raised
        self._on_promise = on_promise
        self._on_outdone = on_outdone
        self._on_overtaken = on_overtaken
        self._metrics = metrics
        self._pending: dict[Section, None] = {}
        self._flying: dict[Section, None] = {}
        self._flights = 0
        self._backoff_s = 0.0
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._sent_ns = 0
        self._counts = {outcome: metrics.raises.labels(outcome.value) for outcome in _DECIDED}

    def want(self, section: Section) -> None:
        """Ask for a raise. One that is pending or in flight is not asked for twice."""
        if section not in self._flying:
            self._pending[section] = None
            self._changed.set()
        full = len(self._pending) >= MAX_SECTIONS
        if full or section.state is State.RAISING or not section.window:
            self._hurry.set()

    def hurry(self) -> None:
        """Somebody waits for what is pending."""
        if self._pending:
            self._hurry.set()

    def calm(self) -> None:
        """Another membership is in use: what failed under the one before says nothing of it."""
        self._backoff_s = 0.0

    async def run(self) -> None:
        """Send what is wanted, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._backoff_s:
                await self._clock.sleep(random.uniform(self._backoff_s / 2, self._backoff_s))
            elif 0 < len(self._pending) < MAX_SECTIONS:
                await self._gather()
            # No more than was wanted when the pause ended: what fails at once waits for the next.
            for _ in range(0, len(self._pending), MAX_SECTIONS):
                if self._flights >= MAX_FLIGHTS:
                    break
                self._launch()
                await self._clock.sleep(0)  # thousands of sections at a start: others have a turn

    async def quiesce(self, sections: Iterable[Section]) -> None:
        """Return once none of these sections has a raise in flight."""
        left = set(sections)
        for section in left:
            self._pending.pop(section, None)
        while not left.isdisjoint(self._flying):
            await self._clock.sleep(0.001)

    async def _gather(self) -> None:
        """Until PACE_S after the last request, or until some section is in a hurry."""
        passed_s = (self._clock.now_ns() - self._sent_ns) / 1e9
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(PACE_S - passed_s, 0.0), PACE_S)):
                await self._hurry.wait()
        self._hurry.clear()

    def _launch(self) -> None:
        now_ns = self._clock.now_ns()
        first = list(islice(self._pending, MAX_SECTIONS))
        for section in first:
            del self._pending[section]
        asked = self._current()
        overtaken = [
            section
            for section in first
            if section.state is State.RAISING and section.membership != asked.version
        ]
        if overtaken:
            self._on_overtaken(overtaken)  # which loses them
        batch = [(section, section.target(now_ns)) for section in first if section.state in _OURS]
        if not batch:
            return
        flight = _Flight(batch, asked, now_ns)
        self._flying.update((section, None) for section, _ in batch)
        self._flights += 1
        self._sent_ns = now_ns
        request = pb.RaiseRequest(header=asked.header, incarnation=self._incarnation)
        add = request.entries.add
        for section, target in batch:
            add(section=section.id, epoch=section.epoch, max_seq=target)

        async def send(_: int, replica: ReplicaTransport) -> pb.RaiseResponse:
            with tracing.span("seqsvr.raise", sections=len(batch)):
                return await replica.raise_max(request)

        def on_answer(index: int, answer: pb.RaiseResponse | ReplicaFailed) -> None:
            if isinstance(answer, ReplicaFailed):
                asked.replicas.complain("raise_failed", index, answer)
            self._answered(flight, index, answer)

        asked.replicas.ask(send, on_answer)

    def _answered(
        self, flight: _Flight, index: int, answer: pb.RaiseResponse | ReplicaFailed
    ) -> None:
        refused: dict[int, int] = {}
        if not isinstance(answer, ReplicaFailed):
            for entry in answer.refused:
                refused |= dict.fromkeys(range(entry.first, entry.last + 1), entry.epoch)
                self._on_promise(entry.first, entry.last, entry.epoch)
        if flight.ballot.decided:
            return
        decided = flight.ballot.vote(index, not isinstance(answer, ReplicaFailed), refused.keys())
        won = 0
        for number, outcome in decided:
            section, target = flight.sections[number]
            self._decided(section, target, outcome)
            if outcome is Outcome.WON:
                won += 1
            elif refused.get(number, 0) >= section.epoch:  # below it: an old seal, soon repaired
                self._outdone(section)
        self._counts[Outcome.WON].inc(won)
        self._counts[Outcome.LOST].inc(len(decided) - won)
        if flight.ballot.decided:
            self._flights -= 1
            seconds = (self._clock.now_ns() - flight.sent_ns) / 1e9
            self._metrics.raise_seconds.observe(seconds)
            self._changed.set()

    def _outdone(self, section: Section) -> None:
        if section.state in _OURS:
            self._pending.pop(section, None)
            self._on_outdone(section)

    def _decided(self, section: Section, target: int, outcome: Outcome) -> None:
        del self._flying[section]
        if outcome is Outcome.WON:
            self._backoff_s = 0.0
            self._on_raised(section, target)
            return
        if section.state in _OURS:
            self._backoff_s = min(max(self._backoff_s * 2, RETRY_S), MAX_RETRY_S)
            self.want(section)
