"""What an owner believes of its lease, and what replicas honour, in true time. LEASE-1, LEASE-2.

True time passes in steps of TICK; each host's clock runs at a rate of its own, off by the whole
max_drift or not at all. The oracle knows which grants were answered, nothing else. Replicas are the
real storesvr.leases; whoever would fence any R of them at this instant waits as the protocol says.
"""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allocsvr.lease import Grants, Lease, Promises
from clustermap.drift import wait_ns
from clustermap.membership import one_group
from storesvr.leases import Leases

TICK = 100
ME = 5
SIZES = st.sampled_from([(3, 2), (3, 2), (1, 1), (5, 3), (3, 3), (4, 1)])
WRONG = st.sampled_from([0, -1, 1])  # the way in which a clock goes wrong


class LeaseInTrueTime(RuleBasedStateMachine):
    @initialize(
        sizes=SIZES,
        percent=st.sampled_from([10, 1, 0, 30]),
        ticks=st.integers(2, 12),
        wrong=st.lists(WRONG, min_size=7, max_size=7),
    )
    def begin(self, sizes: tuple[int, int], percent: int, ticks: int, wrong: list[int]) -> None:
        n, self.w = sizes
        self.r = n - self.w + 1
        self.drift = percent / 100
        self.rates = [100 + percent * sign for sign in wrong]  # successor, owner, replicas
        self.ttl = ticks * TICK
        self.true = 0
        self.lease = Lease(self.ttl, self.drift)
        self.grants = Grants(self.lease, one_group(n, self.w))
        self.stores = [self.booted(store) for store in range(n)]
        self.asked: list[tuple[int, int]] = []  # replica, sent by the owner's clock
        self.granted: list[tuple[int, int]] = []  # on their way back
        self.counted: list[tuple[int, int]] = []

    def clock(self, host: int, true: int | None = None) -> int:
        return (self.true if true is None else true) * self.rates[host] // 100

    def booted(self, store: int, grace: int = 0) -> Leases:
        return Leases(boot_now_ns=self.clock(2 + store), boot_grace_ns=grace)

    @rule(ticks=st.integers(1, 6))
    def time_passes(self, ticks: int) -> None:
        self.true += ticks * TICK

    @rule()
    def renew(self) -> None:
        self.asked += [(store, self.clock(1)) for store in range(len(self.stores))]

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def one_is_granted(self, data: st.DataObject) -> None:
        """Late or soon, in any order; those that are never drawn are lost."""
        store, sent = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        assert self.stores[store].grant(ME, self.ttl, self.clock(2 + store))
        self.granted.append((store, sent))

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), again=st.booleans())
    def one_is_answered(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.granted) - 1))
        grant = self.granted[at] if again else self.granted.pop(at)
        self.count(*grant)

    @rule(slow=st.integers(0, 3), back=st.integers(0, 2))
    def a_round_of_renewals(self, slow: int, back: int) -> None:
        """All replicas but the first `slow`, with some time each way."""
        sent = self.clock(1)
        self.true += back * TICK
        for store in range(slow, len(self.stores)):
            assert self.stores[store].grant(ME, self.ttl, self.clock(2 + store))
        self.true += back * TICK
        for store in range(slow, len(self.stores)):
            self.count(store, sent)

    def count(self, store: int, sent: int) -> None:
        before = self.lease.deadline_ns
        self.grants.granted(store, sent)
        self.counted.append((store, sent))
        assert self.lease.deadline_ns >= before

    @rule(store=st.integers(0, 4))
    def a_replica_restarts(self, store: int) -> None:
        if store < len(self.stores):
            self.stores[store] = self.booted(store, self.ttl)

    @invariant()
    def the_deadline_is_the_wth_greatest_grant(self) -> None:
        """LEASE-2: and not a moment earlier than the margins ask for."""
        best: dict[int, int] = {}
        for store, sent in self.counted:
            best[store] = max(best.get(store, 0), sent)
        if len(best) < self.w:
            assert self.lease.deadline_ns == 0
            return
        sent = sorted(best.values())[-self.w]
        exact = sent + self.ttl * (1 - 2 * Fraction(self.drift))
        assert exact - 2 < self.lease.deadline_ns <= exact
        assert not self.lease.held(self.lease.deadline_ns)

    @invariant()
    def w_replicas_honour_what_the_owner_believes(self) -> None:
        if self.lease.held(self.clock(1)):
            honouring = [s for s in range(len(self.stores)) if self.left(s) > 0]
            assert len(honouring) >= self.w, "LEASE-1"

    @invariant()
    def whoever_fences_now_begins_after_the_owner_has_ended(self) -> None:
        """Of any R answers those with the least time left are the worst."""
        answers = sorted(self.left(store) for store in range(len(self.stores)))[: self.r]
        wait = max(wait_ns(left, self.drift) for left in answers)
        ready = self.true + -(-wait * 100 // self.rates[0])
        assert not self.lease.held(self.clock(1, ready)), "LEASE-1"

    def left(self, store: int) -> int:
        now = self.clock(2 + store)
        leases = self.stores[store]
        return max(dict(leases.left(now)).get(ME, 0), leases.grace_left_ns(now))


LeaseInTrueTime.TestCase.settings = settings(max_examples=400, stateful_step_count=30)
TestLeaseInTrueTime = LeaseInTrueTime.TestCase

RANGES = st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(1, 5))


@given(st.lists(RANGES, max_size=12))
def test_the_highest_promise_of_each_section_is_kept_for_ever_fence_1(
    told: list[tuple[int, int, int]],
) -> None:
    promises = Promises()
    highest = dict.fromkeys(range(15), 0)
    for first, length, epoch in told:
        span = range(first, first + length + 1)
        rose = [section for section in span if epoch > highest[section]]
        assert list(promises.note(first, first + length, epoch)) == rose
        highest.update(dict.fromkeys(rose, epoch))
        assert {section: promises.highest(section) for section in highest} == highest
