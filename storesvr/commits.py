"""Group commit: many writers, one transaction, one fsync.  Keeps NRW-1 towards the callers.

A writer hands in a function that stages its request at the replica and gives its answer. Whatever
waits when the disk gets free is staged together and committed on a thread of its own, so that an
fsync stops nobody but the writers; then all answers leave. One batch at a time.

A failed commit ends the process: after a failed fsync the kernel may have dropped the pages, so a
retry could "succeed" without writing them. Nobody gets an acknowledgement.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from clustermap.errors import ReplicaFailed
from seqsvr import tracing
from storesvr.metrics import StoreMetrics
from storesvr.port import Engine
from storesvr.replica import Replica

EXIT_WRITE_FAILED = 70  # EX_SOFTWARE; a supervisor may restart: what is on disk is read anew
MAX_WAITING = 1_024
MAX_WAITING_BYTES = 256 * 2**20
MAX_BATCH_SECTIONS = 8_192
MAX_BATCH_BYTES = 64 * 2**20
LARGE = 256  # sections, from which on staging a request takes a millisecond or more

_log = logging.getLogger(__name__)

T = TypeVar("T")


def end_process(text: str) -> None:
    """Leave at once, with the log written and no handler run that could acknowledge anything."""
    del text  # it has been logged
    logging.shutdown()
    os._exit(EXIT_WRITE_FAILED)


@dataclass(slots=True)
class _Writer:
    stage: Callable[[], Any]
    sections: int
    size: int
    answer: "asyncio.Future[Any]"


class GroupCommit:
    """The queue before the disk.

    fatal: called with a text once a commit has failed; must not return in production.
    """

    def __init__(
        self,
        replica: Replica,
        engine: Engine,
        metrics: StoreMetrics,
        *,
        fatal: Callable[[str], None] = end_process,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._replica = replica
        self._engine = engine
        self._metrics = metrics
        self._fatal = fatal
        self._max_waiting = max_waiting
        self._queue: deque[_Writer] = deque()
        self._batch: list[_Writer] = []
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "storesvr-commit")
        self._ended = ""
        self._began_s = 0.0  # of the commit under way; 0: there is none
        metrics.waiting.set_function(lambda: len(self._queue))
        metrics.commit_running.set_function(self._running_s)

    async def submit(self, stage: Callable[[], T], *, sections: int, size: int) -> T:
        """What `stage` returns, once all it staged is durable.

        sections, size: how much it writes, in sections and bytes. Raises ReplicaFailed: what
        `stage` raised, OVERLOADED, or UNREACHABLE and INTERNAL after the end.
        """
        self.check_open()
        if len(self._queue) >= self._max_waiting or self._size + size > MAX_WAITING_BYTES:
            raise ReplicaFailed("OVERLOADED", f"{len(self._queue)} writers wait for the disk")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Writer(stage, sections, size, answer))
        self._size += size
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await answer

    def check_open(self) -> None:
        """Raises ReplicaFailed UNREACHABLE after the end."""
        if self._ended:
            raise ReplicaFailed("UNREACHABLE", self._ended)

    async def aclose(self) -> None:
        """Commit what waits, then refuse everything. Idempotent."""
        self._ended = self._ended or "the store is closing"
        if self._task is not None:
            await asyncio.wait([self._task])
        self._thread.shutdown()

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._commit(self._next_batch())
        except asyncio.CancelledError:
            self._end("the store was cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, what is stored is now unknown
            text = f"{type(error).__name__}: {error}"
            _log.critical(
                "store write failed, the process stops: %s; after a failed write or fsync nothing "
                "is known of what is on disk until it is read anew",
                text,
                exc_info=error,
            )
            self._die(text)
        finally:
            self._task = None

    def _next_batch(self) -> list[_Writer]:
        batch: list[_Writer] = []
        sections = size = 0
        while self._queue and sections < MAX_BATCH_SECTIONS and size < MAX_BATCH_BYTES:
            writer = self._queue.popleft()
            self._size -= writer.size
            if writer.answer.done():
                continue  # its caller has gone, and nothing was staged yet
            batch.append(writer)
            sections += writer.sections
            size += writer.size
        return batch

    async def _commit(self, batch: list[_Writer]) -> None:
        self._batch = batch
        answers = []
        for writer in batch:
            answers.append((writer, self._staged(writer)))
            if writer.sections >= LARGE:
                await asyncio.sleep(0)  # a Renew has its turn between
        staged = self._replica.take_staged()
        if staged.records or staged.identity:
            self._began_s = began = time.perf_counter()
            loop = asyncio.get_running_loop()
            counts = {"sections": len(staged.records), "requests": len(batch)}
            with tracing.root("seqsvr.commit", **counts):
                await loop.run_in_executor(self._thread, self._engine.commit, staged)
            self._metrics.commit_seconds.observe(time.perf_counter() - began)
            self._began_s = 0.0
            self._metrics.commit_sections.observe(len(staged.records))
            self._metrics.commit_requests.observe(len(batch))
        self._replica.committed()
        for writer, answer in answers:
            if not writer.answer.done():
                writer.answer.set_result(answer)
        self._batch = []

    def _running_s(self) -> float:
        began_s = self._began_s
        return time.perf_counter() - began_s if began_s else 0.0

    @staticmethod
    def _staged(writer: _Writer) -> Any:
        try:
            return writer.stage()
        except ReplicaFailed as error:
            if not writer.answer.done():
                writer.answer.set_exception(error)
            return None

    def broken(self, error: BaseException) -> None:
        """Somebody else found that nothing here is to be trusted: end the process."""
        text = f"{type(error).__name__}: {error}"
        _log.critical("invariant broken, the process stops: %s", text, exc_info=error)
        self._die(text)

    def _die(self, text: str) -> None:
        self._ended = text
        self._fatal(text)
        self._end(text)

    def _end(self, text: str) -> None:
        self._ended = text
        for writer in (*self._batch, *self._queue):
            if not writer.answer.done():
                writer.answer.set_exception(
                    ReplicaFailed("INTERNAL", f"{text}: the outcome is unknown")
                )
        self._queue.clear()
