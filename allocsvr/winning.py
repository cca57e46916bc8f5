"""Wins sections that the cluster map assigns to this node: drives acquisition.py.

Many sections share each request. A chunk goes on as soon as every section in it is decided; those
that have a lease to wait out do not hold up the rest. The first raise of a section goes through
raising.py like any other, and serving begins with it.

Half the uid space may be won at once by a node that serves the other half: what takes time here is
done in stretches of a millisecond or a few (pacing.py).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

from allocsvr.acquisition import Acquisition, FenceAnswer, Stage
from allocsvr.generation import Current, Generation
from allocsvr.ledger import Ledger
from allocsvr.metrics import Metrics
from allocsvr.pacing import Pace
from allocsvr.replicas import ReplicaTransport
from allocsvr.section import Pages, Section
from allocsvr.snapshot import BadSnapshot, decode
from clustermap.clock import Clock
from clustermap.errors import ReplicaFailed
from seqsvr import tracing
from seqsvr.invariants import require
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

CHUNK = 1024
MAX_FENCES = 4
STRETCH = 512  # sections of a fence's answer; a millisecond or two
TURN_NS = 5_000_000
TURN_S = 0.1  # between two looks at the membership, while a lease is waited out

Start = tuple[int, Pages | None]  # base, pages


class _Fence:
    """One request to all replicas; `answers`: which replica, what it said, and when that came."""

    def __init__(self, attempts: Sequence[Acquisition], asked: Generation) -> None:
        self.attempts = attempts
        self.asked = asked
        self.answers: deque[tuple[int, pb.FenceResponse, int]] = deque()
        self.news = asyncio.Event()
        self.decided = False

    def __iter__(self) -> Iterator[Acquisition]:
        return iter(self.attempts)

    @property
    def settled(self) -> bool:
        """Whether every section is won or lost."""
        return all(attempt.stage is not Stage.FENCING for attempt in self.attempts)


class Winning:
    """Fences, waits and starts sections; what is lost on the way is reported with its promise."""

    def __init__(
        self,
        clock: Clock,
        current: Current,
        max_drift: float,
        step: int,
        incarnation: int,
        ledger: Ledger,
        wanted: Callable[[int, int], bool],
        new_section: Callable[[Acquisition, int, Pages | None], Section],
        on_lost: Callable[[list[Acquisition]], None],
        on_promise: Callable[[int, int, int], None],
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._current = current
        self._max_drift = max_drift
        self._step = step
        self._incarnation = incarnation
        self._ledger = ledger
        self._wanted = wanted
        self._new_section = new_section
        self._on_lost = on_lost
        self._on_promise = on_promise
        self._metrics = metrics
        self._room = asyncio.Semaphore(MAX_FENCES)
        self._pace = Pace(clock)

    async def win(self, wanted: dict[int, int]) -> None:
        """Acquire sections at their epochs (section -> epoch), at most CHUNK of them."""
        await self._reachable()
        async with self._room:  # not while a lease is waited out
            asked, own = self._current(), self._incarnation
            async with self._pace:
                attempts = [
                    Acquisition(section, epoch, own, asked.read, asked.version)
                    for section, epoch in sorted(wanted.items())
                    if self._wanted(section, epoch)
                ]
                fence = self._ask(attempts, asked)
            await self._decide(fence)
        lost = [a for a in attempts if a.stage is Stage.LOST]
        if lost:
            self._on_lost(lost)
        waiting = [a for a in attempts if a.stage is Stage.WAITING]
        now_ns = self._clock.now_ns()
        await self._start([a for a in waiting if a.waited(now_ns) is Stage.READY], asked)
        held = [a for a in waiting if a.stage is Stage.WAITING]
        if held:
            self._metrics.lease_waits.inc(len(held))
            until_ns = max(a.ready_ns for a in held)
            while (left_ns := until_ns - self._clock.now_ns()) > 0:
                await self._clock.sleep(min(left_ns / 1e9, TURN_S))
                if self._overtaken(held):
                    return
            now_ns = self._clock.now_ns()
            await self._start([a for a in held if a.waited(now_ns) is Stage.READY], asked)

    async def _reachable(self) -> None:
        """Not before enough replicas grant: a fence that cannot succeed only spends its epoch."""
        asked = None
        while asked is not self._current():
            asked = self._current()
            await asked.replicas.reachable(asked.read)

    def _overtaken(self, attempts: Sequence[Acquisition]) -> bool:
        """Rule 4 of clustermap/membership.py: their first raise would be under another membership.

        All of them are lost then, with their epochs.
        """
        version = self._current().version
        if all(attempt.membership == version for attempt in attempts):
            return False
        for attempt in attempts:
            attempt.stage = Stage.LOST
            attempt.promised = max(attempt.promised, attempt.epoch)
        self._on_lost(list(attempts))
        return True

    def _ask(self, attempts: Sequence[Acquisition], asked: Generation) -> "_Fence":
        """Send a fence of all these sections to all replicas."""
        fence = _Fence(attempts, asked)
        request = pb.FenceRequest(header=asked.header)
        for first, last, epoch in ranges((a.section, a.epoch) for a in attempts):
            request.ranges.add(first=first, last=last, epoch=epoch)

        async def send(_: int, replica: ReplicaTransport) -> pb.FenceResponse:
            with tracing.span("seqsvr.fence", sections=len(attempts)):
                answer = await replica.fence(request)
            if any(len(column) != len(attempts) for column in columns(answer)):
                raise ReplicaFailed("INTERNAL", f"no answer for {len(attempts)} sections")
            return answer

        def on_answer(index: int, answer: pb.FenceResponse | ReplicaFailed) -> None:
            if isinstance(answer, ReplicaFailed):
                asked.replicas.complain("fence_failed", index, answer)
                for attempt in attempts:
                    attempt.failed(index)
                fence.news.set()
            elif not (fence.decided and all(answer.granted)):  # else it says nothing new
                self._fenced(fence, index, answer)

        if attempts:
            asked.replicas.ask(send, on_answer)
        return fence

    def _fenced(self, attempts: "_Fence", index: int, response: pb.FenceResponse) -> None:
        """An answer that counts has come; it is read in its turn."""
        attempts.answers.append((index, response, self._clock.now_ns()))
        attempts.news.set()
        if attempts.decided:
            self._read_late(attempts)

    async def _decide(self, fence: "_Fence") -> None:
        """Return once every section is decided."""
        while not fence.settled:
            await fence.news.wait()
            fence.news.clear()
            while fence.answers and not fence.settled:
                index, response, came_ns = fence.answers.popleft()
                for at in range(0, len(fence.attempts), STRETCH):
                    async with self._pace:
                        self._read(fence, slice(at, at + STRETCH), index, response, came_ns)
        fence.decided = True
        self._read_late(fence)

    def _read_late(self, fence: "_Fence") -> None:
        """After the decision there can only be a promise that stands against us."""
        while fence.answers:
            index, response, came_ns = fence.answers.popleft()
            if not all(response.granted):
                self._read(fence, slice(None), index, response, came_ns)

    def _read(
        self, fence: "_Fence", part: slice, index: int, response: pb.FenceResponse, came_ns: int
    ) -> None:
        """What a replica answered at `came_ns` for a part of the sections."""
        leases = {lease.incarnation: lease.left_ns for lease in response.leases}
        same = repeat(leases), repeat(response.boot_grace_ns)
        answers = map(FenceAnswer, *[column[part] for column in columns(response)], *same)
        for attempt, answer in zip(fence.attempts[part], answers, strict=True):
            if answer.promised != attempt.epoch:
                answer = answer._replace(granted=False)
                if answer.promised > attempt.epoch:
                    self._on_promise(attempt.section, attempt.section, answer.promised)
            attempt.fenced(index, answer, came_ns, self._max_drift)

    async def _start(self, ready: list[Acquisition], asked: Generation) -> None:
        """Begin what was fenced and waited for, from snapshots where there are any."""
        if not ready:
            return
        starts = await self._snapshots([a for a in ready if a.snapshot_from], asked)
        async with self._pace:  # thousands may have waited for one lease
            if not self._overtaken(ready):
                self._admit(ready, starts)

    def _admit(self, ready: list[Acquisition], starts: dict[int, Start]) -> None:
        skipped = 0
        for attempt in ready:
            overtaken = self._ledger.promises.highest(attempt.section)
            if overtaken > attempt.epoch:
                attempt.promised = overtaken
                attempt.stage = Stage.LOST
                continue
            if not self._wanted(attempt.section, attempt.epoch):
                continue  # the node has parted with it, and said so
            start = starts.get(attempt.section)
            if start is None and attempt.found:
                skipped += min(attempt.found, self._step)
            base, pages = start or (attempt.found, None)
            try:
                section = self._new_section(attempt, base, pages)
            except MemoryError as error:  # for the counters of its last owner
                logger.error("event=snapshot_not_taken section=%d error=%s", attempt.section, error)
                skipped += min(attempt.found, self._step)
                section = self._new_section(attempt, attempt.found, None)
            self._ledger.admit(section)
        self._metrics.skipped.labels("ceiling").inc(skipped)
        lost = [a for a in ready if a.stage is Stage.LOST]
        if lost:
            self._on_lost(lost)

    async def _snapshots(self, attempts: list[Acquisition], asked: Generation) -> dict[int, Start]:
        """What previous owners left. A snapshot that cannot be had costs a jump, nothing else.

        It may be read after the fence: its epoch is fixed, and nothing below our epoch can be
        released any more. One replica is asked, then all others at once: those that freeze now cost
        two timeouts together. There is no limit on the whole, for how busy this host is must not
        make numbers jump (SEQ-5).
        """
        starts: dict[int, Start] = {}
        for choice in (slice(0, 1), slice(1, None)):
            await self._scan_all(attempts, choice, starts, asked)
        missing = sum(attempt.section not in starts for attempt in attempts)
        if missing:
            logger.warning("event=snapshots_missing sections=%d", missing)
        return starts

    async def _scan_all(
        self,
        attempts: list[Acquisition],
        choice: slice,
        starts: dict[int, Start],
        asked: Generation,
    ) -> None:
        """Ask for what is still missing at these of the replicas that have it, all at once."""
        wanted: dict[int, dict[int, Acquisition]] = {}
        for attempt in attempts:
            if attempt.section not in starts:
                for index in attempt.snapshot_from[choice]:
                    wanted.setdefault(index, {})[attempt.section] = attempt
        async with asyncio.TaskGroup() as group:
            for index, here in wanted.items():
                group.create_task(self._scan(index, here, starts, asked))

    async def _scan(
        self,
        index: int,
        wanted: dict[int, Acquisition],
        starts: dict[int, Start],
        asked: Generation,
    ) -> None:
        """Read pages of records with snapshots from one replica, until all of `wanted` were met."""
        first, last = min(wanted), max(wanted)
        while first <= last:
            request = pb.ScanRequest(
                header=asked.header, first=first, last=last, limit=CHUNK, with_snapshots=True
            )

            async def send(
                _: int, replica: ReplicaTransport, request: pb.ScanRequest = request
            ) -> pb.ScanResponse:
                return await replica.scan(request)

            answer = await asked.replicas.ask_one(index, send, asked.replicas.quick_s)
            if isinstance(answer, ReplicaFailed):
                asked.replicas.complain("scan_failed", index, answer)
                return
            busy_until_ns = self._clock.now_ns() + TURN_NS
            for record in answer.records:
                attempt = wanted.get(record.section)
                if attempt is None or record.section in starts:
                    continue
                if record.snapshot_epoch == attempt.snapshot_epoch:
                    self._decode(attempt, record.snapshot, starts)
                    if self._clock.now_ns() > busy_until_ns:  # a full one takes milliseconds
                        await self._clock.sleep(0)
                        busy_until_ns = self._clock.now_ns() + TURN_NS
            if not answer.next:
                return
            require(answer.next > first, "a scan goes forward")
            first = answer.next

    def _decode(self, attempt: Acquisition, data: bytes, starts: dict[int, Start]) -> None:
        try:
            size = self._ledger.layout.section_size
            base, max_seq, pages = decode(attempt.section, size, data)
        except BadSnapshot as bad:
            logger.error("event=bad_snapshot section=%d error=%s", attempt.section, bad)
            return
        require(max_seq <= attempt.found, "no snapshot is above its max_seq")
        starts[attempt.section] = (base, pages)


def columns(response: pb.FenceResponse) -> tuple[Sequence[int], ...]:
    """In the order of FenceAnswer's fields; one value per section each, or it is no answer."""
    return (
        response.granted,
        response.promised,
        response.max_seq,
        response.owner,
        response.owner_epoch,
        response.released,
        response.snapshot_epoch,
    )


def ranges(epochs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(section, epoch) by rising section -> (first, last, epoch) of adjacent equals."""
    first = last = epoch = -1
    for section, own in epochs:
        if own == epoch and section == last + 1:
            last = section
            continue
        if first >= 0:
            yield first, last, epoch
        first, last, epoch = section, section, own
    if first >= 0:
        yield first, last, epoch
