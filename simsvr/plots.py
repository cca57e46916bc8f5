"""Faults that come together: what must coincide before a promise is put to the test at all.

A hand-over is the one moment in which most of the protocol matters, and single faults seldom meet
it. So each plot here takes an owner's sections away from it while something stands between it and
the news: cuts, slow answers, a map that has forgotten, replicas that have missed the last word.
Everything is drawn from the seed, as in faults.py; nothing here is more than the network, disks,
clocks, processes and operators may do anyway.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from itertools import pairwise

from clustermap.model import assignments_key
from simsvr.faults import KINDS, End, Faults, fault
from simsvr.mapstate import MapState
from simsvr.network import Weather
from simsvr.programs import WatchedNode

Pairs = Sequence[tuple[str, str]]
Plot = Callable[["_Cast"], tuple[float, End]]

CUT = Weather(cut=True)

PLOTS: list[str] = []


def plot(kind: Plot) -> Plot:
    """A fault that is begun only where there is an owner and an heir, and no other plot is on."""

    @wraps(kind)
    def begun(faults: Faults) -> tuple[float, End] | None:
        cast = None if faults.plotting else _cast(faults)
        if cast is None:
            return None
        faults.plotting = True
        for_s, end = kind(cast)

        def ended() -> None:
            faults.plotting = False
            end()

        return for_s, ended

    fault(begun)
    PLOTS.append(kind.__name__)
    return kind


class _Cast:
    """An owner, a node that is to have its sections, and everybody else."""

    def __init__(self, faults: Faults, owner: str, heir: str) -> None:
        self.faults = faults
        self.rng = faults.rng
        self.owner = owner
        self.heir = heir
        self.spans = _spans(faults.world.nodes[owner])
        self.stores = faults.named("store")
        self._ends: list[End] = []

    def seize(self) -> None:
        """The owner's sections are the heir's, says the map."""
        self._assign(planned=False)

    def move(self) -> None:
        """The same, once the owner has released them."""
        self._assign(planned=True)

    def _assign(self, *, planned: bool) -> None:
        world = self.faults.world
        heir = world.nodes.get(self.heir)
        if heir is None:
            return
        world.note("plot", f"{self.owner}'s {self.spans} to {self.heir}, planned: {planned}")
        for first, last in self.spans:
            world.assign(first, last, heir, planned=planned)

    def blind(self) -> None:
        """The owner cannot see the map: it would stop at once."""
        self.weather(CUT, _between([self.owner], ["etcd"]))

    def weather(self, weather: Weather, pairs: Pairs) -> None:
        """Until the plot ends, or other weather comes."""
        faults, network = self.faults, self.faults.world.network
        faults.world.note("plot", f"{weather.told()}: {', '.join(f'{a}>{b}' for a, b in pairs)}")
        for one, other in pairs:
            network.set_weather(one, other, weather)
        self._ends.append(lambda: _mend(faults, pairs))

    def end(self) -> None:
        for end in self._ends:
            end()


def _cast(faults: Faults) -> _Cast | None:
    """None: nobody serves, or nobody else is there."""
    nodes = faults.world.near
    owners = [name for name, node in nodes.items() if node.host.running and _spans(node)]
    if not owners:
        return None
    owner = faults.rng.choice(owners)
    heirs = [name for name, node in nodes.items() if node.host.running and name != owner]
    return _Cast(faults, owner, faults.rng.choice(heirs)) if heirs else None


def _spans(node: WatchedNode) -> list[tuple[int, int]]:
    """First and last of each run of sections that it serves."""
    served = sorted(s.id for s in node.ledger.sections.values() if s.serving)
    if not served:
        return []
    breaks = [(one, other) for one, other in pairwise(served) if other != one + 1]
    firsts = [served[0], *(other for _, other in breaks)]
    return list(zip(firsts, [*(one for one, _ in breaks), served[-1]], strict=True))


def _between(ones: Iterable[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Both ways."""
    there = [(one, other) for one in ones for other in others if one != other]
    return there + [(other, one) for one, other in there]


def _mend(faults: Faults, pairs: Pairs) -> None:
    for one, other in pairs:
        faults.world.network.set_weather(one, other, None)


# -- an owner that nobody can tell -----------------------------------------------------------------


