"""How a replica stands, by the list of its answers; and how busy a node is, by what it counted."""

from math import exp

from hypothesis import given
from hypothesis import strategies as st

from allocsvr.load import SMOOTHING_S, Rates, differs
from allocsvr.standing import Standing
from clustermap.errors import ReplicaFailed
from clustermap.nodes import MAX_HOT, Load

EJECTS = ["TIMEOUT", "UNREACHABLE", "FOREIGN"]
IS_ASKED = ["BLANK", "CORRUPT", "MEMBERSHIP", "OVERLOADED", "INTERNAL"]
GRANT = ""
RENEWALS = st.lists(st.sampled_from([GRANT, GRANT, *EJECTS, *EJECTS, *IS_ASKED]), max_size=12)


@given(RENEWALS)
def test_a_replica_is_ejected_from_its_first_silence_to_its_next_word(renewals: list[str]) -> None:
    standing = Standing()
    assert (standing.granting, standing.ejected) == (False, None)
    for at_s, reason in enumerate(renewals):
        silent_before = at_s > 0 and renewals[at_s - 1] in EJECTS
        if reason == GRANT:
            standing.granted()
        else:
            newly = standing.failed(ReplicaFailed(reason, f"at {at_s}"), float(at_s))
            assert newly == (reason in EJECTS and not silent_before)
        assert standing.granting == (reason == GRANT)
        assert (standing.ejected is not None) == (reason in EJECTS)
        if reason in EJECTS:
            silence = [i for i in range(at_s + 1) if set(renewals[i : at_s + 1]) <= set(EJECTS)]
            refusal = standing.refusal(3, at_s + 0.5)
            assert refusal.reason == ("FOREIGN" if reason == "FOREIGN" else "UNREACHABLE")
            assert f"replica 3: ejected since {at_s + 0.5 - min(silence):.1f} s" in refusal.text
            assert f"at {at_s}" in refusal.text


SAMPLES = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 80), st.integers(0, 100_000), max_size=80),
        st.floats(0.05, 30.0),
    ),
    min_size=1,
    max_size=6,
)


@given(SAMPLES)
def test_rates_are_a_smoothed_sum_of_what_was_taken(
    samples: list[tuple[dict[int, int], float]],
) -> None:
    rates = Rates()
    expected = dict.fromkeys(range(81), 0.0)
    for taken, passed_s in samples:
        rates.sample(taken.items(), passed_s)
        for section, rate in expected.items():
            seen = taken.get(section, 0) / passed_s
            smoothed = seen + (rate - seen) * exp(-passed_s / SMOOTHING_S)
            expected[section] = smoothed if smoothed >= 0.5 else 0.0
    load = rates.load(serving=1, acquiring=2, leaving=3)
    assert (load.serving, load.acquiring, load.leaving) == (1, 2, 3)
    assert abs(load.per_second - sum(expected.values())) <= 41  # a rate of a half may be forgotten
    assert len(load.hot) <= MAX_HOT
    assert list(load.hot) == sorted(load.hot, key=lambda hot: -hot[1])
    for section, rate in load.hot:
        assert abs(rate - expected[section]) <= 1
    told = {section for section, _ in load.hot}
    coolest = min((rate for _, rate in load.hot), default=0)
    for section, rate in expected.items():
        assert section in told or rate <= (1 if len(told) < MAX_HOT else coolest + 1)


LOADS = st.builds(
    Load,
    st.integers(0, 10_000),
    st.dictionaries(st.integers(0, 5), st.integers(0, 5_000), max_size=4).map(
        lambda rates: tuple(rates.items())
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
)


@given(LOADS, LOADS)
def test_a_load_is_told_again_where_it_differs_by_more_than_a_fifth(told: Load, now: Load) -> None:
    assert not differs(now, now)
    counts = [(one.serving, one.acquiring, one.leaving) for one in (told, now)]
    pairs = [(told.per_second, now.per_second)]
    pairs += [(dict(told.hot).get(s, 0), dict(now.hot).get(s, 0)) for s in range(6)]
    moved = any(
        abs(before - after) > 10
        and 5 * abs(before - after) > max(before, after)
        and 20 * abs(before - after) > now.per_second
        for before, after in pairs
    )
    assert differs(told, now) == (moved or counts[0] != counts[1])
