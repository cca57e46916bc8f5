"""A watch of the simulated map: the stream at the server, the feed at the client.

What a stream carries arrives in order. What is lost is sent again, until the connection is given
up; then the stream ends at both ends.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from clustermap.coordinator import Change
from simsvr.hosts import Host
from simsvr.network import Network

_AGAIN_NS = 200_000_000
_GIVEN_UP_NS = 8_000_000_000


@dataclass(frozen=True, slots=True)
class End:
    """The last thing of a stream. compacted: what comes next is no longer known."""

    compacted: bool = False


Item = tuple[Change, ...] | End


class Feed:
    """What has arrived of one watch, at its host. dropped: nobody takes from it any more."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.serial = next(host.loop.serials)
        self.dropped = False
        self._arrived: deque[Item] = deque()
        self._news = asyncio.Event()

    def put(self, item: Item) -> None:
        self._arrived.append(item)
        self._news.set()

    async def take(self) -> Item:
        while not self._arrived:
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()


class Stream:
    """One watch at its server. told: the revision up to which it has been told."""

    def __init__(self, network: Network, host: Host, feed: Feed, prefix: str, told: int) -> None:
        self.prefix = prefix
        self.told = told
        self._feed = feed
        self._host = host
        self._network = network
        self._unsent: deque[Item] = deque()
        self._arrival_ns = 0  # of what was sent last
        self._over = False

    @property
    def over(self) -> bool:
        """Nobody is there to be told any more."""
        # That the server knows at once is no lie: it would tell somebody who does not listen.
        return self._over or self._feed.dropped or self._feed.host.crashed

    def send(self, item: Item) -> None:
        if self.over:
            return
        self._unsent.append(item)
        if len(self._unsent) == 1:
            self._push(self._network.loop.now_ns + _GIVEN_UP_NS)

    def reset(self) -> None:
        """The server's process is gone; its kernel says so, once."""
        if not self._over:
            self._over = True
            feed = self._feed
            self._network.send(
                self._host.name, feed.host.name, lambda: feed.host.call_soon(feed.put, End())
            )

    def _push(self, until_ns: int) -> None:
        network, feed = self._network, self._feed
        now_ns = network.loop.now_ns
        while self._unsent and not self.over:
            delay_ns = network.delay_ns(self._host.name, feed.host.name)
            if delay_ns is None:
                self._try_again(until_ns)
                return
            self._arrival_ns = max(now_ns + delay_ns, self._arrival_ns + 1)
            network.at(self._arrival_ns - now_ns, _Delivery(feed, self._unsent.popleft()))

    def _try_again(self, until_ns: int) -> None:
        network = self._network
        if self._host.crashed:
            self._over = True
        elif network.loop.now_ns > until_ns:
            self._over = True
            self._feed.host.call_soon(self._feed.put, End())
        else:
            network.at(_AGAIN_NS, lambda: self._push(until_ns))


@dataclass(frozen=True, slots=True)
class _Delivery:
    feed: Feed
    item: Item

    def __call__(self) -> None:
        self.feed.host.call_soon(self.feed.put, self.item)
