"""A backup taken under load, everything lost, and numbers that go on above all that were given."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from real_cluster.cluster import STORE_PORT, RealCluster, Shape, open_cluster
from real_cluster.load import under_load
from seqctl.backup_file import read_backup

SHAPE = Shape(etcds=1, nodes=2, arbiters=1, uid_limit=16_000, step=200)  # 16 callers
ADVANCE_BY = 1_000_000
BACK_S = 60.0


@pytest.mark.parametrize("lost", ["stores", "stores and map"])
def test_a_restored_set_serves_above_every_number_ever_handed_out(
    tmp_path: Path, lost: str
) -> None:
    file = tmp_path / "backup"
    with open_cluster(tmp_path, SHAPE) as cluster:
        with under_load(cluster, f"backup, then lost: {lost}") as shaken:
            load = shaken.load
            load.spread()
            taken = said(cluster, "backup", "--all", "--out", file)
            assert taken["sets"][0]["records"] == SHAPE.sections
            outgrown(cluster, file)
            assert said(cluster, "verify", file)["well"]
            lose(cluster, wipe_map=lost == "stores and map")
            restore = ("restore", file, "--set", "set-0", "--replicas", stores(cluster), "--yes")
            refused = seqctl(cluster, *restore)
            assert refused.returncode == 2 and "--advance-by" in refused.stderr
            unserved(cluster)
            done = said(cluster, *restore, "--advance-by", ADVANCE_BY)
            assert done["restored"]
            for node in cluster.nodes:
                node.start()
            load.flows(patience_s=BACK_S)
            load.phase("after it was restored")
            load.flows()
        assert shaken.row.failed == 0
        assert said(cluster, "verify", file)["well"]


def outgrown(cluster: RealCluster, file: Path) -> None:
    """Wait until some uids have numbers that the backup does not cover."""
    kept = read_backup(file).sets["set-0"].records

    def ahead() -> bool:
        seeds = ("--addr", cluster.seeds)
        done = cluster.seqctl("current", *SHAPE.uids(), *seeds, "-o", "json")
        assert done.returncode == 0, done.stderr
        found = {one["uid"] // SHAPE.section_size: one["seq"] for one in json.loads(done.stdout)}
        above = [section for section, seq in found.items() if seq > kept[section].max_seq]
        return len(above) >= 3

    load = cluster.load
    assert load is not None
    load.until(ahead, "numbers that the backup does not cover")


def lose(cluster: RealCluster, *, wipe_map: bool) -> None:
    """All data of the Set, and the map's if asked for; blank stores run in their place."""
    for program in (*cluster.nodes, *cluster.stores):
        program.kill()
    for data in cluster.sets[0].data:
        shutil.rmtree(data)
    if wipe_map:
        cluster.etcd.kill()
        cluster.etcd.wipe()
        cluster.etcd.spawn()
        cluster.etcd.wait_ready()
    for store in cluster.stores:
        store.spawn("--create")
    for store in cluster.stores:
        store.wait_ready()


def unserved(cluster: RealCluster) -> None:
    """Blank stores are counted by nobody, though nodes run."""
    node = cluster.nodes[0]
    node.spawn()
    asked_ns = time.monotonic_ns()
    time.sleep(3)
    load = cluster.load
    assert load is not None
    assert max(load.look()["asked_ns"].values()) < asked_ns
    node.kill()


def stores(cluster: RealCluster) -> str:
    return ",".join(f"{store.host.ip}:{STORE_PORT}" for store in cluster.stores)


def seqctl(cluster: RealCluster, *arguments: object) -> Any:
    return cluster.seqctl(*arguments, "--etcd", cluster.etcd.addresses)


def said(cluster: RealCluster, *arguments: object) -> Any:
    done = seqctl(cluster, *arguments, "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
