"""The simulated cluster map: honest as long as it should be, and each of its lies as described."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import pytest

from clustermap.coordinator import Change, Coordinator, Versioned, follow
from clustermap.errors import MapUnavailable
from simsvr.hosts import Host
from simsvr.loop import SimLoop
from simsvr.mapclient import TIMEOUT_S, MapClient
from simsvr.mapserver import NAME, MapDisk, MapServer
from simsvr.mapstate import Compacted, MapState
from simsvr.network import Network, Weather

TTL_S = 3.0
LAPSE_S = 0.5  # a server looks for leases that have ended so often
SEEDS = range(10)


class World:
    """A map and some hosts, on a loop of their own; the code under test runs on `node`."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.loop = SimLoop(self.rng)
        self.network = Network(self.loop, self.rng)
        self.disk = MapDisk()
        self.start_server()
        self.node = self.host("node")
        self.map = self.client(self.node)

    def host(self, name: str, rate: float = 1.0) -> Host:
        host = self.network.hosts[name] = Host(self.loop, name, rate=rate)
        return host

    def client(self, host: Host) -> MapClient:
        return MapClient(host, self.network, self.disk, self.rng)

    def start_server(self) -> None:
        MapServer(self.host(NAME), self.network, self.rng, self.disk)

    def restart_server(self, *, silent: bool = False) -> None:
        self.server.host.crash(silent=silent)
        self.start_server()

    @property
    def server(self) -> MapServer:
        assert self.disk.server is not None
        return self.disk.server

    def keys(self) -> list[str]:
        return list(self.disk.read_true().entries)

    def cut(self, source: str, target: str) -> None:
        self.network.set_weather(source, target, Weather(cut=True))

    def run(self, work: Coroutine[Any, Any, None], host: Host | None = None) -> None:
        """To the end of `work`, after which nothing may have gone wrong unheard."""
        self.loop.run_until_complete((host or self.node).spawn(_bounded(work)))
        assert self.loop.faults == []
        self.loop.sink()
        self.loop.close()


