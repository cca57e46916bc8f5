"""`seqctl backup`, `restore` and `verify` against real stores: what is kept, refused and found."""

import argparse
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import ReplicaFailed
from clustermap.model import Assignments, SetSpec, node_key
from clustermap.nodes import Node
from clustermap.placement import reassign
from seqctl import backup, credentials, restore, verify
from seqctl.backup_file import Damaged, read_backup
from seqctl.cluster import initialise
from seqctl.failures import NotDone, WrongUsage
from seqsvr.v1 import store_pb2 as pb
from some_stores import SECTIONS, Stores
from storesvr_world import fence, raising, renew, scan

A = 0xA1
Output = pytest.CaptureFixture[str]


class World:
    """A Set of three stores and its map. file: where the backup goes."""

    def __init__(self, folder: Path, stores: Stores, coordinator: EmbeddedCoordinator) -> None:
        self.stores, self.coordinator = stores, coordinator
        self.file = folder / "backup"

    async def spec(self) -> SetSpec:
        entries = (await self.coordinator.get("")).entries
        return SetSpec.from_json(entries["sets/set-0"].value)

    async def assignments(self) -> Assignments:
        entries = (await self.coordinator.get("")).entries
        return Assignments.from_json(entries["assignments/set-0"].value)

    async def backup(self, **more: Any) -> int:
        args = {"sets": None, "all": True, "out": self.file, "incomplete": False}
        return await backup._backup(arguments(args | more), self.coordinator)

    async def restore(self, advance_by: int = 1_000, **more: Any) -> int:
        args = {"file": self.file, "set": "set-0", "replicas": self.stores.addresses}
        args |= {"advance_by": advance_by, "dry_run": False, "yes": True}
        read = read_backup(self.file)
        return await restore._restore(arguments(args | more), self.coordinator, read)

    async def verify(self, **more: Any) -> int:
        read = read_backup(self.file) if self.file.exists() else None
        return await verify._verify(arguments({"sets": None} | more), self.coordinator, read)

    async def lose(self) -> None:
        """All stores; blank ones come in their place, at other addresses."""
        await self.stores.lose()
        for index in range(3):
            await self.stores.add(f"store-{index}")

    async def held(self, index: int) -> list[pb.StoredRecord]:
        """All records of a store."""
        request = scan(0, SECTIONS - 1)
        request.header.membership = self.stores.services[index].identity.membership
        return list((await self.stores.services[index].scan(request)).records)

    async def untouched(self, advance_by: int = 1_000, **more: Any) -> str:
        """Why a restore was refused; fails if it changed anything."""
        before = (await self.coordinator.get("sets/")).entries
        records = [await self.held(index) for index in range(3)]
        with pytest.raises(NotDone) as caught:
            await self.restore(advance_by, **more)
        assert (await self.coordinator.get("sets/")).entries == before
        assert [await self.held(index) for index in range(3)] == records
        return str(caught.value)


