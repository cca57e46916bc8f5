"""The arbiter: stands for election for ever, and reigns while it leads.

Several may run; the map elects one, the others stand by. Nothing that serves a number waits for an
arbiter: while there is none, nothing is reassigned, and nothing else changes.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress

from arbitersvr.complaints import Complaints
from arbitersvr.jobs import Work
from arbitersvr.keeper import Options
from arbitersvr.metrics import Metrics
from arbitersvr.probe import Prober
from arbitersvr.reign import reign
from arbitersvr.tending import MAP_TIMEOUT_S, Office
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator, Leadership
from clustermap.errors import MapUnavailable
from clustermap.model import CLUSTER_KEY
from seqsvr.invariants import BrokenInvariant

ELECTION = "arbiter"
MAX_PROBES = 64
LOOK_S = 1.0
RESIGN_S = 2.0
_RETRY_S = 0.05
_MAX_RETRY_S = 1.0

_log = logging.getLogger(__name__)


class Arbiter:
    """Use `run` once.

    candidate: what others see of the one that leads, its address at best; kinds: who does the work
    of jobs, as Jobs wants it; without any, jobs end as failed.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        clock: Clock,
        prober: Prober,
        metrics: Metrics,
        options: Options,
        candidate: bytes,
        kinds: Mapping[str, Work] | None = None,
    ) -> None:
        self.reachable = asyncio.Event()
        self.leading = asyncio.Event()
        self._coordinator = coordinator
        self._clock = clock
        self._prober = prober
        self._metrics = metrics
        self._options = options
        self._candidate = candidate
        self._kinds = kinds or {}
        self._complaints = Complaints()

    async def run(self) -> None:
        """Until cancelled; then resigns, so that another one takes over at once.

        `reachable` is set while the map answers, `leading` while this one leads. Nothing but a
        broken invariant is raised, in an exception group.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_map())
            await self._stand()

    async def _stand(self) -> None:
        retry_s = _RETRY_S
        while True:
            try:
                leadership = await self._coordinator.elect(ELECTION, self._candidate)
                retry_s = _RETRY_S
                await self._lead(leadership)
                continue
            except MapUnavailable as error:
                self._complain("not_elected", error)
            except BrokenInvariant:
                raise
            except Exception as error:
                if _broken(error):
                    raise
                self._complain("reign_ended", error)
            await self._clock.sleep(random.uniform(retry_s / 2, retry_s))
            retry_s = min(2 * retry_s, _MAX_RETRY_S)

    async def _lead(self, leadership: Leadership) -> None:
        _log.info("event=elected key=%s revision=%d", leadership.key, leadership.revision)
        self.leading.set()
        self._metrics.lead(True)
        office = Office(
            leadership,
            self._coordinator,
            self._clock,
            self._prober,
            self._metrics,
            self._options,
            asyncio.Event(),
            asyncio.Semaphore(MAX_PROBES),
            self._complaints,
        )
        try:
            await reign(office, self._kinds)
        finally:
            self.leading.clear()
            self._metrics.lead(False)
            _log.info("event=reign_over key=%s", leadership.key)
            with suppress(MapUnavailable, TimeoutError):
                async with asyncio.timeout(RESIGN_S):
                    await leadership.resign()

    async def _watch_map(self) -> None:
        """Whether the map answers: for whoever asks about our health."""
        while True:
            try:
                async with asyncio.timeout(MAP_TIMEOUT_S):
                    await self._coordinator.get(CLUSTER_KEY)
                self.reachable.set()
            except (MapUnavailable, TimeoutError):
                self.reachable.clear()
            self._metrics.map_reachable.set(self.reachable.is_set())
            await self._clock.sleep(LOOK_S)

    def _complain(self, topic: str, error: Exception) -> None:
        known = isinstance(error, MapUnavailable)
        now_ns = self._clock.now_ns()
        self._complaints.tell(now_ns, topic, "-", repr(error), None if known else error)


def _broken(error: Exception) -> bool:
    group = error if isinstance(error, ExceptionGroup) else ExceptionGroup("", [error])
    return group.subgroup(BrokenInvariant) is not None
