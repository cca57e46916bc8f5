"""A key bound to the life of this process: registrations, and candidates of elections.

The key hangs on an etcd lease of its own. The holder renews it, counts its end by itself
(`Expiry`), and reads now and then whether the key is still bound to that lease, because etcd has
been known to confirm leases that it had revoked. `lost` is set, for good, when

* the lease may have ended by the holder's own clock, whether or not the network works,
* etcd says that the lease is gone, or its key is gone or bound to another lease,
* every read of the key is of a state older than the key: this is not the etcd that it is in.

It may be set although the key still stands for a while; the other way round, a key may be gone that
is believed to stand, as long as etcd lies. Nothing leans on either (docs/PROTOCOL.md, section 5).

A key once lost is never revived: every write of the holder compares the key's lease, and the
revision that it last wrote, so that a write that was thought failed cannot undo a later one.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as pb

from clustermap.clock import boottime_ns
from clustermap.errors import MapUnavailable
from clustermap.etcd_endpoints import Endpoints
from clustermap.etcd_liveness import Expiry, lease_seconds
from clustermap.etcd_requests import Keyspace
from clustermap.etcd_rpc import HAS_LEADER, EtcdFailed, Member, Metadata
from clustermap.logs import get_logger

log = get_logger(__name__)

_ATTEMPTS_PER_TTL = 4
_PAUSE_S = 0.1
_OLDER_READS = 5
_CLOSE_S = 1.0


class Lease:
    """A lease of etcd's, as its holder counts it."""

    def __init__(self, endpoints: Endpoints, id_: int, ttl_s: int, expiry: Expiry) -> None:
        self.id = id_
        self.expiry = expiry
        self.attempt_s = min(endpoints.options.attempt_s, ttl_s / _ATTEMPTS_PER_TTL)
        self._endpoints = endpoints

    @classmethod
    async def grant(cls, endpoints: Endpoints, ttl_s: float) -> "Lease":
        """A new lease. One that was granted without our hearing of it ends by itself."""

        async def exchange(member: Member, metadata: Metadata, timeout_s: float) -> tuple[int, Any]:
            sent_ns = boottime_ns()
            request = pb.LeaseGrantRequest(TTL=lease_seconds(ttl_s))
            return sent_ns, await member.lease.LeaseGrant(
                request, metadata=metadata, timeout=timeout_s
            )

        sent_ns, answer = await endpoints.ask("lease_grant", exchange)
        return cls(endpoints, answer.ID, answer.TTL, Expiry(sent_ns, answer.TTL))

    async def renew(self, timeout_s: float) -> bool:
        """Renew it; False if etcd knows it no more."""

        async def exchange(member: Member, metadata: Metadata, timeout_s: float) -> tuple[int, Any]:
            sent_ns = boottime_ns()
            call = member.lease.LeaseKeepAlive(metadata=metadata + HAS_LEADER, timeout=timeout_s)
            try:
                await call.write(pb.LeaseKeepAliveRequest(ID=self.id))
                await call.done_writing()
                answer = await call.read()
            finally:
                call.cancel()
            if answer is grpc.aio.EOF or answer is None:
                raise EtcdFailed(member.address, "UNAVAILABLE", "no answer to a renewal")
            return sent_ns, answer

        sent_ns, answer = await self._endpoints.ask(
            "lease_keepalive", exchange, timeout_s=timeout_s, attempt_s=self.attempt_s
        )
        if answer.TTL <= 0:
            return False
        self.expiry.granted(sent_ns, answer.TTL)
        return True

    async def revoke(self) -> None:
        """Give it back, with all its keys, if that can be done soon."""

        async def exchange(member: Member, metadata: Metadata, timeout_s: float) -> Any:
            request = pb.LeaseRevokeRequest(ID=self.id)
            return await member.lease.LeaseRevoke(request, metadata=metadata, timeout=timeout_s)

        try:
            await self._endpoints.ask(
                "lease_revoke", exchange, timeout_s=_CLOSE_S, attempt_s=_CLOSE_S / 3
            )
        except MapUnavailable as error:  # it ends by itself
            log.info("etcd_lease_not_revoked", lease=f"{self.id:x}", error=str(error))


