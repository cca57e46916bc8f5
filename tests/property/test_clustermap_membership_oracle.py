"""Quorums in groups against a dumb oracle that looks at every subset.  SEQ-2, FENCE-1, LEASE-1.

Whatever the sizes before and after: two quorums of adjacent versions meet in a store that is
counted in both, and a version that is over has no quorum left. What only the old ones knew is
known, after the copy, to some store of every quorum of the new ones.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.membership import Groups, can_be_met, counted, is_filled, is_met, is_over, one_group
from clustermap.model import Joint, Quorum, Replica, SetSpec
from clustermap.ranges import Range

STORES = tuple(Replica(f"store-{i}", f"h{i}:1", i) for i in range(1, 8))
Stores = frozenset[int]


def subsets(stores: Collection[int], least: int = 0) -> Iterator[Stores]:
    for size in range(least, len(stores) + 1):
        yield from map(frozenset, combinations(sorted(stores), size))


def ids(replicas: Collection[Replica]) -> Stores:
    return frozenset(one.store_id for one in replicas)


@st.composite
def quorums(draw: st.DrawFn, n: int) -> Quorum:
    r = draw(st.integers(1, n))
    return Quorum(n, r, draw(st.integers(n - r + 1, n)))


@st.composite
def changes(draw: st.DrawFn) -> SetSpec:
    """Of a joint version: at most four old ones, at most four new ones."""
    some = st.lists(st.sampled_from(STORES[:6]), min_size=1, max_size=4, unique=True)
    old, new = draw(some), draw(some)
    before, after = draw(quorums(len(old))), draw(quorums(len(new)))
    joint = Joint(tuple(new), after.r, after.w)
    return SetSpec("s", (Range(0, 9),), tuple(old), before.r, before.w, 2, joint)


def met(spec: SetSpec, agreeing: Stores, need: str) -> bool:
    """As one would say it."""
    versions = [(spec.replicas, getattr(spec, need))]
    if spec.joint:
        versions.append((spec.joint.replicas, getattr(spec.joint, need)))
    return all(len(agreeing & ids(replicas)) >= size for replicas, size in versions)


def three(joint: SetSpec) -> tuple[SetSpec, SetSpec, SetSpec]:
    assert joint.joint
    new = joint.joint
    before = replace(joint, joint=None, membership=1)
    after = replace(before, replicas=new.replicas, r=new.r, w=new.w, membership=3)
    return before, joint, after


def bits(spec: SetSpec, stores: Stores) -> int:
    return sum(1 << i for i, one in enumerate(counted(spec).replicas) if one.store_id in stores)


@given(changes())
def test_a_quorum_is_met_or_out_of_reach_as_counting_by_name_says(joint: SetSpec) -> None:
    for spec in three(joint):
        replicas, read, write = counted(spec)
        assert len(ids(replicas)) == len(replicas)
        for some in subsets(ids(replicas)):
            rest = ids(replicas) - some
            for groups, need in ((read, "r"), (write, "w")):
                assert is_met(groups, bits(spec, some)) == met(spec, some, need)
                assert can_be_met(groups, bits(spec, some)) == met(spec, rest, need)
            none_left = not met(spec, rest, "r") and not met(spec, rest, "w")
            assert is_over(spec, some) == none_left


@given(changes())
def test_two_quorums_of_adjacent_versions_always_meet(joint: SetSpec) -> None:
    before, between, after = three(joint)
    for one, other in ((before, between), (between, before), (between, after), (after, between)):
        for reads in subsets(ids(counted(one).replicas)):
            if not met(one, reads, "r"):
                continue
            for writes in subsets(ids(counted(other).replicas)):
                assert not met(other, writes, "w") or reads & writes


@settings(max_examples=60)
@given(changes(), st.data())
def test_what_the_old_ones_knew_is_known_to_every_quorum_of_the_new(
    joint: SetSpec, data: st.DataObject
) -> None:
    """Raised at W, promised at R and by the raise at W: whatever stores the copy has reached."""
    before, _, after = three(joint)
    old, new = ids(before.replicas), ids(after.replicas)
    filled = data.draw(st.sampled_from([s for s in subsets(new) if is_filled(joint, s)]))
    for raised in subsets(old, before.w):
        for read in subsets(new, after.r):
            assert read & (raised | filled)
        for fenced in subsets(old, before.r):
            for write in subsets(new, after.w):
                assert write & (raised | fenced | filled)


def test_less_than_is_filled_asks_for_would_not_do_when_a_set_gets_smaller() -> None:
    old, new = STORES[:5], STORES[2:5]
    joint = SetSpec("s", (Range(0, 9),), old, 3, 3, 2, Joint(new, 2, 2))
    assert not is_filled(joint, {3})
    assert is_filled(joint, {3, 4})
    raised, read = ids(old[:3]), ids(new[1:])
    assert not raised & read, "R of the new ones, none of which knows the raise of the old ones"


def test_a_newcomer_is_counted_on_only_once_it_is_filled() -> None:
    joint = SetSpec("s", (Range(0, 9),), STORES[:3], 2, 2, 2, Joint(STORES[1:4], 2, 2))
    assert not is_filled(joint, {2, 3})
    assert is_filled(joint, {4})
    assert is_filled(replace(joint, joint=None), ())


def test_one_group_is_n_replicas_of_which_any_will_do() -> None:
    groups: Groups = one_group(3, 2)
    assert [is_met(groups, some) for some in range(8)] == [
        some.bit_count() >= 2 for some in range(8)
    ]