async def _bounded(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(1000):
        await work


async def put(coordinator: Coordinator, **values: bytes | None) -> int:
    revision = await coordinator.transact({}, values)
    assert revision is not None
    return revision


async def told_by(changes: AsyncGenerator[Change, None], seconds: float) -> list[int]:
    """The revisions that a watch tells within a time, or until it ends."""
    revisions: list[int] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(changes):
            async for change in changes:
                revisions.append(change.revision)
    return revisions


# -- the state ------------------------------------------------------------------------------------


def test_what_changes_nothing_is_no_change() -> None:
    state = MapState()
    assert state.transact({}, {"a": None}) == 1
    assert state.transact({"a": 7}, {"a": b"1"}) is None
    assert state.view.revision == 1
    assert state.after("", 1) == []


def test_what_was_compacted_cannot_be_told_any_more() -> None:
    state = MapState()
    for value in (b"1", b"2", b"3"):
        state.transact({}, {"a": value})
    assert [change.revision for change in state.after("", 0)] == [2, 3, 4]
    state.compact()
    state.transact({}, {"a": b"4"})
    assert state.after("", 4) == [Change(5, {"a": Versioned(b"4", 5)})]
    with pytest.raises(Compacted):
        state.after("", 3)


def test_a_backup_does_not_change_with_what_it_was_made_of() -> None:
    state = MapState()
    state.leases[1] = 2
    state.bind("a", b"1", 1)
    backup = state.copy()
    state.drop(1)
    state.transact({}, {"b": b"1"})
    assert backup.view.listing("").entries == {"a": Versioned(b"1", 2)}
    assert backup.leases == {1: 2}
    assert [change.revision for change in backup.after("", 0)] == [2]


def test_nothing_is_bound_to_a_lease_that_has_ended() -> None:
    state = MapState()
    state.leases[1] = 2
    state.bind("a", b"1", 1)
    state.drop(1)
    with pytest.raises(MapUnavailable):
        state.bind("a", b"1", 1)
    with pytest.raises(MapUnavailable):
        state.rebind("a", b"1", 1, 2)


# -- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_a_call_without_an_answer_ends_by_its_hosts_own_clock(rate: float) -> None:
    world = World()
    slow = world.host("slow", rate)
    client = world.client(slow)
    world.cut(NAME, "slow")

    async def story() -> None:
        for call in (client.get(""), client.transact({}, {"a": b"1"})):
            began_ns = world.loop.now_ns
            with pytest.raises(MapUnavailable):
                await call
            assert TIMEOUT_S - 0.3 < (world.loop.now_ns - began_ns) / 1e9 * rate < TIMEOUT_S + 0.1

    world.run(story(), slow)


def test_a_transaction_whose_answer_is_lost_was_done_once() -> None:
    world = World()

    async def story() -> None:
        world.cut(NAME, "node")
        with pytest.raises(MapUnavailable):
            await world.map.transact({}, {"a": b"1"})
        assert world.disk.read_true().entries == {"a": Versioned(b"1", 2)}

    world.run(story())


def test_transactions_are_at_most_once_whatever_the_network_does() -> None:
    unknown = 0
    for seed in SEEDS:
        world = World(seed)
        known, lost = [0], [0]
        hosts = [world.host(f"node-{i}") for i in range(3)]

        async def count(
            client: MapClient,
            known: list[int] = known,
            lost: list[int] = lost,
        ) -> None:
            for _ in range(20):
                with suppress(MapUnavailable):
                    held = (await client.get("n")).entries.get("n", Versioned(b"0", 0))
                    lost[0] += 1
                    value = b"%d" % (int(held.value) + 1)
                    if await client.transact({"n": held.revision}, {"n": value}) is not None:
                        known[0] += 1
                    lost[0] -= 1

        async def story(world: World = world, hosts: list[Host] = hosts) -> None:
            await put(world.map, n=b"0")
            world.network.everywhere = Weather(
                loss=0.2, duplicates=0.2, late=0.2, late_ns=3_000_000_000
            )
            tasks = [host.spawn(count(world.client(host))) for host in hosts]
            await asyncio.wait(tasks)
            await asyncio.sleep(5)

        world.run(story())
        counted = int(world.disk.read_true().entries["n"].value)
        assert known[0] <= counted <= known[0] + lost[0]
        unknown += lost[0]
    assert unknown > 0, "no answer was ever lost"


def test_a_watch_tells_everything_in_order_over_a_bad_network() -> None:
    world = World()

    async def story() -> None:
        start = await put(world.map, a=b"")
        watching = asyncio.ensure_future(told_by(world.map.watch("", start), 60))
        await asyncio.sleep(0.1)
        world.network.set_weather(
            NAME, "node", Weather(loss=0.3, late=0.5, late_ns=2_000_000_000, least_ns=1_000)
        )
        written = [world.server.disk.state.transact({}, {"a": b"%d" % i}) for i in range(3)]
        for i in range(50):
            written.append(world.server.transact({}, {"a": b"%d" % i}))
            await asyncio.sleep(0.05)
        assert await watching == written

    world.run(story())


# -- the process ----------------------------------------------------------------------------------


def test_where_there_is_no_process_a_call_is_refused_and_goes_on_when_there_is_one() -> None:
    world = World()

    async def story() -> None:
        await put(world.map, a=b"1")
        world.server.host.crash()
        began_s = world.loop.time()
        with pytest.raises(MapUnavailable, match="refused"):
            await world.map.transact({}, {"a": b"2"})
        assert world.loop.time() - began_s < 0.1
        asking = asyncio.ensure_future(world.map.get(""))
        await asyncio.sleep(0.5)
        world.start_server()
        assert (await asking).entries == {"a": Versioned(b"1", 2)}

    world.run(story())


def test_a_restart_grants_every_lease_its_whole_time_again() -> None:
    world = World()
    holder = world.host("holder")

    async def story() -> None:
        await holder.spawn(world.client(holder).register("k", b"1", TTL_S))
        holder.crash()
        await asyncio.sleep(TTL_S - 0.5)
        world.server.host.crash()
        await asyncio.sleep(2 * TTL_S)
        assert world.keys() == ["k"]
        world.start_server()
        await asyncio.sleep(TTL_S - 0.5)
        assert world.keys() == ["k"]
        await asyncio.sleep(0.5 + LAPSE_S + 0.1)
        assert world.keys() == []

    world.run(story())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_watch_survives_a_restart_or_ends_and_misses_nothing_up_to_then(seed: int) -> None:
    world = World(seed)

    async def story() -> None:
        start = await put(world.map, a=b"0")
        watching = asyncio.ensure_future(told_by(world.map.watch("", start), 10))
        first = await put(world.map, a=b"1")
        await asyncio.sleep(0.1)
        world.restart_server()
        second = await put(world.map, a=b"2")
        assert await watching in ([first], [first, second])

    world.run(story())


def test_a_watch_is_not_told_that_the_power_is_gone() -> None:
    world = World()

    async def story() -> None:
        changes = world.map.watch("", await put(world.map, a=b"0"))
        watching = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.1)
        world.server.host.crash(silent=True)
        await asyncio.sleep(30)
        assert not watching.done()
        watching.cancel()

    world.run(story())


