"""Named scenarios: a script instead of a schedule of faults, on the same world with all checkers.

A script is a coroutine that gets a `Stage`. It does things to the cluster, calls as a message
service would, and may assert what it sees; whatever the checkers find fails the run anyway.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from clustermap import placement
from clustermap.model import Assignments, assignments_key
from seqsvr.client import AsyncClient
from seqsvr.errors import SeqError
from simsvr.calling import WatchedRouter
from simsvr.hosts import Host
from simsvr.network import Weather

if TYPE_CHECKING:
    from simsvr.programs import WatchedNode
    from simsvr.world import World

PATIENCE_S = 30.0

T = TypeVar("T")
Script = Callable[["Stage"], Awaitable[None]]


class InVain(AssertionError):
    """Something that a script waits for does not happen."""


class Stage:
    """A cluster in the hands of a script. Times in seconds of true time."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._callers: dict[str, tuple[Host, AsyncClient]] = {}

    def play(self, work: Coroutine[Any, Any, T]) -> T:
        """What work comes to, for those who lead the stage from outside of the loop."""
        return self.world.loop.run_until_complete(work)

    def limit(self, seq_limit: int) -> None:
        """Make it a cluster that hands out nothing above. Only before any time has passed."""
        self.world.cluster = replace(self.world.cluster, seq_limit=seq_limit)

    # -- watching

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Let time pass until it holds. Raises InVain."""
        until_ns = self.world.loop.now_ns + int(PATIENCE_S * 1e9)
        while not holds():
            if self.world.loop.now_ns > until_ns:
                raise InVain(f"in vain for {PATIENCE_S} s: {what}")
            await asyncio.sleep(0.01)

    async def passes(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def owner(self, section: int) -> str | None:
        """Name of the node that serves a section just now."""
        for name, node in self.world.nodes.items():
            held = node.ledger.sections.get(section)
            running = node.host.running and node.ledger.lease.held(node.host.boot_ns)
            if running and held is not None and held.serving:
                return name
        return None

    def node(self, name: str) -> "WatchedNode":
        return self.world.nodes[name]

    async def serves(self, *sections: int, without: str | None = None) -> None:
        """Wait until all of these (all there are) are served, none by the node `without`."""
        wanted = sections or tuple(range(self.world.plan.sections))

        def all_served() -> bool:
            owners = [self.owner(section) for section in wanted]
            return None not in owners and without not in owners

        await self.until(all_served, f"sections {wanted} served, not by {without}")

    def assignments(self) -> Assignments:
        key = assignments_key(self.world.plan.set_name)
        return Assignments.from_json(self.world.map_disk.read_true(key).entries[key].value)

    def stored(self, section: int) -> list[int]:
        """max_seq of a section on each replica's disk."""
        return [self.world.max_seq(index, section) for index in range(self.world.plan.stores)]

    # -- calling

    async def next(self, uid: int, count: int = 1, *, client: str = "caller") -> int:
        """The first of the next `count` numbers. Raises SeqError."""

        async def call(own: AsyncClient) -> int:
            with self.world.watch.call("next", [uid], count) as noted:
                noted.seqs = [(await own.next_range(uid, count)).start]
            return noted.seqs[0]

        return await self._on(client, call)

    async def next_many(self, uids: Sequence[int], *, client: str = "caller") -> list[int]:
        """One for each. Raises SeqError."""

        async def call(own: AsyncClient) -> list[int]:
            with self.world.watch.call("next", uids, 1) as noted:
                noted.seqs = await own.next_many(uids)
            return noted.seqs

        return await self._on(client, call)

    async def current(self, uid: int, *, client: str = "caller") -> tuple[int, bool]:
        """(value, exact). Raises SeqError."""

        async def call(own: AsyncClient) -> tuple[int, bool]:
            with self.world.watch.call("current", [uid], 1) as noted:
                found = await own.current(uid)
                noted.seqs, noted.exact = [found.value], [found.exact]
            return found.value, found.exact

        return await self._on(client, call)

    async def _on(self, name: str, call: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """What a call comes to, made on the host of that client."""
        if name not in self._callers:
            host = self.world.new_host(name)
            client = host.context.run(AsyncClient, self.world.seeds)
            client._router = WatchedRouter(self.world, name)
            self._callers[name] = host, client
        host, client = self._callers[name]
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def made() -> None:
            try:
                result = await call(client)
            except Exception as error:  # noqa: BLE001 - it is the script's
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        task = host.spawn(made())
        try:
            return await done
        except asyncio.CancelledError:
            task.cancel()
            raise

    # -- doing

    def kill(self, name: str, *, silent: bool = False) -> None:
        self.world.kill(name, silent=silent)

    def restart(self, name: str) -> None:
        self.world.restart(name)

    def drain(self, name: str) -> None:
        self.world.drain(name)

    def pause(self, name: str) -> None:
        self.world.note(name, "stopped")
        self.world.places[name].host.pause()

    def resume(self, name: str) -> None:
        self.world.note(name, "goes on")
        self.world.places[name].host.resume()

    def assign(self, first: int, last: int, name: str, *, planned: bool) -> None:
        """Write into the map that a node should have sections; planned: after a release."""
        self.world.assign(first, last, self.world.nodes[name], planned=planned)

    def level_with(self, client: str) -> None:
        """Give the map the version of a client's table."""
        table = self._callers[client][1].table()
        if table is not None:
            version = table.version
            key = assignments_key(self.world.plan.set_name)
            self.world.edit_map(key, lambda old: placement.raise_version(old, version))

    def cut(self, *pairs: tuple[str, str], both: bool = True) -> None:
        """No messages between these, or (both=False) from the first to the second only."""
        self.weather(Weather(cut=True), *pairs, both=both)

    def weather(self, weather: Weather | None, *pairs: tuple[str, str], both: bool = True) -> None:
        """None: fair again."""
        for one, other in pairs:
            self.world.network.set_weather(one, other, weather)
            if both:
                self.world.network.set_weather(other, one, weather)

    def mend(self) -> None:
        """Fair weather everywhere."""
        self.world.network.clear()

    def fill_disk(self, store: int) -> None:
        """Every commit fails from here on."""
        self.world.note(f"store-{store}", "disk is full")
        self.world.disks[store].fails = "no space left on device"

    def stall_disk(self, store: int, seconds: float) -> None:
        """No commit gets through for so long."""
        self.world.note(f"store-{store}", f"disk stalls for {seconds} s")
        until_ns = self.world.loop.now_ns + int(seconds * 1e9)
        self.world.disks[store].stalled_until_ns = until_ns

    def spoil_disk(self, store: int, *, blank: bool = False) -> None:
        """A bit of a record flips, or (blank) the disk is another one, with nothing on it."""
        world, name = self.world, f"store-{store}"
        if blank:
            world.kill(name)
            world.new_disk(store)
            world.restart(name)
            return
        disk = world.disks[store]
        for section in sorted(disk.records)[:1]:
            what = disk.flip(section, world.rng)
            world.note(name, f"disk: {what}")
            world.watch.spoilt(store, section, what)

    def heal(self) -> None:
        """Nothing is wrong any more: everything runs, is connected, and has room on its disk."""
        for disk in self.world.disks:
            disk.fails, disk.stalled_until_ns = "", 0
        self.world.map_disk.heal()
        self.world.faults.heal()
        self.world.watch.healed()

    async def recovers(self) -> None:
        """Heal, and have every section hand out a number in time (LIVE). Raises InVain."""
        self.heal()
        size, until_ns = self.world.plan.section_size, self._calm_ns()
        for section in range(self.world.plan.sections):
            while section in self.world.watch.unserved:
                if self.world.loop.now_ns > until_ns:
                    raise InVain(f"section {section} is not served {self.world.plan.calm_s} s on")
                for name in self.world.places:
                    self.world.restart(name)  # a node that was told to stop has its time for that
                with suppress(SeqError):
                    await self.next(section * size, client="the last caller")

    def _calm_ns(self) -> int:
        return self.world.loop.now_ns + int(self.world.plan.calm_s * 1e9)
