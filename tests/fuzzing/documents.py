"""Targets: documents of the map, a whole map as operators' commands see it, what etcd answers."""

import json
import re
from collections.abc import Callable
from typing import Any

from etcd3.etcdrpc import rpc_pb2
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry, generate_latest

from arbitersvr.map_metrics import MapMetrics
from clustermap.coordinator import Listing, Versioned
from clustermap.documents import U64_MAX
from clustermap.errors import MapCorrupt
from clustermap.etcd_requests import Keyspace
from clustermap.jobs import Job, Move, Reform, State, job_key
from clustermap.model import (
    CLUSTER_KEY,
    MAX_ADDRESS,
    Assignment,
    Assignments,
    Cluster,
    Floor,
    Joint,
    Owner,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    routing_table,
    set_key,
)
from clustermap.nodes import Load, Node
from clustermap.orders import Orders, Pin, orders_key
from clustermap.ranges import Range
from fuzzing.mutate import absurd, seeded
from seqctl.cluster_report import picture, report
from seqctl.failures import CommandFailed
from seqctl.map_view import view
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import table_from_wire, table_to_wire

_STORES = tuple(Replica(f"store-{n}", f"10.0.0.{n}:7421", n) for n in range(1, 4))
_ONE = SetSpec("set-0", (Range(0, 9),), _STORES, 2, 2)
_JOINT = SetSpec(
    "set-1",
    (Range(10, 19), Range(30, 39)),
    _STORES[:1],
    1,
    1,
    7,
    Joint(_STORES[1:2], 1, 1),
    _STORES[2:],
)
_EMPTY = SetSpec("set-2", (), _STORES, 2, 2)
_OWNER = Owner(U64_MAX, "10.0.1.1:7420")
_ENTRIES = (
    Assignment(0, 4, 1, "10.0.1.1:7420", 3),
    Assignment(5, 9, 2, "[::1]:7420", U64_MAX, True, _OWNER),
)
_MOVE = Move("set-0", "set-1", (Range(0, 3), Range(7, 7)), 9, 100, 2, True)
_REFORM = Reform("set-0", _STORES, 2, 2, 5, _STORES[:1])

CLUSTERS = [Cluster("c1"), Cluster("c-2_x", 1, 1, 1), Cluster("c", 2**32, 2**63)]
SETS = [_ONE, _JOINT, _EMPTY]
ASSIGNMENTS = [Assignments("set-0"), Assignments("set-0", 7, _ENTRIES, (Floor(0, 9, 4),))]
NODES = [
    Node(1, "10.0.1.1:7420", "set-0"),
    Node(U64_MAX, "h:1", "s", True, False, Load(5, ((1, 2), (3, 4)), 1, 2, 3)),
]
JOBS = [
    Job("m-1", State.RUNNING, "me@here", 1, "copies", move=_MOVE),
    Job("r-1", State.FAILED, "", 0, reform=_REFORM),
]
ORDERS = [
    Orders("set-0"),
    Orders("set-0", ("a:1", "b:2"), (Pin(0, 3, "a:1", True), Pin(5, 5, "b:2")), False),
]


def seeds_of(documents: Any) -> Callable[[], list[bytes]]:
    return lambda: [document.to_json() for document in documents]


_ADDRESS = re.compile(rb'address":("(?:[^"\\]|\\.)*")')


def document(kind: Any) -> Callable[[bytes], None]:
    """What can be read is written again as it was, and understood again."""

    def run(data: bytes) -> None:
        try:
            found = kind.from_json(data)
        except MapCorrupt as error:
            assert len(str(error)) < 10_000, "an error is a line of a log, not the document"
            return
        raw = found.to_json()
        assert kind.from_json(raw) == found
        assert kind.from_json(raw).to_json() == raw
        for address in _ADDRESS.findall(raw):
            shown = json.loads(address)
            assert shown.isprintable() and " " not in shown and len(shown) <= MAX_ADDRESS

    return run


