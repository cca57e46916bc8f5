"""What is done to owners. Functions are named for what has happened after them."""

import time

from real_cluster.cluster import address_of
from real_cluster.network import Host
from real_cluster.program import Program
from real_cluster.scene import MOVED_S, Scene, hosts_of


def _picked(scene: Scene) -> Program:
    return scene.one_of(scene.cluster.nodes)


def _cut_picked(scene: Scene, others: list[Host]) -> None:
    running = [node for node in scene.cluster.nodes if node.runs_still]
    node = scene.random.choice(running or scene.cluster.nodes)
    scene.cut(node.host, [host for host in others if host is not node.host])


def owner_killed(scene: Scene) -> None:
    _picked(scene).kill()


def owner_and_next_killed(scene: Scene) -> None:
    """What the first successor has raised must be durable by the time it dies too (SEQ-3)."""
    first = _picked(scene)
    first.kill()
    scene.flows()
    first.start()
    scene.one_of([node for node in scene.cluster.nodes if node is not first]).kill()


def owner_frozen(scene: Scene) -> None:
    node = _picked(scene)
    if node.runs_still:
        node.freeze()


def owner_drained(scene: Scene) -> None:
    node = _picked(scene)
    if node.runs_still and node not in scene.leaving:
        node.signal()
        scene.leaving.add(node)
        scene.undo.callback(_left, scene, node)


def _left(scene: Scene, node: Program) -> None:
    # Where it is cut off or frozen too, it leaves once it can.
    scene.cluster.network.mend()
    for program in scene.cluster.programs:
        program.thaw()
    scene.leaving.discard(node)
    if node.started:
        code = node.wait()
        assert code == 0, f"{node} left with {code}: {node.stderr()[-4000:]}"


def owner_without_etcd(scene: Scene) -> None:
    _cut_picked(scene, hosts_of(scene.cluster.etcd.members))


def all_owners_without_etcd(scene: Scene) -> None:
    for node in scene.cluster.nodes:
        scene.cut(node.host, hosts_of(scene.cluster.etcd.members))


def owner_without_one_replica(scene: Scene) -> None:
    _cut_picked(scene, [scene.random.choice(scene.cluster.stores).host])


def owners_without_one_replica_each(scene: Scene) -> None:
    stores = scene.random.sample(scene.cluster.stores, len(scene.cluster.stores))
    for node, store in zip(scene.cluster.nodes, stores, strict=False):
        scene.cut(node.host, [store.host])


def owner_without_two_replicas(scene: Scene) -> None:
    _cut_picked(scene, hosts_of(scene.random.sample(scene.cluster.stores, 2)))


def owner_without_callers(scene: Scene) -> None:
    _cut_picked(scene, list(scene.callers))


def owner_without_anybody(scene: Scene) -> None:
    _cut_picked(scene, [*hosts_of(scene.cluster.programs), *scene.callers])


def sections_there_and_back(scene: Scene) -> None:
    """A -> B -> A without a restart: A must not go on with what it still remembers."""
    entries = _of_map(scene, do="document", set=scene.cluster.sets[0].name)
    first, last, address, *_ = scene.random.choice(entries)
    owner = scene.chosen(scene.cluster.at(address))
    other = scene.one_of([node for node in scene.cluster.nodes if node is not owner])
    for target in (other, owner, other, owner):
        question = {"set": scene.cluster.sets[0].name, "first": first, "last": last}
        _of_map(scene, do="move", to=address_of(target), **question)
        scene.wait(0.3, 1.5)
        scene.flows()


def _of_map(scene: Scene, **question: object) -> list[tuple[int, int, str]]:
    """Whoever asks the map for us may need a moment after a fault of etcd."""
    gives_up_s = time.monotonic() + MOVED_S
    while True:
        try:
            return list(scene.cluster.in_map(**question))
        except AssertionError:
            if time.monotonic() > gives_up_s:
                raise
            time.sleep(0.5)
