"""An owner killed, frozen, cut off and drained, in a cluster of real processes under load.

Every block `under_load` ends with `seqctl check` over all that was recorded: no violation allowed.
"""

import time
from functools import partial

import pytest

from real_cluster.cluster import RealCluster, address_of
from real_cluster.load import Load, under_load
from real_cluster.program import Program

TTL_S = 2.0
MOVED_S = 30.0
"""Until every section that lost its owner is served again, on a busy machine."""


def test_owners_cut_off_from_etcd_serve_on_and_keep_what_they_have(cluster: RealCluster) -> None:
    """LEASE-2: outwards, inwards, and both ways at once; the probe still answers."""
    with under_load(cluster, "owners: cut off from etcd") as shaken:
        load, etcds = shaken.load, [member.host for member in cluster.etcd.members]
        load.spread()
        out, inwards, both = (node.host for node in cluster.nodes)
        cluster.network.cut(out, *etcds)
        for etcd in etcds:
            cluster.network.cut(etcd, inwards)
        cluster.network.cut_both(both, *etcds)
        time.sleep(2.5 * TTL_S)  # registrations are gone by now
        cluster.network.mend()
        time.sleep(TTL_S)
        load.flows()
    # No jump: whatever moved was handed over, and nobody was given up.
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def test_owners_cut_off_from_a_minority_of_replicas_lose_no_call(cluster: RealCluster) -> None:
    with under_load(cluster, "owners: cut off from one replica each") as shaken:
        load, stores = shaken.load, [store.host for store in cluster.stores]
        load.spread()
        out, inwards, both = (node.host for node in cluster.nodes)
        cluster.network.cut(out, stores[0])
        cluster.network.cut(stores[1], inwards)
        cluster.network.cut_both(both, stores[2])
        time.sleep(2 * TTL_S)
        cluster.network.mend()
        load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def test_owners_cut_off_from_most_replicas_are_replaced(cluster: RealCluster) -> None:
    """LEASE-1: the one whose renewals arrive, but not their answers, holds no lease."""
    with under_load(cluster, "owners: cut off from two replicas each") as shaken:
        load, stores = shaken.load, [store.host for store in cluster.stores]
        load.spread()
        out, inwards, sound = cluster.nodes
        kept = load.uids_of(sound)
        cluster.network.cut(out.host, stores[0], stores[1])
        cluster.network.cut(stores[1], inwards.host)
        cluster.network.cut(stores[2], inwards.host)
        time.sleep(2 * TTL_S)
        load.flows(patience_s=MOVED_S)
        assert set(load.owners().values()) == {sound}
        cluster.network.mend()
        time.sleep(TTL_S)
        load.flows()
    assert not shaken.row.failed_uids & set(kept)
    assert set(shaken.row.reasons) <= {
        "LEASE_EXPIRED",
        "STORE_UNAVAILABLE",
        "NOT_OWNER",
        "ACQUIRING",
        "TIMEOUT",
        "OUTCOME_UNKNOWN",
    }


def test_callers_cut_off_from_all_nodes_find_everything_as_it_was(cluster: RealCluster) -> None:
    with under_load(cluster, "callers: cut off from all nodes") as shaken:
        load = shaken.load
        load.spread()
        out, inwards, both = (node.host for node in cluster.nodes)
        cluster.network.cut(out, cluster.client)
        cluster.network.cut(cluster.client, inwards)
        cluster.network.cut_both(both, cluster.client)
        time.sleep(2 * TTL_S)
        cluster.network.mend()
        load.flows()
    # Calls fail by their own deadline, and where one took effect its numbers are a gap. A call that
    # was refused before the cut, as by a node on its way to a lease, ends with that refusal.
    assert shaken.row.failed
    assert set(shaken.row.reasons) <= {
        "OUTCOME_UNKNOWN",
        "TIMEOUT",
        "UNREACHABLE",
        "NOT_OWNER",
        "ACQUIRING",
        "LEASE_EXPIRED",
    }
    assert shaken.row.jumps == 0


def test_an_owner_killed_is_replaced_and_so_is_the_next_and_nobody_else_notices(
    cluster: RealCluster,
) -> None:
    """The second time it matters that the first successor's raises were durable (SEQ-3)."""
    lost: set[int] = set()
    with under_load(cluster, "owner: kill -9, and the next one") as shaken:
        load = shaken.load
        for _ in range(2):
            victim = load.owners()[0]
            uids = load.uids_of(victim)
            lost.update(uids)
            victim.kill()
            load.flows(uids, patience_s=MOVED_S)
            load.gone_from(victim)
            victim.start()
    row = shaken.row
    assert 0 < len(lost) < len(load.uids)
    assert row.failed_uids <= lost
    assert row.jumps >= 2, "nobody has handed over: the next owner begins at the ceiling"


@pytest.mark.parametrize("leases", [0.05, 1, 3])
def test_an_owner_frozen_comes_back_and_serves_only_what_is_its_own(
    cluster: RealCluster, leases: float
) -> None:
    with under_load(cluster, f"owner: frozen for {leases} leases") as shaken:
        load = shaken.load
        victim = load.owners()[0]
        lost = set(load.uids_of(victim))
        victim.freeze()
        time.sleep(leases * TTL_S)
        if leases >= 3:
            load.flows(sorted(lost), patience_s=MOVED_S)
        lost.update(load.uids_of(victim))  # what was on its way to it, too
        victim.thaw()
        load.flows(patience_s=MOVED_S)
        lost.update(load.uids_of(victim))
        time.sleep(0.5)
        load.flows(patience_s=MOVED_S)
    assert shaken.row.failed_uids <= lost
    if leases < 0.5:
        assert shaken.row.failed == 0 and shaken.row.jumps == 0


def test_a_node_drained_and_started_again_costs_no_call_and_no_number(
    cluster: RealCluster,
) -> None:
    """Planned hand-overs (section 7): out of the node, and back into its next incarnation."""
    with under_load(cluster, "node: graceful restart, sections there and back") as shaken:
        load = shaken.load
        node = load.owners()[0]
        node.leave()
        load.gone_from(node)
        node.start()
        load.spread()
    assert shaken.row.failed == 0
    assert shaken.row.jumps == 0


def test_sections_moved_to_another_process_and_back_again_go_on_densely(
    cluster: RealCluster,
) -> None:
    """A -> B -> A without a restart: A must not go on with what it still remembers."""
    with under_load(cluster, "sections: moved there and back, same processes") as shaken:
        load = shaken.load
        owner = load.owners()[0]
        other = next(node for node in cluster.nodes if node is not owner)
        for target in (other, owner, other, owner):
            cluster.in_map(do="move", set="set-0", first=0, last=4, to=address_of(target))
            load.until(partial(_hold_the_first, load, target), f"sections 0..4 at {target}")
            load.flows()
            time.sleep(0.3)
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def _hold_the_first(load: Load, node: Program) -> bool:
    owners = load.owners()
    return {owners.get(uid) for uid in load.uids[:5]} == {node}
