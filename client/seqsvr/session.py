"""The stream to one owner: a shell around `batching.Outbox`.

One task runs while there is something to do: it connects, then writes batches and reads answers
until the stream ends. It is started by the first entry after that, so an owner that nobody calls
costs a stream that nobody uses, and one that is gone costs nothing. A single timer sweeps the
deadlines of all entries; callers wait on futures and need no task and no timer of their own.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import grpc
import grpc.aio

from seqsvr import tracing
from seqsvr.batching import Answer, Batch, Outbox
from seqsvr.calls import Bulk, Entry, Failure, Op, lost, refused
from seqsvr.channels import alloc_stub, details_of, is_ready, open_channel, why_not_ready
from seqsvr.credentials import Credentials
from seqsvr.errors import DENIALS, TABLE, denial, reason_name
from seqsvr.routing import ForeignCluster, Router
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import reason_of

TICK_S = 0.25
"""How often an owner with entries in flight is looked at."""
SILENCE_S = 0.5
"""An owner that says nothing for this long, with entries in flight, is a suspect."""

Learn = Callable[[alloc_pb2.RoutingTable], bool]


class Session:
    """Entries go in by `submit` and come back settled; nothing else is promised about the stream.

    learn: takes a table that came with an answer; suspect: called, again and again, while the
    owner is silent though asked. channel: one of the newest generation of `credentials`, where
    there is one already. The maxima are those of Outbox.
    """

    def __init__(
        self,
        address: str,
        router: Router,
        *,
        learn: Learn,
        suspect: Callable[[], None],
        credentials: Credentials,
        channel: grpc.aio.Channel | None = None,
        max_in_flight: int,
        max_queue: int,
    ) -> None:
        self.address = address
        self._router = router
        self._learn = learn
        self._suspect = suspect
        self.loop = asyncio.get_running_loop()
        self._outbox = Outbox(address, max_in_flight=max_in_flight, max_queue=max_queue)
        self._credentials = credentials
        self._generation = credentials.generation
        self._channel = channel or open_channel(address, credentials)
        self._task: asyncio.Task[None] | None = None
        self._kick: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = float("inf")
        self._heard_s = 0.0
        self._connecting = False
        self._retiring = False
        self._closing = False
        self._farewell: asyncio.Task[None] | None = None
        self._spans = tracing.Spans("seqsvr.batch")

    @property
    def idle(self) -> bool:
        return self._outbox.idle

    @property
    def stale(self) -> bool:
        """Whether its channel was opened with credentials that have been replaced since."""
        return self._generation != self._credentials.generation

    @property
    def connected(self) -> bool:
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    def submit(self, entry: Entry) -> None:
        """Queue an entry; it is sent at the end of this turn of the loop if nothing is in flight.

        A full queue settles it with OVERLOADED, which its caller is not to wait out.
        """
        if self._closing or not self._outbox.put(entry):
            entry.fail(self._no_room())
            return
        self._woken(entry.deadline_s)

    def submit_bulk(self, bulk: Bulk) -> None:
        """The same for many uids of one call."""
        if self._closing or not self._outbox.put_bulk(bulk):
            for entry in bulk.unpack(doubt=0):
                entry.fail(self._no_room())
            return
        self._woken(bulk.deadline_s)

    def _no_room(self) -> Failure:
        text = "this client is closed" if self._closing else "this client's queue is full"
        return Failure("CLOSED" if self._closing else "OVERLOADED", text)

    def _woken(self, deadline_s: float) -> None:
        if deadline_s < self._timer_s:
            self._arm(min(deadline_s, self.loop.time() + TICK_S))
        kick = self._kick
        if kick is not None:
            self._kick = None
            if not kick.done():
                kick.set_result(None)
        elif self._task is None:
            self._task = self.loop.create_task(self._run())

    def evict(self, moved: Callable[[int], bool]) -> None:
        """Give back entries of sections that have another owner now.

        What was sent will be answered, by a refusal at least, unless the owner has gone silent.
        """
        self._outbox.evict(moved, in_flight=self._silent())
        self._retire_if_idle()

    def succeed(self, other: "Session") -> None:
        """Go on with what another one to the same owner has not sent, and have that one retire."""
        self._outbox.inherit(other._outbox)
        if not self._outbox.idle:
            self._woken(self.loop.time())
        other.retire()

    def retire(self) -> None:
        """Nothing more will be submitted: close as soon as nothing is outstanding."""
        self._retiring = True
        self._retire_if_idle()

    async def aclose(self) -> None:
        """Settle what is outstanding with CLOSED and leave. Idempotent."""
        self._closing = True
        self._outbox.fail_all(Failure("CLOSED", "the client was closed"))
        self._disarm()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._channel.close()

    # --- the stream

    async def _run(self) -> None:
        failure = lost(self.address, "the session failed")
        try:
            # Until the channel is ready nothing can have been sent, so nothing is in doubt.
            self._credentials.look()
            if self.stale:
                await self._reopen()
            if not await self._connect():
                why = await why_not_ready(self._channel, self._credentials)
                failure = lost(self.address, why)
                return
            stream = alloc_stub(self._channel).Session(metadata=self._credentials.metadata())
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(stream))
                failure = await self._read(stream)
                writer.cancel()
        finally:
            self._task = self._kick = None
            self._spans.end_all("the stream ended")
            self._outbox.fail_all(failure)

    async def _connect(self) -> bool:
        self._connecting, self._heard_s = True, self.loop.time()
        try:
            return await is_ready(self._channel)
        finally:
            self._connecting = False

    async def _reopen(self) -> None:
        before, self._channel = self._channel, open_channel(self.address, self._credentials)
        self._generation = self._credentials.generation
        await before.close()

    async def _write(self, stream: Any) -> None:
        try:
            while True:
                batch = self._outbox.take(self.loop.time())
                if batch is None:
                    await self._wait_for_kick()
                else:
                    self._spans.begin(batch.id)
                    await stream.write(self._request(batch))
        except (grpc.RpcError, asyncio.InvalidStateError):
            stream.cancel()  # the reader says why

    async def _wait_for_kick(self) -> None:
        kick = self._kick = self.loop.create_future()
        room_at_s = self._outbox.room_at_s()
        if room_at_s is None:
            await kick
            return
        timer = self.loop.call_at(room_at_s, self._kick_writer)
        try:
            await kick
        finally:
            timer.cancel()

    def _kick_writer(self) -> None:
        kick, self._kick = self._kick, None
        if kick is not None and not kick.done():
            kick.set_result(None)

    async def _read(self, stream: Any) -> Failure:
        """Settle answers until the stream ends; returns why it did."""
        try:
            while (response := await stream.read()) is not grpc.aio.EOF:
                if response is None:  # bytes that are no message
                    stream.cancel()
                    return lost(self.address, "an answer could not be read")
                self._settle(response)
            return lost(self.address, "the stream was ended")
        except grpc.RpcError as error:
            return self._breakage(error)
        except asyncio.CancelledError:
            # grpc raises this too where the *server* says CANCELLED.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return lost(self.address, "the stream was cancelled")

    def _breakage(self, error: grpc.RpcError) -> Failure:
        reason, table = reason_of(error)
        if table is not None:
            self._install(table)
        text, denied = details_of(error), denial(error)
        if denied is not None:
            return self._refused(denied, text, self._replaced({denied}))
        if reason in TABLE and TABLE[reason].retry:
            return refused(reason, text, self.address)
        return lost(self.address, text or "the stream broke")

    # --- messages

    def _request(self, batch: Batch) -> alloc_pb2.SessionRequest:
        uids = batch.uids()
        version = self._router.version
        if batch.op is Op.CURRENT:
            current = alloc_pb2.BatchGetCurSeqRequest(uids=uids, route_version=version)
            return alloc_pb2.SessionRequest(id=batch.id, current=current)
        request = alloc_pb2.SessionRequest(id=batch.id)
        body = request.next
        body.uids.extend(uids)
        body.counts.extend(batch.counts())
        body.route_version = version
        return request

    def _settle(self, response: alloc_pb2.SessionResponse) -> None:
        self._heard_s = self.loop.time()
        answer = self._decode(response)
        if answer is not None:
            if not answer.more:
                self._spans.end(answer.id)
            self._outbox.settle(answer, self._router.observe)
        self._kick_writer()
        if self._retiring:
            self._retire_if_idle()

    def _decode(self, response: alloc_pb2.SessionResponse) -> Answer | None:
        kind = response.WhichOneof("answer")
        if kind is None:
            return None
        answer = Answer(response.id, list(response.indexes), response.more)
        if kind == "refused":
            replaced = self._replaced({reason_name(response.refused.reason)})
            answer.refused = self._failure(response.refused, replaced)
            return answer
        body = response.next if kind == "next" else response.current
        if body.HasField("table"):
            answer.refused = self._install(body.table)
        answer.seqs = list(body.seqs)
        answer.epochs = list(body.epochs)
        if kind == "current":
            answer.exact = list(response.current.exact)
        if body.errors:
            replaced = self._replaced({reason_name(error.reason) for error in body.errors})
            answer.failures = {error.index: self._failure(error, replaced) for error in body.errors}
        return answer

    def _failure(self, error: alloc_pb2.EntryError, replaced: bool) -> Failure:
        reason, wait_s = reason_name(error.reason), error.retry_after_ms / 1000
        return self._refused(reason, error.text, replaced, wait_s)

    def _replaced(self, reasons: Collection[str]) -> bool:
        """Whether refusals for these reasons are of credentials that have been replaced.

        To be asked once for all of an answer: it looks at files, and at each time that it is asked
        it reads them where they do not fit one another yet.
        """
        denied = not DENIALS.isdisjoint(reasons)
        return denied and (self._credentials.look() or self.stale)

    def _refused(self, reason: str, text: str, replaced: bool, wait_s: float = 0.0) -> Failure:
        if replaced and reason in DENIALS:
            return lost(self.address, f"{reason}, by credentials that have been replaced")
        return refused(reason, text, self.address, wait_s)

    def _install(self, table: alloc_pb2.RoutingTable) -> Failure | None:
        """Pass a table on; a failure if the numbers beside it are of another cluster."""
        try:
            self._learn(table)
        except ForeignCluster as error:
            return Failure("FOREIGN_CLUSTER", f"{self.address}: {error}", self.address)
        except ValueError as error:
            return refused("INTERNAL", f"{self.address}: {error}", self.address)
        return None

    # --- time

    def _arm(self, when_s: float) -> None:
        self._disarm()
        self._timer_s = when_s
        self._timer = self.loop.call_at(when_s, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = None, float("inf")

    def _on_timer(self) -> None:
        self._disarm()
        now_s = self.loop.time()
        if self._silent():
            self._suspect()
        next_s = self._outbox.sweep(now_s)
        if next_s is not None:
            self._arm(min(next_s, now_s + TICK_S))
        self._kick_writer()
        self._retire_if_idle()

    def _silent(self) -> bool:
        """Whether the owner was asked long ago and has said nothing since, or cannot be reached."""
        sent_s = self._outbox.oldest_sent_s
        if sent_s is None:
            return self._connecting and self.loop.time() - self._heard_s > SILENCE_S
        return self.loop.time() - max(sent_s, self._heard_s) > SILENCE_S

    def _retire_if_idle(self) -> None:
        if self._retiring and self._outbox.idle and self._farewell is None:
            self._farewell = self.loop.create_task(self.aclose())
