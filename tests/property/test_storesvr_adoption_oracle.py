"""What a replica may adopt, in whatever order it is told. Rules 1 and 2 of membership.py."""

from hypothesis import given
from hypothesis import strategies as st

from clustermap.errors import ReplicaFailed
from storesvr.adoption import adopted, check_membership
from storesvr.port import Identity

NEW = Identity("c", "s", "r", 10, 95, 1, 5)
ADOPTS = st.tuples(st.integers(1, 5), st.sampled_from(["counted", "learning", "retired"]))


@given(st.lists(ADOPTS, max_size=12))
def test_versions_only_rise_and_a_learner_is_counted_only_at_its_own(
    told: list[tuple[int, str]],
) -> None:
    ours = NEW
    for version, standing in told:
        wanted = ours._replace(
            membership=version, learning=standing == "learning", retired=standing == "retired"
        )
        try:
            new = adopted(ours, wanted, blank=False)
        except ReplicaFailed as failed:
            assert failed.membership == ours.membership
            continue
        assert new == wanted
        assert new.membership >= ours.membership
        if ours.learning and not (new.learning or new.retired):
            assert new.membership == ours.membership
        if not (ours.learning or ours.retired) and new.membership == ours.membership:
            assert new == ours, "a member stays one for as long as its version"
        ours = new


@given(ADOPTS, st.integers(1, 5))
def test_a_request_is_counted_by_members_of_its_own_version_only(
    adopt: tuple[int, str], version: int
) -> None:
    own, standing = adopt
    learning, retired = standing == "learning", standing == "retired"
    ours = NEW._replace(membership=own, learning=learning, retired=retired)
    for counting in (True, False):
        answered = own == version and not retired and not (counting and learning)
        try:
            check_membership(ours, version, counting=counting)
            assert answered
        except ReplicaFailed:
            assert not answered