def test_what_was_sent_to_a_paused_map_is_done_when_it_goes_on() -> None:
    world = World()

    async def story() -> None:
        world.server.host.pause()
        with pytest.raises(MapUnavailable):
            await world.map.transact({}, {"a": b"1"})
        assert world.keys() == []
        world.server.host.resume()
        await asyncio.sleep(0.1)
        assert world.keys() == ["a"]

    world.run(story())


def test_what_a_crashed_host_was_waiting_for_is_never_answered() -> None:
    world = World()
    doomed = world.host("doomed")
    ended: list[str] = []

    async def work(client: MapClient) -> None:
        await client.get("")
        ended.append("honest")
        world.cut(NAME, "doomed")
        try:
            await client.get("")
        finally:
            ended.append("waiting")

    async def story() -> None:
        doomed.spawn(work(world.client(doomed)))
        await asyncio.sleep(0.5)
        doomed.crash()
        await asyncio.sleep(10)
        assert ended == ["honest"]

    world.run(story())


# -- keys that live as long as their holder -------------------------------------------------------


def test_a_registration_stands_as_long_as_its_host_lives_and_goes_after_it() -> None:
    world = World()
    holder = world.host("holder")

    async def story() -> None:
        await holder.spawn(world.client(holder).register("k", b"1", TTL_S))
        await asyncio.sleep(20 * TTL_S)
        assert world.keys() == ["k"]
        holder.crash()
        await asyncio.sleep(TTL_S / 2)
        assert world.keys() == ["k"]
        await asyncio.sleep(TTL_S / 2 + LAPSE_S + 0.1)
        assert world.keys() == []

    world.run(story())


@pytest.mark.parametrize(("source", "target"), [("holder", NAME), (NAME, "holder")])
def test_a_registration_counts_itself_lost_before_the_map_does(source: str, target: str) -> None:
    world = World()
    holder = world.host("holder")

    async def story() -> None:
        held = await holder.spawn(world.client(holder).register("k", b"1", TTL_S))
        await asyncio.sleep(10)
        assert not held.lost.is_set()
        world.cut(source, target)
        async with asyncio.timeout(TTL_S + 0.1):
            await held.lost.wait()
        assert world.keys() == ["k"] or target == NAME

    world.run(story())


def test_a_holder_that_was_paused_knows_that_its_key_is_gone() -> None:
    world = World()
    holder = world.host("holder")

    async def story() -> None:
        held = await holder.spawn(world.client(holder).register("k", b"1", TTL_S))
        holder.pause()
        await asyncio.sleep(TTL_S + LAPSE_S + 0.1)
        assert world.keys() == []
        assert not held.lost.is_set()
        holder.resume()
        await asyncio.sleep(0.01)
        assert held.lost.is_set()
        with pytest.raises(MapUnavailable):
            await holder.spawn(held.update(b"2"))
        assert world.keys() == []

    world.run(story())


def test_the_next_candidate_leads_after_the_leaders_host_is_gone() -> None:
    world = World()
    first = world.host("first")

    async def story() -> None:
        leader = await first.spawn(world.client(first).elect("arbiter", b"a"))
        standing = asyncio.ensure_future(world.map.elect("arbiter", b"b"))
        await asyncio.sleep(20)
        assert not standing.done()
        first.crash()
        async with asyncio.timeout(10):
            successor = await standing
        assert world.keys() == [successor.key]
        assert leader.key < successor.key

    world.run(story())


# -- lies -----------------------------------------------------------------------------------------


def test_a_map_that_refuses_does_nothing() -> None:
    world = World()

    async def story() -> None:
        world.disk.refuse = True
        with pytest.raises(MapUnavailable):
            await world.map.get("")
        with pytest.raises(MapUnavailable):
            await world.map.transact({}, {"a": b"1"})
        world.disk.heal()
        assert (await world.map.get("")).entries == {}

    world.run(story())


