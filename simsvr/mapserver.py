"""The simulated etcd, and every way in which it lies.

`MapDisk` is what outlives the process; a restart is a new MapServer with the same disk, which
grants every lease its whole time to live again. Requests are answered in one turn, and what they
write is on the disk before the answer leaves, so a crash loses answers and nothing else.

Nothing here breaks the one thing that is leant on (docs/PROTOCOL.md, section 5): a transaction is
atomic, and compares with the newest state. Short of `wipe` and `restore`, revisions only rise.

    refuse              down, or without a leader: every request is refused
    stale_after_pause_s a member that was paused answers quorum reads from its old state for that
                        long (etcd issue 20418)
    keepalive_lies      a renewal says OK although the lease has ended and its keys are gone: an
                        old leader that does not know yet what it is answers it (15247)
    expire_all_leases   the same old leader revokes all leases, renewed or not (12528, 15247)
    skip_watch_events   a watch misses changes, and goes on as if nothing had happened (17529,
                        18089)
    hold_watches        a watch is late: a slow member, or one that catches up
    silence_watches     a watch dies without a word: what its stream ran over forgot it
    end_watches         a watch is cancelled: for want of a leader, or of a good token
    compact             changes are no longer known, and a watch that is behind is cancelled for it
    stale_reads         reads that should be linearizable come from an older state
    wipe, restore       the data is gone, or as old as a backup; revisions begin anew

Those of the disk last over a restart, until `heal`; those of the server end with it.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from clustermap.coordinator import Listing
from clustermap.errors import MapUnavailable
from simsvr.hosts import Host
from simsvr.mapstate import Compacted, MapState, Seen, View
from simsvr.mapwatch import End, Feed, Stream
from simsvr.network import Network

NAME = "etcd"
_LAPSE_CHECK_NS = 500_000_000  # etcd looks for leases that have ended about twice a second
_PAUSED_NS = 10_000_000
_VERIFIED = 0.3

T = TypeVar("T")


class Unreached(MapUnavailable):
    """No usable answer, and perhaps the next attempt has one."""


class MapDisk:
    """What the server's machine keeps, and which server serves it now."""

    def __init__(self) -> None:
        self.state = MapState()
        self.server: MapServer | None = None
        self.refuse = False
        self.keepalive_lies = False
        self.stale_after_pause_s = 0.0
        self.skipped_share = 0.0
        self.on_written: Callable[[Mapping[str, bytes | None]], None] = lambda _: None
        self._leases = 0

    # -- what only a simulator can see and do

    def read_true(self, prefix: str = "") -> Listing:
        """What really is in the map now."""
        return self.state.view.listing(prefix)

    def snapshot(self) -> MapState:
        """A backup, for `restore`."""
        return self.state.copy()

    def restore(self, backup: MapState) -> None:
        """The data is as it was. Every connection breaks, as the process is started anew."""
        self.state = backup.copy()
        if self.server is not None:
            self.server.data_replaced()

    def wipe(self) -> None:
        """Everything is gone, and revisions begin anew."""
        self.restore(MapState())

    def skip_watch_events(self, share: float) -> None:
        """0..1: what every watch misses of the changes from here on."""
        self.skipped_share = share

    def heal(self) -> None:
        """No lies from here on. What they have done stays done."""
        self.refuse = self.keepalive_lies = False
        self.stale_after_pause_s = self.skipped_share = 0.0
        if self.server is not None:
            self.server.heal()

    def new_lease(self) -> int:
        """An id that no lease ever had, also not before a wipe."""
        self._leases += 1
        return self._leases


@dataclass(frozen=True, slots=True)
class Renewal:
    """ttl_s: 0 where there is no such lease. seen: its key; None where that could not be read."""

    ttl_s: int
    seen: Seen | None


