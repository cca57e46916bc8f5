"""gRPC towards callers: decodes, asks answering.py, encodes. The rules are elsewhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from allocsvr.admission import Admission
from allocsvr.answering import Answering, Batch, Later, pick
from allocsvr.ledger import Answers
from allocsvr.limits import Limits
from allocsvr.messages import (
    Refused,
    advance_batch,
    compact,
    current_batch,
    explained,
    forwards,
    next_batch,
    undelivered,
)
from allocsvr.metrics import Metrics
from allocsvr.node import AllocNode
from allocsvr.packing import session_response
from allocsvr.permitting import check_admin, check_next, outside
from allocsvr.streams import ENTRY_BYTES, Stream
from allocsvr.turnstile import LONGEST_S
from seqsvr import tracing
from seqsvr.invariants import BrokenInvariant
from seqsvr.sections import MAX_BATCH
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.wire import table_to_wire
from svrprocess import ending, incidents
from svrprocess.guarding import Badge, badge

logger = logging.getLogger(__name__)

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Alloc"]
SERVICE = _DESCRIPTOR.full_name
METHODS = frozenset(f"/{SERVICE}/{method.name}" for method in _DESCRIPTOR.methods)
"""Whole paths of its rpcs."""
_WITH_ENTRIES = ("GetSeq", "GetCurSeq", "BatchGetSeq", "BatchGetCurSeq", "AdvanceSeq", "Session")
# Refusals that are worth the size of a table: of others this node may know no better.
_TABLE_HELPS = frozenset({"NOT_OWNER", "LEASE_EXPIRED", "DRAINING", "STALE_EPOCH"})


class Malformed:
    """What a request is decoded to when it is none."""

    def __init__(self, error: DecodeError) -> None:
        self.text = f"not a message of {SERVICE}: {error}"


def tolerant(kind: type[Message]) -> Callable[[bytes], Message | Malformed]:
    """A deserializer that lets the handler answer for bytes that are no message."""

    def decode(data: bytes) -> Message | Malformed:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            return Malformed(error)

    return decode


class AllocService:
    """The handlers of seqsvr.v1.Alloc over one node.

    for_peers: on the port for other nodes and operators, whose tables lead to such ports.
    """

    def __init__(
        self,
        node: AllocNode,
        answering: Answering,
        metrics: Metrics,
        limits: Limits | None = None,
        *,
        for_peers: bool = False,
    ) -> None:
        self._node = node
        self._answering = answering
        self._metrics = metrics
        self._limits = limits or Limits()
        self._admission = Admission(self._limits, metrics)
        if not for_peers:
            metrics.queued.set_function(lambda: self._admission.turnstile.waiting)
        self._sessions_asked = metrics.requests.labels("Session")
        self._session_seconds = metrics.request_seconds.labels("Session")
        self._entries = {rpc: metrics.batch_entries.labels(rpc) for rpc in _WITH_ENTRIES}
        self._for_peers = for_peers
        self._tables: dict[bool, tuple[int, pb.RoutingTable]] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a grpc.aio server."""
        unary: dict[str, tuple[type[Message], type[Message], Callable[..., Awaitable[Message]]]] = {
            "GetSeq": (pb.GetSeqRequest, pb.GetSeqResponse, self._get_seq),
            "GetCurSeq": (pb.GetCurSeqRequest, pb.GetCurSeqResponse, self._get_cur_seq),
            "BatchGetSeq": (pb.BatchGetSeqRequest, pb.BatchGetSeqResponse, self._batch_get_seq),
            "BatchGetCurSeq": (
                pb.BatchGetCurSeqRequest,
                pb.BatchGetCurSeqResponse,
                self._batch_get_cur_seq,
            ),
            "AdvanceSeq": (pb.AdvanceSeqRequest, pb.AdvanceSeqResponse, self._advance_seq),
            "GetRoute": (pb.GetRouteRequest, pb.GetRouteResponse, self._get_route),
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, behaviour),
                request_deserializer=tolerant(kind),
                response_serializer=answer.SerializeToString,
            )
            for name, (kind, answer, behaviour) in unary.items()
        }
        methods["Session"] = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=tolerant(pb.SessionRequest),
            response_serializer=_serialize,
        )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    # -- single calls --------------------------------------------------------------------------

    def _guarded(
        self, rpc: str, behaviour: Callable[..., Awaitable[Message]]
    ) -> Callable[..., Awaitable[Message]]:
        """Counts, times, and answers bytes that are no request."""
        requests = self._metrics.requests.labels(rpc)
        seconds = self._metrics.request_seconds.labels(rpc)
        path = f"{SERVICE}/{rpc}"

        async def call(request: Any, context: Any) -> Message:
            start = time.perf_counter()
            requests.inc()
            self._admission.watch(context)
            try:
                if isinstance(request, Malformed):
                    raise Refused("MALFORMED", request.text)
                if not tracing.is_on():
                    return await behaviour(request, context)
                with tracing.continued(path, context.invocation_metadata()):
                    return await behaviour(request, context)
            except Refused as refused:
                self._metrics.errors.labels(rpc, refused.reason).inc()
                await abort(context, refused)
            except BrokenInvariant as broken:
                self._node.broken(broken)
                await incidents.end(context, path, broken)
            except Exception as error:  # noqa: BLE001 - no caller sees what went wrong in here
                self._metrics.errors.labels(rpc, "INTERNAL").inc()
                await incidents.end(context, path, error)
            finally:
                seconds.observe(time.perf_counter() - start)

        return call

    async def _get_seq(self, request: pb.GetSeqRequest, context: Any) -> pb.GetSeqResponse:
        count = request.count if request.HasField("count") else 1
        batch = Batch(False, (request.uid,), (count,), forwards(request), request.route_version)
        answers = await self._all("GetSeq", batch, request, context)
        if answers.failures:
            self._refuse(batch, answers)
        return pb.GetSeqResponse(
            seq=answers.seqs[0],
            epoch=answers.epochs[0],
            table=self._newer(request.route_version),
        )

    async def _get_cur_seq(
        self, request: pb.GetCurSeqRequest, context: Any
    ) -> pb.GetCurSeqResponse:
        batch = Batch(True, (request.uid,), (), forwards(request), request.route_version)
        answers = await self._all("GetCurSeq", batch, request, context)
        if answers.failures:
            self._refuse(batch, answers)
        return pb.GetCurSeqResponse(
            seq=answers.seqs[0],
            exact=answers.exact[0],
            epoch=answers.epochs[0],
            table=self._newer(request.route_version),
        )

    async def _batch_get_seq(
        self, request: pb.BatchGetSeqRequest, context: Any
    ) -> pb.BatchGetSeqResponse:
        batch = next_batch(request)
        answers = await self._all("BatchGetSeq", batch, request, context)
        response = pb.BatchGetSeqResponse()
        self._fill_next("BatchGetSeq", response, batch, answers)
        return response

    async def _batch_get_cur_seq(
        self, request: pb.BatchGetCurSeqRequest, context: Any
    ) -> pb.BatchGetCurSeqResponse:
        batch = current_batch(request)
        answers = await self._all("BatchGetCurSeq", batch, request, context)
        response = pb.BatchGetCurSeqResponse()
        self._fill_current("BatchGetCurSeq", response, batch, answers)
        return response

    async def _advance_seq(
        self, request: pb.AdvanceSeqRequest, context: Any
    ) -> pb.AdvanceSeqResponse:
        batch = advance_batch(request)
        answers = await self._all("AdvanceSeq", batch, request, context)
        response = pb.AdvanceSeqResponse()
        self._fill_next("AdvanceSeq", response, batch, answers)
        return response

    async def _get_route(self, request: pb.GetRouteRequest, _context: Any) -> pb.GetRouteResponse:
        version = self._node.router.version
        if request.admin:
            check_admin(badge())
        if not version:
            raise Refused("ACQUIRING", "no routing table yet")
        if request.known_version > version:
            self._node.known_beyond(request.known_version)
        known = version == request.known_version
        table = None if known else self._wire_table(for_peers=request.admin or self._for_peers)
        return pb.GetRouteResponse(table=table)

    async def _all(self, rpc: str, batch: Batch, request: Any, context: Any) -> Answers:
        self._entries[rpc].observe(len(batch.uids))
        self._admission.call(batch, context, forwarded=request.forwarded)
        batch.denied = self._outside(badge(), request, batch.uids)
        answers = self._answering.now(batch)
        if answers.waiting or answers.failures:
            left_s = self._admission.left_s(context)
            with self._admission.waiting() as has_room:
                await self._answering.rest(batch, answers, left_s, may_wait=has_room)
        return answers

    def _outside(self, own: Badge | None, request: Any, uids: Sequence[int]) -> Sequence[int]:
        return outside(own, uids, forwarded=request.forwarded, for_peers=self._for_peers)

    # -- sessions ------------------------------------------------------------------------------

    async def _session(self, _requests: Any, context: Any) -> None:
        """One Session, which may be ended for a limit."""
        stream = Stream(context)
        self._metrics.sessions.inc()
        try:
            with self._admission.session(stream, context):
                await self._served(stream, context)
        except Refused as refused:
            self._metrics.errors.labels("Session", refused.reason).inc()
            await abort(context, refused)
        finally:
            self._metrics.sessions.dec()

    async def _served(self, stream: Stream, context: Any) -> None:
        """Reads on only when an answer is on its way: a caller that does not read stops itself."""
        request = None
        admission, turnstile = self._admission, self._admission.turnstile
        faults: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as late:
                while (request := await context.read()) is not grpc.aio.EOF:
                    if isinstance(request, Malformed):
                        break
                    stream.since_s = start = time.perf_counter()
                    if stream.allowance is None and not turnstile.closed:
                        turnstile.passed(len(request.next.uids) or len(request.current.uids))
                    elif (refused := await admission.entered(request, stream)) is not None:
                        await self._turned_away(request, refused, stream)
                        continue
                    with tracing.root("seqsvr.answer"):
                        response = self._one(request, stream, late, start)
                    if response is not None:
                        await self._delivered(request, response, stream, start)
                        self._session_seconds.observe(time.perf_counter() - start)
        except* BrokenInvariant as group:
            self._node.broken(BrokenInvariant(str(group.exceptions)))
            faults += group.exceptions
        except* grpc.aio.InternalError:
            pass  # the caller has gone while something was on its way to it
        except* Exception as group:  # noqa: BLE001 - likewise: nothing leaves but its id
            faults += group.exceptions
        if faults:
            self._metrics.errors.labels("Session", "INTERNAL").inc()
            await incidents.end(context, f"{SERVICE}/Session", faults[0])
        if isinstance(request, Malformed):
            raise Refused("MALFORMED", request.text)

    async def _turned_away(
        self, request: pb.SessionRequest, refused: Refused, stream: Stream
    ) -> None:
        """Told to come again; until then nothing is read from it, lest refusals fill our time.

        Not for longer than LONGEST_S: something smaller may be behind it.
        """
        self._sessions_asked.inc()
        self._metrics.errors.labels("Session", refused.reason).inc()
        response = pb.SessionResponse(id=request.id, refused=refused.entry())
        await self._delivered(request, response, stream, time.perf_counter())
        await asyncio.sleep(min(refused.retry_after_ms / 1000, LONGEST_S))

    def _one(
        self, request: pb.SessionRequest, stream: Stream, late: asyncio.TaskGroup, start: float
    ) -> pb.SessionResponse | bytes | None:
        """The whole answer to a request; None: it comes later, in parts."""
        self._sessions_asked.inc()
        try:
            denied = () if stream.own is None else self._denied(stream.own, request)
            packed = None if denied else self._packed(request.id, request.next)
            if packed is not None:
                return packed
            batch = self._batch(request)
            batch.denied = denied
        except Refused as refused:
            self._metrics.errors.labels("Session", refused.reason).inc()
            return pb.SessionResponse(id=request.id, refused=refused.entry())
        answers = self._answering.now(batch)
        if answers.waiting or answers.failures:
            later = self._answering.later(batch, answers)
            size = len(batch.uids) * ENTRY_BYTES
            if later and self._admission.may_wait(stream, size):
                stream.late += 1
                stream.unread += size
                late.create_task(self._late(request, batch, answers, later, stream, start))
                return None
            answers.failures += later.given_up()
        return self._response(request, batch, answers)

    def _denied(self, own: Badge, request: pb.SessionRequest) -> Sequence[int]:
        """Indexes of the entries that are refused. Raises Refused where all of it is."""
        kind = request.WhichOneof("batch")
        if kind == "current":
            return self._outside(own, request.current, request.current.uids)
        check_next(own)
        return self._outside(own, request.next, request.next.uids)

    def _packed(self, id_: int, body: pb.BatchGetSeqRequest) -> bytes | None:
        """The answer to a large batch in which nothing is special."""
        uids = body.uids
        if body.counts or len(uids) > MAX_BATCH:
            return None
        if body.route_version and body.route_version < self._node.router.version:
            return None  # a table goes with it
        taken = self._answering.whole(uids)
        if taken is None:
            return None
        self._entries["Session"].observe(taken.numbers)
        return session_response(id_, taken)

    @staticmethod
    def _batch(request: pb.SessionRequest) -> Batch:
        kind = request.WhichOneof("batch")
        if kind is None:
            raise Refused("MALFORMED", "a SessionRequest needs next or current")
        return next_batch(request.next) if kind == "next" else current_batch(request.current)

    async def _delivered(
        self,
        request: pb.SessionRequest,
        response: pb.SessionResponse | bytes,
        stream: Stream,
        now_s: float,
    ) -> None:
        try:
            await stream.write(response, now_s)
        except BaseException:
            if isinstance(response, bytes):
                response = pb.SessionResponse.FromString(response)
            lost = undelivered(request.next, response)
            self._metrics.skipped.labels("undelivered").inc(lost)
            raise

    async def _late(
        self,
        request: pb.SessionRequest,
        batch: Batch,
        answers: Answers,
        later: Later,
        stream: Stream,
        start: float,
    ) -> None:
        """First what is ready, then group after group."""
        try:
            held = set(later.indexes())
            ready = [index for index in range(len(batch.uids)) if index not in held]
            left = len(held)
            if ready:
                part = self._response(request, batch.only(ready), pick(answers, ready))
                await self._in_part(request, part, stream, ready, True)
            async for indexes, got in self._answering.each(batch, later, self._limits.wait_s):
                left -= len(indexes)
                part = self._response(request, batch.only(indexes), got)
                await self._in_part(request, part, stream, indexes, left > 0)
        finally:
            stream.late -= 1
            stream.unread -= len(batch.uids) * ENTRY_BYTES
            self._session_seconds.observe(time.perf_counter() - start)

    async def _in_part(
        self,
        request: pb.SessionRequest,
        part: pb.SessionResponse,
        stream: Stream,
        indexes: list[int],
        more: bool,
    ) -> None:
        part.indexes.extend(indexes)
        part.more = more
        await self._delivered(request, part, stream, 0.0)

    def _response(
        self, request: pb.SessionRequest, batch: Batch, answers: Answers
    ) -> pb.SessionResponse:
        response = pb.SessionResponse(id=request.id)
        self._entries["Session"].observe(len(batch.uids))
        if batch.current:
            self._fill_current("Session", response.current, batch, answers)
        else:
            self._fill_next("Session", response.next, batch, answers)
        return response

    # -- answers -------------------------------------------------------------------------------

    def _fill_next(
        self,
        rpc: str,
        response: pb.BatchGetSeqResponse | pb.AdvanceSeqResponse,
        batch: Batch,
        answers: Answers,
    ) -> None:
        response.seqs.extend(answers.seqs)
        self._fill(rpc, response, batch, answers)

    def _fill_current(
        self, rpc: str, response: pb.BatchGetCurSeqResponse, batch: Batch, answers: Answers
    ) -> None:
        response.seqs.extend(answers.seqs)
        response.exact.extend(answers.exact)
        self._fill(rpc, response, batch, answers)

    def _fill(
        self,
        rpc: str,
        response: pb.BatchGetSeqResponse | pb.BatchGetCurSeqResponse | pb.AdvanceSeqResponse,
        batch: Batch,
        answers: Answers,
    ) -> None:
        response.epochs.extend(compact(answers.epochs))
        if answers.failures:
            response.errors.extend(self._entry_errors(rpc, batch, answers))
        table = self._newer(batch.version, answers)
        if table is not None:
            response.table.CopyFrom(table)

    def _entry_errors(self, rpc: str, batch: Batch, answers: Answers) -> list[pb.EntryError]:
        errors = []
        for index, reason in answers.failures:
            self._metrics.errors.labels(rpc, reason).inc()
            bound = answers.bounds.get(index, 0)
            errors.append(self._explained(batch, index, reason, bound).entry(index))
        return errors

    def _refuse(self, batch: Batch, answers: Answers) -> NoReturn:
        """A single call fails as a whole."""
        index, reason = answers.failures[0]
        refused = self._explained(batch, index, reason, 0)
        if reason in _TABLE_HELPS and self._node.table:
            refused.table = self._wire_table()
        raise refused

    def _explained(self, batch: Batch, index: int, reason: str, bound: int) -> Refused:
        cluster = self._node.cluster
        size, limit = cluster.section_size, cluster.uid_limit
        return explained(batch, index, reason, bound, section_size=size, uid_limit=limit)

    def _newer(self, known: int, answers: Answers | None = None) -> pb.RoutingTable | None:
        """The table, for a caller whose own is old or led it here wrongly."""
        version = self._node.router.version
        if not known or not version:
            return None
        wrong = answers is not None and any(r == "NOT_OWNER" for _, r in answers.failures)
        # A table of the same version that leads here has other routes: it is of another history.
        if wrong and known >= version:
            self._node.known_beyond(known)
        return self._wire_table() if known < version or wrong else None

    def _wire_table(self, *, for_peers: bool | None = None) -> pb.RoutingTable:
        """for_peers: with the addresses of peer ports; None: as this port is one."""
        which = self._for_peers if for_peers is None else for_peers
        table = self._node.peer_table if which else self._node.table
        version, wire = self._tables.get(which, (0, pb.RoutingTable()))
        if table is not None and table.version != version:
            version, wire = self._tables[which] = table.version, table_to_wire(table)
        return wire


async def abort(context: Any, refused: Refused) -> NoReturn:
    """End the call with a rich status."""
    await ending.abort_with(context, refused.status())


def _serialize(response: Any) -> bytes:
    """Of a message, or of one that is packed already."""
    raw: bytes = response if isinstance(response, bytes) else response.SerializeToString()
    return raw
