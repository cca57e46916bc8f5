"""What a node says of its load: smoothed, bounded, and not more often than it matters."""

import pytest

from allocsvr.load import SMOOTHING_S, Rates, differs
from clustermap.nodes import MAX_HOT, Load


def load(rates: Rates) -> Load:
    return rates.load(serving=3, acquiring=2, leaving=1)


def test_a_steady_rate_is_told_after_a_while_whatever_the_period() -> None:
    for period_s in (0.5, 1.0, 3.0):
        rates = Rates()
        for _ in range(int(8 * SMOOTHING_S / period_s)):
            rates.sample([(7, int(1000 * period_s)), (9, int(100 * period_s))], period_s)
        told = load(rates)
        assert told.per_second == pytest.approx(1100, rel=0.01)
        assert [section for section, _ in told.hot] == [7, 9]
        assert dict(told.hot)[7] == pytest.approx(1000, rel=0.01)
        assert (told.serving, told.acquiring, told.leaving) == (3, 2, 1)


def test_a_burst_is_damped_and_what_is_over_is_forgotten() -> None:
    rates = Rates()
    rates.sample([(7, 10_000)], 1.0)
    assert 1000 < load(rates).per_second < 3000
    for _ in range(100):
        rates.sample([], 1.0)
    assert load(rates) == Load(0, (), 3, 2, 1)


def test_only_the_hottest_sections_are_named() -> None:
    rates = Rates()
    rates.sample([(s, 1000 + s) for s in range(1000)], 5.0)
    hot = [section for section, _ in load(rates).hot]
    assert hot == list(range(999, 999 - MAX_HOT, -1))


@pytest.mark.parametrize(
    ("now", "tells"),
    [
        (Load(1000, ((1, 500), (2, 400))), False),
        (Load(1100, ((1, 560), (2, 400))), False),
        (Load(1400, ((1, 500), (2, 400))), True),
        (Load(1000, ((1, 300), (2, 600))), True),
        (Load(1000, ((1, 500), (2, 395), (3, 5))), False),
        (Load(1000, ((1, 500), (3, 400))), True),
        (Load(1000, ((1, 500), (2, 400)), serving=1), True),
    ],
    ids=repr,
)
def test_only_what_would_change_a_decision_is_told(now: Load, tells: bool) -> None:
    assert differs(Load(1000, ((1, 500), (2, 400))), now) is tells


def test_a_node_that_hardly_does_anything_is_silent() -> None:
    assert not differs(Load(0), Load(8, ((1, 8),)))