def arguments(given: dict[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    credentials.add_arguments(parser)
    own = vars(parser.parse_args([])) | {"timeout": 5.0, "output": "json"}
    return argparse.Namespace(**(own | given))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    stores = Stores(tmp_path / "stores")
    for index in range(3):
        await stores.add(f"store-{index}")
    (tmp_path / "map").mkdir()
    coordinator = await EmbeddedCoordinator.open(tmp_path / "map")
    await initialise(coordinator, stores.wanted(), 5.0)
    yield World(tmp_path, stores, coordinator)
    await coordinator.aclose()
    await stores.aclose()


async def test_a_backup_holds_the_greatest_of_what_the_replicas_know(world: World) -> None:
    """One raise was acknowledged by W of them only, and each has missed another one."""
    for index, service in enumerate(world.stores.services):
        await service.fence(fence(0, 4, 3))
        rows = [(section, 3, 100 + section) for section in range(5) if section != index]
        await service.raise_max(raising(A, *rows))
    assert await world.backup() == 0
    kept = read_backup(world.file).sets["set-0"]
    assert {s: r.max_seq for s, r in kept.records.items()} == {s: 100 + s for s in range(5)}
    assert {(r.promised, r.owner_epoch, r.owner) for r in kept.records.values()} == {(3, 3, A)}
    assert kept.complete and kept.spec == await world.spec()


async def test_a_backup_needs_r_replicas_unless_it_may_be_incomplete(world: World) -> None:
    await world.stores.use()
    await world.stores.servers[0].stop(0)
    assert await world.backup() == 0
    world.file.unlink()
    await world.stores.servers[1].stop(0)
    with pytest.raises(NotDone, match="1 replicas answer and R is 2"):
        await world.backup(timeout=0.5)
    assert list(world.file.parent.glob("*backup*")) == []
    assert await world.backup(timeout=0.5, incomplete=True) == 0
    assert not read_backup(world.file).sets["set-0"].complete


async def test_a_backup_is_never_written_over(world: World) -> None:
    world.file.write_text("the last one")
    with pytest.raises(WrongUsage, match="is there already"):
        await world.backup()
    assert world.file.read_text() == "the last one"


async def test_every_section_is_restored_above_the_backup_on_every_replica(world: World) -> None:
    """Also those that the backup knows nothing of: they may have been used since. NRW-1."""
    await world.stores.use()
    document = reassign(Assignments("set-0"), 0, 29, Node(9, "127.0.0.1:9", "set-0"))
    await world.coordinator.transact({}, {"assignments/set-0": document.to_json()})
    version = (await world.assignments()).version
    await world.backup()
    await world.lose()
    assert await world.restore(1_000) == 0
    spec, assignments = await world.spec(), await world.assignments()
    told = [service.identity.store_id for service in world.stores.services]
    assert [replica.store_id for replica in spec.replicas] == told
    assert assignments.version > version and not assignments.entries
    epoch = assignments.highest_epoch(0, 29)
    for index in range(3):
        records = await world.held(index)
        assert [r.max_seq for r in records] == [1_010] * 5 + [1_000] * 25
        assert {(r.promised, r.owner_epoch, r.released) for r in records} == {(epoch, epoch, False)}
    assert epoch > document.highest_epoch(0, 29)
    assert await world.verify() == 0


async def test_a_map_that_was_lost_too_is_written_from_the_backup(world: World) -> None:
    await world.stores.use()
    before = await world.spec()
    await world.backup()
    await world.lose()
    entries = (await world.coordinator.get("")).entries
    await world.coordinator.transact({}, dict.fromkeys(entries))
    with pytest.raises(WrongUsage, match="the map names no replicas"):
        await world.restore(replicas=None)
    assert await world.restore() == 0
    after = await world.spec()
    assert (after.ranges, after.r, after.w) == (before.ranges, before.r, before.w)
    assert (await world.assignments()).version > 2**32
    assert await world.verify() == 0


async def test_stores_are_not_counted_before_all_of_them_hold_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody is served from nothing, however the restore ends; done again it goes on. NRW-2."""
    await world.backup()
    told = {service.identity.store_id for service in world.stores.services}

    async def cut(*_: Any) -> None:
        raise NotDone("the network broke")

    with monkeypatch.context() as patched:
        patched.setattr(restore, "_read_back", cut)
        with pytest.raises(NotDone, match="broke"):
            await world.restore(replicas=None)
    for service in world.stores.services:
        assert service.identity.learning and service.identity.membership == 2
        with pytest.raises(ReplicaFailed, match="MEMBERSHIP"):  # of nodes that found it in the map
            await service.fence(fence(0, 29, 10**9))
    assert await world.restore(replicas=None) == 0
    spec = await world.spec()
    assert told == {replica.store_id for replica in spec.replicas}
    assert spec.membership == 3
    assert {service.identity.learning for service in world.stores.services} == {False}


async def test_blank_stores_that_nodes_count_are_not_restored_onto(world: World) -> None:
    await world.backup()
    registration = await world.coordinator.register(
        node_key("set-0", 7), Node(7, "127.0.0.1:1", "set-0").to_json(), 10.0
    )
    assert "Stop its nodes" in await world.untouched(replicas=None)
    await registration.aclose()
    await world.stores.services[0].renew(renew(A))
    assert "Stop its nodes" in await world.untouched(replicas=None)


async def test_a_store_that_holds_anything_is_not_restored_onto(world: World) -> None:
    await world.stores.use()
    await world.backup()
    await world.lose()
    await world.stores.services[1].raise_max(raising(A, (29, 1, 5)))
    assert "is not blank (section 29 has max_seq 5)" in await world.untouched()


async def test_a_set_is_not_restored_beside_a_replica_that_knows_more(world: World) -> None:
    await world.stores.use()
    await world.backup()
    others = Stores(world.file.parent / "others")
    try:
        for index in range(3):
            await others.add(f"new-{index}")
        text = await world.untouched(replicas=others.addresses)
        assert "store-0" in text and "knows more than the backup" in text
    finally:
        await others.aclose()


async def test_a_dry_run_changes_nothing(world: World, capsys: Output) -> None:
    await world.backup()
    await world.lose()
    capsys.readouterr()
    assert await world.restore(dry_run=True) == 0
    assert json.loads(capsys.readouterr().out)["restored"] is False
    assert [await world.held(index) for index in range(3)] == [[], [], []]


async def test_a_replica_that_has_missed_something_is_found(world: World, capsys: Output) -> None:
    await world.stores.use()
    assert await world.verify() == 0
    for service in world.stores.services[:2]:
        await service.raise_max(raising(A, (4, 1, 77)))
    capsys.readouterr()
    assert await world.verify() == 1
    said = json.loads(capsys.readouterr().out)["sets"][0]["behind"]
    assert [(one["replica"], one["section"], one["max_seq"]) for one in said] == [
        ("store-2", 4, 10)
    ]
    await world.stores.servers[2].stop(0)
    assert await world.verify(timeout=0.5) == 1


async def test_a_set_that_is_behind_its_backup_is_found(world: World, capsys: Output) -> None:
    """Its stores were begun anew, and somebody has named them in the map. NRW-2."""
    await world.stores.use()
    await world.backup()
    await world.lose()
    entries = (await world.coordinator.get("")).entries
    await world.coordinator.transact({}, dict.fromkeys(entries))
    await initialise(world.coordinator, world.stores.wanted(), 5.0)
    capsys.readouterr()
    assert await world.verify() == 1
    said = json.loads(capsys.readouterr().out)
    assert said["lower_sections"] == 5 and said["lower"][0]["max_seq_backup"] == 10


async def test_a_backup_that_was_cut_short_or_altered_is_refused(world: World) -> None:
    await world.stores.use()
    await world.backup()
    whole = world.file.read_bytes()
    for spoilt in (whole[:-10], whole[: len(whole) // 2], whole.replace(b",10,", b",11,", 1), b""):
        assert spoilt != whole
        world.file.write_bytes(spoilt)
        with pytest.raises(Damaged):
            read_backup(world.file)


async def test_a_backup_that_others_may_have_written_is_refused(world: World) -> None:
    await world.stores.use()
    await world.backup()
    assert stat.S_IMODE(world.file.stat().st_mode) == 0o600
    world.file.chmod(0o644)
    read_backup(world.file)
    world.file.chmod(0o620)
    with pytest.raises(WrongUsage, match="can be written by others"):
        read_backup(world.file)
