"""What a soak keeps: whole through JSON, counted by fault, and small."""

import json

import pytest

from made_soaks import broken, made, took
from real_cluster.measured import Measured, Round, Strike


def test_it_comes_back_from_json_as_it_was() -> None:
    measured = broken(made(120))
    measured.facts["lease"] = "2 s"
    measured.rounds.append(Round(99, [Strike("etcd: wiped", "etcd", 119.0, [])], 119.0))
    again = Measured.from_json(measured.to_json())
    assert again == measured
    assert again.to_json() == measured.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 0}', '{"format": 1}'])
def test_what_is_no_measurement_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Measured.from_json(text)


def test_rounds_of_one_fault_and_of_two_are_counted_apart() -> None:
    measured = made(60)
    alone, joined = measured.kinds["owner: kill -9"], measured.kinds["replica: <frozen>"]
    assert (alone.runs, alone.in_company, alone.failed) == (4, 2, 28)
    assert (joined.runs, joined.in_company) == (0, 2)
    assert (measured.company.runs, measured.company.failed) == (2, 14)
    assert alone.latencies.total == 4 * 3


def test_a_kind_that_joins_itself_is_one_round_in_company() -> None:
    measured = made(1)
    twice = [Strike("owner: kill -9", "owners", 0.0, []) for _ in range(2)]
    measured.add_round(Round(1, twice), took(1))
    assert measured.kinds["owner: kill -9"].in_company == 1


def test_a_violation_belongs_to_the_round_in_which_its_later_call_was_answered() -> None:
    measured = broken(made(60))
    counts = [one.violations for one in measured.rounds]
    assert sum(counts) == 1 and counts[2] == 1  # the round from 25 on


def test_a_day_is_a_few_megabytes() -> None:
    text = made(600).to_json()
    assert 24 * 6 * len(text) < 20e6
    assert len(json.loads(text)["seconds"]) == 600
