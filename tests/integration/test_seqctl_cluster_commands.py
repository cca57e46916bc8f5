"""`seqctl cluster` as operators type it: real processes, a real etcd, exit codes and lines."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcd_servers import EtcdServers
from processes import free_port, seqctl
from some_stores.running import RunningStores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[RunningStores]:
    made = RunningStores(tmp_path)
    yield made
    made.close()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    with EtcdServers(tmp_path / "etcd", fsync=False) as servers:
        yield ",".join(servers.endpoints)


def test_a_cluster_is_written_once_and_then_shown(stores: RunningStores, etcd: str) -> None:
    init = ("cluster", "init", "--etcd", etcd, "--set", stores.option)
    empty = seqctl("cluster", "status", "--etcd", etcd)
    assert empty.returncode == 3
    assert "the map names no cluster" in empty.stdout

    done = seqctl(*init, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    written: Any = json.loads(done.stdout)
    assert written["cluster"] == "c1"
    assert [one["address"] for one in written["sets"][0]["replicas"]] == stores.addresses

    again = seqctl(*init)
    assert (again.returncode, again.stdout) == (3, "")
    assert again.stderr.count("\n") == 1
    assert "the map holds cluster c1" in again.stderr
    assert seqctl(*init, "--if-missing").returncode == 0

    stores.processes[1].send_signal(signal.SIGSTOP)
    shown = seqctl("cluster", "status", "--etcd", etcd, "--timeout", "0.5", "-o", "json")
    assert (shown.returncode, shown.stderr) == (3, "")
    status: Any = json.loads(shown.stdout)
    assert [one["reachable"] for one in status["replicas"]] == [True, False, True]
    assert status["sets"][0]["unassigned"] == 30
    table = seqctl("cluster", "status", "--etcd", etcd, "--timeout", "0.5")
    assert stores.addresses[1] in table.stdout
    assert "problem: Set set-0: 30 sections are assigned to nobody" in table.stdout


def test_an_etcd_that_is_not_there_is_one_line_and_code_3() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    for command in (("status",), ("init", "--set", "set-0=127.0.0.1:1")):
        done = seqctl("cluster", *command, "--etcd", nobody)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.count("\n") == 1
        assert nobody in done.stderr
