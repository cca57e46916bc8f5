"""grpc.aio over the simulated network: as much of it as the product uses.

`Server` takes the generic handlers that the product gives to a grpc.aio server; `Channel` is what
`grpc.aio.insecure_channel` returns inside a run. Messages are serialized, errors are genuine
AioRpcErrors with their metadata, deadlines are the caller's own, a deadline or a cancellation
reaches the handler as a cancellation, and one that is late is one that arrives late.

A call to a host whose process is gone is refused; one to a host without power is silence. Single
calls may be lost and doubled on the way (to the protocol a lost call and a broken connection are
the same: nobody knows what came of it). Messages of a stream arrive in order or the stream breaks.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio

from simsvr.hosts import Host, here
from simsvr.network import Network

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
STALLED_NS = 8_000_000_000
"""How long a connection hangs before it is given up."""
_AGAIN_NS = 200_000_000

Raw = bytes


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended without an answer."""

    code: grpc.StatusCode
    details: str = ""
    metadata: tuple[tuple[str, Any], ...] = ()

    def error(self) -> grpc.aio.AioRpcError:
        trailing = grpc.aio.Metadata(*self.metadata)
        return grpc.aio.AioRpcError(self.code, grpc.aio.Metadata(), trailing, self.details)


class _Aborted(Exception):
    def __init__(self, status: Status) -> None:
        super().__init__(status.details)
        self.status = status


def name_of(address: str) -> str:
    """The host of an address NAME:PORT."""
    return address.rpartition(":")[0]


class Wires:
    """All servers of a run, by address."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.servers: dict[str, Server] = {}

    def open_channel(self, address: str, options: Any = None) -> "Channel":
        """In the place of grpc.aio.insecure_channel."""
        del options
        return Channel(self, here(), address)


class Server:
    """A port of a host. Serves from its making to `close` or the host's end."""

    def __init__(self, wires: Wires, host: Host, address: str, *handlers: Any) -> None:
        self.host = host
        self.calls: dict[int, Any] = {}
        self._wires = wires
        self._address = address
        self._handlers = handlers
        wires.servers[address] = self
        host.on_crash.append(self._crashed)

    def close(self) -> None:
        """Refuse calls from here on; those under way end as if the process had gone."""
        if self._wires.servers.get(self._address) is self:
            del self._wires.servers[self._address]
        self._break(cancel=True)

    def handler(self, method: str) -> Any:
        details = SimpleNamespace(method=method, invocation_metadata=())
        for generic in self._handlers:
            found = generic.service(details)
            if found is not None:
                return found
        return None

    def _crashed(self, silent: bool) -> None:
        if silent:
            self.calls.clear()
        else:
            self._break(cancel=False)

    def _break(self, *, cancel: bool) -> None:
        calls, self.calls = list(self.calls.values()), {}
        for call in calls:
            call.server_gone(cancel=cancel)


class _Context:
    """What handlers are given with a single call."""

    def __init__(self, left_s: float | None) -> None:
        self._until_s = None if left_s is None else _now_s() + left_s

    def time_remaining(self) -> float | None:
        return None if self._until_s is None else max(0.0, self._until_s - _now_s())

    def peer(self) -> str:
        return "a host"

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda _: callback(self))

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> None:
        raise _Aborted(Status(code, details, tuple(metadata)))

    async def abort_with_status(self, status: Any) -> None:
        raise _Aborted(Status(status.code, status.details, tuple(status.trailing_metadata)))


