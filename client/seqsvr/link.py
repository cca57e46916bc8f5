"""The way to one address, through every rotation of the certificates that it is opened with."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import grpc.aio

from seqsvr.credentials import Credentials, Metadata

S = TypeVar("S")


class Link(Generic[S]):
    """A channel, opened when first lent, and what `make` builds on it, such as a stub.

    When a new generation of the credentials has begun, what is lent next is on a new channel. The
    old one is closed once all that was lent of it has been given back, so nothing in flight fails.
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
        self._draining: set[_Line[S]] = set()
        self._closing: set[asyncio.Task[None]] = set()
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
        if line is None or line.generation != self.credentials.generation:
            line = self._opened()
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
        lines = [*self._draining, *([] if self._line is None else [self._line])]
        self._draining.clear()
        self._line = None
        await asyncio.gather(*(line.channel.close() for line in lines), *self._closing)

    def _opened(self) -> "_Line[S]":
        old, generation = self._line, self.credentials.generation
        channel = self.credentials.channel(self.address, self._options)
        self._line = _Line(channel, self._make(channel), generation)
        if old is not None:
            self._draining.add(old)
            if not old.users:
                self._close(old)
        return self._line

    def _close(self, line: "_Line[S]") -> None:
        self._draining.discard(line)
        task = asyncio.create_task(line.channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Line(Generic[S]):
    """One channel."""

    def __init__(self, channel: grpc.aio.Channel, stub: S, generation: int) -> None:
        self.channel = channel
        self.stub = stub
        self.generation = generation
        self.users = 0
