"""`seqctl cluster init` and `status` against real stores: what is written, refused and shown."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from clustermap.coordinator import Coordinator
from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import MapUnavailable
from clustermap.model import Assignments, Cluster, SetSpec, assignments_key, node_key
from clustermap.nodes import Load, Node
from clustermap.placement import reassign
from processes import free_port
from seqctl.cluster import initialise, survey
from seqctl.cluster_plan import Wanted, wanted_set
from seqctl.failures import NotDone
from seqsvr.v1 import store_pb2 as pb
from some_stores import SECTIONS, Stores
from storesvr_world import HEADER

TIMEOUT_S = 10.0


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(tmp_path / "stores")
    for index in range(3):
        await made.add(f"store-{index}")
    yield made
    await made.aclose()


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[EmbeddedCoordinator]:
    directory = tmp_path / "map"
    directory.mkdir()
    opened = await EmbeddedCoordinator.open(directory)
    yield opened
    await opened.aclose()


async def keys(coordinator: Coordinator) -> set[str]:
    return set((await coordinator.get("")).entries)


async def refusal(coordinator: Coordinator, wanted: Wanted, **other: Any) -> str:
    """Why nothing was written; fails if something was."""
    before = (await coordinator.get("")).entries
    with pytest.raises(NotDone) as caught:
        await initialise(coordinator, wanted, other.pop("timeout_s", TIMEOUT_S), **other)
    assert (await coordinator.get("")).entries == before
    return str(caught.value)


async def test_init_writes_what_the_stores_say(stores: Stores, coordinator: Coordinator) -> None:
    plan = await initialise(coordinator, stores.wanted(), TIMEOUT_S)
    assert plan is not None
    entries = (await coordinator.get("")).entries
    assert set(entries) == {"cluster", "sets/set-0", "assignments/set-0"}
    assert len({held.revision for held in entries.values()}) == 1, "one transaction"
    assert Cluster.from_json(entries["cluster"].value) == Cluster("c1", 1_000, 30_000)
    spec = SetSpec.from_json(entries["sets/set-0"].value)
    assert (spec.ranges, spec.r, spec.w) == (((0, 29),), 2, 2)
    told = [(service.identity.replica, service.identity.store_id) for service in stores.services]
    assert [(replica.name, replica.store_id) for replica in spec.replicas] == told
    assert Assignments.from_json(entries["assignments/set-0"].value) == Assignments("set-0")


async def test_init_never_writes_over_a_map(stores: Stores, coordinator: Coordinator) -> None:
    await initialise(coordinator, stores.wanted(), TIMEOUT_S)
    text = await refusal(coordinator, stores.wanted())
    assert "the map holds cluster c1 (30 sections of 1000 uids), Set set-0" in text
    assert stores.addresses[2] in text
    assert "the map holds" in await refusal(coordinator, stores.wanted(adopt=True))
    assert await initialise(coordinator, stores.wanted(), TIMEOUT_S, if_missing=True) is None
    other = await refusal(coordinator, stores.wanted(w=3), if_missing=True)
    assert "the map holds" in other


async def test_nodes_that_wait_for_a_map_do_not_stand_in_its_way(
    stores: Stores, coordinator: Coordinator
) -> None:
    node = Node(1, "127.0.0.1:1", "set-0")
    await coordinator.register(node_key("set-0", 1), node.to_json(), 2)
    assert await initialise(coordinator, stores.wanted(), TIMEOUT_S) is not None


async def test_used_stores_are_adopted_only_if_asked(
    stores: Stores, coordinator: Coordinator
) -> None:
    await stores.use()
    assert "holds 5 sections" in await refusal(coordinator, stores.wanted())
    assert await initialise(coordinator, stores.wanted(adopt=True), TIMEOUT_S) is not None


async def test_a_blank_store_beside_used_ones_is_never_adopted(
    stores: Stores, coordinator: Coordinator
) -> None:
    await stores.use()
    blank = await stores.add("store-9")
    stores.addresses[2] = blank
    assert f"{blank} is blank" in await refusal(coordinator, stores.wanted(adopt=True))


async def two_sets(stores: Stores, split: tuple[str, str]) -> Wanted:
    """Set set-0 of three stores has had sections 0..4 and been given numbers, set-1 is blank."""
    if len(stores.addresses) == 3:
        await stores.use()
    while len(stores.addresses) < 6:
        await stores.add(f"store-{len(stores.addresses)}", "set-1")
    parts = (stores.addresses[:3], stores.addresses[3:])
    sets = (f"set-{i}:{split[i]}={','.join(parts[i])}" for i in range(2))
    return Wanted(tuple(map(wanted_set, sets)), adopt=True)


async def sealed(stores: Stores, first: int, last: int, *, at: int = 3) -> None:
    """As a move leaves the sections behind, at so many of the three."""
    for service in stores.services[:at]:
        entries = [pb.SealEntry(section=s, epoch=5) for s in range(first, last + 1)]
        await service.seal(pb.SealRequest(header=HEADER, entries=entries))


async def brought(stores: Stores, first: int, last: int, max_seq: int = 10) -> None:
    records = [
        pb.StoredRecord(
            section=s, promised=5, max_seq=max_seq, owner_epoch=5, owner=0x1D, released=True
        )
        for s in range(first, last + 1)
    ]
    header = pb.StoreHeader(cluster="c1", set="set-1", membership=1)
    request = pb.PutAtLeastRequest(header=header, records=records, with_promises=True)
    for service in stores.services[3:]:
        await service.put_at_least(request)


async def test_sections_that_one_set_holds_are_not_adopted_by_another_seq_2(
    stores: Stores, coordinator: Coordinator
) -> None:
    """The other one is blank there, and would hand out 1, 2, 3 once more."""
    wrong = await two_sets(stores, ("0-1,5-29", "2-4"))
    said = await refusal(coordinator, wrong)
    assert "Set set-0 holds sections 2..4, which Set set-1 is to have" in said
    wanted = await two_sets(stores, ("0-4,10-29", "5-9"))
    assert await initialise(coordinator, wanted, TIMEOUT_S) is not None


async def test_moved_sections_are_adopted_only_by_the_set_that_has_them_now_seq_2(
    stores: Stores, coordinator: Coordinator
) -> None:
    """Sealed and brought nowhere yet, sealed at too few, moved, and gone on since."""
    right = await two_sets(stores, ("0-1,5-29", "2-4"))
    old = await two_sets(stores, ("0-4,10-29", "5-9"))
    await sealed(stores, 2, 4)
    held = "Set set-0 holds sections 2..4, which Set set-1 is to have"
    assert held in await refusal(coordinator, right)
    await brought(stores, 2, 4, max_seq=9)
    assert held in await refusal(coordinator, right)
    await brought(stores, 2, 4)
    assert "Set set-1 holds sections 2..4" in await refusal(coordinator, old)
    await brought(stores, 2, 4, max_seq=70)
    assert "Set set-1 holds sections 2..4" in await refusal(coordinator, old)
    assert await initialise(coordinator, right, TIMEOUT_S) is not None


async def test_sections_sealed_at_too_few_replicas_are_still_held(
    stores: Stores, coordinator: Coordinator
) -> None:
    right = await two_sets(stores, ("0-1,5-29", "2-4"))
    await brought(stores, 2, 4)
    await sealed(stores, 2, 4, at=1)
    assert "Set set-0 holds sections 2..4" in await refusal(coordinator, right)
    await sealed(stores, 2, 4, at=2)
    assert await initialise(coordinator, right, TIMEOUT_S) is not None


async def test_init_names_the_replica_that_does_not_answer(
    stores: Stores, coordinator: Coordinator
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    stores.addresses[1] = nobody
    assert nobody in await refusal(coordinator, stores.wanted())


async def test_a_frozen_replica_makes_neither_command_hang(
    stores: Stores, coordinator: Coordinator
) -> None:
    await initialise(coordinator, stores.wanted(), TIMEOUT_S)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with silent, asyncio.timeout(60):
        port = silent.sockets[0].getsockname()[1]
        entries = (await coordinator.get("")).entries
        raw = entries["sets/set-0"].value.replace(
            stores.addresses[1].encode(), f"127.0.0.1:{port}".encode()
        )
        await coordinator.transact({}, {"sets/set-0": raw})
        shown: Any = (await survey(coordinator, 0.5)).shown
    assert [one["reachable"] for one in shown["replicas"]] == [True, False, True]
    assert "no answer in 0.5 s" in shown["replicas"][1]["error"]
    assert not shown["well"]


async def test_a_map_written_by_somebody_else_meanwhile_is_not_written_over(
    stores: Stores, coordinator: Coordinator
) -> None:
    late = Interrupted(coordinator, before=True)
    with pytest.raises(NotDone, match="somebody else"):
        await initialise(late, stores.wanted(), TIMEOUT_S)
    entries = (await coordinator.get("")).entries
    assert Cluster.from_json(entries["cluster"].value).id == "other"


async def test_a_write_whose_answer_is_lost_is_found_again(
    stores: Stores, coordinator: Coordinator
) -> None:
    lost = Interrupted(coordinator, before=False)
    assert await initialise(lost, stores.wanted(), TIMEOUT_S) is not None
    assert "cluster" in await keys(coordinator)


class Interrupted:
    """A coordinator that somebody else writes to before us, or that loses our answer."""

    def __init__(self, inner: Coordinator, *, before: bool) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def transact(self, expected: Any, puts: Any) -> int | None:
        if self._before:
            await self._inner.transact({}, {"cluster": Cluster("other").to_json()})
            return await self._inner.transact(expected, puts)
        await self._inner.transact(expected, puts)
        raise MapUnavailable("the answer is lost")


async def test_status_shows_leases_and_dead_nodes_and_dead_replicas(
    stores: Stores, coordinator: Coordinator
) -> None:
    await initialise(coordinator, stores.wanted(), TIMEOUT_S)
    checks = health.aio.HealthServicer()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    serving = health_pb2.HealthCheckResponse.SERVING
    await checks.set("seqsvr.node.00000000000000a1", serving)
    node = Node(0xA1, address, "set-0", load=Load(per_second=7, serving=30))
    await assign(coordinator, node)
    held = await coordinator.register(node_key("set-0", 0xA1), node.to_json(), 2)
    await coordinator.elect("arbiter", b"127.0.0.1:7422")
    await stores.use()

    found = await survey(coordinator, TIMEOUT_S)
    shown: Any = found.shown
    assert found.well, found.problems
    assert shown["leaders"] == {"arbiter": "127.0.0.1:7422"}
    for replica in shown["replicas"]:
        (lease,) = replica["leases"]
        assert lease["incarnation"] == "00000000000000a1"
        assert 0 < lease["left_s"] <= 50
        assert replica["sections"] == 5
    (one,) = shown["nodes"]
    assert (one["incarnation"], one["alive"], one["sections"]) == ("00000000000000a1", True, 30)

    await held.aclose()
    assert (await survey(coordinator, TIMEOUT_S)).well, "it is not registered, and answers"
    await checks.set("seqsvr.node.00000000000000a1", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert not (await survey(coordinator, TIMEOUT_S)).well
    await server.stop(0)
    await stores.servers[0].stop(0)
    found = await survey(coordinator, TIMEOUT_S)
    assert len(found.problems) == 2
    assert "30 sections are assigned to" in found.problems[0]
    assert "store-0 of Set set-0" in found.problems[1]


async def assign(coordinator: Coordinator, node: Node) -> None:
    document = reassign(Assignments("set-0"), 0, SECTIONS - 1, node)
    await coordinator.transact({}, {assignments_key("set-0"): document.to_json()})


async def test_several_sets_are_written_at_once(stores: Stores, coordinator: Coordinator) -> None:
    other = await stores.add("store-0", "set-1")
    sets = (f"set-0:0-9={','.join(stores.addresses[:3])}", f"set-1:10-29={other}")
    plan = await initialise(coordinator, Wanted(tuple(map(wanted_set, sets))), TIMEOUT_S)
    assert plan is not None
    shown: Any = (await survey(coordinator, TIMEOUT_S)).shown
    assert [(one["name"], one["n"], one["unassigned"]) for one in shown["sets"]] == [
        ("set-0", 3, 10),
        ("set-1", 1, 20),
    ]
