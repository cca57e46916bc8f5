"""A key of the simulated map that lives as long as its holder: clustermap.etcd_lease, retold.

The holder renews its lease at a third of it, counts its end on its own clock whether or not the
network works, and reads its key along the way, because a renewal may be a lie.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from clustermap.errors import MapUnavailable
from clustermap.etcd_liveness import Expiry
from simsvr.mapserver import Renewal, Unreached
from simsvr.mapstate import Seen

if TYPE_CHECKING:
    from simsvr.mapclient import MapClient

logger = logging.getLogger(__name__)

_ATTEMPTS_PER_TTL = 4
_PAUSE_S = 0.1
_OLDER_READS = 5
_CLOSE_S = 1.0


class Lease:
    """A lease, as its holder counts it."""

    def __init__(self, client: "MapClient", id_: int, ttl_s: int, sent_ns: int) -> None:
        self.id = id_
        self.ttl_s = ttl_s
        self.expiry = Expiry(sent_ns, ttl_s)
        self._client = client

    @property
    def left_s(self) -> float:
        return self.expiry.left_s(self._client.host.boot_ns)

    @property
    def renew_in_s(self) -> float:
        return self.expiry.renew_in_s(self._client.host.boot_ns)

    async def renew(self, key: str) -> Renewal:
        """What the map says of it, and of its key. Raises MapUnavailable."""
        client, id_, ttl_s = self._client, self.id, self.ttl_s
        sent_ns = client.host.boot_ns
        timeout_s = min(client.ATTEMPT_S, ttl_s / _ATTEMPTS_PER_TTL, self.left_s)
        answer = await client.once(lambda server: server.renew(id_, ttl_s, key), timeout_s)
        if answer.ttl_s > 0:
            self.expiry.granted(sent_ns, answer.ttl_s)
        return answer

    async def revoke(self) -> None:
        """Give it back, with all its keys, if that can be done soon."""
        id_ = self.id
        try:
            await self._client.ask(lambda server: server.revoke(id_), _CLOSE_S)
        except MapUnavailable as error:  # it ends by itself
            logger.info("event=sim_lease_not_revoked lease=%x error=%r", id_, str(error))


class Bound:
    """Registration and Leadership in one: a key, its lease, and the task that keeps both."""

    def __init__(self, client: "MapClient", lease: Lease, key: str, revision: int) -> None:
        self.key = key
        self.revision = revision  # at which it was last written, as far as known
        self.lost = asyncio.Event()
        self.lease = lease
        self._client = client
        self._writing = asyncio.Lock()
        self._older_reads = 0
        self._ending: asyncio.Task[None] | None = None
        self._keeping = asyncio.create_task(self._keep())

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
            self._ending = asyncio.create_task(self._end())
        await asyncio.wait({self._ending})

    resign = aclose

    async def _end(self) -> None:
        self._keeping.cancel()
        await asyncio.wait({self._keeping})
        await self.lease.revoke()

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            logger.warning("event=sim_key_lost key=%s reason=%r", self.key, why)
            self.lost.set()

    async def _write(self, value: bytes) -> bool:
        """Whether it was written; if not, its revision is known now."""
        key, lease, revision = self.key, self.lease.id, self.revision
        try:
            written = await self._client.once(
                lambda server: server.rebind(key, value, lease, revision)
            )
        except Unreached:
            raise
        except MapUnavailable:
            self._lose("its lease is gone")
            raise
        if isinstance(written, Seen):
            self._check(written)
            return False
        self.revision = written
        return True

    async def _keep(self) -> None:
        try:
            while not self.lost.is_set():
                await asyncio.sleep(self.lease.renew_in_s)
                await self._renew()
        finally:
            self.lost.set()
            self._client.gone(self)

    async def _renew(self) -> None:
        """Renew the lease and look after the key, or lose both."""
        while self.lease.left_s > 0:
            try:
                answer = await self.lease.renew(self.key)
            except MapUnavailable:
                await asyncio.sleep(self._client.rng.uniform(_PAUSE_S / 2, _PAUSE_S))
                continue
            if answer.ttl_s <= 0:
                self._lose("the map knows its lease no more")
            elif answer.seen is not None:
                self._check(answer.seen)
            return
        self._lose("its lease could not be renewed in time")

    def _check(self, seen: Seen) -> None:
        """Judge what was read at the key."""
        if seen.revision < self.revision:
            # A member that was paused may still read its old state; for good, it is another map.
            self._older_reads += 1
            if self._older_reads >= _OLDER_READS:
                self._lose("the map is at an older state than the key")
            return
        self._older_reads = 0
        if seen.lease is None:
            self._lose("the key is gone")
        elif seen.lease != self.lease.id:
            self._lose("the key is another's")
        else:
            self.revision = max(self.revision, seen.written_at)
