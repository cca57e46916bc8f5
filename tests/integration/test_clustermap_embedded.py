"""The map in one file: what a crash, a full disk or a flipped bit leaves of it."""

import asyncio
import errno
import json
import os
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from clustermap import embedded
from clustermap.coordinator import Versioned
from clustermap.embedded import EmbeddedCoordinator
from clustermap.errors import MapCorrupt, MapUnavailable


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[EmbeddedCoordinator]:
    opened = await EmbeddedCoordinator.open(tmp_path)
    yield opened
    await opened.aclose()


async def content(directory: Path) -> dict[str, Versioned]:
    coordinator = await EmbeddedCoordinator.open(directory)
    try:
        return (await coordinator.get("")).entries
    finally:
        await coordinator.aclose()


async def test_a_map_opened_again_is_the_same_and_its_revisions_go_on(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    await coordinator.transact({}, {"a": b"1", "b": b"\x00\xfe\xff", "\N{SNOWMAN}": b'"}\n'})
    await coordinator.transact({}, {"a": None, "c": "\N{SNOWMAN}".encode()})
    before = await coordinator.get("")
    await coordinator.aclose()
    again = await EmbeddedCoordinator.open(tmp_path)
    assert await again.get("") == before
    later = await again.transact({}, {"d": b""})
    assert later is not None
    assert later > before.revision
    await again.aclose()


async def test_registrations_and_elections_do_not_outlive_the_process(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    await coordinator.register("nodes/s/1", b"1", 5.0)
    await coordinator.elect("arbiter", b"a")
    await coordinator.transact({}, {"a": b"1"})
    assert set(await content(tmp_path)) == {"a"}


async def test_the_file_is_legible_json_for_its_owner_only(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    mask = os.umask(0)
    try:
        await coordinator.transact({}, {"a": b'{"x":1}'})
    finally:
        os.umask(mask)
    path = tmp_path / embedded.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["map"]["entries"] == {"a": [1, '{"x":1}']}
    assert os.listdir(tmp_path) == [embedded.FILE]


async def test_a_flip_of_any_bit_is_noticed(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    await coordinator.transact({}, {"a": b"1"})
    path = tmp_path / embedded.FILE
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(MapCorrupt, match=r"map\.json"):
                embedded.load(path)
    path.write_bytes(whole)
    assert embedded.load(path)[1] == {"a": Versioned(b"1", 1)}


async def test_a_file_cut_short_or_added_to_is_noticed(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    await coordinator.transact({}, {"a": b"1"})
    path = tmp_path / embedded.FILE
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(MapCorrupt):
            embedded.load(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(MapCorrupt):
        embedded.load(path)


async def test_a_later_format_is_refused_by_its_name(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    await coordinator.transact({}, {"a": b"1"})
    path = tmp_path / embedded.FILE
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":23', 1))
    with pytest.raises(MapCorrupt, match="format 23, only 1 is known"):
        await EmbeddedCoordinator.open(tmp_path)


async def test_a_directory_that_cannot_be_read_or_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / embedded.FILE).mkdir()
    with pytest.raises(MapUnavailable, match="cannot read"):
        await EmbeddedCoordinator.open(tmp_path)
    absent = await EmbeddedCoordinator.open(tmp_path / "absent")
    with pytest.raises(MapUnavailable, match="cannot write"):
        await absent.transact({}, {"a": b"1"})
    await absent.aclose()


async def test_a_torn_file_of_an_interrupted_write_is_ignored(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    await coordinator.transact({}, {"a": b"1"})
    torn = tmp_path / f"{embedded.FILE}.tmp"
    torn.write_bytes(b'{"format":1,"sha')
    torn.chmod(0o644)
    assert set(await content(tmp_path)) == {"a"}
    await coordinator.transact({}, {"b": b"1"})
    assert set(await content(tmp_path)) == {"a", "b"}
    assert stat.S_IMODE((tmp_path / embedded.FILE).stat().st_mode) == 0o600


STEPS = ["open", "write", "fsync", "replace", "open directory", "fsync directory"]


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException) -> None:
    """Let the write of the map end with `error` where it reaches `step`."""
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace")}

    def instead(name: str) -> Any:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            if name == "open":
                directory = os.path.isdir(first)
            else:
                directory = name == "fsync" and stat.S_ISDIR(os.fstat(first).st_mode)
            if step == f"{name} directory" * directory + name * (not directory):
                raise error
            if step == "write" and name == "fsync" and not directory:
                os.ftruncate(first, 10)  # what had reached the disk by then
                raise error
            return real[name](first, *rest, **named)

        return call

    for name in real:
        monkeypatch.setattr(os, name, instead(name))


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_leaves_the_old_map_or_the_new_one(
    tmp_path: Path, coordinator: EmbeddedCoordinator, step: str
) -> None:
    old = {"a": b"old", "b": b"old"}
    await coordinator.transact({}, dict(old))
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, step, Crash())
        with pytest.raises(Crash):
            embedded.store(
                tmp_path / embedded.FILE,
                2,
                {"a": Versioned(b"new", 2), "b": Versioned(b"new", 2)},
            )
    left = {key: held.value for key, held in (await content(tmp_path)).items()}
    renamed = step in ("open directory", "fsync directory")
    assert left == ({"a": b"new", "b": b"new"} if renamed else old)


@pytest.mark.parametrize("step", STEPS)
async def test_a_failed_write_changes_nothing_in_memory_and_the_next_one_succeeds(
    tmp_path: Path, coordinator: EmbeddedCoordinator, step: str
) -> None:
    await coordinator.transact({}, {"a": b"old"})
    before = await coordinator.get("")
    async with aclosing(coordinator.watch("", before.revision)) as changes:
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, step, OSError(errno.ENOSPC, "No space left on device"))
            with pytest.raises(MapUnavailable, match="No space left"):
                await coordinator.transact({}, {"a": b"new"})
        assert await coordinator.get("") == before
        revision = await coordinator.transact({"a": before.entries["a"].revision}, {"a": b"newer"})
        assert revision is not None
        assert (await anext(changes)).entries == {"a": Versioned(b"newer", revision)}
    assert await content(tmp_path) == {"a": Versioned(b"newer", revision)}


async def test_a_transaction_is_on_the_disk_before_it_is_seen(
    tmp_path: Path, coordinator: EmbeddedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, go_on = threading.Event(), threading.Event()
    real = embedded.store

    def slow(path: Path, revision: int, entries: embedded.Entries) -> None:
        real(path, revision, entries)
        written.set()
        go_on.wait(20)

    monkeypatch.setattr(embedded, "store", slow)
    writing = asyncio.ensure_future(coordinator.transact({}, {"a": b"1"}))
    await asyncio.to_thread(written.wait, 20)
    assert (await coordinator.get("")).entries == {}
    assert set(await content(tmp_path)) == {"a"}
    go_on.set()
    assert await writing == 1
    assert set((await coordinator.get("")).entries) == {"a"}


async def test_a_caller_that_is_cancelled_leaves_memory_and_disk_alike(
    tmp_path: Path, coordinator: EmbeddedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    real = embedded.store

    def slow(path: Path, revision: int, entries: embedded.Entries) -> None:
        writing.set()
        go_on.wait(20)
        real(path, revision, entries)

    monkeypatch.setattr(embedded, "store", slow)
    caller = asyncio.ensure_future(coordinator.transact({}, {"a": b"1"}))
    await asyncio.to_thread(writing.wait, 20)
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    go_on.set()
    assert await coordinator.transact({"a": 0}, {"a": b"2"}) is None
    assert await content(tmp_path) == (await coordinator.get("")).entries


async def test_a_watch_that_lags_too_far_has_to_list_again(
    coordinator: EmbeddedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "store", lambda *_: None)
    for i in range(1_030):
        await coordinator.transact({}, {"a": b"%d" % i})
    with pytest.raises(MapUnavailable, match="no longer known"):
        await anext(coordinator.watch("a", 5))
    assert (await anext(coordinator.watch("a", 6))).revision == 7


async def test_a_lasting_document_cannot_be_registered_over(
    coordinator: EmbeddedCoordinator,
) -> None:
    await coordinator.transact({}, {"cluster": b"1"})
    with pytest.raises(ValueError, match="lasting document"):
        await coordinator.register("cluster", b"2", 5.0)


async def test_a_transaction_that_writes_nothing_costs_no_write(
    tmp_path: Path, coordinator: EmbeddedCoordinator
) -> None:
    assert await coordinator.transact({"a": 0}, {}) == 0
    assert await coordinator.transact({"a": 0}, {"a": None}) == 0
    assert not (tmp_path / embedded.FILE).exists()
