"""What is done to the map and its keepers: etcd, and the arbiters."""

from real_cluster.on_owners import owner_drained, owner_killed
from real_cluster.program import Program
from real_cluster.scene import Scene, hosts_of


def _etcd_member(scene: Scene) -> Program:
    """The one that leads, if that can be seen."""
    try:
        return scene.chosen(scene.cluster.etcd.leader(scene.cluster.web))
    except AssertionError:
        return scene.one_of(scene.cluster.etcd.members)


def etcd_leader_killed(scene: Scene) -> None:
    _etcd_member(scene).kill()


def etcd_leader_frozen(scene: Scene) -> None:
    member = _etcd_member(scene)
    if member.runs_still:
        member.freeze()


def etcd_leader_cut_off(scene: Scene) -> None:
    member = _etcd_member(scene)
    others = [program for program in scene.cluster.programs if program is not member]
    scene.cut(member.host, hosts_of(others))


def etcd_stopped(scene: Scene) -> None:
    scene.cluster.etcd.kill()


def etcd_wiped(scene: Scene) -> None:
    etcd = scene.cluster.etcd

    def write_anew() -> None:
        etcd.wipe()
        etcd.spawn()
        etcd.wait_ready()
        scene.cluster.init("--adopt")

    etcd.kill()
    scene.undo.callback(write_anew)


# -- arbiters


def _leading_arbiter(scene: Scene) -> Program:
    """The one that is elected, if that can be seen."""
    try:
        return scene.chosen(scene.cluster.leading_arbiter())
    except AssertionError:
        return scene.one_of(scene.cluster.arbiters)


def arbiter_killed(scene: Scene) -> None:
    scene.one_of(scene.cluster.arbiters).kill()


def arbiter_frozen(scene: Scene) -> None:
    arbiter = scene.one_of(scene.cluster.arbiters)
    if arbiter.runs_still:
        arbiter.freeze()


def arbiter_without_etcd(scene: Scene) -> None:
    arbiter = scene.random.choice(scene.cluster.arbiters)
    scene.cut(arbiter.host, hosts_of(scene.cluster.etcd.members))


def arbiters_without_nodes(scene: Scene) -> None:
    """A failed probe alone gives nobody up."""
    for arbiter in scene.cluster.arbiters:
        scene.cut(arbiter.host, hosts_of(scene.cluster.nodes))


def arbiter_killed_while_it_replaces(scene: Scene) -> None:
    arbiter = _leading_arbiter(scene)
    owner_killed(scene)
    scene.wait(0, 1.25 * scene.ttl_s)
    arbiter.kill()


def arbiter_killed_in_a_drain(scene: Scene) -> None:
    arbiter = _leading_arbiter(scene)
    owner_drained(scene)
    scene.wait(0, 0.5)
    arbiter.kill()


def arbiter_frozen_while_owner_killed(scene: Scene) -> None:
    """Two that both think they lead, once it is thawed."""
    arbiter = _leading_arbiter(scene)
    owner_killed(scene)
    if arbiter.runs_still:
        arbiter.freeze()