def test_held_watches_are_late_and_whole() -> None:
    world = World()

    async def story() -> None:
        start = await put(world.map, a=b"0")
        watching = asyncio.ensure_future(told_by(world.map.watch("", start), 20))
        await asyncio.sleep(0.1)
        world.server.hold_watches(5)
        written = [await put(world.map, a=b"%d" % i) for i in range(3)]
        assert await told_by(world.map.watch("", start), 4) == []
        assert await watching == written

    world.run(story())


def test_silent_watches_say_nothing_and_a_follower_finds_out() -> None:
    world = World()

    async def story() -> None:
        start = await put(world.map, a=b"0")
        watching = asyncio.ensure_future(told_by(world.map.watch("", start), 60))
        async with asyncio.timeout(15), aclosing(follow(world.map, "")) as pictures:
            await anext(pictures)
            await asyncio.sleep(0.1)
            world.server.silence_watches()
            await put(world.map, a=b"1")
            assert (await anext(pictures))["a"].value == b"1"
        assert await watching == []

    world.run(story())


def test_a_watch_that_is_cancelled_ends_or_goes_on_without_a_gap() -> None:
    outcomes: dict[str, list[int]] = {}
    for seed in SEEDS:
        world = World(seed)

        async def story(world: World = world) -> None:
            start = await put(world.map, a=b"0")
            watching = asyncio.ensure_future(told_by(world.map.watch("", start), 10))
            await asyncio.sleep(0.1)
            world.server.end_watches()
            second = await put(world.map, a=b"1")
            told = await watching
            assert told in ([], [second])
            outcomes["goes on" if told else "ends"] = told

        world.run(story())
    assert sorted(outcomes) == ["ends", "goes on"]


def test_a_watch_of_what_was_compacted_away_fails() -> None:
    world = World()

    async def story() -> None:
        start = await put(world.map, a=b"0")
        running = asyncio.ensure_future(told_by(world.map.watch("", start), 5))
        second = await put(world.map, a=b"1")
        await asyncio.sleep(0.1)
        world.server.compact()
        third = await put(world.map, a=b"2")
        with pytest.raises(MapUnavailable, match="no longer known"):
            await anext(world.map.watch("", start))
        assert await running == [second, third]

    world.run(story())


def test_a_watch_that_was_behind_is_cancelled_by_a_compaction() -> None:
    world = World()

    async def story() -> None:
        watching = asyncio.ensure_future(anext(world.map.watch("", await put(world.map, a=b"0"))))
        await asyncio.sleep(0.1)
        world.server.hold_watches(1)
        await put(world.map, a=b"1")
        world.server.compact()
        with pytest.raises(MapUnavailable, match="compacted"):
            await watching

    world.run(story())


def test_a_watch_that_skips_changes_goes_on_and_a_follower_finds_out() -> None:
    world = World()

    async def story() -> None:
        start = await put(world.map, a=b"0")
        watching = asyncio.ensure_future(told_by(world.map.watch("", start), 60))
        async with asyncio.timeout(20), aclosing(follow(world.map, "")) as pictures:
            picture = await anext(pictures)
            world.disk.skip_watch_events(0.5)
            written = [await put(world.map, a=b"%d" % i) for i in range(50)]
            world.disk.skip_watch_events(1.0)
            await put(world.map, a=b"last")
            while picture["a"].value != b"last":
                picture = await anext(pictures)
        told = await watching
        assert told == sorted(told)
        assert 10 < len(told) < 40
        assert set(told) <= set(written)

    world.run(story())


def test_a_revoked_lease_is_lost_to_its_holder_at_the_next_renewal() -> None:
    world = World()

    async def story() -> None:
        held = await world.map.register("k", b"1", TTL_S)
        leader = await world.map.elect("arbiter", b"a")
        world.server.expire_all_leases()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.keys() == []
        async with asyncio.timeout(TTL_S / 3 + 0.1):
            await held.lost.wait()
            await leader.lost.wait()

    world.run(story())


def test_a_lying_renewal_keeps_a_holder_in_its_belief_for_a_while() -> None:
    believed_s: list[float] = []
    for seed in SEEDS:
        world = World(seed)

        async def story(world: World = world) -> None:
            held = await world.map.register("k", b"1", TTL_S)
            world.disk.keepalive_lies = True
            world.server.expire_all_leases()
            began_s = world.loop.time()
            await held.lost.wait()
            believed_s.append(world.loop.time() - began_s)
            assert world.keys() == []

        world.run(story())
    assert max(believed_s) > 2 * TTL_S / 3
    assert min(believed_s) < TTL_S


