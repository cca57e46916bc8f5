"""A kill -9 of a random participant every few seconds, each started again at once."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from real_cluster.cluster import RealCluster
from real_cluster.program import Program


@dataclass
class Killings:
    """What was killed when (seconds since the beginning), oldest first."""

    began_s: float = field(default_factory=time.monotonic)
    done: list[tuple[float, str]] = field(default_factory=list)

    def told(self) -> str:
        return ", ".join(f"{name} at {at_s:.0f} s" for at_s, name in self.done)


@contextmanager
def killing(cluster: RealCluster, seed: int, every_s: float = 3.0) -> Iterator[Killings]:
    """While the block runs: one is killed, and serves again before the next one is.

    So there is never more than one replica of a Set away. Arbiters, nodes and replicas of all Sets
    are equally likely to be hit. The block fails if one does not come back.
    """
    killings, stop, dice = Killings(), threading.Event(), random.Random(seed)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.wait(every_s):
                _kill_one(cluster, dice, killings)
        except BaseException as error:  # noqa: BLE001 - told by the block
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killings
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _kill_one(cluster: RealCluster, dice: random.Random, killings: Killings) -> None:
    victim = dice.choice(participants(cluster))
    killings.done.append((time.monotonic() - killings.began_s, victim.name))
    victim.kill()
    victim.start()


def participants(cluster: RealCluster) -> list[Program]:
    """Whoever has a part in moving sections: arbiters, nodes and replicas."""
    stores = [store for one in cluster.sets for store in one.stores]
    return [*cluster.arbiters, *cluster.all_nodes, *stores]
