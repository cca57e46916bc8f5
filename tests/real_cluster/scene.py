"""What a fault has at hand: the cluster, its callers, dice, and what is to be undone later."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from real_cluster.cluster import RealCluster
from real_cluster.crowd import Crowd
from real_cluster.network import Host
from real_cluster.program import Program

MOVED_S = 60.0
"""Until numbers flow again after one of several steps of a fault."""


@dataclass
class Scene:
    """callers: the hosts of their processes. leaving: nodes that were told to go, of any scene; a
    second signal would end them at once. hit: what was hit, for the report."""

    cluster: RealCluster
    crowd: Crowd
    callers: Sequence[Host]
    random: random.Random
    undo: ExitStack
    leaving: set[Program] = field(default_factory=set)
    hit: list[str] = field(default_factory=list)

    def one_of(self, programs: Sequence[Program]) -> Program:
        """One that runs; any of them where none does."""
        running = [program for program in programs if program.runs_still]
        return self.chosen(self.random.choice(running or programs))

    def some_of(self, programs: Sequence[Program], count: int) -> list[Program]:
        return [self.chosen(program) for program in self.random.sample(programs, count)]

    def chosen(self, program: Program) -> Program:
        self.hit.append(program.name)
        return program

    def cut(self, one: Host, others: list[Host]) -> None:
        """Outwards, inwards or both ways."""
        network, way = self.cluster.network, self.random.randrange(3)
        self.hit.append(f"{one.name} {('outwards', 'inwards', 'both ways')[way]}")
        if way != 1:
            network.cut(one, *others)
        if way != 0:
            for other in others:
                network.cut(other, one)

    def flows(self) -> None:
        """Only in a fault that is alone: another one may make it wait in vain."""
        self.crowd.flows(MOVED_S)

    def wait(self, from_s: float, to_s: float) -> None:
        time.sleep(self.random.uniform(from_s, to_s))

    @property
    def ttl_s(self) -> float:
        return self.cluster.shape.lease_ttl_s


def hosts_of(programs: Sequence[Program]) -> list[Host]:
    return [program.host for program in programs]
