"""What is done to a cluster: drawn from the seed, begun and ended in true time.

A fault is a function of the world that begins it and returns what ends it (None: it has no end, or
ends by itself). `Faults.run` is a run's course: a while of quiet, faults, all of them healed, a
while of calm in which everything must serve again.

Budget: faults that a Set cannot get over without an operator (a record that is spoilt, a disk that
is another one) hit one replica of a run at most, since from then on the other two are the quorum.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from simsvr.network import Weather

if TYPE_CHECKING:
    from simsvr.world import World

QUIET_S = 1.0
LOOK_S = 0.25
End = Callable[[], None]
Fault = Callable[["Faults"], tuple[float, End] | None]

KINDS_BY_NAME: dict[str, Fault] = {}


def fault(kind: Fault) -> Fault:
    KINDS_BY_NAME[kind.__name__] = kind
    return kind


class Faults:
    """The course of one run. counts: how often each kind was begun."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.rng = random.Random(f"faults {world.plan.seed}")
        self.counts: Counter[str] = Counter()
        self.spoilt: int | None = None  # the replica that is out for good
        self._open: dict[int, tuple[float, str, End]] = {}
        self._serial = 0
        self.plotting = False  # a plot is on (plots.py)

    async def run(self) -> None:
        """From the first start to the end of the run."""
        world, plan = self.world, self.world.plan
        await asyncio.sleep(QUIET_S)
        until_s = self.now_s + plan.faulty_s
        next_s = self.now_s
        while self.now_s < until_s:
            if plan.kinds and self.now_s >= next_s:
                self.begin(self.rng.choice(plan.kinds))
                next_s = self.now_s + self.rng.expovariate(1.0) * plan.faults_every_s
            elif not plan.kinds and self.now_s >= next_s:
                self.begin("operate")
                next_s = self.now_s + 4.0
            due_s = [at_s for at_s, _, _ in self._open.values()]
            next_look_s = self.now_s + LOOK_S
            pause_s = min([next_s, until_s, next_look_s, *due_s]) - self.now_s
            await asyncio.sleep(max(0.001, pause_s))
            self._end_due(self.now_s)
            world.watch.look_around()
            if world.watch.violations:
                return
        self.heal()
        world.watch.healed()
        until_s = self.now_s + plan.calm_s
        while self.now_s <= until_s and not world.watch.settled:
            world.watch.look_around()
            await asyncio.sleep(0.5)
        await asyncio.sleep(1.0)

    @property
    def now_s(self) -> float:
        return self.world.loop.now_ns / 1e9

    def begin(self, name: str) -> None:
        """Begin a fault of a kind, if there is anything to do it to."""
        self.world.note("fault", name)
        begun = KINDS_BY_NAME[name](self)
        self.counts[name] += 1
        if begun is not None:
            for_s, end = begun
            self._serial += 1
            self._open[self._serial] = self.now_s + for_s, name, end

    def heal(self) -> None:
        """End every fault: everything runs, and is connected."""
        world = self.world
        world.note("fault", "all is healed")
        world.healed = True
        self._end_due(float("inf"))
        world.network.clear()
        for name, place in world.places.items():
            place.host.resume()
            world.restart(name)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after that much true time, unless all is healed by then."""

        def due() -> None:
            if not self.world.healed:
                action()

        loop = self.world.loop
        loop.at_ns(loop.now_ns + int(seconds * 1e9), due)

    def _end_due(self, now_s: float) -> None:
        for serial, (at_s, name, end) in list(self._open.items()):
            if at_s <= now_s:
                del self._open[serial]
                self.world.note("fault", f"{name} ends")
                end()

    # -- whom it hits

    def named(self, kind: str) -> list[str]:
        """All hosts of a kind."""
        return [name for name in self.world.network.hosts if name.startswith(kind)]

    def some(self, kind: str) -> str:
        names = [name for name in self.world.places if name.startswith(kind)]
        return self.rng.choice(names)

    def pair(self) -> tuple[str, str]:
        """Two hosts that talk with one another."""
        filling = (("arbiter", "store"),) * 2 if self.world.plan.reforming else ()
        kinds = self.rng.choice(
            (("node", "store"), ("node", "store"), ("node", "etcd"), ("client", "node"),
             ("arbiter", "etcd"), ("arbiter", "node"), ("node", "node"), *filling)
        )  # fmt: skip
        hosts = list(self.world.network.hosts)
        one, other = (
            self.rng.choice([name for name in hosts if name.startswith(kind)]) for kind in kinds
        )
        return one, other

    def seconds(self, *choices: float) -> float:
        return self.rng.choice(choices) * self.rng.uniform(0.5, 1.5)


# -- processes -------------------------------------------------------------------------------------


def _down(faults: Faults, name: str, for_s: float, *, silent: bool) -> tuple[float, End]:
    faults.world.kill(name, silent=silent)
    return for_s, lambda: faults.world.restart(name)


@fault
def kill_node(faults: Faults) -> tuple[float, End]:
    return _down(faults, faults.some("node"), faults.seconds(0.1, 1, 4), silent=False)


@fault
def power_off_node(faults: Faults) -> tuple[float, End]:
    return _down(faults, faults.some("node"), faults.seconds(0.5, 4), silent=True)


@fault
def kill_store(faults: Faults) -> tuple[float, End]:
    return _down(faults, faults.some("store"), faults.seconds(0.05, 0.5, 3), silent=False)


@fault
def power_off_store(faults: Faults) -> tuple[float, End]:
    return _down(faults, faults.some("store"), faults.seconds(0.5, 3), silent=True)


@fault
def power_off_all_stores(faults: Faults) -> tuple[float, End]:
    names = [name for name in faults.world.places if name.startswith("store")]
    for name in names:
        faults.world.kill(name, silent=True)

    def end() -> None:
        for name in names:
            faults.world.restart(name)

    return faults.seconds(0.2, 1, 3), end


@fault
def kill_arbiter(faults: Faults) -> tuple[float, End]:
    return _down(faults, faults.some("arbiter"), faults.seconds(0.5, 4), silent=False)


@fault
def kill_map(faults: Faults) -> tuple[float, End] | None:
    if faults.world.places["etcd"].host.crashed:
        return None  # or the end of this one would be the end of that one
    return _down(faults, "etcd", faults.seconds(0.2, 1, 5, 8), silent=faults.rng.random() < 0.5)


def _pause(faults: Faults, name: str) -> tuple[float, End]:
    host = faults.world.places[name].host
    suspend = faults.rng.random() < 0.3
    faults.world.note(name, "suspended" if suspend else "stopped")
    host.pause(suspend=suspend)

    def end() -> None:
        faults.world.note(name, "goes on")
        host.resume()

    return faults.seconds(0.05, 0.5, 1.5, 2.2, 5), end


@fault
def pause_node(faults: Faults) -> tuple[float, End]:
    return _pause(faults, faults.some("node"))


@fault
def pause_store(faults: Faults) -> tuple[float, End]:
    return _pause(faults, faults.some("store"))


@fault
def pause_arbiter(faults: Faults) -> tuple[float, End]:
    return _pause(faults, faults.some("arbiter"))


@fault
def pause_map(faults: Faults) -> tuple[float, End]:
    return _pause(faults, "etcd")


# -- what operators do -----------------------------------------------------------------------------


@fault
def drain_node(faults: Faults) -> tuple[float, End]:
    name = faults.some("node")
    faults.world.drain(name)
    return faults.seconds(3, 6), lambda: faults.world.restart(name)


def _span(faults: Faults) -> tuple[int, int]:
    last = faults.world.plan.sections - 1
    first = faults.rng.randint(0, last)
    return first, faults.rng.randint(first, last)


@fault
def operate(faults: Faults) -> tuple[float, End] | None:
    """Planned things only."""
    return drain_node(faults) if faults.rng.random() < 0.5 else move(faults)


def _assign(faults: Faults, *, planned: bool) -> None:
    nodes = list(faults.world.near.values())
    if nodes:
        faults.world.assign(*_span(faults), faults.rng.choice(nodes), planned=planned)


@fault
def move(faults: Faults) -> None:
    """A planned move of some sections."""
    _assign(faults, planned=True)


@fault
def seize(faults: Faults) -> None:
    """Give sections to somebody at once, whoever serves them: a map that is wrong."""
    _assign(faults, planned=False)


# -- the network -----------------------------------------------------------------------------------


def _weather(
    faults: Faults, pairs: list[tuple[str, str]], weather: Weather, for_s: float
) -> tuple[float, End]:
    network = faults.world.network
    for one, other in pairs:
        network.set_weather(one, other, weather)
    faults.world.note("network", f"{weather.told()}: {', '.join(f'{a}>{b}' for a, b in pairs)}")

    def end() -> None:
        for one, other in pairs:
            network.set_weather(one, other, None)

    return for_s, end


@fault
def cut_one_way(faults: Faults) -> tuple[float, End]:
    one, other = faults.pair()
    pair = (one, other) if faults.rng.random() < 0.5 else (other, one)
    return _weather(faults, [pair], Weather(cut=True), faults.seconds(0.5, 2, 5))


@fault
def cut_both_ways(faults: Faults) -> tuple[float, End]:
    one, other = faults.pair()
    pairs = [(one, other), (other, one)]
    return _weather(faults, pairs, Weather(cut=True), faults.seconds(0.5, 2, 5))


@fault
def isolate(faults: Faults) -> tuple[float, End]:
    """One host from all others, one way or both."""
    alone = faults.some(faults.rng.choice(("node", "store", "etcd", "arbiter")))
    others = [name for name in faults.world.network.hosts if name != alone]
    out = [(alone, other) for other in others]
    inwards = [(other, alone) for other in others]
    pairs = faults.rng.choice((out, inwards, out + inwards))
    return _weather(faults, pairs, Weather(cut=True), faults.seconds(0.5, 2, 5))


@fault
def isolate_from_stores(faults: Faults) -> tuple[float, End]:
    """A node from some replicas."""
    alone = faults.some("node")
    stores = [name for name in faults.world.places if name.startswith("store")]
    chosen = faults.rng.sample(stores, faults.rng.randint(1, len(stores)))
    pairs = [(alone, store) for store in chosen] + [(store, alone) for store in chosen]
    return _weather(faults, pairs, Weather(cut=True), faults.seconds(0.5, 2, 5))


@fault
def bad_weather(faults: Faults) -> tuple[float, End]:
    """Everywhere: messages are lost, doubled, late, and overtake one another."""
    rng, network = faults.rng, faults.world.network
    network.everywhere = weather = Weather(
        excess_ns=rng.choice((200_000, 5_000_000, 50_000_000)),
        loss=rng.choice((0.0, 0.02, 0.2)),
        duplicates=rng.choice((0.0, 0.1, 0.5)),
        late=rng.choice((0.0, 0.05, 0.3)),
        late_ns=rng.choice((100_000_000, 3_000_000_000)),
    )
    faults.world.note("network", f"everywhere {weather.told()}")

    def end() -> None:
        network.everywhere = Weather()

    return faults.seconds(1, 4), end


@fault
def late_messages(faults: Faults) -> tuple[float, End]:
    """Between one node and one replica: late and doubled, so that old requests come anew."""
    node, store = faults.some("node"), faults.some("store")
    weather = Weather(late=0.5, late_ns=4_000_000_000, duplicates=0.5)
    return _weather(faults, [(node, store), (store, node)], weather, faults.seconds(2, 5))


# -- disks -----------------------------------------------------------------------------------------


@fault
def stall_disk(faults: Faults) -> None:
    index = faults.rng.randrange(len(faults.world.disks))
    for_s = faults.seconds(0.5, 2, 4)
    faults.world.note(f"store-{index}", f"disk stalls for {for_s:.2f} s")
    disk = faults.world.disks[index]
    disk.stalled_until_ns = faults.world.loop.now_ns + int(for_s * 1e9)


@fault
def slow_disk(faults: Faults) -> tuple[float, End]:
    disk = faults.rng.choice(faults.world.disks)
    disk.excess_ns = 200_000_000

    def end() -> None:
        disk.excess_ns = 1_000_000

    return faults.seconds(1, 4), end


@fault
def fill_disk(faults: Faults) -> tuple[float, End]:
    """The next commit fails, and so does each after it until there is room again."""
    index = faults.rng.randrange(len(faults.world.disks))
    disk = faults.world.disks[index]
    disk.fails = "no space left on device"

    def end() -> None:
        disk.fails = ""
        faults.world.restart(f"store-{index}")

    return faults.seconds(0.5, 3), end


@fault
def spoil_record(faults: Faults) -> None:
    """A bit flips, or the half of a record is missing, on the one disk that may be lost."""
    index = _the_lost_one(faults)
    disk, rng = faults.world.disks[index], faults.rng
    sections = sorted(disk.records)
    if not sections:
        return
    section = rng.choice(sections)
    what = disk.flip(section, rng) if rng.random() < 0.7 else disk.tear(section)
    faults.world.note(f"store-{index}", f"disk: {what}")
    faults.world.watch.spoilt(index, section, what)


@fault
def lose_disk(faults: Faults) -> None:
    """The replica comes back blank, as another store at the same address."""
    index = _the_lost_one(faults)
    name = f"store-{index}"
    faults.world.kill(name)
    faults.world.new_disk(index)
    faults.world.restart(name)


def _the_lost_one(faults: Faults) -> int:
    if faults.spoilt is None:
        faults.spoilt = faults.rng.randrange(len(faults.world.disks))
    return faults.spoilt


# -- clocks ----------------------------------------------------------------------------------------


@fault
def drift(faults: Faults) -> None:
    """A clock changes its rate, within what it may; beyond that where the run is a wild one."""
    plan, rng = faults.world.plan, faults.rng
    host = rng.choice([place.host for place in faults.world.places.values()])
    rate = 1 + plan.max_drift * rng.choice((-1, 1, rng.uniform(-1, 1)))
    if plan.wild:
        rate = rng.choice((0.2, 0.7, 1.0, 1.5, 4.0))
        if rng.random() < 0.5:
            host.jump(rng.choice((-1, 1)) * faults.seconds(0.5, 3, 60))
    faults.world.note(host.name, f"clock runs at {rate:.4f}")
    host.set_rate(rate)


# -- the map ---------------------------------------------------------------------------------------


@fault
def wipe_map(faults: Faults) -> None:
    """Everything is gone, and an operator writes it anew."""
    faults.world.wipe_map()


@fault
def map_lies(faults: Faults) -> tuple[float, End] | None:
    """One of the things that etcd is known to do."""
    return faults.world.map_lie(faults.rng)


KINDS = tuple(name for name in KINDS_BY_NAME if name != "operate")
