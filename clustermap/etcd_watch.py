"""A watch that moves from member to member, and goes on after the last change it told.

One stream at a time, read by nobody but the watch itself, so a change is told as soon as it comes
in. What an etcd watch can do wrong, and what is done about it:

* It ends, fails, or its member loses the leader (`hasleader`): the next member continues after the
  last change told. What was told before is filtered out.
* It is cancelled: likewise. Because its changes were compacted away: MapUnavailable, list again.
* It says nothing, and perhaps never will. After quiet_s its member is asked to report progress,
  and to read through the quorum. A member that cannot read is frozen or cut off: on to the next
  one. One that can, and has reached the watch's revision, and still reports no progress several
  times on end, has lost the stream: on to the next one.
* The map was wiped or restored, and its revisions begin anew: MapUnavailable, list again, as the
  changes that come next would not be told for as long as it takes to reach the old revision.

Progress reports are signs of life, no more: old versions of etcd send them ahead of the changes.
Where a whole timeout_s long no member serves the watch, it raises MapUnavailable.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as pb

from clustermap.coordinator import Change
from clustermap.errors import MapUnavailable
from clustermap.etcd_endpoints import Endpoints
from clustermap.etcd_requests import Keyspace
from clustermap.etcd_rpc import HAS_LEADER, Endpoint, EtcdFailed, Metadata, inward

_PAUSE_S = 0.1
_UNANSWERED = 3
_PROGRESS = pb.WatchRequest(progress_request=pb.WatchProgressRequest())


class Watches:
    """Makes watches, and ends them all."""

    def __init__(self, endpoints: Endpoints, keyspace: Keyspace) -> None:
        self._endpoints = endpoints
        self._keyspace = keyspace
        self._streams: set[_Stream] = set()
        self._closed = False

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        """See Coordinator.watch."""
        told = after_revision
        metrics = self._endpoints.metrics
        metrics.watches.inc()
        patience = _Patience(self._endpoints.options.timeout_s)
        while not self._closed:
            stream = _Stream(self._endpoints, self._keyspace.watch(prefix, told + 1), told + 1)
            self._streams.add(stream)
            try:
                async with aclosing(stream.responses()) as responses:
                    async for response in responses:
                        for change in self._keyspace.changes(response.events, told):
                            told = change.revision
                            yield change
            except EtcdFailed as failed:
                metrics.watch_restarts.labels(failed.code).inc()
                if not patience.lasts(stream.served):
                    raise
            except MapUnavailable:
                metrics.watch_restarts.labels("list").inc()
                raise
            finally:
                self._streams.discard(stream)
            if not self._closed:
                await asyncio.sleep(random.uniform(_PAUSE_S / 2, _PAUSE_S))

    def close(self) -> None:
        """Every watch ends, also those that wait for a change."""
        self._closed = True
        for stream in self._streams:
            stream.close()


class _Patience:
    """How long a watch goes on without any member serving it."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._failing_since_s: float | None = None

    def lasts(self, served: bool) -> bool:
        """Note the failure of a stream that has served or not; False if it is enough."""
        now_s = asyncio.get_running_loop().time()
        if served or self._failing_since_s is None:
            self._failing_since_s = now_s
        return now_s - self._failing_since_s < self._limit_s


class _Stream:
    """One watch at one member."""

    def __init__(self, endpoints: Endpoints, create: Any, start_revision: int) -> None:
        self.served = False  # it has shown that it works
        self._endpoints = endpoints
        self._endpoint: Endpoint = endpoints.best()
        self._create = create
        self._start_revision = start_revision
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._created = False
        self._reading = False
        self._heard = False
        self._unanswered = 0

    def close(self) -> None:
        if not self._closing.done():
            self._closing.set_result(None)

    async def responses(self) -> AsyncGenerator[Any, None]:
        """What the member sends, none of it a refusal. Raises EtcdFailed, and MapUnavailable."""
        try:
            async with aclosing(self._responses()) as responses:
                async for response in responses:
                    yield response
        except EtcdFailed as failed:
            self._endpoints.failed(self._endpoint, failed)
            raise

    async def _responses(self) -> AsyncGenerator[Any, None]:
        endpoint = self._endpoint
        metadata = await endpoint.metadata()
        with ExitStack() as stack:
            async with inward(endpoint.address):  # it may be closed by now
                member = stack.enter_context(endpoint.link.lent())
                call = member.watch.Watch(metadata=metadata + HAS_LEADER)
            async with aclosing(self._told(call, metadata)) as responses:
                async for response in responses:
                    yield response

    async def _told(self, call: Any, metadata: Metadata) -> AsyncGenerator[Any, None]:
        endpoint = self._endpoint
        pulse = asyncio.create_task(self._pulse(call))
        try:
            async with inward(endpoint.address, self._endpoints.options.attempt_s):
                await call.write(self._create)
            while (response := await self._next(call, pulse)) is not None:
                if response.canceled:
                    if not response.compact_revision:  # it may be for want of a good token
                        endpoint.forget(metadata)
                    raise self._cancelled(response)
                self._endpoints.answered(endpoint)
                yield response
        finally:
            call.cancel()
            await _end(pulse)

    async def _next(self, call: Any, pulse: "asyncio.Task[None]") -> Any:
        """The next response, None when closing. Raises EtcdFailed."""
        self._reading = True
        reading = asyncio.create_task(_read(call, self._endpoint.address))
        try:
            await asyncio.wait({reading, pulse, self._closing}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done():
                return None
            if not reading.done():
                pulse.result()  # raises: it ends in no other way
            response = reading.result()
        finally:
            self._reading = False
            await _end(reading)
        self._heard = True
        self._unanswered = 0
        self._created = self._created or response.created
        self.served = self.served or not (response.created or response.canceled)
        return response

    def _cancelled(self, response: Any) -> MapUnavailable:
        if response.compact_revision:
            text = f"changes before revision {response.compact_revision} are no longer known"
            return MapUnavailable(text)
        text = f"the watch was cancelled: {response.cancel_reason}"
        return EtcdFailed(self._endpoint.address, "ABORTED", text)

    async def _pulse(self, call: Any) -> None:
        """Sees that the stream lives; raises EtcdFailed once it does not."""
        while True:
            self._heard = False
            await asyncio.sleep(self._endpoints.options.quiet_s)
            if self._heard or not self._reading:
                continue
            async with inward(self._endpoint.address, self._endpoints.options.attempt_s):
                await call.write(_PROGRESS)
            revision = await self._endpoints.probe(self._endpoint)
            if revision < self._start_revision - 1:
                # Read through the quorum, so it can be no mere lag.
                raise MapUnavailable("the map is older than it was: wiped, or restored")
            if self._created and revision < self._start_revision:
                # No progress is reported before the revision that the watch begins with.
                self.served = True
            else:
                self._unanswered += 1
            if self._unanswered > _UNANSWERED:
                raise EtcdFailed(self._endpoint.address, "ABORTED", "the watch says nothing")


async def _read(call: Any, address: str) -> Any:
    async with inward(address):
        response = await call.read()
    if response is None or response is grpc.aio.EOF:
        raise EtcdFailed(address, "UNAVAILABLE", "the watch ended")
    return response


async def _end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and see it end, however it does."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
