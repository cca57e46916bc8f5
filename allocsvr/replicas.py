"""Towards the StoreSvr replicas of the node's Set: the port, its gRPC form, asking all at once.

A replica that does not answer Renew is ejected (standing.py): what is asked of it fails at once,
what is on its way ends with an unknown outcome, and only the renewal loop goes on trying it. So a
frozen replica costs neither time nor tasks. To a Tally such a failure is a vote against, as any.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from allocsvr.standing import Standing
from clustermap.errors import ReplicaFailed
from clustermap.membership import Groups, is_met
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 64  # questions to one replica
# A timer that fires this much too late says something about this process, not about a replica.
LATE = 1.5
QUIET_S = 1.0  # between two lines of the log on the same failure

T = TypeVar(
    "T",
    pb.FenceResponse,
    pb.RaiseResponse,
    pb.ReleaseResponse,
    pb.RenewResponse,
    pb.ScanResponse,
    pb.DigestResponse,
    pb.PutAtLeastResponse,
)


class ReplicaTransport(Protocol):
    """One StoreSvr replica. Each method raises ReplicaFailed where there is no usable answer."""

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse: ...
    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse: ...
    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse: ...
    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse: ...
    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse: ...
    async def digest(self, request: pb.DigestRequest) -> pb.DigestResponse: ...
    async def put_at_least(self, request: pb.PutAtLeastRequest) -> pb.PutAtLeastResponse: ...


class _Line:
    """What is on its way to one replica, and how that stands."""

    __slots__ = ("scopes", "standing")

    def __init__(self) -> None:
        self.standing = Standing()
        self.scopes: dict[asyncio.Timeout, None] = {}  # in the order in which they were begun


class Replicas:
    """All replicas of one membership, asked at once; each answer is handed over as it comes.

    Nobody waits for the slowest: a straggler's task ends by its own deadline or with the replica's
    ejection, and at most MAX_IN_FLIGHT questions are on their way to one replica. `spawn` starts a
    task that its owner will not lose sight of.

    store_ids: those that the map names, in order. An answer of another store is none: its data
    directory may have been begun anew, and would say so by nothing else (NRW-2). Empty: any store.

    timeout_s: for what a replica answers after an fsync, so it bounds a frozen replica and not a
    slow disk; quick_s: for what it answers from memory; on_membership: told of each version that a
    replica refuses in favour of.
    """

    def __init__(
        self,
        transports: Sequence[ReplicaTransport],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        timeout_s: float,
        quick_s: float,
        store_ids: Sequence[int] = (),
        on_membership: Callable[[int], None] | None = None,
    ) -> None:
        self.transports = tuple(transports)
        self._spawn = spawn
        self.timeout_s = timeout_s
        self.quick_s = quick_s
        self._store_ids = tuple(store_ids)
        self._on_membership = on_membership
        self._closed = False
        self._lines = [_Line() for _ in self.transports]
        self._granting = asyncio.Event()
        self._said: dict[tuple[str, int], float] = {}
        self.failures = 0  # questions complained of

    def __len__(self) -> int:
        return len(self.transports)

    @property
    def granting(self) -> list[int]:
        """The replicas whose last answer to Renew was a grant: reachable, sound, and ours."""
        return [i for i, line in enumerate(self._lines) if line.standing.granting]

    @property
    def ejected(self) -> int:
        """How many are ejected."""
        return sum(line.standing.ejected is not None for line in self._lines)

    def have(self, groups: Groups) -> bool:
        """Whether enough of them are granting."""
        return is_met(groups, sum(1 << index for index in self.granting))

    async def reachable(self, groups: Groups) -> None:
        """Return once they have these, or are closed; until then no quorum of them can be had."""
        while not (self._closed or self.have(groups)):
            self._granting.clear()
            await self._granting.wait()

    def close(self) -> None:
        """Another membership has taken over: what is on its way may end, nobody waits here."""
        self._closed = True
        self._granting.set()

    def ask(
        self,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        on_answer: Callable[[int, T | ReplicaFailed], None],
    ) -> None:
        """Send to every replica; `on_answer(index, answer)` once for each, never from in here."""
        for index in range(len(self.transports)):
            self._spawn(self._ask_one(index, send, on_answer))

    async def ask_one(
        self,
        index: int,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        timeout_s: float | None = None,
    ) -> T | ReplicaFailed:
        """The answer of one replica, or what it failed with; at once if it is ejected."""
        line = self._lines[index]
        if line.standing.ejected is not None:
            return line.standing.refusal(index, _now_s())
        if len(line.scopes) >= MAX_IN_FLIGHT:
            text = f"replica {index}: {MAX_IN_FLIGHT} questions to it are unanswered"
            return ReplicaFailed("OVERLOADED", text)
        answer = await self._send(index, send, timeout_s or self.timeout_s)
        if line.standing.ejected is not None and _timed_out(answer):
            return line.standing.refusal(index, _now_s())
        return answer

    async def probe(
        self, index: int, send: Callable[[int, ReplicaTransport], Awaitable[T]]
    ) -> T | ReplicaFailed:
        """Ask one replica for a grant, however it stands; its standing is what comes of it."""
        standing = self._lines[index].standing
        began_s = _now_s()
        answer = await self._send(index, send, self.quick_s)
        now_s = _now_s()
        if not isinstance(answer, ReplicaFailed):
            standing.granted()
            self._granting.set()
        elif _timed_out(answer) and now_s - began_s >= LATE * self.quick_s:
            logger.warning("event=renewal_late replica=%d seconds=%.3f", index, now_s - began_s)
        elif standing.failed(answer, now_s):
            self._end_all(index)
        return answer

    def complain(self, event: str, index: int, failed: ReplicaFailed) -> None:
        """Log that a question failed, at most every QUIET_S for each event and replica."""
        self.failures += 1
        now_s = _now_s()
        if now_s - self._said.get((event, index), -QUIET_S) >= QUIET_S:
            self._said[event, index] = now_s
            logger.warning("event=%s replica=%d error=%s", event, index, failed)

    async def _send(
        self,
        index: int,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        timeout_s: float,
    ) -> T | ReplicaFailed:
        line = self._lines[index]
        try:
            async with asyncio.timeout(timeout_s) as scope:
                line.scopes[scope] = None
                try:
                    answer = await send(index, self.transports[index])
                finally:
                    line.scopes.pop(scope, None)
        except TimeoutError:
            return ReplicaFailed("TIMEOUT", f"replica {index}: no answer in {timeout_s} s")
        except ReplicaFailed as failed:
            if failed.membership and self._on_membership is not None:
                self._on_membership(failed.membership)
            return failed
        if self._store_ids and answer.store_id != self._store_ids[index]:
            text = f"store {answer.store_id:x} answers, not {self._store_ids[index]:x}"
            return ReplicaFailed("FOREIGN", f"replica {index}: {text}")
        return answer

    def _end_all(self, index: int) -> None:
        """What is on its way to an ejected replica ends now: nobody should wait for it."""
        now_s = _now_s()
        for scope in list(self._lines[index].scopes):
            if not scope.expired():
                scope.reschedule(now_s)

    async def _ask_one(
        self,
        index: int,
        send: Callable[[int, ReplicaTransport], Awaitable[T]],
        on_answer: Callable[[int, T | ReplicaFailed], None],
    ) -> None:
        on_answer(index, await self.ask_one(index, send))


def _timed_out(answer: object) -> bool:
    return isinstance(answer, ReplicaFailed) and answer.reason == "TIMEOUT"


def _now_s() -> float:
    """Time of the loop, as its timeouts count it."""
    return asyncio.get_running_loop().time()
