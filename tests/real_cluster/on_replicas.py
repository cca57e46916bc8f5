"""What is done to replicas and to their disks."""

import time

from real_cluster.harm import copied, flipped_records, restored
from real_cluster.on_owners import owner_killed
from real_cluster.scene import Scene


def replica_killed(scene: Scene) -> None:
    scene.one_of(scene.cluster.stores).kill()


def replica_frozen(scene: Scene) -> None:
    store = scene.one_of(scene.cluster.stores)
    if store.runs_still:
        store.freeze()


def two_replicas_stopped(scene: Scene) -> None:
    for store in scene.some_of(scene.cluster.stores, 2):
        store.kill()


def replica_blank(scene: Scene) -> None:
    index = scene.random.randrange(len(scene.cluster.stores))
    store, data = scene.chosen(scene.cluster.stores[index]), scene.cluster.sets[0].data[index]
    kept = data.with_suffix(".kept")

    def restore() -> None:
        store.kill()
        restored(kept, data)

    store.kill()
    data.rename(kept)
    store.spawn("--create")
    scene.undo.callback(restore)
    store.wait_ready()


def replica_blank_and_another_stopped(scene: Scene) -> None:
    """NRW-2: with the blank one there is no quorum."""
    replica_blank(scene)
    scene.wait(0.5, 1.5)
    scene.one_of([store for store in scene.cluster.stores if store.name not in scene.hit]).kill()


def replica_flipped(scene: Scene) -> None:
    """Each max_seq on its disk reads as another one."""
    index = scene.random.randrange(len(scene.cluster.stores))
    store, data = scene.chosen(scene.cluster.stores[index]), scene.cluster.sets[0].data[index]
    good = data.with_suffix(".good")

    def restore() -> None:
        if store.runs_still:
            store.kill()
        else:
            assert store.wait() == 3, f"{store}: {store.stderr()[-4000:]}"
        restored(good, data)

    store.kill()
    copied(data, good)
    assert flipped_records(data / "data.mdb") >= scene.cluster.shape.sections
    scene.undo.callback(restore)
    store.spawn()


def replica_restored_from_old_copy(scene: Scene) -> None:
    """The copy does not know what was promised and raised since; two owners are lost around it."""
    index = scene.random.randrange(len(scene.cluster.stores))
    store, data = scene.chosen(scene.cluster.stores[index]), scene.cluster.sets[0].data[index]
    copy = data.with_suffix(".copy")
    store.kill()
    copied(data, copy)
    store.start()
    time.sleep(scene.ttl_s)  # until it grants leases again
    victim = scene.one_of(scene.cluster.nodes)
    victim.kill()
    scene.flows()
    victim.start()
    store.kill()
    restored(copy, data)
    store.start()
    scene.wait(1, 3)
    owner_killed(scene)
    scene.flows()
