"""What `seqctl cluster init` decides: from --set and the replicas' own words to documents. Pure.

The map names the replicas whose answers count, so this is where a wrong one has to be kept out. A
replica that does not know, beside others that do, makes numbers repeat (NRW-2): stores that already
hold sections are taken only if the operator says so (--adopt, after a map was lost), and then not
together with a blank one. Everything that is wrong is said at once; nothing is mended.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clustermap.documents import hex64
from clustermap.model import (
    CLUSTER_KEY,
    SETS_PREFIX,
    Assignments,
    Cluster,
    Quorum,
    Replica,
    SetSpec,
    assignments_key,
    check_name,
    set_key,
)
from clustermap.ranges import Range, shown
from clustermap.spans import union
from seqctl.arguments import addresses
from seqctl.failures import NotDone, WrongUsage
from seqsvr.sections import SEQ_LIMIT
from seqsvr.v1 import store_pb2 as pb

MAX_REPLICAS = 15


@dataclass(frozen=True, slots=True)
class WantedSet:
    """One --set. spans: first and last sections by rising number, none: all that there are."""

    name: str
    spans: tuple[Range, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. r, w: None: the smallest majority of a Set's replicas."""

    sets: tuple[WantedSet, ...]
    r: int | None = None
    w: int | None = None
    seq_limit: int = SEQ_LIMIT
    adopt: bool = False

    @property
    def addresses(self) -> list[str]:
        return [address for wanted in self.sets for address in wanted.addresses]


@dataclass(frozen=True, slots=True)
class Plan:
    """The documents of a new cluster."""

    cluster: Cluster
    specs: tuple[SetSpec, ...]

    def puts(self) -> dict[str, bytes]:
        """Key -> document."""
        found = {CLUSTER_KEY: self.cluster.to_json()}
        for spec in self.specs:
            found[set_key(spec.name)] = spec.to_json()
            found[assignments_key(spec.name)] = Assignments(spec.name).to_json()
        return found


def wanted_set(text: str) -> WantedSet:
    """NAME[:FIRST-LAST[,...]]=HOST:PORT[,...]; raises ValueError, or what `addresses` raises."""
    head, equals, tail = text.partition("=")
    name, colon, spans = head.partition(":")
    if not equals:
        raise ValueError(f"must be NAME[:FIRST-LAST[,...]]=HOST:PORT[,...], not {text!r}")
    check_name("Set", name)
    found = tuple(addresses(tail))
    if len(found) > MAX_REPLICAS:
        raise ValueError(f"a Set has at most {MAX_REPLICAS} replicas, not {len(found)}")
    return WantedSet(name, tuple(map(_span, spans.split(","))) if colon else (), found)


def check_wanted(wanted: Wanted) -> None:
    """Whatever can be refused without asking anybody; raises WrongUsage."""
    names = [one.name for one in wanted.sets]
    for what, given in (("--set", names), ("replica", wanted.addresses)):
        twice = [value for value, count in Counter(given).items() if count > 1]
        if twice:
            raise WrongUsage(f"{what} {twice[0]} is given twice")
    if len(names) > 1:
        for one in wanted.sets:
            if not one.spans:
                raise WrongUsage(f"--set {one.name}:FIRST-LAST: with several Sets each needs them")
    for one in wanted.sets:
        _quorum(wanted, one)


def plan(wanted: Wanted, infos: Mapping[str, pb.InfoResponse]) -> Plan:
    """The documents; `infos`: what the replica at each address says of itself.

    Raises NotDone where a replica is not to be counted on, WrongUsage where the Sets do not cover
    the sections.
    """
    check_stores(wanted, infos)
    info = infos[wanted.addresses[0]]
    try:
        cluster = Cluster(info.cluster, info.section_size, info.uid_limit, wanted.seq_limit)
    except ValueError as error:
        raise NotDone(f"refused, nothing was written: {error}") from None
    spans = _spans(wanted.sets, cluster.layout.sections)
    specs = [spec_of(wanted, one, spans[one.name], infos) for one in wanted.sets]
    return Plan(cluster, tuple(specs))


def check_stores(wanted: Wanted, infos: Mapping[str, pb.InfoResponse]) -> None:
    """That all replicas are to be counted on; raises NotDone, which says all that is wrong."""
    wrong = [text for one in wanted.sets for text in _strangers(one, infos)]
    wrong += _disagreements(wanted, infos)
    wrong += [text for one in wanted.sets for text in _unfit(one, infos, wanted.adopt)]
    if wrong:
        raise NotDone(f"refused, nothing was written: {'; '.join(wrong)}")


def described(entries: Mapping[str, bytes]) -> str:
    """What a map holds, in words."""
    parts = []
    if CLUSTER_KEY in entries:
        cluster = Cluster.from_json(entries[CLUSTER_KEY])
        layout = f"{cluster.layout.sections} sections of {cluster.section_size} uids"
        parts.append(f"cluster {cluster.id} ({layout})")
    for key in sorted(entries):
        if key.startswith(SETS_PREFIX):
            spec = SetSpec.from_json(entries[key])
            where = ",".join(replica.address for replica in spec.replicas)
            parts.append(f"Set {spec.name} (sections {shown(spec.ranges)} at {where})")
    return ", ".join(parts) or ", ".join(sorted(entries))


