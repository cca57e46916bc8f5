"""The Sessions that are open: what each has not read yet, and how long it has been silent.

An answer that its caller does not read stays in gRPC until the connection ends: even the status
that would end its call waits behind it. So the connection is closed, with all that is on it.
"""

import asyncio
import logging
import time
from typing import Any

from allocsvr.allowances import Allowance
from allocsvr.limits import Limits
from allocsvr.metrics import Metrics
from seqsvr.v1 import alloc_pb2 as pb
from svrprocess.connections import hang_up
from svrprocess.guarding import badge

logger = logging.getLogger(__name__)

ENTRY_BYTES = 32
"""Of an entry in an answer, at most: number, epoch, index; errors are longer, and rarer."""

LOOKS_PER_LIMIT = 10


class Stream:
    """Writes of one Session, one at a time.

    late: batches that are not finished; unread: bytes of their answers, at most.
    """

    __slots__ = (
        "_context",
        "_lock",
        "_task",
        "allowance",
        "ended",
        "key",
        "late",
        "own",
        "peer",
        "since_s",
        "unread",
        "writing_s",
    )

    def __init__(self, context: Any) -> None:
        self.own = badge()
        self.peer: str = context.peer()
        self.allowance: Allowance | None = None
        self.key: object = None
        self.late = 0
        self.unread = 0
        self.since_s = time.perf_counter()
        self.writing_s = 0.0  # since when an answer is on its way; 0: none is
        self.ended = ""
        self._context = context
        self._lock = asyncio.Lock()
        self._task = asyncio.current_task()

    async def write(self, response: pb.SessionResponse | bytes, now_s: float) -> None:
        """Returns when the caller has room for the next one."""
        # Nobody but the reader of requests writes as long as nothing is late; and while it does, it
        # reads none that might come late.
        if self.late:
            await self._in_turn(response)
            return
        self.writing_s = now_s
        await self._context.write(response)
        self.writing_s = 0.0

    async def _in_turn(self, response: pb.SessionResponse | bytes) -> None:
        async with self._lock:
            self.writing_s = time.perf_counter()
            await self._context.write(response)
            self.writing_s = 0.0

    def end(self, limit: str) -> None:
        """For a limit, by the name of its option."""
        if not self.ended and self._task is not None:
            self.ended = limit
            self._task.cancel()


class Streams:
    """Ends Sessions that are idle, or do not read.

    Connections are looked for one after the other, by one thread: thousands that do not read come
    to their end at the same moment.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._idle_s, self._unread_s = limits.session_idle_s, limits.unread_s
        self._limited = metrics.limited
        self._open: set[Stream] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._unread: set[str] = set()  # peers that are to be hung up on
        self._hanging_up: asyncio.Future[int] | None = None

    def add(self, stream: Stream) -> None:
        self._open.add(stream)
        if self._timer is None:
            self._arm()

    def discard(self, stream: Stream) -> None:
        self._open.discard(stream)

    def unread(self, peer: str) -> None:
        """The caller at the other end of a connection does not read an answer."""
        self._limited.labels("unread-s").inc()
        self._unread.add(peer)
        if self._hanging_up is None:
            # In the next turn, so all whose time has come now are found by one look.
            asyncio.get_running_loop().call_soon(self._hang_up)

    def _hang_up(self) -> None:
        if self._hanging_up is not None or not self._unread:
            return
        peers, self._unread = self._unread, set()
        logger.warning("event=unread connections=%d peer=%s", len(peers), min(peers))
        self._hanging_up = asyncio.get_running_loop().run_in_executor(None, hang_up, peers)
        self._hanging_up.add_done_callback(self._hung_up)

    def _hung_up(self, done: "asyncio.Future[int]") -> None:
        self._hanging_up = None
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("event=hang_up_failed error=%r", error)
        self._hang_up()

    def _arm(self) -> None:
        each_s = min(self._idle_s, self._unread_s) / LOOKS_PER_LIMIT
        self._timer = asyncio.get_running_loop().call_later(each_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = time.perf_counter()
        for stream in self._open:
            if stream.ended:
                continue
            if stream.writing_s and now_s - stream.writing_s > self._unread_s:
                stream.end("unread-s")
                self.unread(stream.peer)
            elif not stream.late and now_s - stream.since_s > self._idle_s:
                self._limited.labels("session-idle-s").inc()
                stream.end("session-idle-s")
        if self._open:
            self._arm()