@plot
def overthrow(cast: _Cast) -> tuple[float, End]:
    """An owner is cut off from the replicas with its lease running, and its sections given away.

    Its last grants may have come late, and not all at the same time; one replica may stay with it;
    clocks may differ as much as they may; the replicas may start anew and forget the lease.
    """
    faults = cast.faults
    rng = cast.rng
    if rng.random() < 0.5:
        _spread_clocks(cast)
    cut_s = 0.0
    if rng.random() < 0.3:
        cut_s = rng.uniform(0.5, 1.2)
        slow = Weather(least_ns=int(rng.uniform(0.05, 0.8) * 1e9))
        cast.weather(slow, [(store, cast.owner) for store in cast.stores])
    cast.blind()
    _cut_off(cast, cut_s)
    seize_s = cut_s + rng.uniform(0.0, 2.0)
    if rng.random() < 0.2:
        seize_s = cut_s + rng.uniform(0.1, 0.6)
        faults.later(seize_s - 0.05, lambda: _restart(faults, cast.stores))
    faults.later(seize_s, cast.seize)
    return seize_s + rng.uniform(1.5, 3), cast.end


def _cut_off(cast: _Cast, at_s: float) -> None:
    """The owner, from one replica after the other; one may stay with it and leave all others."""
    rng = cast.rng
    spread_s = rng.choice((0.0, 0.1, 0.4))
    spared = rng.choice(cast.stores) if rng.random() < 0.3 else ""
    for store in cast.stores:
        pairs = _between([cast.owner], [store])
        if store == spared:
            pairs = _between([store], [n for n in cast.faults.named("node") if n != cast.owner])
        elif rng.random() < 0.2:
            pairs = pairs[:1] if rng.random() < 0.5 else pairs[1:]
        cast.faults.later(at_s + rng.uniform(0, spread_s), partial(cast.weather, CUT, pairs))


def _spread_clocks(cast: _Cast) -> None:
    """The owner's is slow, all others are fast, within what they may."""
    world = cast.faults.world
    if world.plan.wild:
        return
    for name in (cast.owner, cast.heir, *cast.stores):
        sign = -1 if name == cast.owner else 1
        world.places[name].host.set_rate(1 + sign * world.plan.max_drift)


def _restart(faults: Faults, names: Sequence[str]) -> None:
    for name in names:
        faults.world.kill(name)
        faults.world.restart(name)


@plot
def partition(cast: _Cast) -> tuple[float, End]:
    """An owner, perhaps with a replica and with callers, on one side; the map on the other."""
    faults = cast.faults
    rng = cast.rng
    side = [cast.owner, *rng.sample(cast.stores, rng.choice((0, 1, 1)))]
    side += [client for client in faults.named("client") if rng.random() < 0.5]
    others = [name for name in faults.world.network.hosts if name not in side]
    cast.weather(CUT, _between(side, others))
    seize_s = rng.uniform(0.0, 2.0)
    faults.later(seize_s, cast.seize)
    return seize_s + rng.uniform(2, 4), cast.end


@plot
def slow_news(cast: _Cast) -> tuple[float, End]:
    """What replicas say to an owner is late, or very late, while its sections are given away."""
    faults = cast.faults
    rng = cast.rng
    late = Weather(late=rng.choice((0.3, 0.6)), late_ns=rng.choice((900_000_000, 3_000_000_000)))
    pairs = [(store, cast.owner) for store in cast.stores]
    if rng.random() < 0.3:
        pairs += [(cast.owner, store) for store in cast.stores]
    cast.weather(late, pairs)
    cast.blind()
    faults.later(rng.uniform(0.0, 1.0), cast.seize)
    return faults.seconds(2, 3), cast.end


@plot
def freeze(cast: _Cast) -> tuple[float, End]:
    """An owner is stopped in the midst of things, and goes on when others have its sections."""
    faults = cast.faults
    host = faults.world.places[cast.owner].host
    faults.world.note(cast.owner, "stopped")
    host.pause(suspend=cast.rng.random() < 0.3)
    cast.blind()
    faults.later(cast.rng.uniform(0.0, 0.5), cast.seize)
    resume_s = faults.seconds(0.3, 1.5, 2.2, 2.5)
    faults.later(resume_s, host.resume)
    return resume_s + 0.5, cast.end