def is_what_stands(wanted: Wanted, entries: Mapping[str, bytes]) -> bool:
    """Whether the map already is what is asked for, as far as the command line says it."""
    if CLUSTER_KEY not in entries:
        return False
    cluster = Cluster.from_json(entries[CLUSTER_KEY])
    specs = [SetSpec.from_json(raw) for key, raw in entries.items() if key.startswith(SETS_PREFIX)]
    found = {spec.name: spec for spec in specs}
    if set(found) != {one.name for one in wanted.sets} or cluster.seq_limit != wanted.seq_limit:
        return False
    everything = Range(0, cluster.layout.sections - 1)
    return all(
        tuple(union(one.spans or [everything])) == found[one.name].ranges
        and set(one.addresses) == {replica.address for replica in found[one.name].replicas}
        and _quorum(wanted, one) == found[one.name].quorum
        for one in wanted.sets
    )


def _span(text: str) -> Range:
    first, minus, last = text.partition("-")
    digits = all(part.isascii() and part.isdigit() and len(part) < 20 for part in (first, last))
    if not minus or not digits or int(first) > int(last):
        raise ValueError(f"must be FIRST-LAST, sections by rising number, not {text!r}")
    return Range(int(first), int(last))


def _quorum(wanted: Wanted, one: WantedSet) -> Quorum:
    n = len(one.addresses)
    majority = n // 2 + 1
    try:
        return Quorum(n, wanted.r or majority, wanted.w or majority)
    except ValueError as error:
        raise WrongUsage(f"Set {one.name}: {error}") from None


def _strangers(one: WantedSet, infos: Mapping[str, pb.InfoResponse]) -> list[str]:
    """Replicas of other Sets."""
    return [
        f"{address} is replica {info.replica} of Set {info.set}, not of {one.name}"
        for address, info in _of(one, infos)
        if info.set != one.name
    ]


def _disagreements(wanted: Wanted, infos: Mapping[str, pb.InfoResponse]) -> list[str]:
    """Replicas that are not of one cluster, or are one and the same."""
    wrong = []
    for field in ("cluster", "section_size", "uid_limit"):
        said = {address: getattr(infos[address], field) for address in wanted.addresses}
        if len(set(said.values())) > 1:
            every = ", ".join(f"{value!r} at {address}" for address, value in said.items())
            wrong.append(f"the replicas differ in {field}: {every}")
    ids = ((hex64(infos[address].store_id), address) for address in wanted.addresses)
    wrong += _shared("store id", ids)
    for one in wanted.sets:
        members = {info.membership for _, info in _of(one, infos)}
        if len(members) > 1:
            wrong.append(f"replicas of Set {one.name} differ in membership: {sorted(members)}")
        names = ((info.replica, address) for address, info in _of(one, infos))
        wrong += _shared(f"in Set {one.name} the name", names)
    return wrong


def _shared(what: str, named: Iterable[tuple[str, str]]) -> list[str]:
    """named: (name, address). Each name that stands at several addresses."""
    places: dict[str, list[str]] = {}
    for name, address in named:
        places.setdefault(name, []).append(address)
    return [
        f"{' and '.join(where)} share {what} {name}"
        for name, where in places.items()
        if len(where) > 1
    ]


def _unfit(one: WantedSet, infos: Mapping[str, pb.InfoResponse], adopt: bool) -> list[str]:
    """Replicas that do not know what they should, or know more than a new cluster has."""
    wrong = [
        f"{address} is out of the quorum: {info.out_of_quorum}"
        for address, info in _of(one, infos)
        if info.out_of_quorum
    ]
    used = [(address, info.sections) for address, info in _of(one, infos) if info.sections]
    if used and not adopt:
        every = ", ".join(f"{where} holds {held} sections" for where, held in used)
        return [
            *wrong,
            f"{every}: a new Set needs blank stores (a map was lost: cluster init --adopt)",
        ]
    if used:
        advice = "numbers would repeat if it were counted"
        blank = [address for address, info in _of(one, infos) if not info.sections]
        wrong += [f"{where} is blank, others of {one.name} are not: {advice}" for where in blank]
    return wrong


def _spans(sets: Sequence[WantedSet], sections: int) -> dict[str, tuple[Range, ...]]:
    """Set -> its sections; raises WrongUsage unless each section is in one Set."""
    spans = {one.name: one.spans or (Range(0, sections - 1),) for one in sets}
    expected, previous = 0, ""
    parts = sorted((span, one.name) for one in sets for span in spans[one.name])
    for (first, last), name in parts:
        if first > expected:
            raise WrongUsage(f"sections {expected}..{first - 1} are in no Set")
        if first < expected:
            raise WrongUsage(f"section {first} is in both Set {previous} and Set {name}")
        expected, previous = last + 1, name
    if expected < sections:
        raise WrongUsage(f"sections {expected}..{sections - 1} are in no Set")
    if expected > sections:
        raise WrongUsage(f"Set {previous} goes up to {expected - 1}, the last is {sections - 1}")
    return {one.name: tuple(union(spans[one.name])) for one in sets}


def spec_of(
    wanted: Wanted,
    one: WantedSet,
    ranges: tuple[Range, ...],
    infos: Mapping[str, pb.InfoResponse],
) -> SetSpec:
    """The document of one Set, of replicas that `check_stores` has passed."""
    replicas = [Replica(info.replica, where, info.store_id) for where, info in _of(one, infos)]
    quorum, first = _quorum(wanted, one), infos[one.addresses[0]]
    return SetSpec(one.name, ranges, tuple(replicas), quorum.r, quorum.w, first.membership)


def _of(one: WantedSet, infos: Mapping[str, pb.InfoResponse]) -> list[tuple[str, pb.InfoResponse]]:
    return [(address, infos[address]) for address in one.addresses]
