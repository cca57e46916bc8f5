"""Tells the cluster map which epochs have to be outbid: docs/PROTOCOL.md, section 4, step 7.

Epochs are collected by section and written as floors, many in one change. What cannot be written is
kept and tried again: a floor that is lost would leave a section without an owner. A promise that is
the lawful successor's own is not reported, or the map would take the section from it again.
"""

import asyncio
import logging
import random
from collections.abc import Mapping

from allocsvr.winning import ranges
from clustermap import placement
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator
from clustermap.model import Assignments, Floor, assignments_key
from seqsvr.invariants import BrokenInvariant

logger = logging.getLogger(__name__)

RETRY_S = 0.25
MAX_RETRY_S = 10.0


class Reporting:
    """Floors of one Set, as one incarnation heard of them."""

    def __init__(
        self, clock: Clock, coordinator: Coordinator, set_name: str, incarnation: int
    ) -> None:
        self._clock = clock
        self._coordinator = coordinator
        self._key = assignments_key(set_name)
        self._incarnation = incarnation
        self._floors: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._retry_s = RETRY_S

    def report(self, promised: Mapping[int, int]) -> None:
        """section -> epoch that its next assignment must be above."""
        for section, epoch in promised.items():
            self._floors[section] = max(epoch, self._floors.get(section, 0))
        if promised:
            self._changed.set()

    async def report_later(self, spent: Mapping[int, int]) -> None:
        """The same for epochs that too few replicas have answered to, each time less in a hurry."""
        self._retry_s = min(self._retry_s * 2, MAX_RETRY_S)
        await self._clock.sleep(random.uniform(self._retry_s / 2, self._retry_s))
        self.report(spent)

    def calm(self) -> None:
        """The replicas do answer."""
        self._retry_s = RETRY_S

    async def run(self) -> None:
        """Write what is reported, until cancelled. No fault of the map's client ends it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            floors, self._floors = self._floors, {}
            try:
                done = await self._write(floors)
            except BrokenInvariant:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the node serves on
                logger.warning("event=floor_not_reported error=%r", error)
                done = False
            if not done:
                self.report(floors)
                await self._clock.sleep(random.uniform(RETRY_S / 2, RETRY_S))

    async def _write(self, floors: Mapping[int, int]) -> bool:
        """False: there is no document to write to, or it has just changed."""
        held = (await self._coordinator.get(self._key)).entries.get(self._key)
        if held is None:
            return False
        old = Assignments.from_json(held.value)
        told = {s: epoch for s, epoch in floors.items() if not self._is_successor(old, s, epoch)}
        new = placement.raise_floors(old, [Floor(*span) for span in ranges(sorted(told.items()))])
        if new is old:
            return True
        written = await self._coordinator.transact(
            {self._key: held.revision}, {self._key: new.to_json()}
        )
        return written is not None

    def _is_successor(self, document: Assignments, section: int, epoch: int) -> bool:
        owner = document.owner(section)
        return owner is not None and owner.incarnation != self._incarnation and owner.epoch >= epoch
