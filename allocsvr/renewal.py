"""Keeps the node's lease alive at every replica, and hears of promises with it (LEASE-1, LEASE-2).

Each replica has a loop of its own, so that a slow one delays no other. Promises come in the same
answer as the grant and are noted before it is counted, in one step: what a grant could otherwise
prolong has then already stopped being served. How far a replica's promises were heard is tied to
its store id, whatever the membership; another store starts from 0 again. A store whose durable
fence_version falls is an older copy of what it was and has forgotten promises: its grants are not
counted any more (NRW-2).

The loop is also the probe that judges how a replica stands (standing.py). Frozen or gone, it is
tried again within MAX_PROBE_S of each failure, so that numbers flow soon after its return.
"""

import logging
import random
from collections.abc import Callable

from allocsvr.generation import Generation
from allocsvr.lease import Grants
from allocsvr.metrics import Metrics
from allocsvr.replicas import ReplicaTransport
from clustermap.clock import Clock
from clustermap.errors import ReplicaFailed
from clustermap.membership import is_met
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

ROUNDS_PER_TTL = 5
MAX_PROBE_S = 0.4


class Heard:
    """What stores have told one incarnation.

    since: store id -> fence_version up to which its promises were heard; rolled_back: stores that
    are older copies of what they were.
    """

    __slots__ = ("rolled_back", "since")

    def __init__(self) -> None:
        self.since: dict[int, int] = {}
        self.rolled_back: set[int] = set()


class Renewal:
    """One incarnation's lease at the replicas of one membership.

    heard: shared by all memberships; on_granted: called after each grant.
    """

    def __init__(
        self,
        clock: Clock,
        asked: Generation,
        incarnation: int,
        grants: Grants,
        heard: Heard,
        on_promise: Callable[[int, int, int], None],
        on_granted: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._asked = asked
        self._replicas = asked.replicas
        self._incarnation = incarnation
        self._grants = grants
        self._lease = grants.lease
        self._on_promise = on_promise
        self._on_granted = on_granted
        self._metrics = metrics
        self._heard = heard
        self._stores = [0] * len(asked.replicas)  # the one that answered last
        self._failures: list[str | None] = [None] * len(asked.replicas)

    async def run(self, index: int) -> None:
        """Renew at one replica until cancelled."""
        period_s = self._lease.ttl_ns / ROUNDS_PER_TTL / 1e9
        while True:
            # Replicas of one node must not beat in step; a failed round is repeated sooner.
            if await self.once(index):
                pause_s = period_s * random.uniform(0.9, 1.0)
            else:
                pause_s = min(period_s / 2, MAX_PROBE_S) * random.uniform(0.5, 1.0)
            await self._clock.sleep(pause_s)

    async def once(self, index: int) -> bool:
        """One round at one replica; says whether it granted."""
        store_id = self._stores[index]
        request = pb.RenewRequest(
            header=self._asked.header,
            incarnation=self._incarnation,
            ttl_ns=self._lease.ttl_ns,
            since=self._heard.since.get(store_id, 0),
            since_store_id=store_id,
        )

        async def send(_: int, replica: ReplicaTransport) -> pb.RenewResponse:
            return self._checked(request, await replica.renew(request))

        sent_ns = self._clock.now_ns()
        answer = await self._replicas.probe(index, send)
        self._metrics.replicas_ejected.set(self._replicas.ejected)
        if isinstance(answer, ReplicaFailed):
            self._failed(index, answer)
            return False
        for promise in answer.promises:
            self._on_promise(promise.first, promise.last, promise.epoch)
        self._stores[index] = answer.store_id
        self._heard.since[answer.store_id] = answer.fence_version
        self._grants.granted(index, sent_ns)
        self._metrics.renewals.labels("granted").inc()
        if self._failures[index] is not None:
            logger.info("event=replica_back replica=%d", index)
            self._failures[index] = None
        self._on_granted()
        return True

    @property
    def granting(self) -> int:
        """Replicas that granted when they were last asked, or were not asked yet."""
        return self._failures.count(None)

    def why_lapsed(self) -> str:
        """What to tell callers while the lease is not held."""
        reasons = [reason for reason in self._failures if reason is not None]
        sound = sum(1 << i for i, reason in enumerate(self._failures) if reason is None)
        if is_met(self._asked.write, sound):
            return "LEASE_EXPIRED"
        return "CORRUPT" if set(reasons) == {"CORRUPT"} else "STORE_UNAVAILABLE"

    def _checked(self, request: pb.RenewRequest, answer: pb.RenewResponse) -> pb.RenewResponse:
        """Raises ReplicaFailed where the store has forgotten promises."""
        if answer.store_id == request.since_store_id and answer.fence_version < request.since:
            self._heard.rolled_back.add(answer.store_id)
        if answer.store_id in self._heard.rolled_back:
            text = f"store {answer.store_id:x} is an older copy: it had made more promises"
            raise ReplicaFailed("CORRUPT", text)
        return answer

    def _failed(self, index: int, failed: ReplicaFailed) -> None:
        self._metrics.renewals.labels(failed.reason.lower()).inc()
        if self._failures[index] != failed.reason:
            logger.error("event=replica_failed replica=%d error=%s", index, failed)
        self._failures[index] = failed.reason
