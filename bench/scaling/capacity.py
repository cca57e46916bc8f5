"""A load to what it takes: nodes, fsyncs, memory, network. Pure arithmetic over measured constants.

docs/CAPACITY.md has the same formulas in words. What is not modelled: latency under load, the time
after a failure, and a network that is slower than its nodes.
"""

import math
from dataclasses import dataclass

from allocsvr.ledger import VECTOR_FROM
from allocsvr.presence import LOAD_S
from allocsvr.raising import MAX_SECTIONS, PACE_S
from allocsvr.section import STEP_CAP
from seqsvr.client import MAX_IN_FLIGHT
from seqsvr.sections import SECTION_SIZE, STEP

GATHERING = 1 / (2 * MAX_IN_FLIGHT)
"""Of the time that a batch takes: how long a call waits for its batch to leave, on average."""
LOAD_REPORTS_PER_S = 1 / LOAD_S
"""The most that a node writes to etcd, while its load changes."""
REPLICAS = 3
BUSY = 0.6
"""CPU of a node or a replica to plan with."""
PAGE_B, CELL_B = 4096, 8
PAGES = math.ceil(SECTION_SIZE * CELL_B / PAGE_B)
FRAME_B, MAX_FRAME_B = 9, 16_384
GRPC_B = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A cost that is linear in the size of what it is for: `each` of these, and one `per` batch."""

    per: float
    each: float

    def __call__(self, size: float) -> float:
        return self.per + self.each * size

    @classmethod
    def through(cls, points: dict[float, float]) -> "Line":
        """Least squares of the relative errors; neither part is below 0."""
        weights = {x: 1 / y**2 for x, y in points.items()}
        whole = sum(weights.values())
        mean_x = sum(weights[x] * x for x in points) / whole
        mean_y = sum(weights[x] * y for x, y in points.items()) / whole
        over = sum(weights[x] * (x - mean_x) * (y - mean_y) for x, y in points.items())
        each = max(0.0, over / sum(weights[x] * (x - mean_x) ** 2 for x in points))
        return cls(max(0.0, mean_y - each * mean_x), each)


@dataclass(frozen=True, slots=True)
class Constants:
    """Microseconds are CPU time, user and system; of a node and of one replica."""

    small_us: Line  # of a node: a batch below VECTOR_FROM, by its entries
    large_us: Line  # a greater one
    client_us: float  # a coalesced call of the Python client
    up_b: Line  # a SessionRequest, by its entries
    down_b: Line  # its SessionResponse
    raise_node_us: Line  # a raise request, by its sections
    raise_store_us: Line
    commit_b: Line  # bytes to one replica's disk: a commit, by its sections
    commit_s: float
    node_b: float  # RSS of a node that owns every section, none of them touched
    connection_b: float

    def node_us(self, batch: float) -> float:
        """Of a batch, from its arrival to its answer."""
        return (self.small_us if batch < VECTOR_FROM else self.large_us)(batch)


@dataclass(frozen=True, slots=True)
class Load:
    """uids: active ones; density: how many of them in a section that has any; skew: numbers of the
    fastest uid of a section over those of the mean one.

    batch: uids in an explicit call; 0: single calls, which each client process (client_per_s
    numbers per second, latency_s each) coalesces. fan: how many nodes the uids of one client
    process lie on; None: on all. busy: CPU of a node or replica to plan with.
    """

    per_s: float
    uids: float
    batch: int = 0
    fan: int | None = 1
    density: float = 25_000
    skew: float = 100
    client_per_s: float = 10_000
    latency_s: float = 0.001
    busy: float = BUSY

    @property
    def sections(self) -> float:
        return self.uids / self.density

    @property
    def clients(self) -> int:
        return math.ceil(self.per_s / self.client_per_s)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load takes. Per second and in all, but for what says node or store."""

    nodes: int
    sets: int
    mean_batch: float
    node_cores: float
    client_cores: float
    raises: float
    requests: float  # to each replica of its Set
    commits_store: float
    disk_store_b: float
    memory_node_b: float
    network_b: float  # each way together
    bytes_per_number: float
    etcd_writes: float

    @property
    def stores(self) -> int:
        return REPLICAS * self.sets

    @property
    def fsyncs(self) -> float:
        """LMDB syncs data and then its meta page."""
        return 2 * self.commits_store * self.stores


