"""Who is given up, and who is not: PROTOCOL section 5, rule by rule."""

from dataclasses import replace

import pytest

from arbitersvr.detection import Detection, Outcome, Probe
from clustermap.nodes import Node

TTL = 2_000
ROUND = 500
A = Node(1, "a:1", "s")
B = Node(2, "b:1", "s")
NAMED = {1: "a:1", 2: "b:1"}


class Watched:
    """A Detection, and the time it is told (in its own unit)."""

    def __init__(self) -> None:
        self.detection = Detection(TTL, ROUND)
        self.now = 0

    def see(self, *nodes: Node, named: dict[int, str] | None = None) -> None:
        registered = {node.incarnation: node for node in nodes}
        self.detection.see(NAMED if named is None else named, registered, self.now)

    def due(self) -> list[Probe]:
        return self.detection.due(self.now)

    def probe(self, *outcomes: Outcome) -> None:
        """Each in the round after the one before."""
        for outcome in outcomes:
            (probe,) = self.due()
            self.detection.probed(probe, outcome)
            self.now += ROUND

    @property
    def given_up(self) -> set[int]:
        self.detection.pass_time(self.now)
        return set(self.detection.given_up)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_who_is_registered_is_neither_probed_nor_given_up(watched: Watched) -> None:
    watched.see(A, B)
    assert watched.due() == []
    assert watched.detection.next_ns() is None
    assert watched.given_up == set()


def test_a_registration_that_is_gone_alone_is_not_enough(watched: Watched) -> None:
    watched.see(B)
    watched.now += 100 * TTL
    assert watched.given_up == set()


def test_gone_and_refused_is_given_up_at_once(watched: Watched) -> None:
    watched.see(B)
    (probe,) = watched.due()
    assert probe[:2] == (1, "a:1")
    watched.detection.probed(probe, Outcome.GONE)
    assert watched.given_up == {1}


def test_silence_counts_only_twice_in_a_row(watched: Watched) -> None:
    watched.see(B)
    watched.probe(Outcome.SILENT, Outcome.ALIVE, Outcome.SILENT)
    assert watched.given_up == set()
    watched.probe(Outcome.SILENT)
    assert watched.given_up == {1}


def test_one_that_answers_stays_and_is_probed_every_round_for_ever(watched: Watched) -> None:
    watched.see(B)
    for _ in range(1_000):
        assert watched.detection.next_ns() == watched.now
        watched.probe(Outcome.ALIVE)
        watched.now -= 1
        assert watched.due() == []
        watched.now += 1
    assert watched.given_up == set()


def test_no_second_probe_is_begun_while_one_is_under_way(watched: Watched) -> None:
    watched.see(B)
    (probe,) = watched.due()
    watched.now += 10 * ROUND
    assert watched.due() == []
    assert watched.detection.next_ns() is None
    watched.detection.probed(probe, Outcome.SILENT)
    assert len(watched.due()) == 1


def test_a_probe_of_an_earlier_absence_does_not_count(watched: Watched) -> None:
    watched.see(B)
    (old,) = watched.due()
    watched.see(A, B)
    watched.see(B)
    watched.detection.probed(old, Outcome.GONE)
    assert watched.given_up == set()
    (new,) = watched.due()
    assert new != old
    watched.detection.probed(new, Outcome.GONE)
    assert watched.given_up == {1}


def test_silences_of_an_earlier_absence_do_not_count(watched: Watched) -> None:
    watched.see(B)
    watched.probe(Outcome.SILENT)
    watched.see(A, B)
    watched.see(B)
    watched.probe(Outcome.SILENT)
    assert watched.given_up == set()


def test_a_verdict_ends_when_it_registers_or_answers(watched: Watched) -> None:
    watched.see(B)
    watched.probe(Outcome.GONE)
    watched.see(A, B)
    assert watched.given_up == set()
    watched.see(B)
    watched.probe(Outcome.GONE)
    assert watched.given_up == {1}
    watched.probe(Outcome.ALIVE)
    assert watched.given_up == set()


def test_everybody_gone_from_the_map_but_alive_moves_nothing(watched: Watched) -> None:
    watched.see()
    for _ in range(20):
        for probe in watched.due():
            watched.detection.probed(probe, Outcome.ALIVE)
        watched.now += ROUND
    assert watched.given_up == set()


def test_a_registration_that_cannot_be_read_is_one(watched: Watched) -> None:
    watched.detection.see(NAMED, {1: None, 2: B}, 0)
    assert watched.due() == []


def test_who_has_nothing_any_more_is_forgotten(watched: Watched) -> None:
    watched.see(B)
    watched.probe(Outcome.GONE)
    watched.see(B, named={2: "b:1"})
    assert watched.given_up == set()
    assert watched.due() == []


UNLEASED = replace(A, leased=False)


def test_one_without_a_lease_is_given_up_after_two_lease_times(watched: Watched) -> None:
    watched.see(UNLEASED, B)
    watched.now += 2 * TTL
    assert watched.given_up == set()
    assert watched.detection.next_ns() == watched.now + 1
    watched.now += 1
    assert watched.given_up == {1}
    assert watched.detection.next_ns() is None
    watched.see(A, B)
    assert watched.given_up == set()


def test_where_nobody_has_a_lease_nobody_is_given_up(watched: Watched) -> None:
    watched.see(UNLEASED, replace(B, leased=False))
    watched.now += 10 * TTL
    assert watched.given_up == set()
    watched.see(UNLEASED, B)  # the time counts from here
    watched.now += 2 * TTL
    assert watched.given_up == set()
    watched.now += 1
    assert watched.given_up == {1}


def test_time_without_a_lease_has_to_be_in_one_piece(watched: Watched) -> None:
    watched.see(UNLEASED, B)
    watched.now += 2 * TTL
    watched.see(A, B)
    watched.see(UNLEASED, B)
    watched.now += 2 * TTL
    assert watched.given_up == set()


def test_many_are_probed_at_once(watched: Watched) -> None:
    watched.see(named={n: f"n:{n}" for n in range(1, 101)})
    assert len(watched.due()) == 100