class _Unary:
    """One call, on its way there and back."""

    def __init__(self, channel: "Channel", method: str, raw: Raw, left_s: float | None) -> None:
        self.answer: asyncio.Future[Raw | Status] = asyncio.get_running_loop().create_future()
        self._channel = channel
        self._method = method
        self._raw = raw
        self._left_s = left_s
        self._serial = channel.serial()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: Server | None = None
        self.refused = False

    def send(self) -> None:
        network, source, target = self._channel.route()
        self.refused = False
        network.send(source, target, self._arrived)
        if "Store" in self._method and network.doubles(source, target):
            network.send(source, target, self._arrived)

    def _arrived(self) -> None:
        server = self._channel.server()
        if server is None:
            if self._channel.answers_refusals():
                self._back(self._refuse)
            return
        self._server = server
        server.calls[self._serial] = self
        self._tasks.append(server.host.spawn(self._serve(server)))

    async def _serve(self, server: Server) -> None:
        result: Raw | Status
        try:
            result = await self._handled(server)
        except _Aborted as aborted:
            result = aborted.status
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - as grpc does
            result = Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")
        server.calls.pop(self._serial, None)
        self._back(self._settle, result)

    async def _handled(self, server: Server) -> Raw:
        handler = server.handler(self._method)
        if handler is None:
            raise _Aborted(Status(grpc.StatusCode.UNIMPLEMENTED, self._method))
        decode, encode = handler.request_deserializer, handler.response_serializer
        request = decode(self._raw) if decode else self._raw
        answer = await handler.unary_unary(request, _Context(self._left_s))
        raw: Raw = encode(answer) if encode else answer
        return raw

    def server_gone(self, *, cancel: bool) -> None:
        if cancel:
            for task in self._tasks:
                task.cancel()
        status = Status(UNAVAILABLE, "the connection was reset")
        self._back(self._settle, status)

    def _back(self, deliver: Callable[..., None], *args: Any) -> None:
        network, _, target = self._channel.route()
        network.send_to(target, self._channel.host, deliver, *args)

    def _refuse(self) -> None:
        self.refused = True
        self._settle(Status(UNAVAILABLE, "connection refused"))

    def _settle(self, result: Raw | Status) -> None:
        if not self.answer.done():
            self.answer.set_result(result)

    def abandon(self) -> None:
        """Nobody waits for it any more: let the handler know."""
        server = self._server
        if server is None or self._serial not in server.calls:
            return
        network, source, _ = self._channel.route()
        network.send_to(source, server.host, self._cancel)

    def _cancel(self) -> None:
        if self._server is not None:
            self._server.calls.pop(self._serial, None)
        for task in self._tasks:
            task.cancel()


