"""Rates hold over any stretch of time, whatever is asked for and when."""

from hypothesis import given
from hypothesis import strategies as st

from allocsvr.buckets import BURST_S, Purse, Rates

STEPS = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=1, max_size=60)


@given(st.floats(0.5, 1_000), STEPS)
def test_no_stretch_of_time_sees_more_than_its_rate_a_burst_and_one_request(
    per_s: float, steps: list[tuple[float, int]]
) -> None:
    purse, now_s = Purse(Rates(numbers_per_s=per_s), 0.0), 0.0
    taken: list[tuple[float, int]] = []
    for pause_s, numbers in steps:
        now_s += pause_s
        if purse.pay(numbers, now_s) == ("", 0.0):
            taken.append((now_s, numbers))
    for first, (since_s, _) in enumerate(taken):
        for until in range(first, len(taken)):
            stretch_s = taken[until][0] - since_s
            before = sum(numbers for _, numbers in taken[first:until])
            # All but the last: that one may be lent whatever it asks for.
            assert before <= per_s * (stretch_s + BURST_S) + 1e-6


@given(st.floats(0.5, 1_000), STEPS)
def test_whoever_comes_again_when_told_to_is_let_in(
    per_s: float, steps: list[tuple[float, int]]
) -> None:
    purse, now_s = Purse(Rates(requests_per_s=per_s, numbers_per_s=per_s), 0.0), 0.0
    for pause_s, numbers in steps:
        now_s += pause_s
        for _ in range(3):  # once for each rate, and let in
            limit, again_s = purse.pay(numbers, now_s)
            if not limit:
                break
            assert again_s > 0
            now_s += again_s * (1 + 1e-9) + 1e-9
        assert not limit
