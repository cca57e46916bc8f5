"""The services of an etcd, and the ways in which it can be told to lie."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as pb
from etcd3.etcdrpc import rpc_pb2_grpc

from fake_etcd.state import State, since

TICK_S = 0.02


class FakeEtcd(
    rpc_pb2_grpc.KVServicer,  # type: ignore[misc]
    rpc_pb2_grpc.LeaseServicer,  # type: ignore[misc]
    rpc_pb2_grpc.WatchServicer,  # type: ignore[misc]
    rpc_pb2_grpc.AuthServicer,  # type: ignore[misc]
):
    """A context manager: one member on 127.0.0.1. Its attributes are the lies, all off at first.

    old_reads: reads show the state at this revision. silent: watches take requests and say
    nothing. eventless: they report progress, and no events. no_progress: the other way round.
    repeats: each watch response is sent twice, and old events before it. cancels: so many watches
    are cancelled right after their creation. compacted: watches that begin before this revision
    are refused. mute: transactions are done, and never answered. hold: they are neither done nor
    answered until `release`. token: calls without it are refused; Authenticate gives it out.
    """

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        self.old_reads: int | None = None
        self.silent = self.eventless = self.no_progress = self.repeats = False
        self.mute = self.hold = False
        self.cancels = self.compacted = 0
        self.token: str | None = None
        self.authentications = 0
        self.watches: list[int] = []
        self.held: list[Any] = []
        self.calls: list[tuple[str, dict[str, str]]] = []
        self._server = grpc.aio.server()
        for add in (
            rpc_pb2_grpc.add_KVServicer_to_server,
            rpc_pb2_grpc.add_LeaseServicer_to_server,
            rpc_pb2_grpc.add_WatchServicer_to_server,
            rpc_pb2_grpc.add_AuthServicer_to_server,
        ):
            add(self, self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    async def __aenter__(self) -> "FakeEtcd":
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(None)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._port}"

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def release(self) -> None:
        """Do, far too late, the transactions that were held."""
        self.hold = False
        for request in self.held:
            with contextlib.suppress(KeyError):
                self.state.transact(request)
        self.held.clear()

    # -- the services; their names are the wire's

    async def Range(self, request: Any, context: Any) -> Any:
        await self._called("Range", context)
        return self.state.range(request, self.old_reads)

    async def Txn(self, request: Any, context: Any) -> Any:
        await self._called("Txn", context)
        if self.hold:
            self.held.append(request)
            await asyncio.Event().wait()
        try:
            answer = self.state.transact(request)
        except KeyError:
            text = "etcdserver: requested lease not found"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        if self.mute:
            await asyncio.Event().wait()
        return answer

    async def LeaseGrant(self, request: Any, context: Any) -> Any:
        await self._called("LeaseGrant", context)
        lease = self.state.grant(request.TTL)
        return pb.LeaseGrantResponse(header=self.state.header(), ID=lease, TTL=request.TTL)

    async def LeaseRevoke(self, request: Any, context: Any) -> Any:
        await self._called("LeaseRevoke", context)
        self.state.drop(request.ID)
        return pb.LeaseRevokeResponse(header=self.state.header())

    async def LeaseKeepAlive(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        await self._called("LeaseKeepAlive", context)
        async for request in requests:
            ttl = self.state.leases.get(request.ID, 0)
            yield pb.LeaseKeepAliveResponse(header=self.state.header(), ID=request.ID, TTL=ttl)

    async def Authenticate(self, request: Any, context: Any) -> Any:
        self.authentications += 1
        if self.token is None:
            text = "etcdserver: authentication is not enabled"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        return pb.AuthenticateResponse(header=self.state.header(), token=self.token)

    async def Watch(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        await self._called("Watch", context)
        create = (await anext(aiter(requests))).create_request
        self.watches.append(create.start_revision)
        progress = asyncio.Queue[None]()
        reading = asyncio.ensure_future(self._read(requests, progress))
        try:
            async for response in self._watch(create, progress):
                yield response
                if response.canceled:
                    return
        finally:
            reading.cancel()

    async def _watch(self, create: Any, progress: "asyncio.Queue[None]") -> AsyncIterator[Any]:
        while self.silent:
            await asyncio.sleep(TICK_S)
        yield self._response(created=True)
        if self.cancels:
            self.cancels -= 1
            yield self._response(canceled=True, cancel_reason="for no reason")
        if create.start_revision < self.compacted:
            yield self._response(canceled=True, compact_revision=self.compacted)
        following = create.start_revision
        while True:
            await asyncio.sleep(TICK_S)
            while not progress.empty():
                progress.get_nowait()
                if not (self.silent or self.no_progress):
                    yield self._response()
            events = since(self.state.events, create, following)
            if self.silent or self.eventless or not events:
                continue
            following = self.state.revision + 1
            if self.repeats:
                yield self._response(events=since(self.state.events, create, 0))
                yield self._response(events=events)
            yield self._response(events=events)

    async def _read(self, requests: Any, progress: "asyncio.Queue[None]") -> None:
        async for _ in requests:
            progress.put_nowait(None)

    def _response(self, **fields: Any) -> Any:
        return pb.WatchResponse(header=self.state.header(), **fields)

    async def _called(self, method: str, context: Any) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.calls.append((method, metadata))
        if self.token is not None and metadata.get("token") != self.token:
            text = "etcdserver: invalid auth token"
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