def test_stale_reads_are_old_and_transactions_are_not() -> None:
    world = World()

    async def story() -> None:
        first = await put(world.map, a=b"1")
        second = await put(world.map, a=b"2")
        world.server.stale_reads(1.0, behind=1)
        old = await world.map.get("")
        assert old.revision == first
        assert old.entries == {"a": Versioned(b"1", first)}
        assert await world.map.transact({"a": first}, {"a": b"3"}) is None
        assert await world.map.transact({"a": second}, {"a": b"3"}) is not None
        assert (await world.map.get("")).revision == first
        await asyncio.sleep(1.0)
        assert (await world.map.get("")).entries["a"].value == b"3"

    world.run(story())


def test_a_stale_read_for_a_moment_does_not_end_a_registration_and_one_for_good_does() -> None:
    world = World()

    async def story() -> None:
        held = await world.map.register("k", b"1", TTL_S)
        world.server.stale_reads(TTL_S, behind=1)
        await asyncio.sleep(3 * TTL_S)
        assert not held.lost.is_set()
        world.server.stale_reads(1000, behind=1)
        async with asyncio.timeout(3 * TTL_S):
            await held.lost.wait()

    world.run(story())


def test_a_revoked_lease_is_lost_also_where_reads_are_stale() -> None:
    world = World()

    async def story() -> None:
        held = await world.map.register("k", b"1", TTL_S)
        world.server.stale_reads(1000, behind=0)
        world.server.expire_all_leases()
        async with asyncio.timeout(TTL_S / 3 + 0.1):
            await held.lost.wait()

    world.run(story())


def test_a_candidate_does_not_ask_without_end_while_reads_are_stale() -> None:
    world = World()

    async def story() -> None:
        first = await world.map.elect("arbiter", b"a")
        standing = asyncio.ensure_future(world.map.elect("arbiter", b"b"))
        await asyncio.sleep(0.5)
        world.server.stale_reads(10, behind=0)
        await first.resign()
        sent = world.network.sent
        await asyncio.sleep(9)
        assert not standing.done()
        assert world.network.sent - sent < 300
        await standing

    world.run(story())


def test_reads_may_be_stale_however_short_the_history_is() -> None:
    world = World()

    async def story() -> None:
        world.server.stale_reads(1.0)
        assert (await world.map.get("")).revision == 1
        await put(world.map, a=b"1")
        world.server.stale_reads(1.0)
        assert (await world.map.get("")).revision == 1

    world.run(story())


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("stale", [False, True])
def test_a_map_that_was_paused_may_read_from_before_the_pause(stale: bool, suspend: bool) -> None:
    world = World()
    other = world.client(world.host("other"))

    async def story() -> None:
        await put(world.map, a=b"1")
        world.disk.stale_after_pause_s = 1.0 if stale else 0.0
        world.server.host.pause(suspend=suspend)
        writing = other.host.spawn(other.transact({}, {"a": b"2"}))
        await asyncio.sleep(0.5)
        world.server.host.resume()
        assert await writing is not None
        assert (await world.map.get("")).entries["a"].value == (b"1" if stale else b"2")
        await asyncio.sleep(1.1)
        assert (await world.map.get("")).entries["a"].value == b"2"

    world.run(story())


def test_a_wiped_map_is_empty_begins_anew_and_lets_everybody_know() -> None:
    world = World()

    async def story() -> None:
        for i in range(5):
            await put(world.map, a=b"%d" % i)
        held = await world.map.register("k", b"1", TTL_S)
        watching = asyncio.ensure_future(anext(world.map.watch("", held_at(world))))
        await asyncio.sleep(0.1)
        world.disk.wipe()
        assert world.keys() == []
        assert await world.map.transact({}, {"b": b"1"}) == 2
        with pytest.raises((MapUnavailable, StopAsyncIteration)):
            await watching
        async with asyncio.timeout(TTL_S):
            await held.lost.wait()
        again = await world.map.register("k", b"2", TTL_S)
        await asyncio.sleep(3 * TTL_S)
        assert not again.lost.is_set()

    world.run(story())


def test_a_watch_from_before_a_wipe_fails_at_once() -> None:
    world = World()

    async def story() -> None:
        start = await put(world.map, a=b"1")
        world.disk.wipe()
        with pytest.raises(MapUnavailable, match="older than it was"):
            await anext(world.map.watch("", start))

    world.run(story())


