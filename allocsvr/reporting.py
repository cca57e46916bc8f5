"""Tells the cluster map what it does not know, or has forgotten.

Floors: every promise that made us lose a section, or that stands against our next acquisition, is a
floor that the next assignment has to be above, or nobody could win it. A promise that is the lawful
successor's own is not reported, or the map would take the section from it again.

Claims: a map that was wiped, or is an older copy, has forgotten who serves. Whoever holds a section
under an epoch above all that the map knows of it writes that down again and serves on
(docs/PROTOCOL.md, section 5).

Version: such a map also counts its versions from an earlier one on, and no client would take its
routing tables, whose versions never fall (ROUTE-1). Whoever has seen a later one raises it.

Every write is decided from what it expects to stand there, many sections in one change. What cannot
be written is kept and tried again.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from allocsvr.winning import ranges
from clustermap import placement
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator
from clustermap.model import Assignment, Assignments, Floor, Owner, assignments_key
from seqsvr.invariants import BrokenInvariant

logger = logging.getLogger(__name__)

RETRY_S = 0.25
MAX_RETRY_S = 10.0
MAP_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _News:
    """What the map is yet to be told."""

    floors: dict[int, int] = field(default_factory=dict)
    claims: set[int] = field(default_factory=set)
    version: int = 0

    def add(self, other: "_News") -> None:
        for section, epoch in other.floors.items():
            self.floors[section] = max(epoch, self.floors.get(section, 0))
        self.claims |= other.claims
        self.version = max(self.version, other.version)


class Reporting:
    """Towards one Set's document, as one incarnation knows it.

    held_at: the epoch under which a section is held just now, 0 where it is not.
    """

    def __init__(
        self,
        clock: Clock,
        coordinator: Coordinator,
        set_name: str,
        owner: Owner,
        held_at: Callable[[int], int],
    ) -> None:
        self._clock = clock
        self._coordinator = coordinator
        self._key = assignments_key(set_name)
        self._owner = owner
        self._held_at = held_at
        self._news = _News()
        self._changed = asyncio.Event()
        self._retry_s = RETRY_S

    def report(self, promised: Mapping[int, int]) -> None:
        """section -> epoch that its next assignment must be above."""
        if promised:
            self._tell(_News(floors=dict(promised)))

    async def report_later(self, spent: Mapping[int, int]) -> None:
        """The same for epochs that too few replicas have answered to, each time less in a hurry."""
        self._retry_s = min(self._retry_s * 2, MAX_RETRY_S)
        await self._clock.sleep(random.uniform(self._retry_s / 2, self._retry_s))
        self.report(spent)

    def claim(self, sections: Iterable[int]) -> None:
        """Sections held under epochs that the map has forgotten."""
        if claims := set(sections):
            self._tell(_News(claims=claims))

    def raise_version(self, version: int) -> None:
        """What the version of the Set's document must be at least."""
        self._tell(_News(version=version))

    def calm(self) -> None:
        """The replicas do answer."""
        self._retry_s = RETRY_S

    async def run(self) -> None:
        """Write what is to be told, until cancelled. No fault of the map's client ends it."""
        failing = False
        while True:
            await self._changed.wait()
            self._changed.clear()
            news, self._news = self._news, _News()
            try:
                async with asyncio.timeout(MAP_TIMEOUT_S):
                    done = await self._write(news)
                failing = False
            except BrokenInvariant:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the node serves on
                if not failing:  # once per outage
                    logger.warning("event=map_not_told error=%r", error)
                done, failing = False, True
            if not done:
                self._tell(news)
                await self._clock.sleep(random.uniform(RETRY_S / 2, RETRY_S))

    def _tell(self, news: _News) -> None:
        self._news.add(news)
        self._changed.set()

    async def _write(self, news: _News) -> bool:
        """False: there is no document to write to, or it has just changed."""
        held = (await self._coordinator.get(self._key)).entries.get(self._key)
        if held is None:
            return False
        old = Assignments.from_json(held.value)
        new = self._decided(old, news)
        if new is old:
            return True
        written = await self._coordinator.transact(
            {self._key: held.revision}, {self._key: new.to_json()}
        )
        return written is not None

    def _decided(self, old: Assignments, news: _News) -> Assignments:
        claimed = placement.claim(old, self._claims(news.claims))
        if claimed is not old:
            logger.warning("event=map_had_forgotten set=%s", old.set)
        told = {s: e for s, e in news.floors.items() if not self._is_successor(claimed, s, e)}
        floors = [Floor(*span) for span in ranges(sorted(told.items()))]
        return placement.raise_version(placement.raise_floors(claimed, floors), news.version)

    def _claims(self, sections: Iterable[int]) -> list[Assignment]:
        """Those that are still held, under the epochs that they are held under by now."""
        epochs = ((section, self._held_at(section)) for section in sorted(sections))
        return [
            Assignment.to(self._owner, first, last, epoch)
            for first, last, epoch in ranges((s, epoch) for s, epoch in epochs if epoch)
        ]

    def _is_successor(self, document: Assignments, section: int, epoch: int) -> bool:
        owner = document.owner(section)
        return (
            owner is not None
            and owner.incarnation != self._owner.incarnation
            and owner.epoch >= epoch
        )
