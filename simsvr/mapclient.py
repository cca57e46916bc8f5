"""The coordinator port of one host, over the simulated network: clustermap.etcd*, retold.

Every call ends within TIMEOUT_S of its host's clock. What may be repeated is, within that time; a
transaction is sent once, and where no answer comes its outcome is unknown. It may even be carried
out later, when the request was merely slow.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from clustermap.coordinator import Change, Leadership, Listing, Registration
from clustermap.errors import MapUnavailable
from clustermap.etcd_liveness import lease_seconds
from simsvr.hosts import Host
from simsvr.maplease import Bound, Lease
from simsvr.mapserver import NAME, MapDisk, MapServer, Unreached
from simsvr.mapstate import ELECTIONS_PREFIX
from simsvr.mapwatch import End, Feed
from simsvr.network import Network

TIMEOUT_S = 2.0
ELECTION_TTL_S = 3.0
_PAUSE_S = 0.2
_LOOK_AGAIN_S = 1.0

T = TypeVar("T")
Question = Callable[[MapServer], T]


class MapClient:
    """The port of clustermap.coordinator, of one host."""

    ATTEMPT_S = 1.0

    def __init__(self, host: Host, network: Network, disk: MapDisk, rng: random.Random) -> None:
        self.host = host
        self.rng = rng
        self._network = network
        self._disk = disk
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._feeds: dict[int, Feed] = {}
        self._bound: dict[int, Bound] = {}  # by lease
        self._closing: asyncio.Task[None] | None = None
        self._closed = False

    # -- the port

    async def get(self, prefix: str) -> Listing:
        self._require_open()
        return await self.ask(lambda server: server.read(prefix))

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        self._require_open()
        expected, puts = dict(expected), dict(puts)
        return await self.once(lambda server: server.transact(expected, puts))

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        told = after_revision
        until_s = self._now_s() + TIMEOUT_S
        while self._closing is None:
            feed = Feed(self.host)
            self._feeds[feed.serial] = feed
            try:
                await self._subscribe(feed, prefix, told)
                while not isinstance(item := await feed.take(), End):
                    until_s = self._now_s() + TIMEOUT_S
                    for change in item:
                        told = change.revision
                        yield change
                if item.compacted:
                    raise MapUnavailable("the watch was cancelled: compacted")
                if self.rng.random() < 0.5:
                    return  # it may
            except Unreached:
                if self._closing is None and self._now_s() > until_s:
                    raise
            finally:
                self._drop(feed)
            if self._closing is None:
                await self._pause()

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:
        """etcd counts in whole seconds, from 2 on: ttl_s is rounded up."""
        self._require_open()
        return await self._bind(await self._grant(ttl_s), key, value)

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        self._require_open()
        lease = await self._grant(ELECTION_TTL_S)
        election = f"{ELECTIONS_PREFIX}{name}/"
        bound = await self._bind(lease, f"{election}{lease.id:016x}", candidate)
        try:
            await self._wait_to_lead(election, bound)
        except GeneratorExit:  # nobody gave up: the run is being taken apart
            raise
        except BaseException:  # also where the caller gives up waiting: it must not win later
            self.host.spawn(bound.aclose())
            raise
        return bound

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.wait({self._closing})

    # -- requests

    async def ask(self, question: Question[T], timeout_s: float = TIMEOUT_S) -> T:
        """The answer to what may be asked several times. Raises Unreached where there is none."""
        until_s = self._now_s() + timeout_s
        while True:
            try:
                return await self.once(question, min(self.ATTEMPT_S, until_s - self._now_s()))
            except Unreached:
                if self._closed or self._now_s() + _PAUSE_S > until_s:
                    raise
            await self._pause()

    async def once(self, question: Question[T], timeout_s: float = TIMEOUT_S) -> T:
        """The answer to what is sent a single time; on Unreached, the outcome is unknown."""
        loop = self.host.loop
        answer: asyncio.Future[Any] = loop.create_future()
        serial = next(loop.serials)
        self._waiting[serial] = answer
        late = Unreached("the map did not answer in time")
        timer = loop.call_later(max(timeout_s, 0.0), _settle, answer, late)
        self._send(question, answer)
        try:
            result = await answer
        finally:
            timer.cancel()
            self._waiting.pop(serial, None)
        # An exception that is a value is never one that nobody retrieved.
        if isinstance(result, Exception):
            raise result
        found: T = result
        return found

    def _send(self, question: Question[T], answer: "asyncio.Future[Any]") -> None:
        network, host = self._network, self.host

        def reply(result: Any) -> None:
            network.send(NAME, host.name, lambda: host.call_soon(_settle, answer, result))

        def arrived() -> None:
            server = self._disk.server
            if server is not None and network.alive(NAME) is server.host:
                server.host.call_soon(server.hear, host.loop.now_ns, question, reply)
            elif network.powered(NAME):
                reply(Unreached("connection refused"))

        network.send(host.name, NAME, arrived)

    # -- watches

    async def _subscribe(self, feed: Feed, prefix: str, told: int) -> None:
        revision = await self.once(lambda server: server.watch(feed, prefix, told), self.ATTEMPT_S)
        if revision < told:
            # What comes next would not be told for as long as it takes to reach the old revision.
            raise MapUnavailable("the map is older than it was: wiped, or restored")

    def _drop(self, feed: Feed) -> None:
        self._feeds.pop(feed.serial, None)
        feed.dropped = True

    # -- leases

    def gone(self, bound: Bound) -> None:
        """It is lost, and needs no end any more."""
        self._bound.pop(bound.lease.id, None)

    async def _grant(self, ttl_s: float) -> Lease:
        """A new lease. One that was granted without our hearing of it ends by itself."""
        whole_s, host = lease_seconds(ttl_s), self.host
        sent_ns = host.boot_ns
        id_ = await self.ask(lambda server: server.grant(whole_s))
        return Lease(self, id_, whole_s, sent_ns)

    async def _bind(self, lease: Lease, key: str, value: bytes) -> Bound:
        """Write a key with its lease, which is revoked if that fails."""
        try:
            revision = await self.once(lambda server: server.bind(key, value, lease.id))
            self._require_open()
        except GeneratorExit:
            raise
        except BaseException:
            self.host.spawn(lease.revoke())
            raise
        return self._adopt(lease, key, revision)

    def _adopt(self, lease: Lease, key: str, revision: int) -> Bound:
        for earlier in self._bound.values():
            if earlier.key == key:
                earlier.lost.set()  # it would find out by itself, later
        bound = self._bound[lease.id] = Bound(self, lease, key, revision)
        return bound

    # -- elections

    async def _wait_to_lead(self, election: str, bound: Bound) -> None:
        """Return once `bound` is the first candidate that stands."""
        known = bound.revision
        while not bound.lost.is_set():
            try:
                listing = await self.ask(lambda server: server.read(election))
                # A candidate is written once, so the order of writing is that of standing.
                keys = sorted(listing.entries, key=lambda key: listing.entries[key].revision)
                # In a state from before its own key, others may seem not to stand that do.
                if listing.revision < known or bound.key not in keys:
                    await self._pause()
                elif keys[0] != bound.key:
                    before = keys[keys.index(bound.key) - 1]
                    known = max(known, await self._wait_for_end(before, listing.revision))
                elif not bound.lost.is_set():
                    return
            except MapUnavailable:  # the candidate may stand all the same
                await self._pause()
        raise MapUnavailable(f"the candidacy {bound.key!r} is lost")

    async def _wait_for_end(self, key: str, after_revision: int) -> int:
        """Return once `key` is gone, or after a while; the revision that is known then."""
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
        return after_revision

    # -- the end

    async def _close(self) -> None:
        for feed in list(self._feeds.values()):
            feed.put(End())
        await asyncio.gather(*(bound.aclose() for bound in list(self._bound.values())))
        self._closed = True
        for answer in list(self._waiting.values()):
            _settle(answer, Unreached("the cluster map is closed"))

    def _require_open(self) -> None:
        if self._closing is not None:
            raise MapUnavailable("the cluster map is closed")

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(_PAUSE_S / 2, _PAUSE_S))

    def _now_s(self) -> float:
        return self.host.loop.time()


def _settle(answer: "asyncio.Future[Any]", result: Any) -> None:
    if not answer.done():
        answer.set_result(result)
