"""The cluster map in etcd.

    etcd_options.py    where it is, who we are, how patient we are
    etcd_liveness.py   pure: a lease's end on our own clock, the order in which members are tried
    etcd_rpc.py        one member; errors come inward there
    etcd_endpoints.py  all members: deadlines, leaving out those that fail
    etcd_metrics.py    what is counted of all that
    etcd_requests.py   the map's keys and transactions in etcd's words
    etcd_watch.py      a watch that outlives its member
    etcd_lease.py      keys that live as long as we do

All values lie under one prefix. Reads go through etcd's quorum. A transaction is sent once.

An election is won by the candidate whose key was made first of those that stand. Everyone else
waits for the candidate just before it, so that one end wakes one waiter, and looks again at times
in case the news of that end is lost.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from etcd3.etcdrpc import rpc_pb2 as pb
from prometheus_client import CollectorRegistry

from clustermap.coordinator import Change, Leadership, Listing, Registration
from clustermap.errors import MapUnavailable
from clustermap.etcd_endpoints import Endpoints
from clustermap.etcd_lease import Bound, Lease, transaction
from clustermap.etcd_metrics import EtcdMetrics
from clustermap.etcd_options import EtcdOptions
from clustermap.etcd_requests import Keyspace
from clustermap.etcd_rpc import Member, Metadata
from clustermap.etcd_watch import Watches
from seqsvr.credentials import Credentials

__all__ = ["ELECTIONS_PREFIX", "EtcdCoordinator", "EtcdOptions"]

ELECTIONS_PREFIX = "elections/"
_LOOK_AGAIN_S = 1.0
_PAUSE_S = 0.1


class EtcdCoordinator:
    """The port of clustermap.coordinator; `open` makes one."""

    def __init__(
        self,
        options: EtcdOptions,
        credentials: Credentials,
        registry: CollectorRegistry,
    ) -> None:
        self._options = options
        self._keyspace = Keyspace(options.prefix)
        self._metrics = EtcdMetrics(registry, options.endpoints)
        self._endpoints = Endpoints(options, credentials, self._metrics)
        self._watches = Watches(self._endpoints, self._keyspace)
        self._bound: set[Bound] = set()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        options: EtcdOptions,
        registry: CollectorRegistry | None = None,
        credentials: Credentials | None = None,
    ) -> "EtcdCoordinator":
        """A coordinator; etcd need not be reachable yet. registry: where it counts.

        credentials: refreshed by who made them; None: made of the options, and for good. Raises
        OSError where a file of the options cannot be read, ValueError where it cannot be used.
        """
        if credentials is None:
            credentials = await asyncio.to_thread(Credentials, options.tls)
        return cls(options, credentials, registry or CollectorRegistry())

    async def get(self, prefix: str) -> Listing:
        self._require_open()
        self._metrics.lists.inc()
        return self._keyspace.listing(await self._range(self._keyspace.range(prefix)))

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        self._require_open()
        for key in puts:
            if key.startswith(ELECTIONS_PREFIX):
                raise _bound_to_its_holder(key)
        request = self._keyspace.transaction(expected, puts)
        answer = await self._endpoints.ask_once("txn", transaction(request))
        if answer.succeeded:
            return int(answer.header.revision)
        if (bound := self._keyspace.bound_key(answer)) is not None:
            raise _bound_to_its_holder(bound)
        return None

    def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        return self._watches.watch(prefix, after_revision)

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:
        """etcd counts in whole seconds, from 2 on: ttl_s is rounded up."""
        self._require_open()
        lease = await Lease.grant(self._endpoints, ttl_s)
        request = self._keyspace.registration(key, value, lease.id)
        bound = await self._bind(lease, key, request)
        if bound is None:
            raise ValueError(f"{key!r} is a lasting document, not a registration")
        return bound

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        self._require_open()
        if "/" in name:
            raise ValueError(f"the name of an election has no '/' in it: {name!r}")
        lease = await Lease.grant(self._endpoints, self._options.election_ttl_s)
        election = f"{ELECTIONS_PREFIX}{name}/"
        key = f"{election}{lease.id:016x}"
        bound = await self._bind(lease, key, self._keyspace.registration(key, candidate, lease.id))
        if bound is None:
            raise ValueError(f"{key!r} is a lasting document, not a candidate")
        try:
            await self._wait_to_lead(election, bound)
        except BaseException:  # also where the caller gives up waiting: it must not win later
            self._endpoints.tasks.spawn(bound.aclose())
            raise
        return bound

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.wait({self._closing})

    async def _close(self) -> None:
        self._watches.close()
        await asyncio.gather(*(bound.aclose() for bound in self._bound))
        await self._endpoints.aclose()

    async def _range(self, request: Any) -> Any:
        async def exchange(member: Member, metadata: Metadata, timeout_s: float) -> Any:
            return await member.kv.Range(request, metadata=metadata, timeout=timeout_s)

        return await self._endpoints.ask("range", exchange)

    async def _bind(self, lease: Lease, key: str, request: Any) -> Bound | None:
        """Write a key with its lease, which is revoked if that fails; None where it may not be."""
        bound = None
        try:
            answer = await self._endpoints.ask_once("txn", transaction(request))
            self._require_open()
            if answer.succeeded or any(one.response_txn.succeeded for one in answer.responses):
                bound = self._adopt(lease, key, answer.header.revision)
        finally:
            if bound is None:
                self._endpoints.tasks.spawn(lease.revoke())
        return bound

    def _adopt(self, lease: Lease, key: str, revision: int) -> Bound:
        for earlier in [bound for bound in self._bound if bound.key == key]:
            earlier.lost.set()  # it would find out by itself, later
        bound = Bound(self._endpoints, self._keyspace, lease, key, revision)
        self._bound.add(bound)
        bound.on_end = lambda: self._bound.discard(bound)
        return bound

    async def _wait_to_lead(self, election: str, bound: Bound) -> None:
        """Return once `bound` is the first candidate that stands."""
        request = self._keyspace.range(
            election,
            keys_only=True,
            sort_target=pb.RangeRequest.CREATE,
            sort_order=pb.RangeRequest.ASCEND,
        )
        known = bound.revision
        while not bound.lost.is_set():
            try:
                answer = await self._range(request)
                keys = [self._keyspace.decode(kv.key) for kv in answer.kvs]
                # In a state from before its own key, others may seem not to stand that do; in one
                # from before an end that was seen, that one still does.
                if answer.header.revision < known or bound.key not in keys:
                    await asyncio.sleep(_PAUSE_S)
                elif keys[0] != bound.key:
                    before = keys[keys.index(bound.key) - 1]
                    ended = await self._wait_for_end(before, answer.header.revision)
                    known = max(known, ended)
                elif not bound.lost.is_set():
                    return
            except MapUnavailable:  # the candidate may stand all the same
                await asyncio.sleep(_PAUSE_S)
        raise MapUnavailable(f"the candidacy {bound.key!r} is lost")

    async def _wait_for_end(self, key: str, after_revision: int) -> int:
        """Return once `key` is gone, with the revision at which it went; 0 after a while."""
        try:
            async with (
                asyncio.timeout(_LOOK_AGAIN_S),
                aclosing(self.watch(key, after_revision)) as changes,
            ):
                async for change in changes:
                    if change.entries.get(key, change) is None:
                        return change.revision
        except TimeoutError:
            pass
        return 0

    def _require_open(self) -> None:
        if self._closing is not None:
            raise MapUnavailable("the cluster map is closed")


def _bound_to_its_holder(key: str) -> ValueError:
    return ValueError(f"{key!r} is bound to its holder, who alone writes it")