def whole_map_seeds() -> list[bytes]:
    entries: dict[str, Any] = {
        CLUSTER_KEY: CLUSTERS[0],
        set_key("set-0"): _ONE,
        set_key("set-1"): _JOINT,
        assignments_key("set-0"): ASSIGNMENTS[1],
        node_key("set-0", 1): NODES[0],
        job_key("m-1"): JOBS[0],
        orders_key("set-0"): ORDERS[1],
    }
    rows = [key.encode() + b" " + document.to_json() for key, document in entries.items()]
    return [b"\n".join(rows), b"\n".join([*rows, b"elections/arbiter/00ff 10.0.0.1:9", b"odd/key"])]


def whole_map(data: bytes) -> None:
    """Lines `key value`: as a table of routes, a status, a view, metrics; never but known errors.

    A status has to come of any map at all: it is what an operator of a broken one looks at.
    """
    entries = {}
    for revision, line in enumerate(data.split(b"\n"), start=1):
        key, _, value = line.partition(b" ")
        entries[key.decode("utf-8", "surrogateescape")] = Versioned(value, revision)
    found = picture(9, {key: (held.value, held.revision) for key, held in entries.items()})
    made = report(found, {}, dict.fromkeys(found.owners, "no answer"))
    assert made.problems is not None
    try:
        seen = view(Listing(9, entries))
        table = routing_table(seen.cluster, seen.specs, seen.assignments)
    except (MapCorrupt, CommandFailed):
        pass
    else:
        assert table_from_wire(table_to_wire(table)) == table
    registry = CollectorRegistry()
    MapMetrics(registry).see(entries)
    assert generate_latest(registry).count(b"\n") < 100, "labels come from outside"


def etcd_seeds() -> list[bytes]:
    header = rpc_pb2.ResponseHeader(revision=9)
    answer = rpc_pb2.RangeResponse(header=header)
    answer.kvs.add(key=b"/p/cluster", value=CLUSTERS[0].to_json(), mod_revision=3, lease=7)
    changed = rpc_pb2.WatchResponse(header=header, created=True)
    for at, kind in ((8, 0), (8, 1), (9, 0)):
        changed.events.add(type=kind).kv.MergeFrom(answer.kvs[0])
        changed.events[-1].kv.mod_revision = at
    failed = rpc_pb2.TxnResponse(header=header)
    failed.responses.add().response_range.kvs.append(answer.kvs[0])
    absurds = [bytes((kind + 3, n)) for kind in range(3) for n in range(9)]
    return [
        b"\0" + answer.SerializeToString(),
        b"\1" + changed.SerializeToString(),
        b"\2" + failed.SerializeToString(),
        *absurds,
    ]


_ANSWERS: tuple[Any, ...] = (
    rpc_pb2.RangeResponse,
    rpc_pb2.WatchResponse,
    rpc_pb2.TxnResponse,
)


def etcd_answers(data: bytes) -> None:
    """First byte: which answer, as bytes or absurd. Keys come back as they were."""
    which = data[0] % 6 if data else 0
    kind = _ANSWERS[which % 3]
    try:
        answer = kind.FromString(data[1:]) if which < 3 else absurd(kind, seeded(data))
    except DecodeError:
        return
    keys = Keyspace("/p/")
    if kind is rpc_pb2.RangeResponse:
        listing = keys.listing(answer)
        assert len(listing.entries) <= len(answer.kvs)
    elif kind is rpc_pb2.WatchResponse:
        told = 5
        for change in keys.changes(answer.events, told):
            assert change.revision > told and change.entries
            told = change.revision
    else:
        keys.bound_key(answer)


def table_seeds() -> list[bytes]:
    specs = {spec.name: spec for spec in SETS}
    table = routing_table(Cluster("c1", 100, 4_000), specs, {"set-0": ASSIGNMENTS[1]})
    return [table_to_wire(table).SerializeToString(), b""]


def routing_tables(data: bytes) -> None:
    """As a client takes them from any server."""
    try:
        table = table_from_wire(alloc_pb2.RoutingTable.FromString(data))
    except (ValueError, DecodeError):
        return
    for route in table.routes:
        assert table.lookup(route.first) == table.lookup(route.last) == route
        assert route.address.isprintable()
    assert table_from_wire(table_to_wire(table)) == table
