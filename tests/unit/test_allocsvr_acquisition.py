"""How a section is won, answer by answer. FENCE-1, LEASE-1, NRW-2."""

import itertools
from typing import Any

import pytest

from allocsvr.acquisition import Acquisition, FenceAnswer, Stage
from cluster_in_a_box.fencing import answer, refused
from clustermap.membership import one_group

ME, OTHER, THIRD = 7, 8, 9
EPOCH = 20
DRIFT = 0.01
S = 10**9


def attempt(n: int = 3, r: int = 2) -> Acquisition:
    return Acquisition(4, EPOCH, ME, one_group(n, r))


def fenced(made: Acquisition, *answers: FenceAnswer, at_ns: int = 0) -> Acquisition:
    for replica, found in enumerate(answers):
        made.fenced(replica, found, at_ns, DRIFT)
    return made


@pytest.mark.parametrize(("n", "r"), [(1, 1), (3, 2), (5, 3), (3, 3), (5, 4)])
def test_r_minus_1_answers_never_yield_a_value(n: int, r: int) -> None:
    made = attempt(n, r)
    for replica in range(r - 1):
        assert made.fenced(replica, answer(EPOCH, max_seq=99), 0, DRIFT) is Stage.FENCING
        assert made.fenced(replica, answer(EPOCH, max_seq=99), 0, DRIFT) is Stage.FENCING
        assert made.waited(10**18) is Stage.FENCING
    assert made.found == 0
    made.fenced(n - 1, answer(EPOCH), 0, DRIFT)
    assert made.waited(10**18) is Stage.READY


def test_m_is_the_greatest_of_exactly_the_r_answers() -> None:
    for values in itertools.permutations([10, 500, 30]):
        made = attempt()
        for replica, max_seq in enumerate(values):
            made.fenced(replica, answer(EPOCH, max_seq=max_seq), 0, DRIFT)
        assert made.found == max(values[:2])


def test_failed_replicas_are_not_counted_and_never_read_as_0_nrw_2() -> None:
    made = attempt()
    assert made.failed(0) is Stage.FENCING
    assert made.fenced(1, answer(EPOCH, max_seq=50), 0, DRIFT) is Stage.FENCING
    assert made.failed(1) is Stage.FENCING  # a second vote of one replica is none
    assert made.fenced(2, answer(EPOCH, max_seq=40), 0, DRIFT) is Stage.WAITING
    assert made.found == 50


def test_it_is_lost_when_r_can_no_longer_be_reached() -> None:
    made = attempt()
    made.failed(0)
    assert made.failed(2) is Stage.LOST
    assert made.fenced(1, answer(EPOCH), 0, DRIFT) is Stage.LOST
    assert made.waited(10**18) is Stage.LOST


def test_a_refusal_is_no_answer_and_says_which_promise_stands_against_us() -> None:
    made = attempt()
    assert made.fenced(0, refused(EPOCH + 3), 0, DRIFT) is Stage.FENCING
    assert made.fenced(1, refused(EPOCH + 1), 0, DRIFT) is Stage.LOST
    assert made.promised == EPOCH + 3


def test_a_refusal_with_our_own_epoch_is_a_refusal() -> None:
    made = attempt(1, 1)
    assert made.fenced(0, refused(EPOCH), 0, DRIFT) is Stage.LOST
    assert made.promised == EPOCH


def test_a_section_that_nobody_owned_is_ready_at_once() -> None:
    made = fenced(attempt(), answer(EPOCH), answer(EPOCH), at_ns=5 * S)
    assert (made.found, made.ready_ns, made.snapshot_epoch) == (0, 0, 0)
    assert made.waited(5 * S) is Stage.READY


def test_a_living_previous_owner_is_waited_out_from_the_receipt_of_each_answer() -> None:
    held: dict[str, Any] = {"owner": OTHER, "owner_epoch": 3, "max_seq": 10}
    made = attempt()
    made.fenced(0, answer(EPOCH, leases={OTHER: 2 * S}, **held), 100 * S, DRIFT)
    made.fenced(1, answer(EPOCH, leases={OTHER: S}, **held), 101 * S + 7, DRIFT)
    earliest = 100 * S + int(2 * S * 1.02)
    assert earliest <= made.ready_ns <= earliest + 2
    assert made.waited(made.ready_ns - 1) is Stage.WAITING
    assert made.waited(made.ready_ns) is Stage.READY

    made = attempt()
    made.fenced(0, answer(EPOCH, leases={OTHER: 2 * S}, **held), 100 * S, DRIFT)
    made.fenced(1, answer(EPOCH, leases={OTHER: 2 * S}, **held), 101 * S + 7, DRIFT)
    assert made.ready_ns >= 101 * S + 7 + int(2 * S * 1.02)


