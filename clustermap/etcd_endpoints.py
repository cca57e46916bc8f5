"""All members of an etcd cluster: who is asked, for how long, and who is left out for a while.

A member that fails or is silent is put last at once (`Rota`), and asked in the background, at
jittered times from a fraction of a second to a few seconds apart, until it answers: what it is
asked is a read through the quorum, so a member that lives but is cut off from the others stays out.

What may be repeated (`ask`) goes to one member after another within the call's time. A write
(`ask_once`) is sent a single time, to a member that has just answered: so a dead or frozen one
rarely costs an unknown outcome, and nothing is ever done twice. After it was sent, every failure
leaves the outcome unknown.
"""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from etcd3.etcdrpc import rpc_pb2 as pb

from clustermap.etcd_liveness import Rota
from clustermap.etcd_metrics import EtcdMetrics
from clustermap.etcd_options import EtcdOptions
from clustermap.etcd_rpc import Endpoint, EtcdFailed, Exchange, Member, Metadata
from clustermap.logs import get_logger
from seqsvr.credentials import Credentials

log = get_logger(__name__)

_FRESH_S = 1.0  # who answered so lately is trusted with a write without being asked first
_REVIVE_S = 0.3
_REVIVE_MAX_S = 3.0
_PAUSE_S = 0.1

T = TypeVar("T")


class Endpoints:
    """The members, and the tasks that look after them. Every method raises EtcdFailed."""

    def __init__(
        self,
        options: EtcdOptions,
        credentials: Credentials,
        metrics: EtcdMetrics,
    ) -> None:
        self.options = options
        self.metrics = metrics
        self.tasks = Tasks()
        self.closed = False
        self._all = [Endpoint(address, options, credentials) for address in options.endpoints]
        # Many processes start with the same list, and should not all lean on its first member.
        self._rota = Rota(len(self._all), random.randrange(len(self._all)))
        self._reviving: set[int] = set()
        self._probe_request = pb.RangeRequest(key=options.prefix.encode(), limit=1, keys_only=True)

    def best(self) -> Endpoint:
        """Whom to ask now."""
        return self._all[self._rota.order()[0]]

    async def ask(
        self,
        kind: str,
        exchange: Exchange[T],
        *,
        timeout_s: float | None = None,
        attempt_s: float | None = None,
    ) -> T:
        """An answer to what may be asked several times, from whichever member gives one.

        kind: one of etcd_metrics.KINDS.
        """
        timeout_s, attempt_s = (
            timeout_s or self.options.timeout_s,
            attempt_s or self.options.attempt_s,
        )
        _, answer = await self._ask(kind, exchange, timeout_s, attempt_s)
        return answer

    async def ask_once(self, kind: str, exchange: Exchange[T]) -> T:
        """The answer to a write. On failure its outcome is unknown, unless the code says more."""
        half_s = self.options.timeout_s / 2
        endpoint = self.best()
        if _now_s() - endpoint.heard_s > _FRESH_S:
            attempt_s = min(self.options.attempt_s, half_s)
            endpoint, _ = await self._ask("probe", self._probe, half_s, attempt_s)
        return await self._attempt(kind, endpoint, exchange, half_s)

    async def probe(self, endpoint: Endpoint) -> int:
        """The map's revision as this member learns it through the quorum."""
        answer = await self._timed("probe", endpoint, self._probe, self.options.attempt_s)
        self.answered(endpoint)
        return int(answer.header.revision)

    def answered(self, endpoint: Endpoint) -> None:
        endpoint.heard_s = _now_s()
        if self._rota.answered(self._all.index(endpoint)):
            self.metrics.back(endpoint.address)
            log.info("etcd_member_back", member=endpoint.address)

    def failed(self, endpoint: Endpoint, failure: EtcdFailed) -> None:
        """Leave it out, if it is to blame, until it answers again."""
        index = self._all.index(endpoint)
        if self.closed or not failure.elsewhere or not self._rota.failed(index):
            return
        self.metrics.left_out(endpoint.address)
        log.warning("etcd_member_failed", member=endpoint.address, error=str(failure))
        if index not in self._reviving:
            self._reviving.add(index)
            self.tasks.spawn(self._revive(index))

    async def aclose(self) -> None:
        """End every task and call."""
        self.closed = True
        await self.tasks.aclose()
        for endpoint in self._all:
            await endpoint.aclose()

    async def _ask(
        self, kind: str, exchange: Exchange[T], timeout_s: float, attempt_s: float
    ) -> tuple[Endpoint, T]:
        deadline_s = _now_s() + timeout_s
        while True:
            order = self._rota.order()
            for place, index in enumerate(order):
                left_s = deadline_s - _now_s()
                alone = place == len(order) - 1
                endpoint = self._all[index]
                try:
                    share_s = left_s if alone else min(attempt_s, left_s)
                    return endpoint, await self._attempt(kind, endpoint, exchange, share_s)
                except EtcdFailed as failed:
                    late = _now_s() + _PAUSE_S > deadline_s
                    if self.closed or late or not failed.elsewhere:
                        raise
            await asyncio.sleep(random.uniform(_PAUSE_S / 2, _PAUSE_S))

    async def _attempt(
        self, kind: str, endpoint: Endpoint, exchange: Exchange[T], timeout_s: float
    ) -> T:
        try:
            answer = await self._timed(kind, endpoint, exchange, timeout_s)
        except EtcdFailed as failed:
            self.failed(endpoint, failed)
            raise
        self.answered(endpoint)
        return answer

    async def _timed(
        self, kind: str, endpoint: Endpoint, exchange: Exchange[T], timeout_s: float
    ) -> T:
        outcome, began_s = "CANCELLED", time.perf_counter()
        try:
            answer = await endpoint.attempt(exchange, timeout_s)
            outcome = "ok"
        except EtcdFailed as failed:
            outcome = failed.code
            raise
        finally:
            self.metrics.asked(kind, outcome, time.perf_counter() - began_s)
        return answer

    async def _probe(self, member: Member, metadata: Metadata, timeout_s: float) -> Any:
        return await member.kv.Range(self._probe_request, metadata=metadata, timeout=timeout_s)

    async def _revive(self, index: int) -> None:
        pause_s = _REVIVE_S
        while self._rota.is_failed(index):
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, _REVIVE_MAX_S)
            try:
                await self.probe(self._all[index])
            except EtcdFailed as failed:
                log.debug("etcd_member_still_failed", error=str(failed))
        self._reviving.discard(index)


class Tasks:
    """Background tasks that end with their owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self._closed:
            task.cancel()
        return task

    async def aclose(self) -> None:
        """Cancel what runs, and see it end."""
        self._closed = True
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("etcd_task_failed", error=error, exc_info=error)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
