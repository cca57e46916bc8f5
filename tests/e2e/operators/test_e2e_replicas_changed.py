"""Replicas of a Set replaced, added and removed while 16 callers go on: no call fails."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from processes import ROOT
from real_cluster.cluster import STORE_PORT, RealCluster, Shape, open_cluster
from real_cluster.load import under_load
from real_cluster.program import Program, surroundings

SHAPE = Shape(etcds=1, nodes=2, arbiters=2, uid_limit=16_000)  # 16 callers


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with open_cluster(tmp_path_factory.mktemp("replicas"), SHAPE) as made:
        yield made


def test_a_replica_is_replaced_and_no_call_fails(cluster: RealCluster) -> None:
    with under_load(cluster, "replica: replaced") as shaken:
        shaken.load.spread()
        newcomer = cluster.another_store()
        done = said(cluster, "replace", "set-0", "store-0", where(newcomer), "--wait", "--yes")
        assert done["state"] == "done"
        shaken.load.flows()
        time.sleep(1)
        shaken.load.flows()
        cluster.stores[0].kill()  # nobody needs it any more
        time.sleep(3)
        shaken.load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
    assert roles(cluster) == {"store-1": "well", "store-2": "well", "store-3": "well"}
    assert seqctl(cluster, "store", "scrub").returncode == 0


def test_a_replica_is_replaced_though_the_arbiter_is_killed_in_the_middle(
    cluster: RealCluster,
) -> None:
    with under_load(cluster, "replica: replaced, and the arbiter killed") as shaken:
        shaken.load.flows()
        before = set(roles(cluster))
        old = sorted(before)[0]
        newcomer = cluster.another_store()
        version, _ = cluster.in_map(do="membership", set="set-0")
        leader = cluster.leading_arbiter()
        asked = began(cluster, "replace", "set-0", old, where(newcomer), "--yes")
        load = shaken.load
        load.until(lambda: membership(cluster) == [version + 1, True], "a joint membership")
        leader.kill()
        asked.communicate(timeout=60)
        assert asked.returncode == 0
        load.until(lambda: membership(cluster) == [version + 2, False], "the end of it")
        leader.start()
        load.until(lambda: job(cluster, "reform-2")["state"] == "done", "the job to be done")
        shaken.load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
    after = before - {old} | {newcomer.name.removeprefix("set-0-")}
    assert roles(cluster) == dict.fromkeys(after, "well")


def test_a_dead_replica_is_replaced_and_no_call_fails(cluster: RealCluster) -> None:
    with under_load(cluster, "replica: dead, replaced") as shaken:
        shaken.load.flows()
        dead = sorted(roles(cluster))[0]
        cluster.stores[int(dead[-1])].kill()
        newcomer = cluster.another_store()
        done = said(cluster, "replace", "set-0", dead, where(newcomer), "--wait", "--yes")
        assert done["state"] == "done"
        shaken.load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
    assert set(roles(cluster).values()) == {"well"}


def membership(cluster: RealCluster) -> Any:
    return cluster.in_map(do="membership", set="set-0")


def job(cluster: RealCluster, name: str) -> Any:
    [found] = [one for one in said(cluster, "list")["jobs"] if one["id"] == name]
    return found


def where(store: Program) -> str:
    return f"{store.host.ip}:{STORE_PORT}"


def roles(cluster: RealCluster) -> dict[str, str]:
    """Replica -> how it is."""
    listed = seqctl(cluster, "store", "list", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    return {one["name"]: one["state"] for one in json.loads(listed.stdout)["stores"]}


def seqctl(cluster: RealCluster, *arguments: object) -> Any:
    return cluster.seqctl(*arguments, "--etcd", cluster.etcd.addresses)


def said(cluster: RealCluster, *arguments: object) -> Any:
    done = seqctl(cluster, "store", *arguments, "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def began(cluster: RealCluster, *arguments: object) -> "subprocess.Popen[str]":
    """The same, not waited for."""
    words = ["store", *map(str, arguments), "--etcd", cluster.etcd.addresses]
    return subprocess.Popen(
        [*cluster.client.entering, sys.executable, "-m", "seqctl", *words],
        env=surroundings(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