def test_boot_grace_is_waited_for_as_if_every_owner_held_a_lease() -> None:
    held: dict[str, Any] = {"owner": OTHER, "owner_epoch": 3}
    made = fenced(attempt(), answer(EPOCH, **held), answer(EPOCH, grace_ns=3 * S, **held), at_ns=S)
    assert made.ready_ns >= S + int(3 * S * 1.02)


def test_the_lease_of_the_previous_owner_is_asked_of_answers_that_do_not_name_it_lease_1() -> None:
    """Replica 0 missed the owner's raises, but not its renewals."""
    made = fenced(
        attempt(),
        answer(EPOCH, owner=THIRD, owner_epoch=2, leases={OTHER: 2 * S}),
        answer(EPOCH, owner=OTHER, owner_epoch=3),
    )
    assert made.ready_ns >= int(2 * S * 1.02)
    made = fenced(
        attempt(), answer(EPOCH, owner=OTHER, owner_epoch=3), answer(EPOCH, leases={OTHER: 2 * S})
    )
    assert made.ready_ns >= int(2 * S * 1.02)


def test_leases_of_others_than_the_previous_owner_are_not_waited_for() -> None:
    made = fenced(
        attempt(),
        answer(EPOCH, owner=THIRD, owner_epoch=2, leases={THIRD: 50 * S}),
        answer(EPOCH, owner=OTHER, owner_epoch=3, leases={OTHER: S, THIRD: 50 * S}),
    )
    assert S < made.ready_ns <= 2 * S


def test_a_released_section_is_not_waited_for_whichever_answer_says_so() -> None:
    alive = answer(EPOCH, owner=OTHER, owner_epoch=3, leases={OTHER: 9 * S})
    for pair in itertools.permutations([alive, alive._replace(released=True)]):
        assert fenced(attempt(), *pair).ready_ns == 0


def test_a_release_of_an_older_owner_does_not_spare_the_wait() -> None:
    old = answer(EPOCH, owner=THIRD, owner_epoch=2, released=True, snapshot_epoch=2)
    new = answer(EPOCH, owner=OTHER, owner_epoch=3, leases={OTHER: S})
    for pair in itertools.permutations([old, new]):
        made = fenced(attempt(), *pair)
        assert made.ready_ns > S
        assert (made.snapshot_epoch, made.snapshot_from) == (0, ())


def test_our_own_incarnation_is_not_waited_for() -> None:
    held = answer(EPOCH, owner=ME, owner_epoch=3, leases={ME: 9 * S}, max_seq=70)
    made = fenced(attempt(), held, held)
    assert (made.ready_ns, made.found) == (0, 70)


def test_a_snapshot_is_taken_only_from_the_very_epoch_that_was_released() -> None:
    def last(**more: Any) -> FenceAnswer:
        return answer(EPOCH, owner=OTHER, owner_epoch=5, **more)

    released = last(released=True, snapshot_epoch=5)
    older = answer(EPOCH, owner=THIRD, owner_epoch=4, released=True, snapshot_epoch=4)
    assert fenced(attempt(), released, released).snapshot_from == (0, 1)
    assert fenced(attempt(), older, released).snapshot_from == (1,)
    assert fenced(attempt(), last(), released).snapshot_from == (1,)
    assert fenced(attempt(), last(released=True), last(released=True)).snapshot_from == ()
    stale = last(released=True, snapshot_epoch=4)
    assert fenced(attempt(), stale, stale).snapshot_from == ()
    assert fenced(attempt(), older, last()).snapshot_from == ()


def test_what_arrives_after_the_decision_changes_nothing() -> None:
    made = fenced(attempt(), answer(EPOCH, max_seq=10), answer(EPOCH, max_seq=10))
    late = answer(EPOCH, max_seq=99, owner=OTHER, owner_epoch=9, leases={OTHER: S})
    made.fenced(2, late, 0, DRIFT)
    made.failed(2)
    assert (made.stage, made.found, made.ready_ns) == (Stage.WAITING, 10, 0)
