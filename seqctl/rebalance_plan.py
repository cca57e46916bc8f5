"""What would even out the loads of a Set's nodes now, and what that would come to. Pure."""

from collections import Counter
from dataclasses import dataclass

from clustermap.documents import hex64
from clustermap.model import Assignments, assignments_key, set_key
from clustermap.orders import orders_key
from clustermap.planning import Memory, Plan, plan
from clustermap.ranges import Range
from clustermap.scene import BALANCE, Limits, Scene
from clustermap.spans import overlaps
from clustermap.weights import MILLI, Rates
from seqctl.failures import NotDone
from seqctl.map_view import Change, View


@dataclass(frozen=True, slots=True)
class Share:
    """Of one node: sections, and numbers per second that it hands out, now and then."""

    address: str
    sections: int
    per_second: int
    sections_then: int
    per_second_then: int


@dataclass(frozen=True, slots=True)
class Balance:
    """The next step of a rebalancing: nothing to write where it is even enough."""

    set: str
    moves: tuple[tuple[Range, str, str], ...]
    shares: tuple[Share, ...]
    change: Change | None

    @property
    def sections(self) -> int:
        """How many would move."""
        return sum(span.sections for span, _, _ in self.moves)


def leaving(document: Assignments) -> int:
    """Sections that are on their way from one node to another."""
    return sum(entry.last - entry.first + 1 for entry in document.entries if entry.leaving)


def balance(found: View, name: str, hysteresis: float, share: float) -> Balance:
    """As the arbiter would, but at once.

    hysteresis: how far off the mean a node may be; share: of the Set's sections, which move at
    most. Raises NotDone where something else is to be done first.
    """
    spec, document, orders = found.spec(name), found.document(name), found.ordered(name)
    if on_their_way := leaving(document):
        raise NotDone(f"{on_their_way} sections of Set {name} are on their way: wait for them")
    if jobs := found.unfinished([name]):
        raise NotDone(f"job {jobs[0].id} concerns Set {name}: let it end first")
    nodes = orders.obeyed([node for node in found.nodes if node.set == name])
    scene = Scene(spec, nodes, pins=orders.pins)
    limits = Limits(hysteresis=hysteresis, balance_share=share, balance_rounds=1)
    made = plan(document, scene, Memory(), limits, budget=0, new_round=True)
    if others := {move.cause for move in made.moves} - {BALANCE}:
        raise NotDone(
            f"Set {name}: sections are to move for other reasons first"
            f" ({', '.join(sorted(others))}); the arbiter does that, if one runs"
        )
    change = None
    if made.moves:
        keys = (assignments_key(name), set_key(name), orders_key(name))
        change = Change(found.at(*keys), {keys[0]: made.document.to_json()})
    return Balance(name, _moves(document, made), _shares(document, scene, made), change)


def _moves(document: Assignments, made: Plan) -> tuple[tuple[Range, str, str], ...]:
    found: list[tuple[Range, str, str]] = []
    for move, entry, first, last in overlaps(made.moves, document.entries):
        if move.to is None:
            continue
        way = (entry.address, move.to.address)
        if found and found[-1][1:] == way and found[-1][0].last + 1 == first:
            first = found.pop()[0].first
        found.append((Range(first, last), *way))
    return tuple(found)


def _shares(document: Assignments, scene: Scene, made: Plan) -> tuple[Share, ...]:
    before: Counter[int] = Counter()
    for entry in document.entries:
        before[entry.incarnation] += entry.last - entry.first + 1
    sections, rates = (
        before.copy(),
        Counter({n.incarnation: n.load.per_second for n in scene.nodes}),
    )
    now = rates.copy()
    for move, entry, first, last in overlaps(made.moves, document.entries):
        if move.to is None:
            continue
        rate = _per_second(made.memory.rates, first, last, entry.incarnation)
        for count, moved in ((sections, last - first + 1), (rates, rate)):
            count[entry.incarnation] -= moved
            count[move.to.incarnation] += moved
    where = {node.incarnation: node.address for node in scene.nodes}
    where |= {e.incarnation: e.address for e in document.entries}
    return tuple(
        Share(
            where.get(key, hex64(key)),
            before[key],
            now[key],
            sections[key],
            max(0, rates[key]),
        )
        for key in sorted(where, key=lambda key: (where[key], key))
    )


def _per_second(rates: Rates, first: int, last: int, owner: int) -> int:
    hot = [rate for section, rate in rates.hot.items() if first <= section <= last]
    rest = last - first + 1 - len(hot)
    return (sum(hot) + rest * rates.each.get(owner, 0)) // MILLI
