"""A compacted store is smaller, and is the same store, whenever it is cut off. NRW-1, NRW-2."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from real_cluster.harm import flipped_records
from seqsvr.v1 import store_pb2 as pb
from storesvr import compacting
from storesvr.compacting import compact
from storesvr.directory import Directory
from storesvr.errors import Blank, DirectoryInUse, EngineCorrupt
from storesvr.service import open_service
from storesvr_world import IDENTITY, A, fence, raising, release, scan

SECTIONS = 40
Records = list[pb.StoredRecord]


async def filled(path: Path) -> Records:
    """A store in which large snapshots were; what it holds."""
    service = open_service(path, IDENTITY, create=True)
    await service.fence(fence(0, SECTIONS - 1, 1))
    await service.raise_max(raising(A, *((s, 1, 10) for s in range(SECTIONS))))
    for first in range(0, SECTIONS, 8):
        rows = [(s, 1, os.urandom(200_000)) for s in range(first, first + 8)]
        await service.release(release(A, *rows))
    await service.fence(fence(2, SECTIONS - 1, 2))
    await service.raise_max(raising(A, *((s, 2, 20) for s in range(2, SECTIONS))))
    held = (await service.scan(scan(0, SECTIONS - 1, with_snapshots=True))).records
    await service.aclose()
    return list(held)


async def read(path: Path) -> Records:
    service = open_service(path, IDENTITY, create=False)
    held = (await service.scan(scan(0, SECTIONS - 1, with_snapshots=True))).records
    await service.raise_max(raising(A, (5, 2, 99)))  # it takes writes
    await service.aclose()
    return list(held)


async def test_a_compacted_store_is_smaller_and_holds_the_same(tmp_path: Path) -> None:
    held = await filled(tmp_path / "store")
    planned = compact(tmp_path / "store", dry_run=True)
    done = compact(tmp_path / "store")
    assert planned == done and done.identity.replica == IDENTITY.replica
    assert done.after < done.before / 4
    assert (tmp_path / "store" / "data.mdb").stat().st_size == done.after
    assert await read(tmp_path / "store") == held
    assert not (tmp_path / "store" / "compacting").exists()


async def test_a_store_that_runs_or_is_none_is_not_compacted(tmp_path: Path) -> None:
    service = open_service(tmp_path / "store", IDENTITY, create=True)
    with pytest.raises(DirectoryInUse):
        compact(tmp_path / "store")
    await service.aclose()
    with pytest.raises(Blank):
        compact(tmp_path / "nothing")


async def test_a_damaged_store_is_left_as_it_is(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    file = tmp_path / "store" / "data.mdb"
    assert flipped_records(file)
    before = file.read_bytes()
    with pytest.raises(EngineCorrupt):
        compact(tmp_path / "store")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (compacting, "_copy", False),
        (compacting, "_copy", True),
        (Directory, "_write_all", True),
        (Path, "rename", True),
    ],
)
async def test_a_compaction_that_is_killed_leaves_a_whole_store(
    tmp_path: Path, owner: Any, name: str, after: bool
) -> None:
    held = await filled(tmp_path / "store")
    pid = os.fork()
    if not pid:
        setattr(owner, name, dying(getattr(owner, name), after=after))
        compact(tmp_path / "store")
        os._exit(0)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert await read(tmp_path / "store") == held
    compact(tmp_path / "store")


def dying(method: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def both(*args: Any) -> None:
        if after:
            method(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    return both