@plot
def reboot(cast: _Cast) -> tuple[float, End]:
    """All replicas start anew, and an owner's sections are given away before it has spoken to them:
    they have forgotten its lease, and what they had told it.
    """
    faults, rng = cast.faults, cast.rng
    cast.blind()
    slow = Weather(least_ns=int(rng.choice((0.0, 0.1, 0.4)) * 1e9))
    cast.weather(slow, [(cast.owner, store) for store in cast.stores])
    for store in cast.stores:
        faults.world.kill(store)
        faults.later(rng.uniform(0.02, 0.3), partial(faults.world.restart, store))
    faults.later(rng.uniform(0.0, 0.3), cast.seize)
    return rng.uniform(1.5, 3), cast.end


# -- replicas that have missed the last word -------------------------------------------------------


@plot
def leave_behind(cast: _Cast) -> tuple[float, End]:
    """A replica misses what follows on a planned move, and is then asked by the next owner.

    Another replica is away then, so that the one left behind is one of the R that answer.
    """
    faults = cast.faults
    rng, nodes = cast.rng, faults.named("node")
    behind, away = rng.sample(cast.stores, 2)
    missing = _between([behind], nodes)
    if rng.random() < 0.7:
        cast.move()
    else:
        cast.seize()
    back_s = rng.uniform(0.3, 2.0)
    faults.later(rng.uniform(0.0, 0.06), lambda: cast.weather(CUT, missing))
    faults.later(back_s, lambda: _mend(faults, missing))
    faults.later(back_s, lambda: cast.weather(CUT, _between([away], nodes)))
    faults.later(back_s + rng.uniform(0.0, 0.5), lambda: _seize_back(cast))
    return back_s + faults.seconds(1, 3), cast.end


def _seize_back(cast: _Cast) -> None:
    """To whoever is there, from the heir."""
    world = cast.faults.world
    heirs = [name for name in world.near if name != cast.heir]
    if heirs:
        gone, cast.owner, cast.heir = cast.heir, cast.heir, cast.rng.choice(heirs)
        if cast.rng.random() < 0.5:
            world.kill(gone)
            cast.faults.later(2.0, lambda: world.restart(gone))
        cast.seize()


@plot
def catch_up(cast: _Cast) -> tuple[float, End]:
    """A replica has missed raises, and is repaired over a network in which requests are late."""
    faults, rng, nodes = cast.faults, cast.rng, cast.faults.named("node")
    store = rng.choice(cast.stores)
    missing = _between([store], nodes)
    cast.weather(CUT, missing)
    late = Weather(late=0.4, late_ns=900_000_000, duplicates=0.3)
    away_s = rng.uniform(0.5, 2.5)
    faults.later(away_s, lambda: _mend(faults, missing))
    faults.later(away_s, lambda: cast.weather(late, [(node, store) for node in nodes]))
    return away_s + rng.uniform(3, 7), cast.end


# -- callers that hear late ------------------------------------------------------------------------


@plot
def overtaken(cast: _Cast) -> tuple[float, End]:
    """Answers of an owner to callers are under way for long, while its sections move."""
    faults = cast.faults
    late = Weather(late=cast.rng.choice((0.3, 0.8)), late_ns=1_500_000_000)
    cast.weather(late, [(cast.owner, client) for client in faults.named("client")])
    faults.later(cast.rng.uniform(0.1, 1.0), cast.move)
    return faults.seconds(1.5, 2.5), cast.end


# -- a map that has forgotten ----------------------------------------------------------------------


@plot
def forget(cast: _Cast) -> tuple[float, End]:
    """The map is wiped, or an older copy of itself, while an owner cannot see it; who wrote it anew
    gives the owner's sections away, under epochs that may have been used before.
    """
    faults = cast.faults
    rng, world = cast.rng, faults.world
    backup = world.map_disk.snapshot()
    whole = bool(world.map_disk.read_true(assignments_key(world.plan.set_name)).entries)
    cast.blind()
    gone_s = rng.choice((0.05, 1.0, 2.5))
    if not whole or rng.random() < 0.5:
        faults.later(gone_s, world.wipe_map)
    else:
        faults.later(rng.uniform(0, gone_s), cast.move)
        faults.later(gone_s, lambda: _restored(faults, backup))
    faults.later(gone_s + rng.uniform(0.05, 1.0), cast.seize)
    return gone_s + faults.seconds(2, 4), cast.end


def _restored(faults: Faults, backup: MapState) -> None:
    """As an operator does it: the arbiters, who lean on revisions, are started anew."""
    faults.world.note("etcd", "is an older copy of itself")
    faults.world.map_disk.restore(backup)
    _restart(faults, faults.named("arbiter"))


ALL_KINDS = (*KINDS, *PLOTS)
