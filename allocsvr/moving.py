"""Hands sections over as the map asks: docs/PROTOCOL.md, sections 5 and 7.

    map: leaving ----> stop ----> released at W, with counters ----> map: the successor's
          (serves on)       |<------------- the pause ------------->|

Chunk after chunk, so that a section is stopped only when its turn has come, and small ones, since a
whole chunk is as slow as its slowest section: as many sections at a time as take about AIM_S here,
which is about half of the pause. Obligations of order:

* Nothing is stopped unless the map has just been read: without it nobody could take over.
* A section is released before the map gives it away, so that its successor finds "released" and the
  counters (SEQ-5). If too few replicas took the release, the successor waits the lease out.
* Once stopped, a section is never served again at that epoch. So the map is told until it has been
  told, or until it says otherwise itself (intent.py: the epoch is spent all the same).

A section stays in the ledger, not serving, until the node sees in the map who has it now: callers
that ask for it meanwhile wait for that.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from allocsvr.ledger import Ledger
from allocsvr.section import Section, State
from allocsvr.winning import ranges
from clustermap import placement
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator
from clustermap.errors import MapUnavailable
from clustermap.model import Assignments, Floor, assignments_key
from clustermap.ranges import Range
from seqsvr.invariants import BrokenInvariant

logger = logging.getLogger(__name__)

MIN_SECTIONS = 64
FIRST_SECTIONS = 128
MAX_SECTIONS = 256
AIM_S = 0.05
# Counters are packed at about 50 us a page: this bounds what that adds to the pause.
MAX_PAGES = 256
RETRY_S = 0.25
CONFLICT_S = 0.005
MAP_TIMEOUT_S = 5.0
SETTLE_S = 1.0
REST_S = 0.01

Read = tuple[Assignments, int]  # the document, and its revision


class Moving:
    """The planned moves away from one incarnation."""

    def __init__(
        self,
        clock: Clock,
        coordinator: Coordinator,
        set_name: str,
        incarnation: int,
        ledger: Ledger,
        stop: Callable[[Sequence[Section]], None],
        release: Callable[[Sequence[Section]], Awaitable[None]],
        drop: Callable[[Sequence[Section]], None],
    ) -> None:
        """stop, release, drop: what the node does to sections of one chunk, in this order."""
        self._clock = clock
        self._coordinator = coordinator
        self._key = assignments_key(set_name)
        self._incarnation = incarnation
        self._ledger = ledger
        self._stop = stop
        self._release = release
        self._drop = drop
        self.leaving: dict[int, int] = {}  # section -> epoch, as the map was last seen
        self._size = FIRST_SECTIONS
        self._again_ns: dict[int, int] = {}  # not to be looked at before then
        self._asked = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended = False

    def ask(self, section: int, epoch: int) -> None:
        """The map wants this section released; it need not be held."""
        self.leaving[section] = epoch
        self._again_ns.pop(section, None)
        self._asked.set()

    def forget(self, section: int) -> None:
        """The map does not, or no longer."""
        if self.leaving.pop(section, 0):
            self._again_ns.pop(section, None)

    async def end(self) -> None:
        """Begin no more; returns once no release is in flight."""
        self._ended = True
        await self._idle.wait()

    async def run(self) -> None:
        """Move what is asked for, until cancelled. No fault of the map's client ends it."""
        failing = False
        while not self._ended:
            await self._asked.wait()
            if not self.leaving:
                self._asked.clear()
                continue
            start_ns = self._clock.now_ns()
            try:
                moved = await self._round()
                failing = False
            except BrokenInvariant:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the node serves on
                if not failing:  # once per outage
                    logger.warning(
                        "event=move_put_off sections=%d error=%r", len(self.leaving), error
                    )
                failing = True
                await self._clock.sleep(_jittered(RETRY_S))
                continue
            # Others have their turn, here and at the successor, which has this chunk to win.
            took_s = (self._clock.now_ns() - start_ns) / 1e9
            await self._clock.sleep(max(took_s / 2 if moved else 0.0, REST_S))

    async def _round(self) -> bool:
        """Move one chunk; False if there was none to be moved."""
        due = list(self._due())
        if not due:
            return False
        document, revision = await self._read()
        chunk = self._chunk(due, document)
        if not chunk or self._ended:
            return False
        live = [section for s in chunk if (section := self._live(s)) is not None]
        start_ns = self._clock.now_ns()
        self._idle.clear()
        try:
            self._stop(live)
            await self._release(live)
        finally:
            self._idle.set()
        await self._tell(chunk, (document, revision))
        self._learn((self._clock.now_ns() - start_ns) / 1e9, len(chunk))
        self._put_off([s for s, e in chunk.items() if self.leaving.get(s) == e], SETTLE_S)
        return True

    def _learn(self, took_s: float, sections: int) -> None:
        """How many sections to take at a time from now on."""
        if took_s > AIM_S:
            self._size = max(sections // 2, MIN_SECTIONS)
        elif sections == self._size and took_s < AIM_S / 2:
            self._size = min(self._size * 2, MAX_SECTIONS)

    def _due(self) -> Iterator[int]:
        """The next ones in turn. What the watch should long have shown is dropped without it."""
        now_ns, found = self._clock.now_ns(), 0
        overdue = []
        for section in self.leaving:
            again_ns = self._again_ns.get(section, 0)
            if again_ns > now_ns:
                continue
            held = self._ledger.sections.get(section)
            if again_ns and held is not None and held.state is State.LEAVING:
                overdue.append(held)
            yield section
            found += 1
            if found == self._size:
                break
        self._drop(overdue)

    def _chunk(self, due: Sequence[int], document: Assignments) -> dict[int, int]:
        """Those that the map, as just read, still wants moved; the others are looked at later."""
        chunk: dict[int, int] = {}
        later: list[int] = []
        pages = 0
        for s in due:
            epoch = self.leaving.get(s, 0)
            section = self._ledger.sections.get(s)
            if not self._leaves(document, s, epoch) or (section and section.epoch != epoch):
                later.append(s)
                continue
            if section is not None:
                pages += sum(1 for _ in section.pages())
            if chunk and pages > MAX_PAGES:
                break
            chunk[s] = epoch
        self._put_off(later, RETRY_S)
        return chunk

    async def _tell(self, chunk: Mapping[int, int], read: Read | None) -> None:
        """Have the map give the chunk to its successors, however long that takes."""
        failures = 0
        while not self._ended:
            try:
                async with asyncio.timeout(MAP_TIMEOUT_S):
                    document, revision = read or await self._read()
                    new = self._handed_over(document, chunk)
                    if new is document or await self._written(new, revision):
                        return
                failures, wait_s = 0, CONFLICT_S
            except BrokenInvariant:
                raise
            except Exception as error:  # noqa: BLE001 - these sections have stopped: no giving up
                failures, wait_s = failures + 1, RETRY_S
                if failures == 1:
                    logger.error("event=move_not_told sections=%d error=%r", len(chunk), error)
            read = None
            await self._clock.sleep(_jittered(wait_s))

    def _handed_over(self, document: Assignments, chunk: Mapping[int, int]) -> Assignments:
        """What the map should say; the document itself where it says so already."""
        floors: dict[int, int] = {}
        released: list[int] = []
        for s, epoch in sorted(chunk.items()):
            promised = self._ledger.promises.highest(s)
            if self._leaves(document, s, epoch):
                released.append(s)
                if promised > epoch:
                    floors[s] = promised
        spans = [Floor(*span) for span in ranges(floors.items())]
        raised = placement.raise_floors(document, spans)
        given = [Range(first, last) for first, last, _ in ranges((s, 0) for s in released)]
        return placement.hand_over(raised, given, self._incarnation)

    def _leaves(self, document: Assignments, section: int, epoch: int) -> bool:
        entry = document.owner(section)
        return (
            entry is not None
            and entry.leaving
            and (entry.incarnation, entry.epoch) == (self._incarnation, epoch)
        )

    def _live(self, section: int) -> Section | None:
        held = self._ledger.sections.get(section)
        live = held is not None and held.state in (State.SERVING, State.RAISING)
        return held if live else None

    def _put_off(self, sections: Sequence[int], seconds: float) -> None:
        again_ns = self._clock.now_ns() + int(seconds * 1e9)
        self._again_ns.update(dict.fromkeys(sections, again_ns))

    async def _read(self) -> Read:
        async with asyncio.timeout(MAP_TIMEOUT_S):
            held = (await self._coordinator.get(self._key)).entries.get(self._key)
        if held is None:
            raise MapUnavailable(f"the map has no {self._key!r}")
        return Assignments.from_json(held.value), held.revision

    async def _written(self, document: Assignments, revision: int) -> bool:
        puts: dict[str, bytes | None] = {self._key: document.to_json()}
        return await self._coordinator.transact({self._key: revision}, puts) is not None


def _jittered(seconds: float) -> float:
    return random.uniform(seconds / 2, seconds)
