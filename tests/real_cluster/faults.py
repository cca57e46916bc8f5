"""Everything that the soak does to a cluster.

A fault strikes, holds for some seconds, and is undone: first by what it left in `Scene.undo`, then
by `RealCluster.heal`. Whatever it hits is drawn from the scene's random numbers.
"""

import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from real_cluster.cluster import RealCluster
from real_cluster.network import Host
from real_cluster.program import Program


@dataclass
class Scene:
    cluster: RealCluster
    random: random.Random
    undo: ExitStack

    def one_of(self, programs: list[Program]) -> Program:
        """One that runs; any of them where none does."""
        running = [program for program in programs if program.runs_still]
        return self.random.choice(running or programs)

    def cut(self, one: Host, others: list[Host]) -> None:
        """Outwards, inwards or both ways."""
        network, way = self.cluster.network, self.random.randrange(3)
        if way != 1:
            network.cut(one, *others)
        if way != 0:
            for other in others:
                network.cut(other, one)


@dataclass(frozen=True)
class Fault:
    """hold_s: from and to how many seconds it lasts. alone: never together with another one.

    A replica restored from an old copy is not among them: until it is replaced it counts as lost,
    and no other may be lost meanwhile (NRW-1).
    """

    name: str
    strike: Callable[[Scene], None]
    hold_s: tuple[float, float]
    alone: bool = False


def _node(scene: Scene) -> Program:
    return scene.one_of(scene.cluster.nodes)


def _hosts(programs: list[Program]) -> list[Host]:
    return [program.host for program in programs]


def _node_killed(scene: Scene) -> None:
    _node(scene).kill()


def _node_frozen(scene: Scene) -> None:
    node = _node(scene)
    if node.runs_still:
        node.freeze()


def _node_drained(scene: Scene) -> None:
    node = _node(scene)
    if node.runs_still:
        node.signal()
        scene.undo.callback(_left, scene, node)


def _left(scene: Scene, node: Program) -> None:
    # Where it is cut off or frozen too, it leaves once it can.
    scene.cluster.network.mend()
    for program in scene.cluster.programs:
        program.thaw()
    if node.started:
        node.leave()


def _node_without_etcd(scene: Scene) -> None:
    scene.cut(_node(scene).host, _hosts(scene.cluster.etcd.members))


def _node_without_one_replica(scene: Scene) -> None:
    scene.cut(_node(scene).host, [scene.random.choice(scene.cluster.stores).host])


def _node_without_most_replicas(scene: Scene) -> None:
    scene.cut(_node(scene).host, _hosts(scene.random.sample(scene.cluster.stores, 2)))


def _node_without_callers(scene: Scene) -> None:
    scene.cut(_node(scene).host, [scene.cluster.client])


def _node_without_anybody(scene: Scene) -> None:
    node = _node(scene)
    others = [program.host for program in scene.cluster.programs if program is not node]
    scene.cut(node.host, [*others, scene.cluster.client])


def _etcd_member(scene: Scene) -> Program:
    """The one that leads, if that can be seen."""
    try:
        return scene.cluster.etcd.leader(scene.cluster.web)
    except AssertionError:
        return scene.one_of(scene.cluster.etcd.members)


def _etcd_leader_killed(scene: Scene) -> None:
    _etcd_member(scene).kill()


def _etcd_leader_frozen(scene: Scene) -> None:
    member = _etcd_member(scene)
    if member.runs_still:
        member.freeze()


def _etcd_leader_cut_off(scene: Scene) -> None:
    member = _etcd_member(scene)
    others = [program.host for program in scene.cluster.programs if program is not member]
    scene.cut(member.host, others)


def _etcd_stopped(scene: Scene) -> None:
    scene.cluster.etcd.kill()


def _etcd_wiped(scene: Scene) -> None:
    etcd = scene.cluster.etcd

    def write_anew() -> None:
        etcd.wipe()
        etcd.spawn()
        etcd.wait_ready()
        scene.cluster.init("--adopt")

    etcd.kill()
    scene.undo.callback(write_anew)


def _arbiter_killed(scene: Scene) -> None:
    scene.one_of(scene.cluster.arbiters).kill()


def _arbiter_frozen(scene: Scene) -> None:
    arbiter = scene.one_of(scene.cluster.arbiters)
    if arbiter.runs_still:
        arbiter.freeze()


def _arbiter_without_etcd(scene: Scene) -> None:
    arbiter = scene.one_of(scene.cluster.arbiters)
    scene.cut(arbiter.host, _hosts(scene.cluster.etcd.members))


def _arbiter_without_nodes(scene: Scene) -> None:
    scene.cut(scene.one_of(scene.cluster.arbiters).host, _hosts(scene.cluster.nodes))


def _replica_killed(scene: Scene) -> None:
    scene.one_of(scene.cluster.stores).kill()


def _replica_frozen(scene: Scene) -> None:
    store = scene.one_of(scene.cluster.stores)
    if store.runs_still:
        store.freeze()


def _two_replicas_stopped(scene: Scene) -> None:
    for store in scene.random.sample(scene.cluster.stores, 2):
        store.kill()


def _replica_blank(scene: Scene) -> None:
    index = scene.random.randrange(len(scene.cluster.stores))
    store, data = scene.cluster.stores[index], scene.cluster.sets[0].data[index]
    kept = data.with_suffix(".kept")

    def restore() -> None:
        store.kill()
        shutil.rmtree(data)
        kept.rename(data)

    store.kill()
    data.rename(kept)
    store.spawn("--create")
    scene.undo.callback(restore)
    store.wait_ready()


FAULTS = [
    Fault("owner: kill -9", _node_killed, (0, 8)),
    Fault("owner: frozen briefly", _node_frozen, (0.05, 0.5)),
    Fault("owner: frozen for about a lease", _node_frozen, (1.5, 3)),
    Fault("owner: frozen for long", _node_frozen, (5, 10)),
    Fault("owner: graceful restart", _node_drained, (0, 4)),
    Fault("owner: cut off from etcd", _node_without_etcd, (1, 10)),
    Fault("owner: cut off from one replica", _node_without_one_replica, (1, 6)),
    Fault("owner: cut off from two replicas", _node_without_most_replicas, (1, 12)),
    Fault("owner: cut off from callers", _node_without_callers, (1, 5)),
    Fault("owner: cut off from everybody", _node_without_anybody, (1, 10)),
    Fault("etcd: leader killed", _etcd_leader_killed, (1, 8)),
    Fault("etcd: leader frozen", _etcd_leader_frozen, (1, 8)),
    Fault("etcd: leader cut off", _etcd_leader_cut_off, (1, 8)),
    Fault("etcd: all stopped", _etcd_stopped, (1, 20)),
    Fault("etcd: wiped, cluster init --adopt", _etcd_wiped, (0, 5), alone=True),
    Fault("arbiter: killed", _arbiter_killed, (1, 6)),
    Fault("arbiter: frozen", _arbiter_frozen, (1, 8)),
    Fault("arbiter: cut off from etcd", _arbiter_without_etcd, (1, 8)),
    Fault("arbiter: cut off from nodes", _arbiter_without_nodes, (1, 8)),
    Fault("replica: killed", _replica_killed, (1, 6)),
    Fault("replica: frozen", _replica_frozen, (1, 6)),
    Fault("replicas: two stopped", _two_replicas_stopped, (0.5, 6)),
    Fault("replica: blank", _replica_blank, (2, 6), alone=True),
]
