"""etcd's and the arbiters' failures: they may delay a move, never lose a call (LEASE-2)."""

import time
from collections.abc import Callable
from functools import partial

import pytest

from real_cluster.cluster import RealCluster, address_of
from real_cluster.load import Load, under_load
from real_cluster.program import Program

TTL_S = 2.0
MOVED_S = 30.0


def owner_killed(load: Load) -> None:
    """Kill an owner, and wait until its sections are served by others: the map is well."""
    victim = load.owners()[0]
    victim.kill()
    load.gone_from(victim)
    load.flows(patience_s=MOVED_S)


def killed(cluster: RealCluster, member: Program) -> None:
    member.kill()


def frozen(cluster: RealCluster, member: Program) -> None:
    member.freeze()


def cut_off(cluster: RealCluster, member: Program) -> None:
    others = [program.host for program in cluster.programs if program is not member]
    cluster.network.cut_both(member.host, *others)


@pytest.mark.parametrize("strike", [killed, frozen, cut_off])
def test_without_the_etcd_member_that_leads_nothing_is_lost_and_owners_are_still_replaced(
    cluster: RealCluster, strike: Callable[[RealCluster, Program], None]
) -> None:
    how = strike.__name__.replace("_", " ")
    with under_load(cluster, f"etcd leader: {how}") as shaken, cluster.at_rest():
        strike(cluster, cluster.etcd.leader(cluster.web))
        time.sleep(1.5 * TTL_S)
        shaken.load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
    if strike is not killed:
        with under_load(cluster, f"etcd leader: {how}, then owner: kill -9") as shaken:
            owner_killed(shaken.load)


def test_all_of_etcd_stopped_is_not_seen_by_callers(cluster: RealCluster) -> None:
    with under_load(cluster, "etcd: all stopped for 10 s") as shaken, cluster.at_rest():
        cluster.etcd.kill()
        time.sleep(10)
        cluster.etcd.spawn()
        cluster.etcd.wait_ready()
        time.sleep(1.5 * TTL_S)  # whoever believes old registrations would act now
        shaken.load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def test_etcd_wiped_and_written_anew_costs_nothing_and_owners_are_still_replaced(
    cluster: RealCluster,
) -> None:
    with under_load(cluster, "etcd: wiped, cluster init --adopt") as shaken:
        load = shaken.load
        for node in cluster.nodes:  # so that there are epochs to be forgotten
            cluster.in_map(do="move", set="set-0", first=0, last=9, to=address_of(node))
            load.until(lambda: load.owners().get(0) is node, f"{node} to own section 0")  # noqa: B023
        before, version = load.owners(), load.look()["version"]
        cluster.etcd.kill()
        cluster.etcd.wipe()
        cluster.etcd.spawn()
        cluster.etcd.wait_ready()
        cluster.init("--adopt")
        load.until(partial(_as_routed, cluster, load), "the map to know again who serves what")
        load.flows()
        assert set(load.owners()) == set(before)
        assert load.look()["version"] >= version
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
    with under_load(cluster, "etcd: wiped, then owner: kill -9") as shaken:
        owner_killed(shaken.load)


def _as_routed(cluster: RealCluster, load: Load) -> bool:
    """The map says of every section what callers were told, or later things."""
    routes = {(first, last, address) for first, last, address in load.look()["routes"]}
    document = cluster.in_map(do="document", set="set-0")
    return {(first, last, address) for first, last, address, *_ in document} == routes


@pytest.mark.parametrize("after_s", [0.0, 2.2])
def test_the_arbiter_killed_while_it_replaces_an_owner_leaves_it_to_the_other(
    cluster: RealCluster, after_s: float
) -> None:
    with under_load(cluster, f"arbiter: killed {after_s} s after owner: kill -9") as shaken:
        load, leader = shaken.load, cluster.leading_arbiter()
        victim = load.owners()[0]
        victim.kill()
        time.sleep(after_s)
        leader.kill()
        load.gone_from(victim)
        load.flows(patience_s=MOVED_S)
        load.until(lambda: cluster.leading_arbiter() is not leader, "the other to lead")


def test_the_arbiter_killed_in_the_middle_of_a_drain_costs_no_call(cluster: RealCluster) -> None:
    with under_load(cluster, "arbiter: killed in a drain") as shaken:
        load, leader = shaken.load, cluster.leading_arbiter()
        node = load.owners()[0]
        node.signal()
        time.sleep(0.2)
        leader.kill()
        assert node.wait() == 0
        load.gone_from(node)
        load.flows(patience_s=MOVED_S)
    assert shaken.row.failed == 0 and shaken.row.jumps == 0


def test_two_arbiters_that_both_think_they_lead_do_no_harm(cluster: RealCluster) -> None:
    """One is frozen until the other has been elected, then both act on what has changed."""
    with under_load(cluster, "arbiter: frozen while owner: kill -9, and back") as shaken:
        load, leader = shaken.load, cluster.leading_arbiter()
        victim = load.owners()[0]
        victim.kill()
        leader.freeze()
        load.gone_from(victim)
        assert cluster.leading_arbiter() is not leader
        leader.thaw()
        victim.start()
        time.sleep(TTL_S)
        load.flows(patience_s=MOVED_S)
    assert leader.runs_still


def test_arbiters_that_cannot_reach_the_nodes_move_nothing(cluster: RealCluster) -> None:
    """A failed probe alone gives nobody up: the registrations stand."""
    with under_load(cluster, "arbiters: cut off from all nodes") as shaken:
        for arbiter in cluster.arbiters:
            cluster.network.cut_both(arbiter.host, *(node.host for node in cluster.nodes))
        time.sleep(1.5 * TTL_S)
        shaken.load.flows()
    assert shaken.row.failed == 0 and shaken.row.jumps == 0
