"""The way to one address, through every rotation of the certificates that it is opened with."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from seqsvr.credentials import Credentials, Metadata

S = TypeVar("S")


class Link(Generic[S]):
    """A channel, opened when first lent, and what `make` builds on it, such as a stub.

    When a new generation of the credentials has begun, another channel is opened, and lent as soon
    as it is connected: the other end may read its own new files a little later, and until then it
    may refuse ours. The old channel is closed once all that was lent of it has been given back, so
    nothing in flight fails.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        options: Sequence[tuple[str, Any]],
        make: Callable[[grpc.aio.Channel], S],
    ) -> None:
        self.address = address
        self.credentials = credentials
        self._options = options
        self._make = make
        self._line: _Line[S] | None = None
        self._coming: _Line[S] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._draining: set[_Line[S]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def call(
        self, method: str, request: object, *, metadata: Metadata = (), **more: Any
    ) -> Any:
        """The answer of a unary call by a stub; raises what grpc.aio does."""
        with self.lent() as stub:
            whole = (*self.credentials.metadata(), *metadata)
            return await getattr(stub, method)(request, metadata=whole, **more)

    @contextmanager
    def lent(self) -> Iterator[S]:
        """What calls are made by, while they last. Raises grpc.aio.UsageError if closed."""
        if self._closed:
            raise grpc.aio.UsageError("the channel is closed")
        line = self._line
        if line is None:
            line = self._line = self._opened()
        elif line.generation != self.credentials.generation:
            line = self._renewed(line)
        line.users += 1
        try:
            yield line.stub
        finally:
            line.users -= 1
            if line in self._draining and not line.users:
                self._close(line)

    async def aclose(self) -> None:
        """Close every channel; calls in flight fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        lines = [*self._draining, self._line, self._coming]
        self._draining.clear()
        closing = [line.channel.close() for line in lines if line is not None]
        await asyncio.gather(*closing, *self._tasks, return_exceptions=True)

    def _opened(self) -> "_Line[S]":
        generation = self.credentials.generation
        channel = self.credentials.channel(self.address, self._options)
        return _Line(channel, self._make(channel), generation)

    def _renewed(self, line: "_Line[S]") -> "_Line[S]":
        """What to lend while `line` is of an old generation."""
        coming = self._coming
        if coming is None or coming.generation != self.credentials.generation:
            self._give_up()
            coming = self._coming = self._opened()
            self._connecting = self._spawn(self._connect(coming))
        if line.channel.get_state() is grpc.ChannelConnectivity.READY:
            return line
        # It would have to connect as well, and with what may be worth nothing any more.
        if self._connecting is not None:
            self._connecting.cancel()
        self._take(coming)
        return coming

    async def _connect(self, coming: "_Line[S]") -> None:
        await coming.channel.channel_ready()
        if self._coming is coming:
            self._take(coming)

    def _take(self, coming: "_Line[S]") -> None:
        old, self._line, self._coming = self._line, coming, None
        if old is not None:
            self._draining.add(old)
            if not old.users:
                self._close(old)

    def _give_up(self) -> None:
        """One more generation has begun before the last one was connected."""
        if self._coming is not None and self._connecting is not None:
            self._connecting.cancel()
            self._close(self._coming)

    def _close(self, line: "_Line[S]") -> None:
        self._draining.discard(line)
        self._spawn(line.channel.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Line(Generic[S]):
    """One channel."""

    def __init__(self, channel: grpc.aio.Channel, stub: S, generation: int) -> None:
        self.channel = channel
        self.stub = stub
        self.generation = generation
        self.users = 0
