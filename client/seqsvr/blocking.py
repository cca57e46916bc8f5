"""The client for code without an event loop: an AsyncClient in a thread of its own.

Every call is handed to that thread's loop and waited for, so many threads share the batches and
connections of one client. A call for one uid crosses over as its entry alone, with a lock in place
of a future: no task is made for it, and the loop is woken once for all that come while it is busy.
Anything else, and whatever does not go well at once, is a coroutine of the AsyncClient.
"""

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

from seqsvr.calls import (
    Current,
    Entry,
    Failure,
    Op,
    checked_count,
    checked_timeout,
    checked_uid,
    error_of,
)
from seqsvr.client import MAX_IN_FLIGHT, MAX_QUEUE, TIMEOUT_S, AsyncClient
from seqsvr.errors import Unavailable, error_for
from seqsvr.loops import new_event_loop
from seqsvr.routing import RoutingTable
from seqsvr.sections import MAX_JUMP
from seqsvr.tls import Tls

T = TypeVar("T")


class Client:
    """Blocking twin of AsyncClient: the same arguments, methods and errors, from any thread.

    Not from another process: one that forked must make its own client, and gets a RuntimeError
    otherwise (better, it does not fork: what uses grpc should "spawn"). In a coroutine it works,
    and blocks the loop; AsyncClient is meant for that.
    """

    def __init__(
        self,
        seeds: str | Sequence[str],
        *,
        timeout: float = TIMEOUT_S,
        history: str | PathLike[str] | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_queue: int = MAX_QUEUE,
        tls: Tls | None = None,
        token_file: str | PathLike[str] | None = None,
    ) -> None:
        self._client = AsyncClient(
            seeds,
            timeout=timeout,
            history=history,
            max_in_flight=max_in_flight,
            max_queue=max_queue,
            tls=tls,
            token_file=token_file,
        )
        self._thread = _LoopThread()
        # Also at the end of a program that does not close: its history has lines to write.
        self._finalizer = weakref.finalize(self, _shut, self._client, self._thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def next(self, uid: int, *, timeout: float | None = None) -> int:
        """See AsyncClient.next."""
        return self._one(Op.NEXT, uid, 1, timeout).seq or 0

    def next_range(self, uid: int, count: int, *, timeout: float | None = None) -> range:
        """See AsyncClient.next_range."""
        entry = self._one(Op.NEXT, uid, checked_count(count, uid), timeout)
        first = entry.seq or 0
        return range(first, first + entry.count)

    def next_many(self, uids: Iterable[int], *, timeout: float | None = None) -> list[int]:
        """See AsyncClient.next_many."""
        return self._thread.run(self._client.next_many(list(uids), timeout=timeout))

    def current(self, uid: int, *, timeout: float | None = None) -> Current:
        """See AsyncClient.current."""
        entry = self._one(Op.CURRENT, uid, 1, timeout)
        return Current(entry.seq or 0, entry.exact)

    def current_many(self, uids: Iterable[int], *, timeout: float | None = None) -> list[Current]:
        """See AsyncClient.current_many."""
        return self._thread.run(self._client.current_many(list(uids), timeout=timeout))

    def advance(
        self, uid: int, at_least: int, *, max_jump: int = MAX_JUMP, timeout: float | None = None
    ) -> int:
        """See AsyncClient.advance."""
        work = self._client.advance(uid, at_least, max_jump=max_jump, timeout=timeout)
        return self._thread.run(work)

    def advance_many(
        self,
        floors: Iterable[tuple[int, int]],
        *,
        max_jump: int = MAX_JUMP,
        timeout: float | None = None,
    ) -> list[int]:
        """See AsyncClient.advance_many."""
        work = self._client.advance_many(list(floors), max_jump=max_jump, timeout=timeout)
        return self._thread.run(work)

    def table(self) -> RoutingTable | None:
        """See AsyncClient.table."""
        return self._client.table()

    def refresh(self, *, timeout: float | None = None) -> RoutingTable:
        """See AsyncClient.refresh."""
        return self._thread.run(self._client.refresh(timeout=timeout))

    def route(self, *, timeout: float | None = None) -> RoutingTable:
        """See AsyncClient.route."""
        return self._thread.run(self._client.route(timeout=timeout))

    def close(self) -> None:
        """See AsyncClient.aclose. Idempotent; nothing to do in a process that forked."""
        self._finalizer()

    def _one(self, op: Op, uid: int, count: int, timeout: float | None) -> Entry:
        """An entry that was answered; raises what became of it otherwise."""
        entry = Entry(op, checked_uid(uid, self._client._uid_limit), count, 0.0)
        entry.waiter = waiter = _Waiter(self._thread.released)
        patience_s = None if timeout is None else checked_timeout(timeout)
        self._thread.post(partial(self._client._begin, entry, patience_s))
        waiter.wait()
        failure = entry.failure
        if failure is not None and not failure.retry:
            raise error_of(entry, failure)
        if failure is not None or entry.seq is None:
            self._complete(entry)
        return entry

    def _complete(self, entry: Entry) -> None:
        try:
            self._thread.run(self._client._complete(entry))
        except Unavailable as error:
            if error.reason != "CLOSED":
                raise
            # From a loop that takes no more, and knows nothing of the first attempt.
            raise error_of(entry, Failure(error.reason, str(error))) from None


class _Waiter:
    """What a thread waits for instead of a future; see calls.Waiter."""

    __slots__ = ("_lock", "_over", "_released")

    def __init__(self, released: Callable[[], None]) -> None:
        self._released = released
        self._lock = threading.Lock()
        self._lock.acquire()
        self._over = False

    def done(self) -> bool:
        return self._over

    def set_result(self, _: None, /) -> None:
        self._over = True
        self._lock.release()
        self._released()

    def wait(self) -> None:
        """Until it is settled, or this thread is interrupted."""
        try:
            self._lock.acquire()
        finally:
            self._over = True  # nobody waits any more


class _LoopThread:
    """A daemon thread that runs an event loop until it is stopped."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # no call may reach the loop after its last turn
        self._stopped = False
        self._inbox: list[Callable[[], None]] = []
        self._called = False  # whether the loop has been told of the inbox
        self._released = 0
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._main, name="seqsvr-client", daemon=True)
        self._thread.start()

    @property
    def ours(self) -> bool:
        """False in a process that forked after the thread was started: it has no such thread."""
        return os.getpid() == self._pid

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for it; leaving early cancels it."""
        future = self._start(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise error_for("CLOSED", "the client was closed") from None
        except BaseException:
            future.cancel()  # KeyboardInterrupt, say: nobody waits any more
            raise

    def post(self, work: Callable[[], None]) -> None:
        """Have the loop call `work`, together with all else that is posted until it comes to it."""
        if self._may_wait:
            with self._lock:
                if not self._stopped:
                    self._inbox.append(work)
                    if not self._called:
                        self._loop.call_soon_threadsafe(self._take)
                        self._called = True  # not before: this thread may be interrupted
                    return
        raise self._refusal()

    def _take(self) -> None:
        with self._lock:
            works, self._inbox, self._called = self._inbox, [], False
        for work in works:
            work()

    def released(self) -> None:
        """The loop has let a thread go, which may well come back with its next call at once."""
        self._released += 1
        if self._released == 1:
            self._loop.call_soon(self._gather)

    def _gather(self) -> None:
        """Wait a moment for threads that were let go together, before anything else is sent.

        What they ask for next then goes in one message with what has come meanwhile; else two
        halves of them would take turns for ever, at twice the cost.
        """
        expected, self._released = self._released, 0
        for _ in range(_GATHER_TURNS if expected > 1 else 0):
            seen = len(self._inbox)
            time.sleep(_GATHER_S)
            if not seen < len(self._inbox) < expected:
                break
        self._take()

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        if self._may_wait:
            with self._lock:
                if not self._stopped:
                    return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise self._refusal()

    @property
    def _inside(self) -> bool:
        """Whether this is our own thread: in a __del__, say, that came to run there."""
        return threading.current_thread() is self._thread

    @property
    def _may_wait(self) -> bool:
        """To be asked before the lock: whoever held it at a fork holds it there for ever."""
        return self.ours and not self._inside

    def _refusal(self) -> Exception:
        if self._inside:
            return RuntimeError(
                "a Client is not to be called in its own thread: it would wait for it"
            )
        if self.ours:
            return error_for("CLOSED", "the client was closed")
        return RuntimeError(
            f"this Client was made in process {self._pid}; "
            f"process {os.getpid()} forked from it and needs its own"
        )

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Run `last`, let the calls that it ended return, and end the thread."""
        if self._inside:  # garbage collected in the loop itself
            self._stopped = True
            self._loop.create_task(last).add_done_callback(lambda _: self._loop.stop())
            return
        with self._lock:
            self._stopped = True
            future = asyncio.run_coroutine_threadsafe(last, self._loop)
        try:
            future.result(_STOP_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_S)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        finally:
            self._loop.close()


_STOP_S = 10.0
_GATHER_S = 0.00002
_GATHER_TURNS = 10


def _shut(client: AsyncClient, thread: _LoopThread) -> None:
    if thread.ours:
        thread.stop(client.aclose())
