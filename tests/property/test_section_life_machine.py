"""The whole life of a section: real replicas, real owners, any order of messages, any crash.

SEQ-1, SEQ-2, SEQ-3, SEQ-4, LEASE-1, NRW-1, NRW-2. All of PROTOCOL.md's sections 3 and 4 is at
work here, and the oracle is a dictionary: the highest number of each uid. A call begins and ends in
one step, so every later one must give more. Clocks run at nine to eleven tenths of the true rate,
which is what the owners' MAX_DRIFT allows. What the section does within one owner's life is told in
more detail by test_allocsvr_owner_machine.py.
"""

from itertools import permutations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from life_of_a_section.owners import W
from life_of_a_section.world import World

OWNERS = 3
SLOTS = st.integers(0, OWNERS - 1)
STORES = st.integers(0, 2)
UIDS = st.integers(0, 1)
RATES = st.sampled_from([10, 9, 11])
REACHES = st.sampled_from([*permutations(range(3)), *permutations(range(3), 2)])
# The map gives a new epoch nearly always; one that was wiped repeats itself.
STEPS = st.sampled_from([1, 1, 1, 1, 2, 0, -1])


class SectionLife(RuleBasedStateMachine):
    @initialize(rates=st.lists(RATES, min_size=3 + OWNERS, max_size=3 + OWNERS), reach=REACHES)
    def begin(self, rates: list[int], reach: tuple[int, ...]) -> None:
        self.world = World(rates)
        self.epoch = self.latest = 1
        self.given: dict[int, int] = {}  # handed out
        self.highest: dict[int, int] = {}  # handed out, or said by `current`
        self.spoilt = False
        assert self.world.serve(0, 1, reach)

    # -- owners come and go

    @rule(slot=SLOTS, step=STEPS)
    def assign(self, slot: int, step: int) -> None:
        self.world.owner(slot).assign(self.next_epoch(step))

    @rule(slot=SLOTS, step=STEPS, uid=UIDS, reach=REACHES)
    def win_and_serve(self, slot: int, step: int, uid: int, reach: tuple[int, ...]) -> None:
        """The same with as much time as it needs; then callers try whoever they know."""
        self.world.serve(slot, self.next_epoch(step), reach)
        self.everybody_is_called(uid, 1)

    def next_epoch(self, step: int) -> int:
        self.epoch = max(1, self.epoch + step)
        self.latest = max(self.latest, self.epoch)
        return self.epoch

    @rule(slot=SLOTS, reach=REACHES)
    def hand_over(self, slot: int, reach: tuple[int, ...]) -> None:
        self.world.owner(slot).leave()
        self.world.flow(reach)

    @rule(slot=SLOTS)
    def crash_owner(self, slot: int) -> None:
        """What it has sent is still on its way."""
        self.world.owners.pop(slot, None)

    @rule(slot=SLOTS, reach=st.lists(STORES, max_size=2, unique=True), rounds=st.integers(0, 3))
    def hold_on(self, slot: int, reach: list[int], rounds: int) -> None:
        """Renew for more than a lease time, with some replicas or none; 0: now and once."""
        for tens in [40] * rounds or [0]:
            self.world.pass_time(10 * tens)
            self.world.owner(slot).renew()
            self.world.flow(reach)

    @rule(slot=SLOTS)
    def wake(self, slot: int) -> None:
        self.world.owner(slot).wake()

    # -- replicas

    @rule(store=STORES)
    def restart_replica(self, store: int) -> None:
        """Leases are forgotten, and what was not synced."""
        self.world.stores[store].boot()

    @rule(store=STORES)
    def sync(self, store: int) -> None:
        self.world.wire += self.world.stores[store].commit()

    @precondition(lambda self: not self.spoilt)
    @rule(store=STORES)
    def spoil_a_byte(self, store: int) -> None:
        """Of one replica at most: N - W."""
        self.spoilt = True
        self.world.stores[store].spoil()

    # -- the network

    @rule(reach=REACHES)
    def everything_arrives(self, reach: tuple[int, ...]) -> None:
        self.world.flow(reach)

    @rule(slot=SLOTS, store=STORES, there=st.booleans(), back=st.booleans())
    def change_link(self, slot: int, store: int, there: bool, back: bool) -> None:
        link = self.world.links[slot, store]
        link.there, link.back = there, back

    @precondition(lambda self: self.world.wire)
    @rule(data=st.data(), commit=st.booleans(), again=st.booleans())
    def one_arrives(self, data: st.DataObject, commit: bool, again: bool) -> None:
        """Out of turn; `again`: its twin is still under way."""
        at = data.draw(st.integers(0, len(self.world.wire) - 1))
        message = self.world.wire[at] if again else self.world.wire.pop(at)
        self.world.deliver(message, commit=commit)

    @precondition(lambda self: self.world.wire)
    @rule(data=st.data())
    def one_is_lost(self, data: st.DataObject) -> None:
        self.world.wire.pop(data.draw(st.integers(0, len(self.world.wire) - 1)))

    @rule(tens=st.sampled_from([1, 10, 50, 95, 110]))
    def pass_time(self, tens: int) -> None:
        self.world.pass_time(10 * tens)

    # -- callers

    @rule(uid=UIDS, count=st.integers(1, 4))
    def everybody_is_called(self, uid: int, count: int) -> None:
        for owner in self.world.owners.values():
            answers = owner.ledger.next_batch([uid], [count], owner.now())
            owner.wake()
            seq, last = answers.seqs[0], answers.seqs[0] + count - 1
            if not seq:
                continue
            assert seq > self.highest.get(uid, 0), "SEQ-1, SEQ-2"
            holding = sum(store.durable >= last for store in self.world.stores)
            assert holding >= W, "SEQ-3"
            self.given[uid] = self.highest[uid] = last

    @rule(uid=UIDS)
    def everybody_is_asked_for_current(self, uid: int) -> None:
        for owner in self.world.owners.values():
            answers = owner.ledger.current_batch([uid], owner.now())
            if answers.failures:
                continue
            seq = answers.seqs[0]
            assert seq >= self.highest.get(uid, 0), "SEQ-4"
            assert not answers.exact[0] or seq == self.given.get(uid, 0), "SEQ-4: exact"
            self.highest[uid] = seq

    # -- what must hold

    @invariant()
    def one_owner_at_any_instant(self) -> None:
        serving = [owner for owner in self.world.owners.values() if owner.serves]
        assert len(serving) <= 1, "LEASE-1"

    def teardown(self) -> None:
        """Once nothing fails any more, somebody new can serve: no history wedges a section."""
        if not hasattr(self, "world"):
            return
        self.world.wire.clear()
        self.world.owners.clear()
        for link in self.world.links.values():
            link.there = link.back = True
        assert self.world.serve(0, self.latest + 1), "wedged"
        self.one_owner_at_any_instant()
        self.everybody_is_called(0, 1)


SectionLife.TestCase.settings = settings(max_examples=300, stateful_step_count=50)
TestSectionLife = SectionLife.TestCase
