"""A kill -9 of a random participant every few seconds, each started again at once."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from real_cluster.cluster import RealCluster
from real_cluster.program import Program

T = TypeVar("T")


@dataclass
class Killings:
    """What was killed when (seconds since the beginning), oldest first."""

    began_s: float = field(default_factory=time.monotonic)
    done: list[tuple[float, str]] = field(default_factory=list)

    def told(self) -> str:
        return ", ".join(f"{name} at {at_s:.0f} s" for at_s, name in self.done)


class _Working(threading.Thread, Generic[T]):
    """A thread of its own for what goes on meanwhile; `result` is what it returned, or raises."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__()
        self._work = work
        self._made: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._made.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            self._error = error

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._made[0]


def under_killing(
    cluster: RealCluster, seed: int, work: Callable[[], T], every_s: float = 3.0
) -> tuple[T, Killings]:
    """Do `work` while every few seconds one is killed and started again.

    Arbiters, nodes and replicas of all Sets are equally likely to be hit; but of the arbiters, of
    the nodes of a Set and of its replicas never more than one is away at a time, so that there is a
    quorum and somebody to take over. AssertionError where one does not come back.
    """
    killings, dice = Killings(), random.Random(seed)
    # Not the other way round: what a thread has started dies with that thread (setpriv).
    working = _Working(work)
    working.start()
    try:
        while working.is_alive():
            working.join(every_s)
            if working.is_alive():
                _kill_one(cluster, dice, killings)
    finally:
        working.join()
    for group in _groups(cluster):
        for program in group:
            program.wait_ready()
    return working.result(), killings


def _kill_one(cluster: RealCluster, dice: random.Random, killings: Killings) -> None:
    whole = [group for group in _groups(cluster) if all(one.serves for one in group)]
    if not whole:
        return
    victim = dice.choice([program for group in whole for program in group])
    killings.done.append((time.monotonic() - killings.began_s, victim.name))
    victim.kill()
    victim.spawn()


def _groups(cluster: RealCluster) -> list[list[Program]]:
    """Whoever has a part in moving sections, by who stands in for whom."""
    return [cluster.arbiters, *(group for one in cluster.sets for group in (one.nodes, one.stores))]