class MapServer:
    """The process. Methods without an underscore, up to the lies, are what clients may ask."""

    def __init__(self, host: Host, network: Network, rng: random.Random, disk: MapDisk) -> None:
        self.host = host
        self.disk = disk
        self._network = network
        self._rng = rng
        self._streams: dict[int, Stream] = {}
        self._ends_ns: dict[int, float] = {}  # lease -> its end on our clock
        self._held_until_ns = 0  # true times
        self._stale_until_ns = 0
        self._stale = disk.state.view
        disk.server = self
        host.on_crash.append(self._crashed)
        self._grant_again()

    def hear(
        self, arrived_ns: int, question: "Callable[[MapServer], T]", reply: Callable[[Any], None]
    ) -> None:
        """Answer one request that came at a true time; an exception is an answer too."""
        self._notice_pause(arrived_ns)
        answer: T | Exception
        if self.disk.refuse:
            answer = Unreached("etcdserver: no leader")
        else:
            try:
                answer = question(self)
            except (MapUnavailable, ValueError) as error:
                answer = error
        reply(answer)

    # -- keys

    def read(self, prefix: str) -> Listing:
        return self._view().listing(prefix)

    def transact(self, expected: dict[str, int], puts: dict[str, bytes | None]) -> int | None:
        revision = self.disk.state.transact(expected, puts)
        if revision is not None:
            self.disk.on_written(puts)
        self._tell()
        return revision

    # -- leases

    def grant(self, ttl_s: int) -> int:
        lease = self.disk.new_lease()
        self.disk.state.leases[lease] = ttl_s
        self._extend(lease)
        self._lapse_later(lease)
        return lease

    def renew(self, lease: int, ttl_s: int, key: str) -> Renewal:
        """Renew a lease and read its key: two requests in etcd, one here."""
        seen = self._view().look(key)
        if lease in self.disk.state.leases:
            self._extend(lease)
            return Renewal(ttl_s, seen)
        if self.disk.keepalive_lies:
            # The holder looks after its key, and would never be deceived if it always could.
            return Renewal(ttl_s, seen if self._rng.random() < _VERIFIED else None)
        return Renewal(0, seen)

    def revoke(self, lease: int) -> None:
        self.disk.state.drop(lease)
        self._ends_ns.pop(lease, None)
        self._tell()

    def bind(self, key: str, value: bytes, lease: int) -> int:
        revision = self.disk.state.bind(key, value, lease)
        self._tell()
        return revision

    def rebind(self, key: str, value: bytes, lease: int, revision: int) -> int | Seen:
        """The new revision if it was written; else what stands at the key."""
        written = self.disk.state.rebind(key, value, lease, revision)
        self._tell()
        return self.disk.state.view.look(key) if written is None else written

    # -- watches

    def watch(self, feed: Feed, prefix: str, told: int) -> int:
        """Tell `feed` all later changes; the map's revision now. Raises Compacted."""
        self.disk.state.after(prefix, told)
        stream = Stream(self._network, self.host, feed, prefix, told)
        self._streams[feed.serial] = stream
        self._tell()
        return self.disk.state.view.revision

    # -- lies

    def hold_watches(self, seconds: float) -> None:
        """Tell nothing for so long (true time), then everything."""
        hold_ns = round(seconds * 1e9)
        self._held_until_ns = self._now_ns + hold_ns
        self._network.at(hold_ns + 1, lambda: self.host.call_soon(self._tell))

    def silence_watches(self) -> None:
        """No watch that there is now is ever told anything again."""
        self._streams.clear()

    def end_watches(self) -> None:
        self.host.call_soon(self._end_watches)

    def compact(self) -> None:
        """Forget every change up to now."""
        self.host.call_soon(self._compact)

    def expire_all_leases(self) -> None:
        self.host.call_soon(self._expire_all)

    def stale_reads(self, seconds: float, behind: int | None = None) -> None:
        """For so long (true time), reads show the state of `behind` transactions ago.

        None: of 1 to 20. Transactions and watches go on as ever.
        """
        past = self.disk.state.past
        if behind is None:
            behind = self._rng.randint(1, 20)
        behind = min(behind, len(past))
        self._go_stale(past[-behind] if behind else self.disk.state.view, seconds)

    def heal(self) -> None:
        """An end to everything of this kind that goes on by itself."""
        self._held_until_ns = self._stale_until_ns = 0
        self.host.call_soon(self._tell)

    def data_replaced(self) -> None:
        """Start anew with what the disk holds now."""
        self._reset_streams()
        self._held_until_ns = self._stale_until_ns = 0
        self._grant_again()

    # -- inside

    @property
    def _now_ns(self) -> int:
        return self.host.loop.now_ns

    def _view(self) -> View:
        return self._stale if self._now_ns < self._stale_until_ns else self.disk.state.view

    def _go_stale(self, view: View, seconds: float) -> None:
        self._stale = view
        self._stale_until_ns = self._now_ns + round(seconds * 1e9)

    def _notice_pause(self, due_ns: float) -> None:
        """What was due at a true time has its turn now: were we stopped in between?"""
        seconds = self.disk.stale_after_pause_s
        if seconds and self._now_ns - due_ns > _PAUSED_NS and self._now_ns >= self._stale_until_ns:
            self._go_stale(self.disk.state.view, seconds)

    def _tell(self) -> None:
        """Every watch what is new to it, unless they are held."""
        if self._now_ns < self._held_until_ns:
            return
        for serial, stream in list(self._streams.items()):
            if stream.over or not self._tell_one(stream):
                del self._streams[serial]

    def _tell_one(self, stream: Stream) -> bool:
        state, share = self.disk.state, self.disk.skipped_share
        try:
            changes = state.after(stream.prefix, stream.told)
        except Compacted:
            stream.send(End(compacted=True))
            return False
        stream.told = max(stream.told, state.view.revision)
        if share:
            changes = [change for change in changes if self._rng.random() >= share]
        if changes:
            stream.send(tuple(changes))
        return True

    def _end_watches(self) -> None:
        for stream in self._streams.values():
            stream.send(End())
        self._streams.clear()

    def _reset_streams(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.reset()

    def _compact(self) -> None:
        self._tell()
        self.disk.state.compact()

    # -- leases, inside

    def _extend(self, lease: int) -> None:
        check_ns = self._rng.random() * _LAPSE_CHECK_NS
        self._ends_ns[lease] = self.host.mono_ns + self.disk.state.leases[lease] * 1e9 + check_ns

    def _grant_again(self) -> None:
        self._ends_ns.clear()
        for lease in self.disk.state.leases:
            self._extend(lease)
            self._lapse_later(lease)

    def _lapse_later(self, lease: int) -> None:
        ends_ns = self._ends_ns[lease]
        self.host.loop.call_at(ends_ns / 1e9, self._lapse, lease, context=self.host.context)

    def _lapse(self, lease: int) -> None:
        ends_ns = self._ends_ns.get(lease)
        if ends_ns is None:
            return
        late_ns = self.host.mono_ns - ends_ns
        if late_ns < -1000:
            self._lapse_later(lease)
            return
        self._notice_pause(self._now_ns - late_ns)
        self.revoke(lease)

    def _expire_all(self) -> None:
        for lease in list(self.disk.state.leases):
            self.revoke(lease)

    def _crashed(self, silent: bool) -> None:
        if silent:
            self._streams.clear()
        else:
            self._reset_streams()
