"""All of them together, led by a random walk: nothing of what it finds may break a promise."""

import random
from dataclasses import replace
from functools import partial

from clustermap.membership import Counted, counted
from clustermap.model import SetSpec
from clustermap.ranges import Range
from life_of_a_membership.job import Job
from life_of_a_membership.owners import Answer, Owner, Question
from life_of_a_membership.stores import Store

POOL = 6
SLOTS = 2
TENTHS = 10
STEPS = 250


class Found(AssertionError):
    """A promise was broken."""


class World:
    """without: "rule 1" to "rule 3", or "the new half" of joint quorums; empty: nothing."""

    def __init__(self, rng: random.Random, without: str = "", one_for_one: float = 0.6) -> None:
        self.rng = rng
        self.without = without
        self.true_ns = 10_000
        self.highest = self.epoch = self.born = 0
        self._rates = [rng.choice((9, 10, 11)) for _ in range(POOL + SLOTS + 1)]
        self.stores = {
            n: Store(n, partial(self._clock, n), without != "rule 3") for n in range(1, POOL + 1)
        }
        first = tuple(self.stores[n].named for n in (1, 2, 3))
        spec = SetSpec("s", (Range(0, 0),), first, 2, 2)
        self.job = Job(rng, spec, self.stores, without, one_for_one)
        self._wire: list[tuple[int, int, Question, Answer]] = []
        self._back: list[tuple[Answer, object]] = []
        self._cut: set[int] = set()  # stores that nobody reaches
        self.owners = {slot: self._new_owner(slot) for slot in range(SLOTS)}

    def _clock(self, host: int) -> int:
        return 7_000 * host + self.true_ns * self._rates[host] // TENTHS

    def _new_owner(self, slot: int) -> Owner:
        self.born += 1
        version = self.job.latest.membership
        now = partial(self._clock, POOL + 1 + slot)
        return Owner(self.born, version, self._counted(version), now, self._send)

    def _counted(self, version: int) -> Counted:
        spec = self.job.specs[version]
        if self.without == "the new half":
            spec = replace(spec, joint=None)
        return counted(spec)

    # -- messages

    def _send(self, store: int, version: int, question: Question, answer: Answer) -> None:
        self._wire.append((store, version, question, answer))

    def flow(self) -> None:
        """Most of what is on its way arrives, and most answers do; the rest later, or never."""
        self.rng.shuffle(self._wire)
        waiting, self._wire = self._wire, []
        for message in waiting:
            store, version, question, answer = message
            chance = self.rng.random()
            if store in self._cut or chance < 0.1:
                if chance < 0.7 and len(self._wire) < 60:
                    self._wire.append(message)
                continue
            said = self.stores[store].ask(version, question)
            if self.rng.random() < 0.1:
                self._back.append((answer, said))
            else:
                answer(said)
        late, self._back = self._back, []
        for answer, said in late:
            if self.rng.random() < 0.5:
                answer(said)
            elif len(self._back) < 30:
                self._back.append((answer, said))

    # -- what happens

    def step(self) -> None:
        rng = self.rng
        owner = self.owners[rng.randrange(SLOTS)]
        kind = rng.random()
        if kind < 0.15:
            owner.renew()
            self.flow()
        elif kind < 0.25:
            owner.wake()
            self.flow()
        elif kind < 0.35:
            self.epoch += 1
            owner.win(self.epoch)
            self.serve(owner)
        elif kind < 0.60:
            self.serve(owner)
        elif kind < 0.80:
            for _ in range(rng.choice((1, 1, 2, 4, 40))):
                self.job.step()
        elif kind < 0.83:
            self.use(owner)
        elif kind < 0.92:
            self.true_ns += 10 * rng.choice((1, 5, 20, 40, 110))
        else:
            self.fault(owner)
        self.call()

    def serve(self, owner: Owner) -> None:
        """A while in which all is well with one owner, as far as it reaches replicas."""
        if self.rng.random() < 0.6:
            self.use(owner)
        for _ in range(self.rng.choice((1, 3, 8))):
            self.flow()
            owner.renew()
            self.flow()
            owner.wake()
            self.flow()
            self.call()
            if owner.serves and owner.current < owner.window:
                break
            self.true_ns += 10 * self.rng.choice((1, 1, 5, 20))

    def use(self, owner: Owner) -> None:
        """The newest version nearly always; one that is late uses any later than its own."""
        version = self.job.latest.membership
        if self.rng.random() < 0.3:
            version = self.rng.randint(owner.version, version)
        if version > owner.version:
            owner.use(version, self._counted(version))

    def fault(self, owner: Owner) -> None:
        rng = self.rng
        kind = rng.randrange(4)
        if kind == 0:
            self.stores[rng.randint(1, POOL)].boot()
        elif kind == 1:
            self._cut = set(rng.sample(range(1, POOL + 1), rng.randint(0, 2)))
        elif kind == 2:
            owner.give_up_waiting()
        else:
            slot = rng.randrange(SLOTS)
            if rng.random() < 0.3:
                self.owners[slot] = self._new_owner(slot)

    def call(self) -> None:
        """Everybody is asked for all that they have, and nobody else has given a later one."""
        serving = [owner for owner in self.owners.values() if owner.serves]
        if len(serving) > 1:
            raise Found("LEASE-1")
        for owner in serving:
            while seq := owner.take():
                if seq <= self.highest:
                    raise Found(f"SEQ-1, SEQ-2: {seq} after {self.highest}")
                self.highest = seq


def life(rng: random.Random, without: str = "", one_for_one: float = 0.6) -> World:
    """One walk; raises Found."""
    world = World(rng, without, one_for_one)
    for _ in range(STEPS):
        world.step()
    return world