def test_a_lease_is_never_given_the_name_of_an_earlier_one() -> None:
    world = World()

    async def story() -> None:
        earlier = await world.map.elect("arbiter", b"a")
        world.disk.wipe()
        later = await world.map.elect("arbiter", b"a")
        assert earlier.key != later.key

    world.run(story())


def test_a_follower_believes_in_the_end_that_the_map_was_wiped() -> None:
    world = World()

    async def story() -> None:
        await put(world.map, a=b"1")
        async with asyncio.timeout(30), aclosing(follow(world.map, "")) as pictures:
            assert list(await anext(pictures)) == ["a"]
            world.disk.wipe()
            assert await anext(pictures) == {}

    world.run(story())


def test_a_restored_map_is_what_it_was_with_the_leases_of_then() -> None:
    world = World()

    async def story() -> None:
        await put(world.map, a=b"1")
        await world.map.register("old", b"1", TTL_S)
        backup = world.disk.snapshot()
        late = await world.map.register("late", b"1", TTL_S)
        await put(world.map, a=b"2")
        for _ in range(2):  # a backup can be used again
            world.disk.restore(backup)
            assert world.keys() == ["a", "old"]
            assert (await world.map.get("")).entries["a"].value == b"1"
            await put(world.map, a=b"3")
        await asyncio.sleep(3 * TTL_S)
        assert late.lost.is_set()
        assert world.keys() == ["a", "old"]

    world.run(story())


def held_at(world: World) -> int:
    return world.disk.read_true().revision


# -- a run is a function of its seed --------------------------------------------------------------


def trace(seed: int) -> list[tuple[int, str, str]]:
    """What some hosts see of a map that lies in every way, with the times."""
    world = World(seed)
    seen: list[tuple[int, str, str]] = []

    async def work(client: MapClient, name: str) -> None:
        while True:
            try:
                async with asyncio.timeout(5):
                    held = await client.register(f"nodes/{name}", b"1", TTL_S)
                    leader = await client.elect("arbiter", name.encode())
                    note(name, leader.key)
                    await client.transact({leader.key: leader.revision}, {"by": name.encode()})
                    await leader.resign()
                    await held.aclose()
            except (MapUnavailable, TimeoutError) as error:
                note(name, repr(error))
            await asyncio.sleep(random.Random(len(seen)).random())

    async def watch(client: MapClient, name: str) -> None:
        async with aclosing(follow(client, "")) as pictures:
            async for picture in pictures:
                note(name, repr(picture))

    def note(name: str, what: str) -> None:
        seen.append((world.loop.now_ns, name, what))

    async def story() -> None:
        clients = [world.client(world.host(f"node-{i}", 1 + i / 1000)) for i in range(3)]
        tasks = [
            client.host.spawn(kind(client, client.host.name))
            for client in clients
            for kind in (work, watch)
        ]
        for _ in range(60):
            await asyncio.sleep(world.rng.random())
            lie(world)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for client in clients:
            await client.host.spawn(client.aclose())

    random.seed(seed)
    world.run(story())
    return seen


def lie(world: World) -> None:
    disk, server, rng = world.disk, world.server, world.rng
    lies: list[Callable[[], None]] = [
        lambda: server.hold_watches(rng.random() * 3),
        server.silence_watches,
        server.end_watches,
        server.compact,
        server.expire_all_leases,
        lambda: server.stale_reads(rng.random() * 3),
        lambda: disk.skip_watch_events(rng.random()),
        lambda: setattr(disk, "keepalive_lies", True),
        lambda: setattr(disk, "stale_after_pause_s", 1.0),
        lambda: setattr(disk, "refuse", not disk.refuse),
        disk.heal,
        disk.wipe,
        lambda: disk.restore(disk.snapshot()),
        server.host.pause,
        server.host.resume,
        lambda: world.restart_server(silent=rng.random() < 0.5),
        lambda: setattr(world.network, "everywhere", Weather(loss=0.1, late=0.1, late_ns=10**9)),
        world.network.clear,
    ]
    rng.choice(lies)()


def test_a_run_is_a_function_of_its_seed() -> None:
    traces = [trace(seed) for seed in range(4)]
    assert all(len(seen) > 30 for seen in traces)
    assert traces == [trace(seed) for seed in range(4)]
    assert traces[0] != traces[1]
