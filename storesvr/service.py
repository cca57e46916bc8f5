"""StoreSvr as AllocSvr talks to it: messages in, messages out, durable before they leave.

In the same process AllocSvr calls a StoreService directly; over the wire it is the same methods
behind `add_to_server`. Every method raises ReplicaFailed (clustermap.errors) where the request as a
whole is not answered. Renew touches no disk and waits for no commit.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from clustermap.clock import boottime_ns
from clustermap.documents import hex64
from clustermap.errors import ReplicaFailed
from seqsvr.invariants import BrokenInvariant
from seqsvr.v1 import store_pb2 as pb
from storesvr import messages
from storesvr.commits import MAX_WAITING, GroupCommit, end_process
from storesvr.directory import note_outliving, recall_outliving
from storesvr.engine import MAP_SIZE, LmdbEngine
from storesvr.errors import CannotOpen, EngineError
from storesvr.metrics import StoreMetrics
from storesvr.port import Engine, Identity
from storesvr.replica import MAX_TTL_NS, Replica
from storesvr.servicer import add_to_server

__all__ = ["StoreService", "add_to_server", "open_service"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


def open_service(
    path: Path,
    identity: Identity,
    *,
    create: bool,
    boot_grace_ns: int = 0,
    max_ttl_ns: int = MAX_TTL_NS,
    map_size: int = MAP_SIZE,
    registry: CollectorRegistry | None = None,
    max_waiting: int = MAX_WAITING,
) -> "StoreService":
    """A service over the LMDB store in `path`, which it holds until `aclose`.

    boot_grace_ns: 0 where the lock on `path` proves that every earlier lease holder is dead (the
    embedded service), else at least max_ttl_ns; it is as long as the longest lease that an earlier
    process may have granted, where that is more. max_ttl_ns: at most MAX_TTL_NS. Raises
    EngineError: the store cannot be served.
    """
    if not 0 < max_ttl_ns <= MAX_TTL_NS:
        raise CannotOpen(f"the longest lease must be in 1..{MAX_TTL_NS} ns, not {max_ttl_ns}")
    fresh = not os.path.exists(path / "witness")  # Path.exists raises where nothing may be seen
    engine = LmdbEngine(path, identity, create=create, map_size=map_size)
    try:
        own_ns = max_ttl_ns if boot_grace_ns else 0
        before_ns = _outliving_ns(path, own_ns, fresh=fresh)
        grace_ns = max(boot_grace_ns, max_ttl_ns, before_ns) if own_ns or before_ns else 0
        now_ns = boottime_ns()
        replica = Replica(engine, now_ns=now_ns, boot_grace_ns=grace_ns, max_ttl_ns=max_ttl_ns)
    except BaseException:
        engine.close()
        raise

    def closing() -> None:
        if own_ns < before_ns and boottime_ns() >= now_ns + grace_ns:
            note_outliving(path, own_ns)

    service = StoreService(
        replica, engine, registry=registry, closing=closing, max_waiting=max_waiting
    )
    service.metrics.watch_room(engine.room)
    return service


def _outliving_ns(path: Path, own_ns: int, *, fresh: bool) -> int:
    """For how long leases of earlier processes may run on; what this one may grant is noted.

    own_ns: the longest that leases of this process may outlive it. Never is less noted than what
    may still run: a longer one of before stays until a process has outlived it (`closing`).
    """
    known_ns = recall_outliving(path)
    before_ns = known_ns
    if before_ns is None:  # new, or of a version that did not say, or spoilt
        before_ns = 0 if fresh or not own_ns else MAX_TTL_NS
    if max(own_ns, before_ns) != known_ns:
        note_outliving(path, max(own_ns, before_ns))
    return before_ns


class StoreService:
    """One replica with its queue, clock and metrics.

    fatal: see GroupCommit; now_ns: CLOCK_BOOTTIME; left_quorum: called once, with the reason, when
    something stored turns out to be corrupt; closing: called once, before the engine is closed.
    """

    def __init__(
        self,
        replica: Replica,
        engine: Engine,
        *,
        registry: CollectorRegistry | None = None,
        now_ns: Callable[[], int] = boottime_ns,
        fatal: Callable[[str], None] = end_process,
        left_quorum: Callable[[str], None] | None = None,
        closing: Callable[[], None] | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.metrics = StoreMetrics(registry or CollectorRegistry())
        self.left_quorum = left_quorum
        self._replica = replica
        self._engine = engine
        self._now_ns = now_ns
        self._closing = closing
        self._commits = GroupCommit(
            replica, engine, self.metrics, fatal=fatal, max_waiting=max_waiting
        )
        self._said = False
        self._watch_quorum()
        self.metrics.records.set_function(lambda: replica.sections)
        self.metrics.fence_version.set_function(lambda: replica.fence_version)
        self.metrics.leases.set_function(lambda: replica.live_leases(now_ns()))
        self.metrics.boot_grace.set_function(lambda: replica.boot_grace_left_ns(now_ns()) / 1e9)
        identity = self.identity
        self.metrics.info.labels(
            identity.cluster, identity.set, identity.replica, hex64(identity.store_id)
        ).set(1)

    @property
    def identity(self) -> Identity:
        """With the membership that is adopted by now."""
        return self._replica.identity

    @property
    def out_of_quorum(self) -> str:
        """Why the replica answers no quorum; empty: it does."""
        return self._replica.out_of_quorum

    async def aclose(self) -> None:
        """Commit what waits and let go of the data directory. Idempotent."""
        await self._commits.aclose()
        closing, self._closing = self._closing, None
        try:
            if closing is not None:
                closing()
        except EngineError as error:
            _log.warning("the next start waits longer than it had to: %s", error)
        finally:
            self._engine.close()

    def broken(self, invariant: BrokenInvariant) -> None:
        """A handler found a contradiction: the process ends with it."""
        self._commits.broken(invariant)

    async def fence(self, request: pb.FenceRequest) -> pb.FenceResponse:
        """Promise an epoch for each section, and tell what is known of it."""
        with self._request("Fence", request.header):
            ranges = messages.ranges(request)
            sections = sum(max(0, last - first + 1) for first, last, _ in ranges)
            answer = await self._submit(
                request,
                lambda: self._replica.fence(
                    ranges, self._now_ns(), through_seal=request.through_seal
                ),
                sections,
            )
            self._refused("Fence", sum(not granted for _, granted in answer.entries))
            return messages.fence_response(self.identity.store_id, answer)

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        """Raise max_seq of sections."""
        with self._request("Raise", request.header):
            entries = [(e.section, e.epoch, e.max_seq) for e in request.entries]
            refused = await self._submit(
                request, lambda: self._replica.raise_max(request.incarnation, entries), len(entries)
            )
            self._refused("Raise", len(refused))
            return pb.RaiseResponse(
                store_id=self.identity.store_id, refused=messages.epoch_ranges(refused)
            )

    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        """Give sections up."""
        with self._request("Release", request.header):
            entries = [(e.section, e.epoch, e.snapshot) for e in request.entries]
            refused = await self._submit(
                request, lambda: self._replica.release(request.incarnation, entries), len(entries)
            )
            self._refused("Release", len(refused))
            return pb.ReleaseResponse(
                store_id=self.identity.store_id, refused=messages.epoch_ranges(refused)
            )

    async def seal(self, request: pb.SealRequest) -> pb.SealResponse:
        """Have nobody of this Set win sections that have gone to another."""
        with self._request("Seal", request.header):
            entries = [(e.section, e.epoch) for e in request.entries]
            refused = await self._submit(request, lambda: self._replica.seal(entries), len(entries))
            return pb.SealResponse(
                store_id=self.identity.store_id, refused=messages.epoch_ranges(refused)
            )

    async def put_at_least(self, request: pb.PutAtLeastRequest) -> pb.PutAtLeastResponse:
        """Raise records to those of another replica."""
        with self._request("PutAtLeast", request.header, counting=False):
            entries = [messages.stored_record(record) for record in request.records]
            raised = await self._submit(
                request,
                lambda: self._replica.put_at_least(entries, with_promises=request.with_promises),
                len(entries),
                counting=False,
            )
            return pb.PutAtLeastResponse(store_id=self.identity.store_id, raised=raised)

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        """Grant a lease with every promise its holder was not yet told of."""
        with self._request("Renew", request.header):
            version, promises = self._replica.renew(
                request.incarnation,
                request.ttl_ns,
                request.since,
                request.since_store_id,
                self._now_ns(),
            )
            return pb.RenewResponse(
                store_id=self.identity.store_id,
                fence_version=version,
                promises=messages.wire_ranges(promises),
            )

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        """Records in order."""
        with self._request("Scan", request.header, counting=False):
            found, following = self._replica.scan(
                request.first,
                request.last,
                request.limit,
                with_snapshots=request.with_snapshots,
            )
            return pb.ScanResponse(
                store_id=self.identity.store_id,
                records=[messages.to_stored(record, payload) for record, payload in found],
                next=following,
            )

    async def digest(self, request: pb.DigestRequest) -> pb.DigestResponse:
        """Digests of chunks of sections."""
        with self._request("Digest", request.header, counting=False):
            chunks = self._replica.digest(request.first, request.last, request.chunk)
            return pb.DigestResponse(
                store_id=self.identity.store_id,
                chunks=[
                    pb.ChunkDigest(first=c.first, records=c.records, digest=c.digest)
                    for c in chunks
                ],
            )

    async def info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        """Identity and counters. Answers any membership, and also a request without a header."""
        header = request.header
        with self._answering("Info"):
            if header.cluster or header.set:
                messages.check_home(header, self.identity)
            return messages.info_response(self._replica, self._now_ns())

    async def adopt(self, request: pb.AdoptRequest) -> pb.AdoptResponse:
        """Take over a later version of the membership."""
        header = request.header
        with self._answering("Adopt"):
            messages.check_home(header, self.identity)
            await self._commits.submit(
                lambda: self._replica.adopt(
                    header.membership,
                    request.store_id,
                    self._now_ns(),
                    learning=request.learning,
                    retired=request.retired,
                ),
                sections=0,
                size=request.ByteSize(),
            )
            return pb.AdoptResponse(store_id=self.identity.store_id)

    async def _submit(
        self, request: Any, stage: Callable[[], T], sections: int, *, counting: bool = True
    ) -> T:
        """What `stage` returns, unless another membership has been adopted by its turn."""

        def staged() -> T:
            messages.check_header(request.header, self.identity, counting=counting)
            return stage()

        return await self._commits.submit(staged, sections=sections, size=request.ByteSize())

    @contextmanager
    def _request(
        self, rpc: str, header: pb.StoreHeader, *, counting: bool = True
    ) -> Iterator[None]:
        with self._answering(rpc):
            messages.check_header(header, self.identity, counting=counting)
            yield

    @contextmanager
    def _answering(self, rpc: str) -> Iterator[None]:
        outcome: Any = "cancelled"
        began_s = time.perf_counter()
        try:
            self._commits.check_open()
            yield
            outcome = "ok"
        except ReplicaFailed as error:
            outcome = error.reason
            error.membership = min(error.membership, self._replica.durable_identity.membership)
            raise
        finally:
            self.metrics.requests.labels(rpc, outcome).inc()
            self.metrics.request_seconds.labels(rpc).observe(time.perf_counter() - began_s)
            self._watch_quorum()

    def _refused(self, rpc: str, sections: int) -> None:
        if sections:
            self.metrics.refused.labels(rpc).inc(sections)

    def _watch_quorum(self) -> None:
        why = self._replica.out_of_quorum
        if not why or self._said:
            return
        self._said = True
        self.metrics.out_of_quorum.set(1)
        _log.critical(
            "replica=%s is out of the quorum: %s; replace it (its data is not to be trusted)",
            self.identity.replica,
            why,
        )
        if self.left_quorum is not None:
            self.left_quorum(why)
