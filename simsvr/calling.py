"""Message services of a run: callers that use the real client, and note every call in true time."""

import asyncio
import random
from typing import TYPE_CHECKING

from seqsvr.client import BULK_FROM, AsyncClient
from seqsvr.errors import SeqError
from seqsvr.routing import Router, RoutingTable
from seqsvr.sections import MAX_JUMP
from simsvr.hosts import Host

if TYPE_CHECKING:
    from simsvr.world import World

KINDS = ("next", "next", "next", "range", "batch", "current", "currents")


class WatchedRouter(Router):
    """What a client holds, and which answers it accepts, is seen by the checkers (ROUTE-1)."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__()
        self._world = world
        self._name = name

    def install(self, table: RoutingTable) -> bool:
        installed = super().install(table)
        if installed:
            self._world.watch.installed(self._name, table.version)
        return installed

    def observe(self, section: int, epoch: int) -> bool:
        accepted = super().observe(section, epoch)
        if accepted:
            self._world.watch.accepted(self._name, section, epoch)
        return accepted


class Callers:
    """The callers of one client, on a host of its own."""

    def __init__(self, world: "World", host: Host, rng: random.Random) -> None:
        self._world = world
        self._host = host
        self._rng = rng
        self._uids = world.plan.uids
        self._client: AsyncClient | None = None

    async def run(self) -> None:
        world = self._world
        seeds = list(world.seeds)
        self._rng.shuffle(seeds)
        client = self._client = AsyncClient(seeds[: self._rng.randint(1, len(seeds))])
        client._bulk_from = self._rng.choice((1, BULK_FROM))
        client._router = WatchedRouter(world, self._host.name)
        async with client, asyncio.TaskGroup() as group:
            for _ in range(world.plan.callers):
                group.create_task(self._call_on(client))

    async def _call_on(self, client: AsyncClient) -> None:
        rng, plan = self._rng, self._world.plan
        while not self._world.watch.over:
            advance = plan.advances and rng.random() < plan.advances
            kind = "advance" if advance else rng.choice(KINDS)
            await self.once(client, kind)
            await asyncio.sleep(rng.expovariate(1.0) * plan.think_s)

    async def once(self, client: AsyncClient, kind: str) -> None:
        """One call of a kind; what it answers is noted, and no failure of it matters."""
        watch, rng = self._world.watch, self._rng
        uid = self._uid()
        timeout = rng.choice((None, None, 0.3))
        try:
            if kind == "next":
                with watch.call("next", [uid], 1) as noted:
                    noted.seqs = [await client.next(uid, timeout=timeout)]
            elif kind == "range":
                count = rng.choice((2, 5, self._world.plan.step + 3))
                with watch.call("next", [uid], count) as noted:
                    found = await client.next_range(uid, count, timeout=timeout)
                    noted.seqs = [found.start]
            elif kind == "batch":
                uids = [self._uid() for _ in range(rng.randint(2, 6))]
                with watch.call("next", uids, 1) as noted:
                    noted.seqs = await client.next_many(uids, timeout=timeout)
            elif kind == "current":
                with watch.call("current", [uid], 1) as noted:
                    one = await client.current(uid, timeout=timeout)
                    noted.seqs, noted.exact = [one.value], [one.exact]
            elif kind == "advance":
                await self._advance(client, timeout)
            else:
                uids = list(dict.fromkeys(self._uid() for _ in range(3)))
                with watch.call("current", uids, 1) as noted:
                    many = await client.current_many(uids, timeout=timeout)
                    noted.seqs = [one.value for one in many]
                    noted.exact = [one.exact for one in many]
        except SeqError:
            pass  # noted with its reason

    async def _advance(self, client: AsyncClient, timeout: float | None) -> None:
        """A few uids, a little or by far more than their window above where one of them stands."""
        rng, watch, plan = self._rng, self._world.watch, self._world.plan
        uids = list(dict.fromkeys(self._uid() for _ in range(rng.randint(1, 4))))
        stands = (await client.current(uids[0], timeout=timeout)).value
        floors = [stands + rng.choice((0, 3, plan.step, 10 * plan.step)) for _ in uids]
        max_jump = rng.choice((MAX_JUMP, MAX_JUMP, plan.step))
        with watch.call("advance", uids, 1) as noted:
            noted.floors = floors
            pairs = zip(uids, floors, strict=True)
            noted.seqs = await client.advance_many(pairs, max_jump=max_jump, timeout=timeout)

    def _uid(self) -> int:
        waiting = self._world.watch.unserved
        if waiting:  # all is healed: nobody but a caller finds out whether a section serves
            size = self._world.plan.section_size
            return self._rng.choice([uid for uid in self._uids if uid // size in waiting])
        if self._rng.random() < self._world.plan.skew:
            return self._uids[0]
        return self._rng.choice(self._uids)
