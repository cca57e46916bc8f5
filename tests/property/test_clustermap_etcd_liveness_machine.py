"""What etcd may be believed: leases never longer than it keeps them, members by their record."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clustermap.etcd_liveness import MIN_TTL_S, Expiry, Rota, lease_seconds


@given(
    st.floats(0.001, 100),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.integers(0, 30)), min_size=1),
)
def test_a_lease_is_never_believed_longer_than_etcd_gives_it(
    ttl_s: float, renewals: list[tuple[int, int, int]]
) -> None:
    """renewals: seconds at which each is sent, reaches etcd later, and grants so much."""
    assert MIN_TTL_S <= lease_seconds(ttl_s) < max(MIN_TTL_S, ttl_s) + 1
    assert lease_seconds(ttl_s) >= ttl_s
    etcd_end = 0
    expiry: Expiry | None = None
    for sent, later, granted in renewals:
        etcd_end = max(etcd_end, sent + later + granted)
        before = expiry.left_s(0) if expiry else 0.0
        if expiry is None:
            expiry = Expiry(sent * 10**9, granted)
        else:
            expiry.granted(sent * 10**9, granted)
        assert before <= expiry.left_s(0) <= etcd_end
    assert expiry is not None
    best = max(sent + granted for sent, _, granted in renewals)
    assert expiry.left_s(0) == best
    for now in range(best + 1):
        assert 0 <= expiry.renew_in_s(now * 10**9) <= max(0.0, expiry.left_s(now * 10**9))


class RotaAgainstAList(RuleBasedStateMachine):
    """The oracle keeps every failure and answer in order, and looks at all of them."""

    @initialize(count=st.integers(1, 4), first=st.integers(0, 3))
    def begin(self, count: int, first: int) -> None:
        self.count, self.first = count, first % count
        self.rota = Rota(count, self.first)
        self.said: list[tuple[int, bool]] = []

    def failed_now(self) -> list[int]:
        """The longest-failed first: by the last time that each was heard of."""
        last = {index: (at, well) for at, (index, well) in enumerate(self.said)}
        return [i for at, i in sorted((at, i) for i, (at, well) in last.items() if not well)]

    @rule(index=st.integers(0, 3))
    def fails(self, index: int) -> None:
        index %= self.count
        assert self.rota.failed(index) == (index not in self.failed_now())
        self.said.append((index, False))

    @rule(index=st.integers(0, 3))
    def answers(self, index: int) -> None:
        index %= self.count
        assert self.rota.answered(index) == (index in self.failed_now())
        self.said.append((index, True))
        if self.first in self.failed_now():
            self.first = index

    @invariant()
    def those_that_work_come_first_and_none_is_given_up(self) -> None:
        order: Sequence[int] = self.rota.order()
        failed = self.failed_now()
        assert sorted(order) == list(range(self.count))
        turn = [(self.first + i) % self.count for i in range(self.count)]
        assert order == [i for i in turn if i not in failed] + failed
        assert all(self.rota.is_failed(i) == (i in failed) for i in range(self.count))


RotaAgainstAList.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
TestRota = RotaAgainstAList.TestCase
