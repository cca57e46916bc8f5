"""One Set, cared for by the arbiter that leads: the shell around a keeper.

It acts on every piece of news at once (a picture of the map, the end of a probe), and on its own
account once per round. Every write expects the key of the election: one who has been deposed and
does not know writes nothing. A write that is refused, or whose outcome is not known, is followed by
reading everything again before anything else is decided; who finds then that somebody else was
elected steps down.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass

from arbitersvr.complaints import Complaints
from arbitersvr.detection import Outcome, Probe
from arbitersvr.keeper import Change, Keeper, Options
from arbitersvr.metrics import Metrics
from arbitersvr.probe import Prober
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator, Leadership, Versioned
from clustermap.documents import hex64
from clustermap.errors import MapCorrupt, MapUnavailable
from seqsvr.invariants import BrokenInvariant

MAP_TIMEOUT_S = 5.0
_RETRY_S = 0.01
_MAX_RETRY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Office:
    """What an arbiter works with while it leads. deposed: to be set by who finds that out."""

    leadership: Leadership
    coordinator: Coordinator
    clock: Clock
    prober: Prober
    metrics: Metrics
    options: Options
    deposed: asyncio.Event
    slots: asyncio.Semaphore
    complaints: Complaints


class Tending:
    """Use `run` once, as a task of `group`, where its probes run too."""

    def __init__(self, name: str, office: Office, group: asyncio.TaskGroup) -> None:
        self._keeper = Keeper(name, office.options)
        self._office = office
        self._group = group
        self._news = asyncio.Event()
        self._given_up: frozenset[int] = frozenset()
        self._in_doubt = False

    def see(self, picture: Mapping[str, Versioned], *, certain: bool = False) -> None:
        """A picture of the whole map that was read just now."""
        now_ns = self._office.clock.now_ns()
        for text in self._keeper.see(picture, now_ns, certain=certain):
            self._complain("map_corrupt", text)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled; no fault in this Set ends it, but for a broken invariant."""
        retry_s = _RETRY_S
        while True:
            self._news.clear()
            try:
                if self._in_doubt:
                    await self._read_again()
                if await self._turn():
                    retry_s = _RETRY_S
                    await self._pause()
                    continue
            except (MapUnavailable, TimeoutError) as error:
                self._complain("map_unavailable", repr(error))
            except (MapCorrupt, ValueError) as error:
                self._complain("cannot_plan", str(error))
                await self._pause()
                continue
            except BrokenInvariant:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, other Sets go on
                self._complain("set_not_tended", repr(error), error)
            self._in_doubt = True
            await self._office.clock.sleep(random.uniform(retry_s / 2, retry_s))
            retry_s = min(2 * retry_s, _MAX_RETRY_S)

    async def _read_again(self) -> None:
        async with asyncio.timeout(MAP_TIMEOUT_S):
            listing = await self._office.coordinator.get("")
        leadership = self._office.leadership
        held = listing.entries.get(leadership.key)
        if held is None or held.revision != leadership.revision:
            _log.warning("event=deposed key=%s", leadership.key)
            self._office.deposed.set()
            raise MapUnavailable("somebody else was elected")
        self.see(listing.entries, certain=True)
        self._in_doubt = False

    async def _turn(self) -> bool:
        """Do what there is to do; False: it is no longer known how things stand."""
        keeper, now_ns = self._keeper, self._office.clock.now_ns()
        if keeper.in_doubt(now_ns):
            return False
        for probe in keeper.due(now_ns):
            self._group.create_task(self._probe(probe))
        change = keeper.decide(now_ns)
        self._show()
        if change is None:
            return True
        revision = await self._write(change)
        if revision is None:
            return False
        keeper.written(change, revision)
        self._tell(change)
        self._news.set()  # one change may make room for the next
        return True

    async def _write(self, change: Change) -> int | None:
        office = self._office
        expected = {office.leadership.key: office.leadership.revision, **change.expected}
        outcome = "unknown"
        try:
            async with asyncio.timeout(MAP_TIMEOUT_S):
                revision = await office.coordinator.transact(
                    expected, {change.key: change.plan.document.to_json()}
                )
            outcome = "refused" if revision is None else "written"
        finally:
            office.metrics.changes.labels(outcome).inc()
        return revision

    async def _probe(self, probe: Probe) -> None:
        office = self._office
        outcome = Outcome.SILENT
        try:
            async with office.slots:
                outcome = await office.prober.probe(probe.address, probe.incarnation)
        except Exception as error:  # noqa: BLE001 - then it has found nothing out
            self._complain("probe_failed", repr(error), error)
        office.metrics.probes.labels(outcome.value).inc()
        self._keeper.probed(probe, outcome)
        self._news.set()

    async def _pause(self) -> None:
        """Until there is news, or something is due."""
        clock = self._office.clock
        wait_s = max(0, self._keeper.next_ns() - clock.now_ns()) / 1e9
        waits = [
            asyncio.create_task(self._news.wait()),
            asyncio.create_task(clock.sleep(wait_s)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.wait(waits)

    def _show(self) -> None:
        """Metrics, and a line for each node that is given up."""
        keeper, metrics = self._keeper, self._office.metrics
        metrics.rounds.labels(keeper.name).inc()
        metrics.see_set(keeper.name, keeper.sections(), keeper.nodes())
        given_up = keeper.given_up
        for incarnation in given_up - self._given_up:
            metrics.given_up.labels(keeper.name).inc()
            _log.warning("event=node_given_up set=%s node=%s", keeper.name, hex64(incarnation))
        self._given_up = given_up

    def _tell(self, change: Change) -> None:
        name = self._keeper.name
        counts: dict[str, int] = {}
        for move in change.plan.moves:
            counts[move.cause] = counts.get(move.cause, 0) + move.sections
        for cause, sections in counts.items():
            self._office.metrics.moves.labels(name, cause).inc(sections)
            version = change.plan.document.version
            _log.info(
                "event=moved set=%s cause=%s sections=%d version=%d", name, cause, sections, version
            )

    def _complain(self, topic: str, text: str, error: BaseException | None = None) -> None:
        now_ns, name = self._office.clock.now_ns(), self._keeper.name
        self._office.complaints.tell(now_ns, topic, name, text, error)
