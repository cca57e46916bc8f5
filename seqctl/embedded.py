"""The embedded service: StoreSvr, AllocSvr and cluster map in one process and one data directory.

    LOCK        held for the life of the process: proves that every earlier owner is dead
    FOUNDING    stands while the directory is being set up, before anything was ever served
    map.json    the cluster map
    store/      the only replica of the only Set

The store is made before the map names it by its store id. From then on a store that is blank, or
is another one, is refused: its max_seq values are lost, and starting from 0 would repeat numbers
(NRW-2). A crash in between leaves FOUNDING, and the next start begins anew.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from allocsvr.metrics import Metrics
from allocsvr.node import AllocNode, Options
from clustermap import placement
from clustermap.clock import BootClock
from clustermap.coordinator import Coordinator, follow
from clustermap.documents import hex64
from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import MapCorrupt, MapUnavailable
from clustermap.logs import bind, get_logger
from clustermap.model import (
    CLUSTER_KEY,
    DEFAULT_SET,
    Assignments,
    Cluster,
    Replica,
    SetSpec,
    assignments_key,
    node_key,
    set_key,
)
from clustermap.nodes import Node
from clustermap.ranges import Range
from seqctl.failures import NotDone, WrongUsage
from seqsvr.sections import SECTION_SIZE, UID_LIMIT
from storesvr.directory import Directory, sync_directory
from storesvr.errors import Blank, EngineError
from storesvr.port import Identity
from storesvr.service import StoreService, open_service

log = get_logger(__name__)

STORE = "store"
MAP = "map.json"
FOUNDING = "FOUNDING"
REPLICA = "store-0"
RETRY_S = 0.2
MAX_RETRY_S = 10.0
# About 1 KB and 30 microseconds of start-up each.
MAX_SECTIONS = 1_000_000
# What a fresh file system leaves in a directory.
_IGNORED = {"LOCK", "lost+found"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks of the layout; None: as the data directory has it."""

    section_size: int | None = None
    uid_limit: int | None = None


@asynccontextmanager
async def serving(
    data: Path,
    address: str,
    wanted: Wanted,
    options: Options,
    registry: CollectorRegistry,
    peer_address: str = "",
) -> AsyncIterator[AllocNode]:
    """A node over `data`, followed by whatever the map says; raises NotDone or WrongUsage."""
    async with AsyncExitStack() as stack:
        try:
            refuse_strangers(data)
            directory = Directory(data, create=True)
            stack.callback(directory.close)
            await found(data, wanted)
            coordinator = await EmbeddedCoordinator.open(data)
            stack.push_async_callback(coordinator.aclose)
            cluster, spec = await _read(coordinator, wanted)
            store = await _store(data, cluster, spec, registry)
        except (EngineError, MapCorrupt, MapUnavailable) as error:
            raise NotDone(str(error)) from None
        stack.push_async_callback(store.aclose)
        node = AllocNode(
            cluster=cluster,
            spec=spec,
            incarnation=secrets.randbits(64) or 1,
            address=address,
            peer_address=peer_address,
            clock=BootClock(),
            coordinator=coordinator,
            metrics=Metrics(registry),
            options=options,
        )
        bind(set=spec.name, incarnation=hex64(node.incarnation))
        registration = Node(node.incarnation, address, spec.name, peer_address=peer_address)
        key = node_key(spec.name, node.incarnation)
        held = await coordinator.register(key, registration.to_json(), options.lease_ttl_s)
        stack.push_async_callback(held.aclose)
        async with node.running(lambda _: store), asyncio.TaskGroup() as group:
            owning = group.create_task(own(coordinator, spec, registration))
            try:
                yield node
            finally:
                owning.cancel()


def refuse_strangers(data: Path) -> None:
    """A directory that holds something else is not touched; raises NotDone."""
    try:
        names = {entry.name for entry in data.iterdir()} - _IGNORED
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotDone(f"{data}: {error.strerror}") from None
    if names and not names & {MAP, FOUNDING}:
        raise NotDone(
            f"{data} holds {min(names)!r} but no {MAP}: it is not a data directory of seqsvr, "
            "or has lost its cluster map"
        )


