"""Changes who is counted, one small step at a time; `without` leaves one of the rules out.

Rule 1 is kept twice: R old replicas that answer a copy under the joint version are so many that no
W is left of the version before. To leave it out is not to look at the version there either.
"""

import random
from collections.abc import Mapping
from dataclasses import replace

from clustermap.membership import is_filled, is_over
from clustermap.model import Joint, SetSpec
from life_of_a_membership.stores import Store

LARGEST = 4


class Job:
    """specs: by version; latest: the map has it; one_for_one: the share of plain replacements."""

    def __init__(
        self,
        rng: random.Random,
        spec: SetSpec,
        stores: Mapping[int, Store],
        without: str,
        one_for_one: float,
    ) -> None:
        self.specs = {spec.membership: spec}
        self.latest = spec
        self.done = 0
        self._rng = rng
        self._stores = stores
        self._without = without
        self._one_for_one = one_for_one
        self._step = self._begin

    def step(self) -> None:
        self._step()

    def _write(self, spec: SetSpec) -> None:
        self.specs[spec.membership] = self.latest = spec

    def _begin(self) -> None:
        """Some of the members go, some others come; and perhaps the sizes change."""
        rng, old = self._rng, self.latest
        members = set(old.replicas)
        others = [store.named for store in self._stores.values() if store.named not in members]
        kept = rng.sample(old.replicas, rng.randint(0, len(old.replicas)))
        coming = rng.sample(others, rng.randint(0, len(others)))
        new = tuple([*kept, *coming][:LARGEST]) or old.replicas
        if rng.random() < self._one_for_one:
            new = (*old.replicas[1:], rng.choice(others))
        r, w = old.r, old.w
        if len(new) != len(old.replicas) or rng.random() < 0.2:
            r = rng.randint(1, len(new))
            w = rng.randint(len(new) - r + 1, len(new))
        self._write(replace(old, membership=old.membership + 1, joint=Joint(new, r, w)))
        self._filled: set[int] = set()
        self._step = self._join

    def _join(self) -> None:
        joint = self.latest
        assert joint.joint is not None
        old = {one.store_id for one in joint.replicas}
        number = self._rng.choice([*old, *(one.store_id for one in joint.joint.replicas)])
        newcomer = number not in old
        before = self.specs[joint.membership - 1]
        if self._without == "rule 2" and newcomer:
            self._copy(before.membership, {number})  # what it has before the joint version holds
        self._stores[number].adopt(joint.membership, learning=newcomer)
        if self._without == "rule 2" and newcomer:
            self._stores[number].adopt(joint.membership)
        if self._is_over(before):
            self._step = self._fill

    def _is_over(self, spec: SetSpec) -> bool:
        beyond = [n for n, s in self._stores.items() if s.identity.membership > spec.membership]
        return is_over(spec, beyond) or (self._without == "rule 1" and self._rng.random() < 0.3)

    def _fill(self) -> None:
        joint, without = self.latest, self._without
        assert joint.joint is not None
        new = {one.store_id for one in joint.joint.replicas}
        old = {one.store_id for one in joint.replicas}
        for number in new | old:
            if self._rng.random() < 0.5:
                self._stores[number].adopt(joint.membership, learning=number not in old)
        if without == "rule 2":
            self._filled = new
        else:
            self._filled |= self._copy(joint.membership, new)
        counting = [self._stores[n].adopt(joint.membership) for n in (new - old) & self._filled]
        if all(counting) and is_filled(joint, self._filled):
            sizes = joint.joint
            self._write(
                replace(
                    joint,
                    membership=joint.membership + 1,
                    replicas=sizes.replicas,
                    r=sizes.r,
                    w=sizes.w,
                    joint=None,
                )
            )
            self._step = self._switch

    def _copy(self, version: int, targets: set[int]) -> set[int]:
        """What R of the old ones have, to each of these; says which have it."""
        spec = self.specs[version]
        old = [self._stores[one.store_id] for one in spec.replicas]
        self._rng.shuffle(old)
        asked = None if self._without == "rule 1" else version
        found = [records for store in old if (records := store.read(asked)) is not None]
        if len(found) < spec.r:
            return set()
        reached = set()
        for number in targets:
            store = self._stores[number]
            if self._without == "rule 2":
                store.replica.put_at_least(found[0], with_promises=True)
            taken = [store.put(version, records) for records in found[: spec.r]]
            if all(taken):
                reached.add(number)
        return reached

    def _switch(self) -> None:
        alone = self.latest
        new = {one.store_id for one in alone.replicas}
        before = self.specs[alone.membership - 1]
        old = {one.store_id for one in before.replicas} - new
        number = self._rng.choice([*new, *new, *old])
        self._stores[number].adopt(alone.membership, retired=number not in new)
        if self._is_over(before):
            self.done += 1
            self._step = self._begin
