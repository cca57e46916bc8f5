"""`seqctl store` against real stores and a real etcd, as operators type it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from etcd_servers import EtcdServers
from processes import free_port, seqctl
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc
from some_stores.running import RunningStores
from storesvr.compacting import compact


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[RunningStores]:
    made = RunningStores(tmp_path)
    yield made
    made.close()


@pytest.fixture
def etcd(tmp_path: Path, stores: RunningStores) -> Iterator[str]:
    with EtcdServers(tmp_path / "etcd", fsync=False) as servers:
        where = ",".join(servers.endpoints)
        done = seqctl("cluster", "init", "--etcd", where, "--set", stores.option)
        assert done.returncode == 0, done.stderr
        yield where


def said(*arguments: object, code: int = 0) -> Any:
    done = seqctl("store", *map(str, arguments), "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_stores_are_listed_scrubbed_and_repaired(stores: RunningStores, etcd: str) -> None:
    listed = said("list", "--etcd", etcd)["stores"]
    assert [(one["name"], one["role"], one["state"]) for one in listed] == [
        (f"store-{index}", "counted", "well") for index in range(3)
    ]
    assert said("scrub", "--etcd", etcd)["well"]
    assert said("repair", "set-0", "--etcd", etcd, "--dry-run")["well"]
    assert "store-1" in seqctl("store", "list", "--etcd", etcd).stdout
    stores.processes[1].kill()
    stores.processes[1].wait()
    assert not said("scrub", "--etcd", etcd, "--timeout", "0.5", code=1)["well"]
    assert said("list", "--etcd", etcd)["stores"][1]["state"].startswith("no answer")


def test_a_replica_that_is_behind_is_found_and_repaired(stores: RunningStores, etcd: str) -> None:
    header = pb.StoreHeader(cluster="c1", set="set-0", membership=1)
    entries = [pb.RaiseEntry(section=section, epoch=3, max_seq=70) for section in (4, 5)]
    request = pb.RaiseRequest(header=header, incarnation=9, entries=entries)
    for address in stores.addresses[:2]:  # W of three: acknowledged, and the third has missed it
        with grpc.insecure_channel(address) as channel:
            store_pb2_grpc.StoreStub(channel).Raise(request, timeout=10)  # type: ignore[no-untyped-call]
    scrubbed = said("scrub", "--etcd", etcd, code=1)
    assert not scrubbed["well"]
    said("repair", "--etcd", etcd, "--dry-run", code=1)
    assert not said("scrub", "--etcd", etcd, code=1)["well"], "a dry run changes nothing"
    said("repair", "--etcd", etcd)
    assert said("scrub", "--etcd", etcd)["well"]


def test_a_change_of_replicas_is_shown_written_paused_and_taken_back(
    stores: RunningStores, etcd: str
) -> None:
    """No arbiter runs: the job waits for one."""
    shown = said("remove", "set-0", "store-2", "--etcd", etcd, "--dry-run")
    assert not shown["written"] and len(shown["steps"]) == 2
    refused = seqctl("store", "remove", "set-0", "store-2", "--etcd", etcd)
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert said("list", "--etcd", etcd)["jobs"] == []
    job = said("remove", "set-0", "store-2", "--etcd", etcd, "--yes")
    assert (job["id"], job["state"], job["r"], job["w"]) == ("reform-1", "running", 2, 2)
    assert seqctl("store", "remove", "set-0", "store-1", "--etcd", etcd, "--yes").returncode == 3
    assert said("pause", "reform-1", "--etcd", etcd)["state"] == "paused"
    assert said("resume", "reform-1", "--etcd", etcd)["state"] == "running"
    assert said("abort", "reform-1", "--etcd", etcd, "--yes")["state"] == "aborting"
    nobody = f"127.0.0.1:{free_port()}"
    for words in (("add", "set-0", nobody), ("replace", "set-0", "store-1", nobody)):
        done = seqctl("store", *words, "--etcd", etcd, "--yes")
        assert done.returncode == 3 and done.stderr.count("\n") == 1


def test_a_store_that_does_not_run_is_compacted(stores: RunningStores, tmp_path: Path) -> None:
    data = tmp_path / "data-0"
    running = seqctl("store", "compact", "--data", str(data))
    assert running.returncode == 3 and "in use" in running.stderr
    stores.processes[0].kill()
    stores.processes[0].wait()
    before = said("compact", "--data", data, "--dry-run")
    assert not before["compacted"]
    done = said("compact", "--data", data)
    assert done["compacted"] and done["replica"] == "store-0"
    assert compact(data).after == done["after"]