class Channel:
    """A connection of `host` to an address."""

    def __init__(self, wires: Wires, host: Host, address: str) -> None:
        self.host = host
        self.address = address
        self._wires = wires
        self._state = grpc.ChannelConnectivity.IDLE
        self._news = asyncio.Event()
        self._calls: dict[int, Any] = {}
        self._closed = False

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        del grace
        self._closed = True
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            if isinstance(call, _Unary):
                call.answer.cancel()
            else:
                call.cancel()
        self._become(grpc.ChannelConnectivity.SHUTDOWN)

    # -- what calls need

    def serial(self) -> int:
        return next(self.host.loop.serials)

    def route(self) -> tuple[Network, str, str]:
        return self._wires.network, self.host.name, name_of(self.address)

    def server(self) -> Server | None:
        server = self._wires.servers.get(self.address)
        return None if server is None or server.host.crashed else server

    def answers_refusals(self) -> bool:
        """Whether there is a kernel that says that nobody listens."""
        return self._wires.network.powered(name_of(self.address))

    # -- calls

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        **_: Any,
    ) -> Callable[..., Any]:
        async def call(
            request: Any,
            *,
            timeout: float | None = None,
            wait_for_ready: bool | None = None,
            metadata: Any = None,
        ) -> Any:
            del metadata
            raw = request_serializer(request)
            answer = await self._call(method, raw, timeout, bool(wait_for_ready))
            return response_deserializer(answer)

        return call

    async def _call(self, method: str, raw: Raw, timeout_s: float | None, wait: bool) -> Raw:
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        until_s = None if timeout_s is None else _now_s() + timeout_s
        while True:
            left_s = None if until_s is None else until_s - _now_s()
            call = _Unary(self, method, raw, left_s)
            result = await self._answer(call, left_s)
            if isinstance(result, bytes):
                return result
            if not (call.refused and wait):
                raise result.error()
            await asyncio.sleep(random.uniform(0.05, 0.4))

    async def _answer(self, call: _Unary, left_s: float | None) -> Raw | Status:
        serial = self.serial()
        self._calls[serial] = call
        timer = None
        if left_s is not None:
            late = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            timer = asyncio.get_running_loop().call_later(max(left_s, 0), call._settle, late)
        call.send()
        try:
            return await call.answer
        finally:
            self._calls.pop(serial, None)
            if timer is not None:
                timer.cancel()
            call.abandon()

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        **_: Any,
    ) -> Callable[..., "Stream"]:
        def call(metadata: Any = None) -> Stream:
            del metadata
            stream = Stream(self, method, request_serializer, response_deserializer)
            self._calls[self.serial()] = stream
            return stream

        return call

    # The generated stubs ask for all kinds.
    unary_stream = stream_unary = stream_stream

    # -- its state

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY is never left by itself: streams and calls find out."""
        idle = self._state in (
            grpc.ChannelConnectivity.IDLE,
            grpc.ChannelConnectivity.TRANSIENT_FAILURE,
        )
        state = self._state
        if try_to_connect and idle and not self._closed:
            self._state = grpc.ChannelConnectivity.CONNECTING
            asyncio.get_running_loop().create_task(self._connect())
            if state is grpc.ChannelConnectivity.IDLE:
                return grpc.ChannelConnectivity.CONNECTING
        return state

    async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
        while self._state is last:
            await self._news.wait()

    def broken(self) -> None:
        """A connection has turned out to be none."""
        if self._state is grpc.ChannelConnectivity.READY:
            self._become(grpc.ChannelConnectivity.IDLE)

    async def _connect(self) -> None:
        network, source, target = self.route()
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(ready: bool) -> None:
            if not answered.done():
                answered.set_result(ready)

        def answer(ready: bool) -> None:
            network.send(target, source, lambda: self.host.call_soon(settle, ready))

        def arrived() -> None:
            server = self.server()
            if server is not None:
                server.host.call_soon(answer, True)  # a process that is stopped says nothing
            elif self.answers_refusals():
                answer(False)

        network.send(source, target, arrived)
        timer = asyncio.get_running_loop().call_later(1.0, settle, False)
        ready = await answered
        timer.cancel()
        if self._closed:
            return
        states = grpc.ChannelConnectivity
        self._become(states.READY if ready else states.TRANSIENT_FAILURE)

    def _become(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state
        news, self._news = self._news, asyncio.Event()
        news.set()


class _End:
    """One end of a stream: what has arrived there, and what it sends."""

    def __init__(self) -> None:
        self.arrived: deque[Any] = deque()
        self.news = asyncio.Event()
        self.last_ns = 0  # when the message before this one arrives at the other end
        self.unsent: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self.arrived.append(item)
        self.news.set()

    async def take(self) -> Any:
        while not self.arrived:
            self.news.clear()
            await self.news.wait()
        item = self.arrived[0]
        if not isinstance(item, Status) and item is not grpc.aio.EOF:
            self.arrived.popleft()
        return item


class Stream:
    """A bidirectional stream, seen by the caller; `_ServerSide` is the handler's context."""

    def __init__(self, channel: Channel, method: str, encode: Any, decode: Any) -> None:
        self._channel = channel
        self._method = method
        self._encode = encode
        self._decode = decode
        self._near, self._far = _End(), _End()
        self._over: Status | None = None
        self._task: asyncio.Task[None] | None = None
        self._server: Server | None = None
        self._serial = channel.serial()
        self._begun = False

    # -- the caller's

    async def write(self, message: Any) -> None:
        if self._over is not None:
            raise asyncio.InvalidStateError("RPC is over")
        self._start()
        self._ship(self._encode(message), to_server=True)

    async def read(self) -> Any:
        self._start()
        item = await self._near.take()
        if isinstance(item, Status):
            raise item.error()
        return item if item is grpc.aio.EOF else self._decode(item)

    def cancel(self) -> None:
        if self._over is None:
            self._end(Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))
            self._tell_server()

    def _start(self) -> None:
        if not self._begun:
            self._begun = True
            self._ship(_OPEN, to_server=True)

    def _end(self, status: Status) -> None:
        if self._over is None:
            self._over = status
            self._near.put(status)
            if status.code is UNAVAILABLE:
                self._channel.broken()

    def _tell_server(self) -> None:
        network, source, _ = self._channel.route()
        if self._server is not None:
            network.send_to(source, self._server.host, self._cancel_handler)

    def _cancel_handler(self) -> None:
        if self._server is not None:
            self._server.calls.pop(self._serial, None)
        if self._task is not None:
            self._task.cancel()

    # -- transport: in order, again and again for a while, then the connection is given up

    def _ship(self, item: Any, *, to_server: bool) -> None:
        end = self._far if to_server else self._near
        end.unsent.append(item)
        if len(end.unsent) == 1:
            self._push(end, to_server, self._channel.host.loop.now_ns + STALLED_NS)

    def _push(self, end: _End, to_server: bool, until_ns: int) -> None:
        network, near, far = self._channel.route()
        source, target = (near, far) if to_server else (far, near)
        now_ns = network.loop.now_ns
        while end.unsent:
            delay_ns = network.delay_ns(source, target)
            if delay_ns is None:
                if now_ns > until_ns:
                    self._given_up()
                else:
                    network.at(_AGAIN_NS, lambda: self._push(end, to_server, until_ns))
                return
            item = end.unsent.popleft()
            end.last_ns = max(now_ns + delay_ns, end.last_ns + 1)
            if to_server:
                network.loop.at_ns(end.last_ns, self._at_server, item)
            else:
                context = self._channel.host.context
                network.loop.at_ns(end.last_ns, self._at_caller, item, context=context)

    def _given_up(self) -> None:
        status = Status(UNAVAILABLE, "keepalive watchdog timeout")
        self._channel.host.call_soon(self._end, status)
        if self._server is not None:
            self._server.host.call_soon(self._cancel_handler)

    def _at_server(self, item: Any) -> None:
        if item is _OPEN:
            server = self._channel.server()
            if server is None:
                if self._channel.answers_refusals():
                    self._ship(Status(UNAVAILABLE, "connection refused"), to_server=False)
                else:
                    self._channel.route()[0].at(STALLED_NS, self._given_up)
                return
            self._server = server
            server.calls[self._serial] = self
            self._task = server.host.spawn(self._serve(server))
        elif self._server is None:
            return
        elif not self._server.host.crashed:
            self._server.host.call_soon(self._far.put, item)
        elif self._channel.answers_refusals():  # a kernel that knows of no such connection
            self._ship(Status(UNAVAILABLE, "the connection was reset"), to_server=False)
        else:
            network = self._channel.route()[0]
            network.at(_AGAIN_NS, lambda: self._at_server(item))

    def _at_caller(self, item: Any) -> None:
        if isinstance(item, Status):
            self._end(item)
        else:
            self._near.put(item)

    # -- the handler's

    def server_gone(self, *, cancel: bool) -> None:
        if cancel and self._task is not None:
            self._task.cancel()
        self._ship(Status(UNAVAILABLE, "the connection was reset"), to_server=False)

    async def _serve(self, server: Server) -> None:
        handler = server.handler(self._method)
        status = Status(grpc.StatusCode.OK)
        try:
            await handler.stream_stream(None, _ServerSide(self, handler))
        except _Aborted as aborted:
            status = aborted.status
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - as grpc does
            status = Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")
        server.calls.pop(self._serial, None)
        over = grpc.aio.EOF if status.code is grpc.StatusCode.OK else status
        self._ship(over, to_server=False)


class _ServerSide(_Context):
    def __init__(self, stream: Stream, handler: Any) -> None:
        super().__init__(None)
        self._stream = stream
        self._handler = handler

    async def read(self) -> Any:
        item = await self._stream._far.take()
        return item if item is grpc.aio.EOF else self._handler.request_deserializer(item)

    async def write(self, message: Any) -> None:
        self._stream._ship(self._handler.response_serializer(message), to_server=False)


_OPEN = object()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