class Bound:
    """Registration and Leadership in one: a key, its lease, and the task that keeps both."""

    def __init__(
        self, endpoints: Endpoints, keyspace: Keyspace, lease: Lease, key: str, revision: int
    ) -> None:
        self.key = key
        self.revision = revision  # at which it was last written, as far as known
        self.lost = asyncio.Event()
        self.on_end: Callable[[], None] = lambda: None
        self._endpoints = endpoints
        self._keyspace = keyspace
        self._lease = lease
        self._writing = asyncio.Lock()
        self._older_reads = 0
        self._ending: asyncio.Task[None] | None = None
        self._keeping = endpoints.tasks.spawn(self._keep())

    async def update(self, value: bytes) -> None:
        async with self._writing:
            for _ in range(2):
                if self.lost.is_set():
                    raise MapUnavailable(f"the registration of {self.key!r} is lost")
                if await self._write(value):
                    return
        raise MapUnavailable(f"{self.key!r} was written to by somebody else as well")

    async def aclose(self) -> None:
        self.lost.set()
        if self._ending is None:
            self._ending = self._endpoints.tasks.spawn(self._end())
        await asyncio.wait({self._ending})

    resign = aclose

    async def _end(self) -> None:
        self._keeping.cancel()
        await asyncio.wait({self._keeping})
        await self._lease.revoke()

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            self._endpoints.metrics.keys_lost.inc()
            log.warning("etcd_key_lost", key=self.key, reason=why)
            self.lost.set()

    async def _write(self, value: bytes) -> bool:
        """Whether it was written; if not, its revision is known now."""
        txn = self._keyspace.replacement(self.key, value, self._lease.id, self.revision)
        try:
            answer = await self._endpoints.ask_once("txn", transaction(txn))
        except EtcdFailed as failed:
            if failed.code == "NOT_FOUND":
                self._lose("its lease is gone")
            raise
        if answer.succeeded:
            self.revision = answer.header.revision
            return True
        found = [kv for one in answer.responses for kv in one.response_range.kvs]
        self._check(answer.header.revision, found)
        return False

    async def _keep(self) -> None:
        try:
            while not self.lost.is_set():
                await asyncio.sleep(self._lease.expiry.renew_in_s(boottime_ns()))
                await self._renew()
                await self._verify()
        finally:
            # Also where it ends by a fault of ours: better lost too early than never.
            self.lost.set()
            self.on_end()

    async def _renew(self) -> None:
        """Renew the lease, or lose it."""
        count = self._endpoints.metrics.keepalives.labels
        while (left_s := self._lease.expiry.left_s(boottime_ns())) > 0:
            try:
                async with asyncio.timeout(left_s):
                    known = await self._lease.renew(left_s)
                count("ok" if known else "lost").inc()
                if not known:
                    self._lose("etcd knows its lease no more")
                return
            except (MapUnavailable, TimeoutError):
                count("missed").inc()
                await asyncio.sleep(random.uniform(_PAUSE_S / 2, _PAUSE_S))
        self._lose("its lease could not be renewed in time")

    async def _verify(self) -> None:
        request = pb.RangeRequest(key=self._keyspace.encode(self.key), keys_only=True)

        async def exchange(member: Member, metadata: Metadata, timeout_s: float) -> Any:
            return await member.kv.Range(request, metadata=metadata, timeout=timeout_s)

        attempt_s = self._lease.attempt_s
        try:
            answer = await self._endpoints.ask(
                "range", exchange, timeout_s=attempt_s, attempt_s=attempt_s
            )
        except MapUnavailable:
            return  # the lease's end is watched in any case
        self._check(answer.header.revision, answer.kvs)

    def _check(self, revision: int, kvs: Any) -> None:
        """Judge what was read at the key when the map was at `revision`."""
        if revision < self.revision:
            # A member that was paused may still read its old state; for good, it is another etcd.
            self._older_reads += 1
            if self._older_reads >= _OLDER_READS:
                self._lose("etcd is at an older state than the key")
            return
        self._older_reads = 0
        if not kvs:
            self._lose("the key is gone")
        elif kvs[0].lease != self._lease.id:
            self._lose("the key is another's")
        else:
            self.revision = max(self.revision, kvs[0].mod_revision)


def transaction(request: Any) -> Any:
    """The exchange that a transaction is."""

    async def exchange(member: Member, metadata: Metadata, timeout_s: float) -> Any:
        return await member.kv.Txn(request, metadata=metadata, timeout=timeout_s)

    return exchange
