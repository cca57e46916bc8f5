"""Which memberships a replica takes over, and whom it answers, against a table. NRW-1.

clustermap/membership.py rests on it: a replica's version never falls, and a learner is counted only
by an Adopt at its own version. That it is durable, and that boot grace begins anew, is found out by
the machine of test_storesvr_replica_machine.py.
"""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.errors import ReplicaFailed
from storesvr.adoption import adopted, check_membership
from storesvr.port import Identity

COUNTED, LEARNING, RETIRED = (False, False), (True, False), (False, True)
STANDINGS = (COUNTED, LEARNING, RETIRED)
HERE = {
    (COUNTED, COUNTED): "always",
    (COUNTED, LEARNING): "blank",
    (COUNTED, RETIRED): "never",
    (LEARNING, COUNTED): "always",
    (LEARNING, LEARNING): "always",
    (LEARNING, RETIRED): "never",
    (RETIRED, COUNTED): "never",
    (RETIRED, LEARNING): "always",
    (RETIRED, RETIRED): "always",
}
"""At the version that it has: from, to -> when."""
LATER = set(product(STANDINGS, STANDINGS)) - {(LEARNING, COUNTED)}
STORE = 7


def identity(version: int, standing: tuple[bool, bool], store: int = STORE) -> Identity:
    return Identity("c", "set-0", "store-0", 10, 40, version, store, *standing)


def allowed(ours: Identity, wanted: Identity, blank: bool) -> bool:
    way = (ours.learning, ours.retired), (wanted.learning, wanted.retired)
    if wanted.membership > ours.membership:
        return way in LATER
    when = HERE[way] if wanted.membership == ours.membership else "never"
    return when == "always" or (when == "blank" and blank)


versions = st.one_of(st.integers(1, 4), st.integers(2**64 - 3, 2**64 - 1))
standings = st.sampled_from(STANDINGS)


@settings(max_examples=500)
@given(versions, st.integers(-1, 2), standings, standings, st.booleans())
def test_what_is_adopted_is_what_the_table_says(
    version: int,
    step: int,
    before: tuple[bool, bool],
    after: tuple[bool, bool],
    blank: bool,
) -> None:
    ours, wanted = identity(version, before), identity(version + step, after)
    told = answer(ours, wanted, blank)
    if not 1 <= version + step < 2**64:
        assert told == "MALFORMED"
        return
    assert wanted.membership >= ours.membership or told != wanted
    assert not (ours.learning and after == COUNTED and told == wanted and step), "was it filled?"
    if allowed(ours, wanted, blank):
        assert told == wanted
        assert answer(wanted, wanted, blank) == wanted, "an answer that was lost is asked for again"
    else:
        assert told == "MEMBERSHIP"


def answer(ours: Identity, wanted: Identity, blank: bool) -> Identity | str:
    try:
        return adopted(ours, wanted, blank=blank)
    except ReplicaFailed as error:
        assert error.reason != "MEMBERSHIP" or error.membership == ours.membership
        return error.reason


@given(versions, versions, standings, st.booleans(), st.integers(0, 9))
def test_what_is_for_another_store_or_says_two_things_is_refused_first(
    version: int, wanted: int, standing: tuple[bool, bool], blank: bool, store: int
) -> None:
    ours = identity(version, standing)
    if store != STORE:
        assert answer(ours, identity(wanted, standing, store), blank) == "FOREIGN"
    assert answer(ours, identity(wanted, (True, True)), blank) == "MALFORMED"


@given(versions, st.integers(-2, 2), standings, st.booleans())
def test_only_requests_of_its_version_are_answered_and_no_learner_is_counted(
    version: int, step: int, standing: tuple[bool, bool], counting: bool
) -> None:
    try:
        check_membership(identity(version, standing), version + step, counting=counting)
        told = ""
    except ReplicaFailed as error:
        told = error.reason
    if step or standing == RETIRED:
        assert told == "MEMBERSHIP"
    else:
        assert told == ("LEARNING" if counting and standing == LEARNING else "")
