"""Audit lines in the map: kept, bounded, shown, and never in the way of the change itself."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clustermap.coordinator import Coordinator
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import EtcdServers
from seqctl import changing
from seqctl.__main__ import main
from seqctl.changing import AUDIT_PREFIX, audited
from seqctl.failures import NotDone


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServers]:
    with EtcdServers(tmp_path_factory.mktemp("audit"), fsync=False) as servers:
        yield servers


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """A map of its own for each test."""
    return f"/{tmp_path.name}/"


async def opened(etcd: EtcdServers, prefix: str) -> EtcdCoordinator:
    return await EtcdCoordinator.open(EtcdOptions(etcd.endpoints, prefix=prefix))


def shown(
    etcd: EtcdServers, prefix: str, capsys: pytest.CaptureFixture[str], *more: str
) -> list[dict[str, str]]:
    capsys.readouterr()
    where = ("--etcd", ",".join(etcd.endpoints), "--etcd-prefix", prefix)
    assert main(["audit", *where, "-o", "json", *more]) == 0
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)
    return found


def test_changes_are_shown_oldest_first_with_what_came_of_them(
    etcd: EtcdServers,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEQSVR_ACTOR", "ann")

    async def change() -> None:
        coordinator = await opened(etcd, prefix)
        async with audited("one", coordinator):
            pass
        with pytest.raises(NotDone):
            async with audited("two", coordinator):
                raise NotDone("refused")
        await coordinator.aclose()

    asyncio.run(change())
    lines = shown(etcd, prefix, capsys)
    assert [(one["who"], one["what"], one["outcome"]) for one in lines] == [
        ("ann", "one", "done"),
        ("ann", "two", "failed: refused"),
    ]
    assert [one["what"] for one in shown(etcd, prefix, capsys, "--last", "1")] == ["two"]
    where = ["--etcd", ",".join(etcd.endpoints), "--etcd-prefix", prefix]
    assert main(["audit", *where]) == 0
    table = capsys.readouterr().out
    assert table.index("one") < table.index("failed: refused")


def test_nothing_is_shown_where_nothing_was_changed(
    etcd: EtcdServers, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(etcd, prefix, capsys) == []


def test_only_the_newest_lines_are_kept(
    etcd: EtcdServers,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changing, "KEPT", 5)

    async def change() -> None:
        coordinator = await opened(etcd, prefix)
        for index in range(12):
            async with audited(f"change {index}", coordinator):
                pass
        assert len((await coordinator.get(AUDIT_PREFIX)).entries) == 5
        await coordinator.aclose()

    asyncio.run(change())
    assert [one["what"] for one in shown(etcd, prefix, capsys)] == [
        f"change {index}" for index in range(7, 12)
    ]


def test_two_who_change_at_once_leave_two_lines(
    etcd: EtcdServers, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one(coordinator: Coordinator, index: int) -> None:
        async with audited(f"change {index}", coordinator):
            await asyncio.sleep(0)

    async def change() -> None:
        coordinator = await opened(etcd, prefix)
        await asyncio.gather(*(one(coordinator, index) for index in range(20)))
        await coordinator.aclose()

    asyncio.run(change())
    found = {one["what"] for one in shown(etcd, prefix, capsys)}
    assert found == {f"change {index}" for index in range(20)}


def test_a_map_that_does_not_answer_takes_nothing_back(
    etcd: EtcdServers, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def change() -> None:
        coordinator = await opened(etcd, prefix)
        await coordinator.aclose()
        async with audited("a change", coordinator):
            pass

    asyncio.run(change())
    assert 'what="a change" outcome="done"' in capsys.readouterr().err
