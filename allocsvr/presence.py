"""A node's registration in the cluster map: that it lives, how it is, and that it wants to go.

Nothing that is served depends on it: without the map a node serves on, unregistered (LEASE-2).

Going (docs/PROTOCOL.md, section 5): the registration says draining, the arbiter marks all sections
as leaving, moving.py hands them over, and the node is free once the map gives it nothing. With no
arbiter, or no map, it releases everything by itself and says so to the map if it can.
"""

import asyncio
import logging
import random
from dataclasses import replace
from operator import attrgetter

from allocsvr.load import Rates, differs
from allocsvr.node import AllocNode
from clustermap import placement
from clustermap.coordinator import Coordinator, Registration
from clustermap.model import Assignments, assignments_key, node_key
from clustermap.nodes import Load, Node
from seqsvr.invariants import BrokenInvariant

logger = logging.getLogger(__name__)

CHECK_S = 0.1
SAMPLE_S = 1.0
LOAD_S = 2.0
RETRY_S = 0.1
MAX_RETRY_S = 2.0
MAP_TIMEOUT_S = 2.0
STALLED_S = 3.0
# The share of the time for going that others have for taking over.
PLANNED = 0.8
_SLICE = 4096
_is_serving = attrgetter("serving")


class Presence:
    """The registration of one node. `run` beside the node; `drain` before it ends.

    address: where callers reach the node; ttl_s: how long the registration outlives the process.
    """

    def __init__(
        self, node: AllocNode, coordinator: Coordinator, address: str, ttl_s: float
    ) -> None:
        self._node = node
        self._coordinator = coordinator
        self._ttl_s = ttl_s
        self._key = node_key(node.spec.name, node.incarnation)
        self._rates = Rates()
        self._serving = 0
        self._said = Node(
            node.incarnation,
            address,
            node.spec.name,
            leased=False,
            peer_address=node.peer_address,
        )
        self._held: Registration | None = None
        self._draining = False
        self._closed = False
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Be registered, again whenever that is lost, until cancelled or drained."""
        sampling = asyncio.create_task(self._sample())
        wait_s = RETRY_S
        try:
            while not self._closed:
                try:
                    await self._register()
                    wait_s = RETRY_S
                    await self._keep()
                    if not self._closed:
                        logger.warning("event=registration_lost")
                except BrokenInvariant:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it is, the node serves on
                    if wait_s == RETRY_S:  # once per outage
                        logger.warning("event=not_registered error=%r", error)
                    await asyncio.sleep(random.uniform(wait_s / 2, wait_s))
                    wait_s = min(wait_s * 2, MAX_RETRY_S)
        finally:
            sampling.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Hand every section over and take the registration away; serves nothing afterwards.

        Raises TimeoutError where the replicas did not take the counters in time; what they did not
        take is waited out by the next owners.
        """
        self._draining = True
        self._news.set()
        async with asyncio.timeout(timeout_s):
            if not await self._relieved(timeout_s * PLANNED):
                logger.warning("event=drained_alone sections=%d", len(self._node.ledger.sections))
                await self._node.drain()
                await self._withdraw()
            self._node.ledger.draining = True
            await self._close()

    # -- the registration ----------------------------------------------------------------------

    async def _register(self) -> None:
        self._said = replace(self._state(), load=self._load())
        async with asyncio.timeout(self._ttl_s + MAP_TIMEOUT_S):
            self._held = await self._coordinator.register(
                self._key, self._said.to_json(), self._ttl_s
            )
        if self._closed:
            await self._held.aclose()

    async def _keep(self) -> None:
        """Keep what is registered true; returns once the registration is lost, or is closed."""
        held = self._held
        if held is None:
            return
        watching = asyncio.create_task(self._tell_of_loss(held))
        try:
            await self._keep_true(held)
        finally:
            watching.cancel()

    async def _keep_true(self, held: Registration) -> None:
        loop = asyncio.get_running_loop()
        load_due_s = loop.time() + LOAD_S
        while not held.lost.is_set() and not self._closed:
            now = self._state()
            if loop.time() >= load_due_s:
                load_due_s = loop.time() + LOAD_S
                load = self._load()
                if differs(now.load, load):
                    now = replace(now, load=load)
            if now != self._said:
                async with asyncio.timeout(MAP_TIMEOUT_S):
                    await held.update(now.to_json())
                self._said = now
            await self._pause()

    async def _tell_of_loss(self, held: Registration) -> None:
        await held.lost.wait()
        self._news.set()

    async def _pause(self) -> None:
        """For CHECK_S, or until there is something to be told."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    async def _close(self) -> None:
        self._closed = True
        self._news.set()
        try:
            async with asyncio.timeout(MAP_TIMEOUT_S):
                if self._held is not None:
                    await self._held.aclose()
        except BrokenInvariant:
            raise
        except Exception as error:  # noqa: BLE001 - it goes with its time to live
            logger.warning("event=registration_not_closed error=%r", error)

    def _state(self) -> Node:
        return replace(self._said, draining=self._draining, leased=self._node.holds_lease())

    # -- the load ------------------------------------------------------------------------------

    async def _sample(self) -> None:
        """Read and reset the counters of all sections, a slice at a time."""
        loop = asyncio.get_running_loop()
        last_s = loop.time()
        while True:
            await asyncio.sleep(SAMPLE_S)
            now_s = loop.time()
            taken = self._node.ledger.counters.taken()
            serving = 0
            held = list(self._node.ledger.sections.values())
            for at in range(0, len(held), _SLICE):
                part = held[at : at + _SLICE]
                serving += sum(map(_is_serving, part))
                for section in [section for section in part if section.taken]:
                    taken.append((section.id, section.taken))
                    section.taken = 0
                await asyncio.sleep(0)
            self._rates.sample(taken, now_s - last_s)
            self._serving = serving
            last_s = now_s

    def _load(self) -> Load:
        node = self._node
        return self._rates.load(
            serving=self._serving, acquiring=node.unserved, leaving=len(node.moving.leaving)
        )

    # -- going ---------------------------------------------------------------------------------

    async def _relieved(self, timeout_s: float) -> bool:
        """Whether others have taken over all that was ours; False as soon as it does not go on."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        before, stalled_s = None, loop.time() + STALLED_S
        while self._node.assigned or self._node.ledger.sections:
            left = self._node.assigned, len(self._node.ledger.sections)
            progress = (*left, len(self._node.moving.leaving))
            if progress != before:
                before, stalled_s = progress, loop.time() + STALLED_S
            if loop.time() >= min(until_s, stalled_s):
                return False
            await asyncio.sleep(CHECK_S / 5)
        return True

    async def _withdraw(self) -> None:
        """Tell the map that nothing is ours any more, if it can be told."""
        key = assignments_key(self._node.spec.name)
        try:
            async with asyncio.timeout(MAP_TIMEOUT_S):
                while True:
                    if await self._withdrawn(key):
                        return
                    await asyncio.sleep(random.uniform(0, RETRY_S))
        except BrokenInvariant:
            raise
        except Exception as error:  # noqa: BLE001 - the arbiter finds out
            logger.warning("event=withdrawal_not_told error=%r", error)

    async def _withdrawn(self, key: str) -> bool:
        held = (await self._coordinator.get(key)).entries.get(key)
        if held is None:
            return True
        old = Assignments.from_json(held.value)
        new = placement.withdraw(old, self._node.incarnation)
        if new is old:
            return True
        return (
            await self._coordinator.transact({key: held.revision}, {key: new.to_json()}) is not None
        )
