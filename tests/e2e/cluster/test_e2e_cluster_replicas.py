"""Replicas killed, frozen, stopped, blanked, restored and damaged (NRW-1, NRW-2)."""

import shutil
import time

import pytest

from real_cluster.cluster import RealCluster
from real_cluster.harm import flipped_records
from real_cluster.load import under_load
from real_cluster.on_everything import restarted_but_for_nodes
from real_cluster.program import Program, says_ready

TTL_S = 2.0
MOVED_S = 30.0


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_one_replica_of_three_is_not_missed(cluster: RealCluster, how: str) -> None:
    with under_load(cluster, f"replica: {how}") as shaken:
        load, store = shaken.load, cluster.stores[1]
        if how == "killed":
            store.kill()
        else:
            store.freeze()
        time.sleep(1.5 * TTL_S)
        load.flows()
        cluster.heal()
        time.sleep(TTL_S)
        load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def test_with_two_of_three_stopped_it_serves_for_a_lease_then_refuses_then_goes_on(
    cluster: RealCluster,
) -> None:
    with under_load(cluster, "replicas: two of three stopped") as shaken:
        load = shaken.load
        stopped_ns = time.monotonic_ns()
        cluster.stores[0].kill()
        cluster.stores[1].kill()
        load.flows()  # from memory
        time.sleep(2 * TTL_S)
        cluster.stores[1].start()
        load.flows(patience_s=MOVED_S)
    row = shaken.row
    first_failed_s = (min(row.first_failed_ns.values()) - stopped_ns) / 1e9
    assert first_failed_s > TTL_S / 4
    assert {"STORE_UNAVAILABLE", "LEASE_EXPIRED"} & set(row.reasons), row.reasons


def test_a_replica_that_lost_its_disk_is_never_counted(cluster: RealCluster) -> None:
    """Foreign store id: with it and one other there is no quorum."""
    store, data = cluster.stores[0], cluster.sets[0].data[0]
    with under_load(cluster, "replica: blank") as shaken:
        load = shaken.load
        store.kill()
        data.rename(data.with_suffix(".kept"))
        store.spawn("--create")
        store.wait_ready()
        time.sleep(TTL_S)
        load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
    with under_load(cluster, "replica: blank, and another stopped") as shaken:
        cluster.stores[1].kill()
        time.sleep(2.5 * TTL_S)
        assert not _flows(shaken.load.look()["asked_ns"], TTL_S)
        store.kill()
        shutil.rmtree(data)
        data.with_suffix(".kept").rename(data)
        store.start()
        shaken.load.flows(patience_s=MOVED_S)
    assert shaken.row.failed


def _flows(asked_ns: dict[str, int], within_s: float) -> bool:
    return max(asked_ns.values()) > time.monotonic_ns() - within_s * 1e9


def test_a_replica_whose_records_have_a_flipped_byte_is_not_counted_and_not_missed(
    cluster: RealCluster,
) -> None:
    """Each max_seq on its disk reads as another one, whatever pages it was written to."""
    store, data = cluster.stores[1], cluster.sets[0].data[1]
    with under_load(cluster, "replica: bytes flipped on its disk") as shaken:
        load = shaken.load
        store.kill()
        shutil.copytree(data, data.with_suffix(".good"))
        assert flipped_records(data / "data.mdb") >= cluster.shape.sections
        store.spawn()
        load.until(lambda: _out_of_quorum(cluster, store), f"{store} to see what it has")
        load.flows()
        if store.runs_still:
            store.kill()
        else:
            assert store.wait() == 3
        shutil.rmtree(data)
        data.with_suffix(".good").rename(data)
        store.start()
        load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def _out_of_quorum(cluster: RealCluster, store: Program) -> bool:
    if not store.runs_still:
        return True
    return says_ready(store.stdout(), "") and bool(
        cluster.metric(store, "seqsvr_store_out_of_quorum")
    )


def test_a_rolling_restart_of_everything_loses_no_call_and_no_number(
    cluster: RealCluster,
) -> None:
    with under_load(cluster, "everything: rolling restart") as shaken:
        load = shaken.load
        restarted_but_for_nodes(cluster, TTL_S)
        for node in cluster.nodes:
            node.leave()
            load.gone_from(node)
            node.start()
            load.flows()
    assert shaken.row.failed == 0
    assert shaken.row.jumps == 0


def test_a_replica_restored_from_an_old_copy_is_not_counted_and_takes_nothing_back(
    cluster: RealCluster,
) -> None:
    store, data = cluster.stores[2], cluster.sets[0].data[2]
    copy = data.with_suffix(".copy")
    with under_load(cluster, "replica: restored from an old copy") as shaken:
        load = shaken.load
        store.kill()
        shutil.copytree(data, copy)
        store.start()
        time.sleep(TTL_S)
        victim = load.owners()[0]
        victim.kill()  # promises and raises that the copy does not know
        load.gone_from(victim)
        load.flows(patience_s=MOVED_S)
        store.kill()
        shutil.rmtree(data)
        copy.rename(data)
        store.start()
        load.until(lambda: _called_old(cluster), "nodes to see that it is an old copy")
        load.owners()[load.uids[-1]].kill()
        load.flows(patience_s=MOVED_S)
    # Its copy has made promises of its own by now, so neither is it what it was nor can it be put
    # back: it would have to be replaced.
    cluster.spoiled = True


def _called_old(cluster: RealCluster) -> bool:
    return any("older copy" in node.stderr() for node in cluster.nodes if node.started)
