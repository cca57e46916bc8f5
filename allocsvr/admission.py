"""Which requests are answered at all: rates, turns, and what may wait. The numbers are Limits'."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

from allocsvr.allowances import Allowance, Allowances, clock_s
from allocsvr.answering import Batch
from allocsvr.limits import Limits
from allocsvr.messages import Refused
from allocsvr.metrics import Metrics
from allocsvr.streams import Stream, Streams
from allocsvr.turnstile import Shed, Turnstile
from seqsvr.sections import MAX_BATCH, MAX_COUNT
from seqsvr.v1 import alloc_pb2 as pb
from svrprocess.guarding import Denied, badge

MAX_AGAIN_MS = 3_600_000

_TEXTS = {
    "requests-per-s": "its caller has made all requests of its rate",
    "numbers-per-s": "its caller has taken all numbers of its rate",
    "queue-s": "the node has more to do than time",
}


class Admission:
    """Of one AllocService, on the running loop."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._limited = metrics.limited
        self.turnstile = Turnstile(limits.queue_s)
        self._allowances = Allowances(limits, clock_s)
        self._streams = Streams(limits, metrics)
        self._waiting = 0

    # -- single calls --------------------------------------------------------------------------

    def left_s(self, context: Any) -> float:
        """For how long a single call may wait: a caller without a deadline is given one."""
        left_s: float | None = context.time_remaining()
        return self._limits.wait_s if left_s is None else min(left_s, self._limits.wait_s)

    def watch(self, context: Any) -> None:
        """See to it that a single call whose caller does not read its answer ends."""
        most_s = self._limits.wait_s + self._limits.unread_s
        left_s = context.time_remaining()
        if left_s is not None and left_s <= most_s:
            return  # gRPC sees to it
        timer = asyncio.get_running_loop().call_later(most_s, self._streams.unread, context.peer())
        context.add_done_callback(lambda _: timer.cancel())

    def call(self, batch: Batch, context: Any, *, forwarded: bool) -> None:
        """A single call for these entries. Raises Refused where it is not to be answered.

        What another node has forwarded has been paid for there.
        """
        self.turnstile.called(len(batch.uids))
        own = badge()
        if forwarded or (own is None and self._allowances.bare):
            return
        try:
            allowance = self._allowances.of(own, context)
        except Denied:
            return  # told by what asks for roles
        refused = self._paid(allowance, batch.uids, batch.counts, current=batch.current)
        if refused is not None:
            raise refused

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """Around what a single call may have to wait for; False: it may not."""
        has_room = self._waiting < self._limits.max_waiting_calls
        if not has_room:
            self._limited.labels("max-waiting-calls").inc()
        self._waiting += 1
        try:
            yield has_room
        finally:
            self._waiting -= 1

    # -- Sessions ------------------------------------------------------------------------------

    @contextmanager
    def session(self, stream: Stream, context: Any) -> Iterator[None]:
        """Around a Session's life. Raises Refused where it is ended for a limit."""
        try:
            allowance = self._allowances.of(stream.own, context)
        except Denied as denied:
            raise Refused(denied.reason, str(denied)) from None
        if allowance.sessions >= self._limits.max_sessions_per_caller:
            self._limited.labels("max-sessions-per-caller").inc()
            text = f"its caller has {allowance.sessions} Sessions open"
            raise Refused("OVERLOADED", text, retry_after_ms=1_000)
        bare = stream.own is None and self._allowances.bare
        stream.allowance = None if bare else allowance
        stream.key = stream.peer if allowance.caller is None else allowance.caller.name
        allowance.sessions += 1
        self._streams.add(stream)
        try:
            yield
        except asyncio.CancelledError:
            if stream.ended != "session-idle-s":
                raise  # one that does not read would not read why, either
            _go_on()
        finally:
            self._streams.discard(stream)
            allowance.sessions -= 1

    async def entered(self, request: pb.SessionRequest, stream: Stream) -> Refused | None:
        """Wait for a request's turn; why it is not to be answered, if it is not."""
        own, allowance = stream.own, stream.allowance
        if own is not None:
            try:
                allowance = stream.allowance = self._allowances.of(own, None)
            except Denied:
                return None  # told by what asks for roles
        current = request.WhichOneof("batch") == "current"
        uids = request.current.uids if current else request.next.uids
        if self.turnstile.closed:
            try:
                await self.turnstile.enter(stream.key, len(uids))
            except Shed as shed:
                return self._refused("queue-s", shed.again_s)
        else:
            self.turnstile.passed(len(uids))
        if allowance is None:
            return None
        return self._paid(allowance, uids, () if current else request.next.counts, current=current)

    def may_wait(self, stream: Stream, size: int) -> bool:
        """Whether a batch of a Session may be answered later; size: bytes of its answer."""
        limits = self._limits
        if stream.late >= limits.late_batches:
            return False
        if stream.unread + size <= limits.max_unread_bytes:
            return True
        self._limited.labels("max-unread-bytes").inc()
        return False

    # -- both ----------------------------------------------------------------------------------

    def _paid(
        self, allowance: Allowance, uids: Sequence[int], counts: Sequence[int], *, current: bool
    ) -> Refused | None:
        """Why the caller may not have it now, if so; else it has paid."""
        size = min(len(uids), MAX_BATCH)
        numbers = 0 if current else min(sum(counts), size * MAX_COUNT) if counts else size
        limit, again_s = self._allowances.paid(allowance, numbers)
        return self._refused(limit, again_s) if limit else None

    def _refused(self, limit: str, again_s: float) -> Refused:
        self._limited.labels(limit).inc()
        again_ms = min(max(1, ceil(again_s * 1000)), MAX_AGAIN_MS)
        return Refused("OVERLOADED", _TEXTS[limit], retry_after_ms=again_ms)


def _go_on() -> None:
    """As if the task that runs had not been cancelled."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
