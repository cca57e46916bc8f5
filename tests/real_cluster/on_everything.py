"""What is done to callers, and to everything at once."""

import time

from real_cluster.cluster import RealCluster
from real_cluster.scene import Scene, hosts_of


def callers_cut_off(scene: Scene) -> None:
    for caller in scene.callers:
        scene.cut(caller, hosts_of(scene.cluster.nodes))


def one_process_of_callers_cut_off(scene: Scene) -> None:
    scene.cut(scene.random.choice(scene.callers), hosts_of(scene.cluster.nodes))


def restarted_but_for_nodes(cluster: RealCluster, ttl_s: float) -> None:
    """One after the other, gracefully: arbiters, members of etcd, stores."""
    for arbiter in cluster.arbiters:
        arbiter.leave()
        arbiter.start()
    for member in cluster.etcd.members:
        member.signal()
        member.wait()
        member.start()
    for store in cluster.stores:
        store.leave()
        store.start()
        time.sleep(ttl_s)  # until it grants leases again


def rolling_restart(scene: Scene) -> None:
    restarted_but_for_nodes(scene.cluster, scene.ttl_s)
    for node in scene.cluster.nodes:
        node.leave()
        node.start()
        scene.flows()


def set_killed(scene: Scene) -> None:
    for program in (*scene.cluster.nodes, *scene.cluster.stores):
        program.kill()


def all_killed(scene: Scene) -> None:
    for program in scene.cluster.programs:
        program.kill()