def _new_cluster(wanted: Wanted) -> Cluster:
    try:
        cluster = Cluster(
            secrets.token_hex(8), wanted.section_size or SECTION_SIZE, wanted.uid_limit or UID_LIMIT
        )
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if cluster.layout.sections > MAX_SECTIONS:
        raise WrongUsage(
            f"{cluster.layout.sections} sections are more than one process serves "
            f"({MAX_SECTIONS}): take a greater section_size or a lower uid_limit"
        )
    return cluster


async def found(data: Path, wanted: Wanted) -> None:
    """Set a blank directory up; what a crash left half done is begun anew."""
    marker = data / FOUNDING
    if marker.exists():
        shutil.rmtree(data / STORE, ignore_errors=True)
        (data / MAP).unlink(missing_ok=True)
    elif (data / MAP).exists():
        return
    cluster = _new_cluster(wanted)
    _touch(marker)
    store = open_service(data / STORE, _identity(cluster), create=True)
    store_id = store.identity.store_id
    await store.aclose()
    replica = Replica(REPLICA, "embedded", store_id)
    spec = SetSpec(DEFAULT_SET, (Range(0, cluster.layout.sections - 1),), (replica,), 1, 1)
    coordinator = await EmbeddedCoordinator.open(data)
    key = assignments_key(spec.name)
    puts: dict[str, bytes | None] = {
        CLUSTER_KEY: cluster.to_json(),
        set_key(spec.name): spec.to_json(),
        key: Assignments(spec.name).to_json(),
    }
    await coordinator.transact(dict.fromkeys(puts, 0), puts)
    await coordinator.aclose()
    marker.unlink()
    sync_directory(data)


async def own(coordinator: Coordinator, spec: SetSpec, node: Node) -> None:
    """The arbiter of one node: gives it the whole Set, above every epoch that was refused."""
    key = assignments_key(spec.name)
    async with aclosing(follow(coordinator, key)) as pictures:
        async for _ in pictures:
            wait_s = RETRY_S
            while not await _assigned(coordinator, key, spec, node):
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, MAX_RETRY_S)


async def _assigned(coordinator: Coordinator, key: str, spec: SetSpec, node: Node) -> bool:
    """Whether the map now gives everything to `node`; a write that failed is tried again."""
    try:
        held = (await coordinator.get(key)).entries[key]
        wanted = placement.sole_owner(Assignments.from_json(held.value), spec, node)
        if wanted is None:
            return True
        return await coordinator.transact({key: held.revision}, {key: wanted.to_json()}) is not None
    except MapUnavailable as error:
        log.error("assignment_not_written", error=str(error))
        return False


async def _read(coordinator: Coordinator, wanted: Wanted) -> tuple[Cluster, SetSpec]:
    entries = (await coordinator.get("")).entries
    cluster, spec = entries.get(CLUSTER_KEY), entries.get(set_key(DEFAULT_SET))
    if cluster is None or spec is None:
        raise MapCorrupt(f"the map has no {CLUSTER_KEY} or no Set {DEFAULT_SET!r}")
    found = Cluster.from_json(cluster.value)
    for name in ("section_size", "uid_limit"):
        asked = getattr(wanted, name)
        if asked is not None and asked != getattr(found, name):
            raise WrongUsage(
                f"{name} is fixed for a cluster's life: it is {getattr(found, name)} here, "
                f"not {asked}"
            )
    return found, SetSpec.from_json(spec.value)


async def _store(
    data: Path, cluster: Cluster, spec: SetSpec, registry: CollectorRegistry
) -> StoreService:
    """The replica that the map names; no boot grace, since LOCK outlives no owner."""
    wanted = _identity(cluster)._replace(store_id=spec.replicas[0].store_id)
    try:
        store = open_service(data / STORE, wanted, create=False, registry=registry)
    except Blank as blank:
        raise NotDone(
            f"{blank}, but the cluster map says that there was one: its max_seq values are lost, "
            "and starting from 0 would repeat numbers; restore the store from a backup"
        ) from None
    if store.out_of_quorum:
        await store.aclose()
        raise NotDone(
            f"the store in {data / STORE} is damaged ({store.out_of_quorum}): restore it from a "
            "backup"
        )
    return store


def _identity(cluster: Cluster) -> Identity:
    return Identity(cluster.id, DEFAULT_SET, REPLICA, cluster.section_size, cluster.uid_limit)


def _touch(path: Path) -> None:
    path.touch(mode=0o600)
    sync_directory(path.parent)
