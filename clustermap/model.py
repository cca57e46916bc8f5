"""What the cluster map says: Sets, replicas and assignments. Pure values.

The map proposes, a Set's StoreSvr quorum decides (docs/PROTOCOL.md, section 5). So nothing here can
make a number repeat; what these documents must not do is forget an epoch, since an epoch that is
not above every earlier one of its section is refused by the replicas and serves nobody (FENCE-1).

* Per Set there is one `Assignments` document: handing over many sections is one atomic write.
* Its history outlives its entries. The highest epoch a section was ever assigned, or was reported
  to be promised by a replica, is held by the entry of the section or, where there is none or where
  the report is not below it, by a floor.
* `version` rises with every change of the document and is what routing versions are made of
  (ROUTE-1, argued at `routing_table`).

Keys under which the documents stand:

    cluster                  Cluster
    sets/<set>               SetSpec
    assignments/<set>        Assignments
    nodes/<set>/<hex>        Node (nodes.py), bound to the life of that incarnation's process
    orders/<set>             Orders (orders.py), where an operator gave any
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clustermap.documents import U64_MAX, Fields, decode, encode, hex64
from clustermap.errors import MapCorrupt
from clustermap.ranges import SECTION_MAX, Range, check_ranges
from seqsvr.routing import Route, RoutingTable
from seqsvr.sections import SECTION_SIZE, SEQ_LIMIT, UID_LIMIT, Layout

DEFAULT_SET = "set-0"
CLUSTER_KEY = "cluster"
SETS_PREFIX = "sets/"
ASSIGNMENTS_PREFIX = "assignments/"
NODES_PREFIX = "nodes/"
MAX_ADDRESS = 300  # characters: a name of 253, brackets, a port


def set_key(name: str) -> str:
    return SETS_PREFIX + name


def assignments_key(name: str) -> str:
    return ASSIGNMENTS_PREFIX + name


def node_key(name: str, incarnation: int) -> str:
    """Where the node of this incarnation registers in the Set `name`."""
    return f"{nodes_prefix(name)}{hex64(incarnation)}"


def nodes_prefix(name: str) -> str:
    """What the keys of all nodes of the Set `name`, and of no other Set, begin with."""
    return f"{NODES_PREFIX}{name}/"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What every party must agree on for the cluster's life. `id` is best unlike any other's."""

    id: str
    section_size: int = SECTION_SIZE
    uid_limit: int = UID_LIMIT
    seq_limit: int = SEQ_LIMIT

    def __post_init__(self) -> None:
        check_name("id of a cluster", self.id)
        if not 1 <= self.seq_limit <= SEQ_LIMIT:
            raise ValueError(f"seq_limit must be in 1..{SEQ_LIMIT}, not {self.seq_limit}")
        _ = self.layout  # refuses sizes out of range

    @property
    def layout(self) -> Layout:
        return Layout(self.section_size, self.uid_limit)

    def to_json(self) -> bytes:
        return encode(
            {
                "id": self.id,
                "section_size": self.section_size,
                "uid_limit": self.uid_limit,
                "seq_limit": self.seq_limit,
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> "Cluster":
        """Raises MapCorrupt."""
        return decode(CLUSTER_KEY, raw, cls._read)

    @classmethod
    def _read(cls, fields: Fields) -> "Cluster":
        return cls(
            fields.text("id"),
            fields.integer("section_size", 1, 2**32),
            fields.integer("uid_limit", 1, 2**63),
            fields.integer("seq_limit", 1, SEQ_LIMIT),
        )


@dataclass(frozen=True, slots=True)
class Quorum:
    """N replicas; R must answer a fence or a read, W must acknowledge a raise or a lease.

    Raises ValueError unless every R replicas meet every W replicas: otherwise a new owner could
    miss the last raise of the old one.
    """

    n: int
    r: int
    w: int

    def __post_init__(self) -> None:
        for name, size in (("R", self.r), ("W", self.w)):
            if not 1 <= size <= self.n:
                raise ValueError(f"{name} = {size} must be in 1..N, and N = {self.n} replicas")
        if self.r + self.w <= self.n:
            raise ValueError(
                f"R + W must be above N: {self.r} + {self.w} is not above {self.n}, so a new "
                "owner could miss what the old one stored"
            )


@dataclass(frozen=True, slots=True)
class Replica:
    """A StoreSvr of a Set: its name in the Set, host:port, and the random id of its data."""

    name: str
    address: str
    store_id: int

    def __post_init__(self) -> None:
        check_name("replica", self.name)
        check_address(self.address)
        check_id("store_id", self.store_id)

    def fields(self) -> dict[str, object]:
        return {"name": self.name, "address": self.address, "store_id": hex64(self.store_id)}

    @classmethod
    def read(cls, fields: Fields) -> "Replica":
        return cls(fields.text("name"), fields.text("address"), fields.hex64("store_id"))


@dataclass(frozen=True, slots=True)
class Joint:
    """The replicas and quorum sizes that a Set is to have, while they and the old ones count."""

    replicas: tuple[Replica, ...]
    r: int
    w: int

    def __post_init__(self) -> None:
        check_replicas("joint", self.replicas)
        _ = self.quorum  # refuses sizes that do not meet

    @property
    def quorum(self) -> Quorum:
        return Quorum(len(self.replicas), self.r, self.w)

    def fields(self) -> dict[str, object]:
        replicas = [replica.fields() for replica in self.replicas]
        return {"replicas": replicas, "r": self.r, "w": self.w}

    @classmethod
    def read(cls, fields: Fields) -> "Joint":
        replicas = fields.many("replicas", Replica.read)
        return cls(replicas, fields.integer("r", 1, U64_MAX), fields.integer("w", 1, U64_MAX))


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A Set: its sections, the replicas that keep them, and its quorum sizes.

    ranges: by rising section, apart from each other; none while the Set is being filled or emptied.
    membership: version of what decides who is counted, from 1; replicas refuse requests of any
    other. joint: the new ones, while every quorum must be met among the old and among the new;
    learners: newcomers that are being filled and never counted (membership.py).
    """

    name: str
    ranges: tuple[Range, ...]
    replicas: tuple[Replica, ...]
    r: int
    w: int
    membership: int = 1
    joint: Joint | None = None
    learners: tuple[Replica, ...] = ()

    def __post_init__(self) -> None:
        check_name("Set", self.name)
        check_ranges(f"Set {self.name!r}", self.ranges)
        check_replicas(self.name, self.replicas)
        check_replicas(self.name, self.learners)
        _check_stores(self)
        if not 1 <= self.membership <= U64_MAX:
            raise ValueError(f"membership must be in 1..2^64-1, not {self.membership}")
        _ = self.quorum  # refuses sizes that do not meet

    @property
    def quorum(self) -> Quorum:
        return Quorum(len(self.replicas), self.r, self.w)

    @property
    def sections(self) -> int:
        """How many it has."""
        return sum(span.sections for span in self.ranges)

    def covers(self, first: int, last: int) -> bool:
        """Whether all of `first..last` are its sections. O(log ranges)."""
        index = bisect_right(self.ranges, (first, SECTION_MAX)) - 1
        return index >= 0 and first <= last <= self.ranges[index].last

    def to_json(self) -> bytes:
        return encode(
            {
                "name": self.name,
                **self._range_fields(),
                "replicas": [replica.fields() for replica in self.replicas],
                "r": self.r,
                "w": self.w,
                "membership": self.membership,
                **({"joint": self.joint.fields()} if self.joint else {}),
                **({"learners": [one.fields() for one in self.learners]} if self.learners else {}),
            }
        )

    def _range_fields(self) -> dict[str, object]:
        # One range is written as it was before there could be others: older versions read it.
        if len(self.ranges) == 1:
            return self.ranges[0].fields()
        return {"ranges": [span.fields() for span in self.ranges]}

    @staticmethod
    def _read_ranges(fields: Fields) -> tuple[Range, ...]:
        if not fields.has("ranges"):
            return (Range.read(fields),)
        ranges = fields.many("ranges", Range.read)
        if len(ranges) == 1:
            raise ValueError("ranges: a single one is written as first and last")
        return ranges

    @classmethod
    def from_json(cls, raw: bytes) -> "SetSpec":
        """Raises MapCorrupt."""
        return decode("set", raw, cls._read)

    @classmethod
    def _read(cls, fields: Fields) -> "SetSpec":
        return cls(
            fields.text("name"),
            cls._read_ranges(fields),
            fields.many("replicas", Replica.read),
            fields.integer("r", 1, U64_MAX),
            fields.integer("w", 1, U64_MAX),
            fields.integer("membership", 1, U64_MAX),
            fields.maybe("joint", Joint.read),
            fields.maybe_many("learners", Replica.read),
        )


@dataclass(frozen=True, slots=True)
class Owner:
    """An AllocSvr process: its incarnation, and where callers reach it.

    peer_address: where other nodes, the arbiter and operators do; empty: at the same address. It
    says nothing about who it is, so equal owners may differ in it.
    """

    incarnation: int
    address: str
    peer_address: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_id("incarnation", self.incarnation)
        check_address(self.address)
        check_address(self.peer_address)

    @property
    def reached(self) -> str:
        """Where servers and operators reach it."""
        return self.peer_address or self.address

    def fields(self) -> dict[str, object]:
        where = {"address": self.address, **peer_field(self.peer_address)}
        return {"incarnation": hex64(self.incarnation), **where}

    @classmethod
    def read(cls, fields: Fields) -> "Owner":
        where = fields.text("address"), fields.maybe_text("peer_address")
        return cls(fields.hex64("incarnation"), *where)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Sections `first..last` are to be served by a node under `epoch` (at least 1).

    leaving: the node is to release them; until another assignment it still is the one to ask.
    successor: who gets them once they are released; None: nobody yet. peer_address: as of Owner.
    """

    first: int
    last: int
    incarnation: int
    address: str
    epoch: int
    leaving: bool = False
    successor: Owner | None = None
    peer_address: str = ""

    def __post_init__(self) -> None:
        _check_range("assignment", self.first, self.last)
        check_id("incarnation", self.incarnation)
        check_address(self.address)
        check_address(self.peer_address)
        _check_epoch(self.epoch)
        if self.successor is not None and not self.leaving:
            raise ValueError(f"assignment {self.first}..{self.last} has a successor and stays")

    @classmethod
    def to(cls, owner: Owner, first: int, last: int, epoch: int) -> "Assignment":
        """These sections, given to `owner`."""
        where = owner.incarnation, owner.address
        return cls(first, last, *where, epoch, peer_address=owner.peer_address)

    @property
    def owner(self) -> Owner:
        return Owner(self.incarnation, self.address, self.peer_address)

    def fields(self) -> dict[str, object]:
        return {
            "first": self.first,
            "last": self.last,
            "incarnation": hex64(self.incarnation),
            "address": self.address,
            "epoch": self.epoch,
            "leaving": self.leaving,
            **peer_field(self.peer_address),
            **({"successor": self.successor.fields()} if self.successor else {}),
        }

    @classmethod
    def read(cls, fields: Fields) -> "Assignment":
        return cls(
            fields.integer("first", 0, SECTION_MAX),
            fields.integer("last", 0, SECTION_MAX),
            fields.hex64("incarnation"),
            fields.text("address"),
            fields.integer("epoch", 1, U64_MAX),
            fields.flag("leaving"),
            fields.maybe("successor", Owner.read),
            fields.maybe_text("peer_address"),
        )


@dataclass(frozen=True, slots=True)
class Floor:
    """The next epoch of sections `first..last` must be above `epoch`."""

    first: int
    last: int
    epoch: int

    def __post_init__(self) -> None:
        _check_range("floor", self.first, self.last)
        _check_epoch(self.epoch)

    def fields(self) -> dict[str, object]:
        return {"first": self.first, "last": self.last, "epoch": self.epoch}

    @classmethod
    def read(cls, fields: Fields) -> "Floor":
        return cls(
            fields.integer("first", 0, SECTION_MAX),
            fields.integer("last", 0, SECTION_MAX),
            fields.integer("epoch", 1, U64_MAX),
        )


@dataclass(frozen=True, slots=True)
class Assignments:
    """Who is to serve the sections of one Set, and every epoch that has to be outbid.

    entries and floors: by rising section, neither overlapping its own kind; raises ValueError where
    they are not. version: from 0 (nothing was ever written), rises with every change.
    """

    set: str
    version: int = 0
    entries: tuple[Assignment, ...] = ()
    floors: tuple[Floor, ...] = ()
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("Set", self.set)
        if not 0 <= self.version <= U64_MAX:
            raise ValueError(f"version must be in 0..2^64-1, not {self.version}")
        _check_order("entries", self.entries)
        _check_order("floors", self.floors)
        object.__setattr__(self, "_firsts", tuple(entry.first for entry in self.entries))

    def owner(self, section: int) -> Assignment | None:
        """The assignment of a section, None if it has none. O(log entries)."""
        index = bisect_right(self._firsts, section) - 1
        if index < 0 or self.entries[index].last < section:
            return None
        return self.entries[index]

    def highest_epoch(self, first: int, last: int) -> int:
        """The greatest epoch that any of these sections was ever given or reported; 0: none."""
        spans: tuple[Assignment | Floor, ...] = (*self.entries, *self.floors)
        return max((s.epoch for s in spans if s.first <= last and first <= s.last), default=0)

    def to_json(self) -> bytes:
        return encode(
            {
                "set": self.set,
                "version": self.version,
                "entries": [entry.fields() for entry in self.entries],
                "floors": [floor.fields() for floor in self.floors],
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> "Assignments":
        """Raises MapCorrupt."""
        return decode("assignments", raw, cls._read)

    @classmethod
    def _read(cls, fields: Fields) -> "Assignments":
        return cls(
            fields.text("set"),
            fields.integer("version", 0, U64_MAX),
            fields.many("entries", Assignment.read),
            fields.many("floors", Floor.read),
        )


def routing_table(
    cluster: Cluster, sets: Mapping[str, SetSpec], assignments: Mapping[str, Assignments]
) -> RoutingTable:
    """What clients see of the map; ranges that are leaving still lead to their present owner.

    Its version is the sum of the versions of all Sets' assignments. That is enough for ROUTE-1:
    documents change by compare-and-swap only, each change adds at least one to one version and
    takes nothing from any, and documents are never deleted. So along the one history of the map the
    sum rises with every change, and no two tables of one sum differ: routes depend on nothing else.

    sets, assignments: by Set name, of one revision of the map. Raises MapCorrupt where an
    assignment lies outside its Set, or Sets overlap: who serves such a section is anybody's guess.
    """
    routes: list[Route] = []
    for name, document in assignments.items():
        spec = sets.get(name)
        for entry in document.entries:
            if spec is None or not spec.covers(entry.first, entry.last):
                raise MapCorrupt(f"assignments of Set {name!r}: {entry} is outside the Set")
            routes.append(Route(entry.first, entry.last, entry.address, entry.epoch))
    routes.sort(key=lambda route: route.first)
    version = sum(document.version for document in assignments.values())
    try:
        return RoutingTable(cluster.id, version, cluster.layout, tuple(routes))
    except ValueError as error:
        raise MapCorrupt(f"assignments of Sets {sorted(assignments)}: {error}") from error


def peer_field(peer_address: str) -> dict[str, str]:
    """Of a document; versions before this field cannot read one that has it."""
    return {"peer_address": peer_address} if peer_address else {}


def check_name(what: str, name: str) -> None:
    # Names are parts of keys, of paths and of log lines.
    if not 1 <= len(name) <= 63 or not name.isascii():
        raise ValueError(f"name of a {what} must be 1..63 ASCII characters, not {name!r}")
    if not name[0].isalnum() or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"name of a {what} must be letters, digits, - and _, not {name!r}")


def check_address(address: str) -> None:
    """Raises ValueError where it could be none, whoever resolves it; an empty one is nobody's."""
    if len(address) > MAX_ADDRESS or not address.isprintable() or " " in address:
        raise ValueError(f"no address: {address[:MAX_ADDRESS]!r}")


def check_replicas(name: str, replicas: Sequence[Replica]) -> None:
    names = [replica.name for replica in replicas]
    if len(set(names)) != len(names):
        raise ValueError(f"replicas of Set {name!r} share a name: {names}")


def check_id(what: str, value: int) -> None:
    if not 1 <= value <= U64_MAX:
        raise ValueError(f"{what} must be in 1..2^64-1, not {value}")


def _check_stores(spec: SetSpec) -> None:
    """A store counts once in a quorum, and is one and the same wherever it is named."""
    new = spec.joint.replicas if spec.joint else ()
    known: dict[int, Replica] = {}
    for replicas in (spec.replicas, new, spec.learners):
        stores = [replica.store_id for replica in replicas]
        if len(set(stores)) != len(stores):
            raise ValueError(f"replicas of Set {spec.name!r} share a store: {replicas}")
        for replica in replicas:
            if known.setdefault(replica.store_id, replica) != replica:
                raise ValueError(f"Set {spec.name!r}: one store is two replicas: {replica}")
    counted = {replica.store_id for replica in (*spec.replicas, *new)}
    learning = [one for one in spec.learners if one.store_id in counted]
    if learning:
        raise ValueError(f"Set {spec.name!r}: {learning[0].name!r} cannot learn and be counted")


def _check_range(what: str, first: int, last: int) -> None:
    if not 0 <= first <= last <= SECTION_MAX:
        raise ValueError(f"{what}: {first}..{last} is no range of sections")


def _check_epoch(epoch: int) -> None:
    if not 1 <= epoch <= U64_MAX:
        raise ValueError(f"epoch must be in 1..2^64-1, not {epoch}")


def _check_order(what: str, spans: Sequence[Assignment] | Sequence[Floor]) -> None:
    previous = -1
    for span in spans:
        if span.first <= previous:
            raise ValueError(f"{what}: {span} is out of place")
        previous = span.last
