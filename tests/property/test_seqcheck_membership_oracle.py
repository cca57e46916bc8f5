"""Checkers where the membership changes, beside every quorum there is, looked through."""

from collections.abc import Hashable, Iterable, Mapping
from itertools import combinations, product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from seqcheck import Durable, Fencing, NeverFalls
from seqcheck.membership import Half, Membership

REPLICAS = ("a", "b", "c", "d")
SECTION = 1
replicas = st.sampled_from(REPLICAS)
small = st.integers(1, 4)
values = st.dictionaries(replicas, small)


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    """One half or two, whose R and W meet."""
    read, write = [], []
    for _ in range(draw(st.integers(1, 2))):
        members = draw(st.frozensets(replicas, min_size=1))
        w = draw(st.integers(1, len(members)))
        read.append(Half(members, draw(st.integers(len(members) - w + 1, len(members)))))
        write.append(Half(members, w))
    return Membership(tuple(read), tuple(write))


def quorums(halves: Iterable[Half]) -> list[set[Any]]:
    """Every smallest one."""
    picks = [combinations(sorted(map(str, half.members or ())), half.need) for half in halves]
    return [set().union(*picked) for picked in product(*picks)]


def knowing(known: Mapping[Any, int], value: int) -> set[Any]:
    return {name for name, has in known.items() if has >= value}


@given(memberships(), values, small)
def test_a_value_is_reached_where_some_quorum_has_it(
    membership: Membership, known: dict[Hashable, int], value: int
) -> None:
    who = knowing(known, value)
    some = any(quorum <= who for quorum in quorums(membership.write))
    assert (membership.reached(known) >= value) == some == membership.acknowledged(who)


@given(memberships(), values, small)
def test_a_value_is_found_where_no_quorum_misses_it(
    membership: Membership, known: dict[Hashable, int], value: int
) -> None:
    who = knowing(known, value)
    everybody = all(quorum & who for quorum in quorums(membership.read))
    assert (membership.found(known) >= value) == everybody


@given(memberships(), values)
def test_what_is_reached_is_found(membership: Membership, known: dict[Hashable, int]) -> None:
    assert membership.found(known) >= membership.reached(known)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("stored"), replicas, small),
            st.tuples(st.just("adopted"), memberships()),
            st.tuples(st.just("handed"), small),
        ),
        max_size=14,
    ),
    memberships(),
)
def test_a_number_is_covered_under_some_version_and_found_under_the_newest(
    story: list[Any], first: Membership
) -> None:
    checker, versions, known = Durable(), [first], dict[str, int]()
    checker.adopted(first)
    for at_ns, (what, *about) in enumerate(story):
        if what == "stored":
            checker.stored(at_ns, about[0], SECTION, about[1])
            known[about[0]] = max(known.get(about[0], 0), about[1])
        elif what == "adopted":
            checker.adopted(about[0])
            versions.append(about[0])
        else:
            who = knowing(known, about[0])
            covered = any(q <= who for version in versions for q in quorums(version.write))
            found = all(q & who for q in quorums(versions[-1].read))
            said = checker.handed(at_ns, SECTION, about[0], 1)
            assert (said is None) == (covered and found)


@given(memberships(), values, small)
def test_a_raise_counts_where_w_of_each_half_have_it(
    membership: Membership, known: dict[Hashable, int], value: int
) -> None:
    checker = NeverFalls(n=3, w=2)
    for at_ns, (name, has) in enumerate(known.items()):
        checker.stored(at_ns, name, SECTION, has)
    said = checker.acknowledged(10, SECTION, 1, value, membership)
    assert (said is None) == membership.acknowledged(knowing(known, value))


@given(
    st.lists(st.tuples(replicas, st.integers(1, 3), memberships() | st.none()), max_size=14),
    memberships(),
)
def test_a_raise_is_outdone_where_w_had_a_higher_one_before_it_was_begun(
    story: list[tuple[str, int, Membership | None]], usual: Membership
) -> None:
    """Nobody promises anything here, so nothing else can be wrong."""
    checker = Fencing(n=4, r=4, w=1)
    acked: dict[tuple[int, Membership], dict[str, int]] = {}
    for at_ns, (replica, epoch, other) in enumerate(story):
        under = other or usual
        acks = acked.setdefault((epoch, under), {})
        acks.setdefault(replica, at_ns)
        checker.acked(at_ns, replica, SECTION, epoch, 1, 100, accepted_ns=at_ns, under=under)
        won = [(its, _won(version, its_acks)) for (its, version), its_acks in acked.items()]
        begun = [
            (its, min(its_acks.values()))
            for (its, version), its_acks in acked.items()
            if _won(version, its_acks) >= 0
        ]
        outdone = any(
            lower < higher and 0 <= won_ns < begun_ns
            for lower, begun_ns in begun
            for higher, won_ns in won
        )
        assert bool(checker.violations) == outdone


def _won(version: Membership, acks: Mapping[str, int]) -> int:
    """When W had acknowledged; -1: they have not."""
    for at_ns in sorted(acks.values()):
        if version.acknowledged([name for name, when in acks.items() if when <= at_ns]):
            return at_ns
    return -1
