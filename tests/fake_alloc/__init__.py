"""An Alloc server for tests of the client: real gRPC on 127.0.0.1, behaviour by script.

It keeps its numbers in a dictionary, notes every request, and answers each session request at
once unless `script` says otherwise. It knows nothing of leases, stores or windows.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio
from grpc_status import rpc_status

from seqsvr.errors import reason_value
from seqsvr.v1 import alloc_pb2, alloc_pb2_grpc
from seqsvr.wire import refusal

Reply = Callable[[alloc_pb2.SessionResponse], Awaitable[None]]
Script = Callable[[alloc_pb2.SessionRequest, Reply], Awaitable[None]]

SECTION_SIZE = 100
UID_LIMIT = 10_000
CLUSTER = "test-cluster"


class FakeAlloc(alloc_pb2_grpc.AllocServicer):
    """`async with FakeAlloc() as node:` serves at `node.address`, and owns every section.

    script: called for each session request with it and a function that sends an answer. route:
    "table", "hang", or the reason of a refusal. attach: add the table to answers to requests of
    another version, as a real node does. admin_table: for those who ask for it, if there is one.
    security: None for connections in the clear. denies: a status that ends every call as it comes.
    """

    def __init__(
        self,
        *,
        script: Script | None = None,
        route: str = "table",
        security: grpc.ServerCredentials | None = None,
    ) -> None:
        self.script: Script = script or self.answer
        self.security = security
        self.denies: grpc.StatusCode | None = None
        # Of all calls and streams, in order of arrival: tokens, and names in client certificates.
        self.tokens: list[str] = []
        self.callers: list[str] = []
        self.admin_table: alloc_pb2.RoutingTable | None = None
        self.route = route
        self.attach = True
        self.epoch = 1
        self.numbers: dict[int, int] = {}
        self.requests: list[alloc_pb2.SessionRequest] = []
        self.advances: list[alloc_pb2.AdvanceSeqRequest] = []
        self.advancing: Callable[[alloc_pb2.AdvanceSeqRequest, Any], Awaitable[Any]] | None = None
        self.route_calls = 0
        self.streams = 0
        self.address = ""
        self.table = alloc_pb2.RoutingTable()
        self._enders: set[asyncio.Future[grpc.StatusCode]] = set()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        self.table = table_of({(0, UID_LIMIT // SECTION_SIZE - 1): self.address})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen: on the same port as before, if there was one."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        alloc_pb2_grpc.add_AllocServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.add_others(self._server)
        wanted = self.address or "127.0.0.1:0"
        if self.security is None:
            port = self._server.add_insecure_port(wanted)
        else:
            port = self._server.add_secure_port(wanted, self.security)
        self.address = self.address or f"127.0.0.1:{port}"
        await self._server.start()

    def add_others(self, server: grpc.aio.Server) -> None:
        """For those who want more services on it."""

    async def stop(self) -> None:
        """Break every stream and stop listening. Numbers and requests stay."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def break_streams(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """End every session stream with an error; new ones are welcome."""
        for ended in list(self._enders):
            ended.set_result(code)
        self._enders.clear()

    # --- what tests look at

    @property
    def batches(self) -> list[list[int]]:
        """The uids of each session request, in order of arrival."""
        return [list(body_of(request).uids) for request in self.requests]

    @property
    def open_streams(self) -> int:
        return len(self._enders)

    # --- the service

    async def GetRoute(self, request: alloc_pb2.GetRouteRequest, context: Any) -> Any:
        self.route_calls += 1
        await self._admit(context)
        if self.route == "hang":
            await asyncio.Event().wait()
        if self.route != "table":
            status = rpc_status.to_status(refusal(self.route, "by script"))
            await context.abort_with_status(status)
        table = self.admin_table if request.admin and self.admin_table else self.table
        if request.known_version >= table.version:
            return alloc_pb2.GetRouteResponse()
        return alloc_pb2.GetRouteResponse(table=table)

    async def AdvanceSeq(self, request: alloc_pb2.AdvanceSeqRequest, context: Any) -> Any:
        self.advances.append(request)
        await self._admit(context)
        if self.advancing is not None:
            return await self.advancing(request, context)
        return self.advanced(request)

    def advanced(self, request: alloc_pb2.AdvanceSeqRequest) -> alloc_pb2.AdvanceSeqResponse:
        """Every uid is raised."""
        for uid, floor in zip(request.uids, request.at_least, strict=True):
            self.numbers[uid] = max(self.numbers.get(uid, 0), floor)
        seqs = [self.numbers[uid] for uid in request.uids]
        return alloc_pb2.AdvanceSeqResponse(seqs=seqs, epochs=[self.epoch])

    async def Session(self, requests: AsyncIterator[Any], context: Any) -> None:
        self.streams += 1
        await self._admit(context)
        ended: asyncio.Future[grpc.StatusCode] = asyncio.get_running_loop().create_future()
        self._enders.add(ended)
        reader = asyncio.create_task(self._serve(requests, context))
        try:
            either: list[asyncio.Future[Any]] = [reader, ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await context.abort(ended.result(), "broken by the test")
        finally:
            self._enders.discard(ended)
            reader.cancel()

    async def _admit(self, context: Any) -> None:
        told = dict(context.invocation_metadata() or ())
        self.tokens.append(told.get("authorization", ""))
        names = context.auth_context().get("x509_common_name", [b""])
        self.callers.append(names[0].decode())
        if self.denies is not None:
            await context.abort(self.denies, "by script")

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> None:
        lock = asyncio.Lock()

        async def reply(response: alloc_pb2.SessionResponse) -> None:
            async with lock:
                await context.write(response)

        async with asyncio.TaskGroup() as tasks:
            async for request in requests:
                self.requests.append(request)
                if self.script == self.answer:
                    await self.answer(request, reply)
                else:
                    tasks.create_task(self.script(request, reply))  # type: ignore[arg-type]

    # --- pieces for scripts

    async def answer(self, request: alloc_pb2.SessionRequest, reply: Reply) -> None:
        """Answer the whole request in one message."""
        await reply(self.answered(request))

    async def never(self, request: alloc_pb2.SessionRequest, reply: Reply) -> None:
        """Accept and say nothing, like a frozen process."""

    def answered(
        self,
        request: alloc_pb2.SessionRequest,
        indexes: Sequence[int] | None = None,
        *,
        more: bool = False,
    ) -> alloc_pb2.SessionResponse:
        """The answer to a request, or to some entries of it."""
        body = body_of(request)
        picked = range(len(body.uids)) if indexes is None else indexes
        uids = [body.uids[i] for i in picked]
        response = alloc_pb2.SessionResponse(id=request.id, indexes=indexes or (), more=more)
        if request.HasField("next"):
            counts = [body.counts[i] if body.counts else 1 for i in picked]
            seqs = [self._take(uid, count) for uid, count in zip(uids, counts, strict=True)]
            response.next.seqs.extend(seqs)
            response.next.epochs.append(self.epoch)
            answer: Any = response.next
        else:
            response.current.seqs.extend(self.numbers.get(uid, 0) for uid in uids)
            response.current.exact.extend(True for _ in uids)
            response.current.epochs.append(self.epoch)
            answer = response.current
        if self.attach and body.route_version < self.table.version:
            answer.table.CopyFrom(self.table)
        return response

    def failed(
        self, request: alloc_pb2.SessionRequest, reason: str, **details: Any
    ) -> alloc_pb2.SessionResponse:
        """An answer in which every entry failed."""
        body = body_of(request)
        response = alloc_pb2.SessionResponse(id=request.id)
        answer: Any = response.next if request.HasField("next") else response.current
        for index in range(len(body.uids)):
            answer.seqs.append(0)
            answer.errors.add(index=index, reason=reason_value(reason), text=reason, **details)
        if request.HasField("current"):
            answer.exact.extend(False for _ in body.uids)
        if self.attach and body.route_version < self.table.version:
            answer.table.CopyFrom(self.table)
        return response

    def refusing(self, reason: str, times: int = 2**31, **details: Any) -> Script:
        """A script that refuses every entry of the first `times` requests, then answers."""
        left = times

        async def script(request: alloc_pb2.SessionRequest, reply: Reply) -> None:
            nonlocal left
            if left == 0:
                await self.answer(request, reply)
                return
            left -= 1
            await reply(self.failed(request, reason, **details))

        return script

    def _take(self, uid: int, count: int) -> int:
        first = self.numbers.get(uid, 0) + 1
        self.numbers[uid] = first + count - 1
        return first


def body_of(request: alloc_pb2.SessionRequest) -> Any:
    return request.next if request.HasField("next") else request.current


def table_of(
    owners: dict[tuple[int, int], str], *, version: int = 1, epoch: int = 1, cluster: str = CLUSTER
) -> alloc_pb2.RoutingTable:
    """A table of (first, last section) -> address."""
    addresses = list(dict.fromkeys(owners.values()))
    return alloc_pb2.RoutingTable(
        cluster=cluster,
        version=version,
        section_size=SECTION_SIZE,
        uid_limit=UID_LIMIT,
        addresses=addresses,
        routes=[
            alloc_pb2.Route(
                first_section=first,
                last_section=last,
                address=addresses.index(address),
                epoch=epoch,
            )
            for (first, last), address in sorted(owners.items())
        ],
    )