def step(per_s: float) -> float:
    """Of a section whose fastest uid takes so many: doubled while it lasts less than a second.

    The first raise with a doubled step comes after three quarters of it: a quarter was had before.
    """
    if per_s <= STEP:
        return STEP
    doublings = max(1, math.ceil(math.log2(per_s / (0.75 * STEP))))
    return min(STEP * 2.0**doublings, STEP_CAP)


def raises(per_s: float) -> float:
    """Raises per second of such a section."""
    return per_s / step(per_s)


def requests(raises_per_s: float) -> float:
    """Raise requests per second of a node whose sections get hungry independently."""
    if not raises_per_s:
        return 0.0
    interval_s = PACE_S + math.exp(-raises_per_s * PACE_S) / raises_per_s
    return max(1 / interval_s, raises_per_s / MAX_SECTIONS)


def commits(requests_per_s: float, commit_s: float) -> float:
    """Of one replica: what comes while one is under way shares the next."""
    return min(requests_per_s, 1 / commit_s)


def split(batch: float, nodes: int) -> float:
    """Entries of an explicit batch that one node gets, of those that get any."""
    return batch / (nodes * -math.expm1(batch * math.log1p(-1 / nodes))) if nodes > 1 else batch


def gathered(waiting: float) -> float:
    """Mean batch where so many calls of one client wait for one node at a time, on average.

    All in flight, and those that gather; a batch has at least one.
    """
    return max(1.0, waiting / (MAX_IN_FLIGHT * (1 + GATHERING)))


def touched_b(density: float) -> float:
    """Memory of a section's counters, `density` of whose uids, anywhere in it, were used."""
    return PAGE_B * PAGES * -math.expm1(density * math.log1p(-1 / PAGES))


def framed_b(message_b: float) -> float:
    """On a TCP connection: with the prefix of gRPC and the frames of HTTP/2."""
    whole = message_b + GRPC_B
    return whole + FRAME_B * math.ceil(whole / MAX_FRAME_B)


def batch_b(constants: Constants, batch: float) -> float:
    """Bytes of a batch and its answer, both ways together."""
    return framed_b(constants.up_b(batch)) + framed_b(constants.down_b(batch))


def mean_batch(load: Load, nodes: int) -> float:
    fan = nodes if load.fan is None else min(load.fan, nodes)
    if load.batch:
        return split(load.batch, fan)
    return gathered(load.client_per_s * load.latency_s / fan)


def widest(constants: Constants, batch: int, busy: float) -> float:
    """Numbers per second at most where each call of `batch` uids goes to all nodes.

    Each node then gets a batch of every call, so that more nodes make batches smaller and not
    fewer. With more nodes than a call has uids each number costs a batch of its own.
    """
    return batch * busy * 1e6 / constants.node_us(1)


def plan(constants: Constants, load: Load) -> Plan:
    """What `load` takes. More nodes make batches smaller, which takes more nodes: until it fits."""
    raised = load.sections * raises(load.skew * load.per_s / load.uids)
    nodes = 1
    while (wanted := math.ceil(_node_cores(constants, load, raised, nodes) / load.busy)) > nodes:
        nodes = wanted
    asked = nodes * requests(raised / nodes)
    each = raised / asked if asked else 0.0
    store_cores = asked * constants.raise_store_us(each) / 1e6
    sets = max(1, math.ceil(store_cores / load.busy))
    committed = commits(asked / sets, constants.commit_s)
    batch = mean_batch(load, nodes)
    per_number = batch_b(constants, batch) / batch
    return Plan(
        nodes=nodes,
        sets=sets,
        mean_batch=batch,
        node_cores=_node_cores(constants, load, raised, nodes),
        client_cores=load.per_s * constants.client_us / 1e6 if not load.batch else 0.0,
        raises=raised,
        requests=asked / sets,
        commits_store=committed,
        disk_store_b=constants.commit_b(raised / sets / committed) * committed,
        memory_node_b=constants.node_b
        + load.sections / nodes * touched_b(load.density)
        + load.clients * constants.connection_b,
        network_b=load.per_s * per_number,
        bytes_per_number=per_number,
        etcd_writes=LOAD_REPORTS_PER_S * nodes,
    )


def _node_cores(constants: Constants, load: Load, raised: float, nodes: int) -> float:
    batch = mean_batch(load, nodes)
    asked = nodes * requests(raised / nodes)
    raising_us = asked * constants.raise_node_us(raised / asked) if asked else 0.0
    return (load.per_s / batch * constants.node_us(batch) + raising_us) / 1e6
