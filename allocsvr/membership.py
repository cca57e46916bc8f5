"""Follows the Set's membership: which version of it is used for what is asked next.

The map says what the membership is to be, each replica which one it has adopted, and for a moment
they differ, or for long where whoever changes it has stopped between two steps. So the node goes by
the replicas: it renews its lease under the version that it uses and under the one that the map says
is next, and goes over to that one once W of each of its groups have granted it. Until then the old
one is used, which the replicas still answer to. Nothing is lost by a map that is wrong or early,
and no call fails where it is right (clustermap/membership.py argues why all of this is safe,
whatever a node uses, and why the old lease counts on until its deadline).

A replica that refuses in favour of a version that is not known here makes the node read the Set's
document at once. A document of an older version than one that was seen is not followed; neither is
one that counts other stores under the same version: somebody has written that by hand.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from allocsvr.generation import Generation
from allocsvr.lease import Grants, Lease
from allocsvr.metrics import Metrics
from allocsvr.renewal import Heard, Renewal
from allocsvr.replicas import Replicas, ReplicaTransport
from clustermap.clock import Clock
from clustermap.coordinator import Coordinator
from clustermap.errors import MapCorrupt, MapUnavailable
from clustermap.membership import counted
from clustermap.model import Replica, SetSpec, set_key
from seqsvr.v1 import store_pb2 as pb

logger = logging.getLogger(__name__)

READ_TIMEOUT_S = 2.0
READ_PAUSE_S = 0.05

Connect = Callable[[Replica], ReplicaTransport]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class _Line:
    """One version on its way in, in use, or on its way out."""

    def __init__(self, spec: SetSpec, asked: Generation, renewal: Renewal) -> None:
        self.spec = spec
        self.asked = asked
        self.renewal = renewal
        self.loops: list[asyncio.Task[None]] = []
        self.poking = False


class Membership:
    """The versions that one node knows, one of them in use.

    connect, disconnect: begin and end to talk to a replica; on_changed: another version is in use.
    """

    def __init__(
        self,
        spec: SetSpec,
        *,
        cluster: str,
        incarnation: int,
        clock: Clock,
        coordinator: Coordinator,
        lease: Lease,
        timeouts_s: tuple[float, float],
        connect: Connect,
        disconnect: Callable[[ReplicaTransport], Awaitable[None]],
        spawn: Spawn,
        on_promise: Callable[[int, int, int], None],
        on_changed: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._cluster = cluster
        self._incarnation = incarnation
        self._clock = clock
        self._coordinator = coordinator
        self._lease = lease
        self._timeouts_s = timeouts_s
        self._connect = connect
        self._disconnect = disconnect
        self._spawn = spawn
        self._on_promise = on_promise
        self._on_changed = on_changed
        self._metrics = metrics
        self._heard = Heard()
        self._transports: dict[Replica, ReplicaTransport] = {}
        self._reading = False
        first = _before(spec)
        self._used = self._line(first)
        self._lines = [self._used]  # by rising version
        if first is not spec:
            self._lines.append(self._line(spec))

    @property
    def current(self) -> Generation:
        return self._used.asked

    @property
    def renewal(self) -> Renewal:
        """Of the version in use."""
        return self._used.renewal

    def start(self) -> None:
        """Hold the lease from now on."""
        for line in self._lines:
            self._renew(line)

    async def aclose(self) -> None:
        """Let go of every replica."""
        for line in self._lines:
            _end(line)
        await self._hang_up(set())

    def offer(self, spec: SetSpec) -> None:
        """What the map says of the Set."""
        newest = self._lines[-1].spec
        if spec.membership < newest.membership:
            return
        if spec.membership == newest.membership:
            if counted(spec) == counted(newest):
                return
            if _stores(spec) != _stores(newest):
                logger.error("event=membership_contradicts version=%d", spec.membership)
                return
        logger.info(
            "event=membership_offered version=%d used=%d", spec.membership, self.current.version
        )
        line = self._line(spec)
        given_up = [known for known in self._lines if known is not self._used]
        self._lines = [self._used, line]
        self._part(given_up)
        self._renew(line)

    def _line(self, spec: SetSpec) -> _Line:
        replicas, read, write = counted(spec)
        for replica in replicas:
            if replica not in self._transports:
                self._transports[replica] = self._connect(replica)
        asked = Generation(
            pb.StoreHeader(cluster=self._cluster, set=spec.name, membership=spec.membership),
            Replicas(
                [self._transports[replica] for replica in replicas],
                self._spawn,
                *self._timeouts_s,
                [replica.store_id for replica in replicas],
                self._refused,
            ),
            read,
            write,
        )
        renewal = Renewal(
            self._clock,
            asked,
            self._incarnation,
            Grants(self._lease, write),
            self._heard,
            self._on_promise,
            self._granted,
            self._metrics,
        )
        return _Line(spec, asked, renewal)

    def _renew(self, line: _Line) -> None:
        for index in range(len(line.asked.replicas)):
            line.loops.append(self._spawn(line.renewal.run(index)))

    def _granted(self) -> None:
        """Some replica has granted a lease: go over to the latest version that can be used."""
        if len(self._lines) == 1:
            return
        latest = self._lines[-1]
        if not latest.asked.replicas.have(latest.asked.write):
            return
        before, self._lines, self._used = self._lines[:-1], [latest], latest
        logger.info("event=membership_changed version=%d", latest.spec.membership)
        self._on_changed()
        self._part(before)

    def _part(self, lines: Sequence[_Line]) -> None:
        for line in lines:
            _end(line)
        if lines:
            kept = {replica for line in self._lines for replica in counted(line.spec).replicas}
            self._spawn(self._hang_up(kept))

    async def _hang_up(self, kept: set[Replica]) -> None:
        gone = {r: t for r, t in self._transports.items() if r not in kept}
        for replica in gone:
            del self._transports[replica]
        for transport in gone.values():
            await self._disconnect(transport)

    # -- what replicas say ---------------------------------------------------------------------

    def _refused(self, version: int) -> None:
        """A replica has adopted another version than the one that it was asked under."""
        line = self._lines[-1]
        if version > line.spec.membership:
            if not self._reading:
                self._reading = True
                self._spawn(self._read())
        elif version == line.spec.membership and line is not self._used and not line.poking:
            line.poking = True
            self._spawn(self._poke(line))

    async def _poke(self, line: _Line) -> None:
        """Do not wait for the next round: some replica does answer to this version."""
        granting = line.asked.replicas.granting
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(len(line.asked.replicas)):
                    if index not in granting:
                        group.create_task(line.renewal.once(index))
        finally:
            line.poking = False

    async def _read(self) -> None:
        key = set_key(self._used.spec.name)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                held = (await self._coordinator.get(key)).entries.get(key)
            if held is not None:
                self.offer(SetSpec.from_json(held.value))
        except (MapUnavailable, MapCorrupt, TimeoutError) as error:
            logger.warning("event=membership_not_read error=%r", error)
        await self._clock.sleep(READ_PAUSE_S)
        self._reading = False


def _end(line: _Line) -> None:
    for loop in line.loops:
        loop.cancel()
    line.asked.replicas.close()


def _before(spec: SetSpec) -> SetSpec:
    """The version before a joint one, which the replicas may have yet; else the one itself."""
    return replace(spec, joint=None, membership=spec.membership - 1) if spec.joint else spec


def _stores(spec: SetSpec) -> tuple[object, ...]:
    """Who counts, wherever it is reached."""
    replicas, read, write = counted(spec)
    return (tuple(replica.store_id for replica in replicas), read, write)
