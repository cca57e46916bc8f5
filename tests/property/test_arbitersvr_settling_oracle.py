"""What follows from fence answers, against a reading of all of them at once. SEQ-1, LEASE-1."""

from hypothesis import given, settings
from hypothesis import strategies as st

from arbitersvr.settling import Inquiry, Known, Outcome, combined, fence_need, record_need
from clustermap.model import Quorum

JOB, EPOCH = 9, 10
QUORUMS = st.sampled_from([Quorum(1, 1, 1), Quorum(3, 2, 2), Quorum(3, 1, 3), Quorum(5, 3, 3)])
OWNERS = {1: 1, 2: 2, 3: JOB, 4: 1, 5: 2}  # by epoch


@st.composite
def known(draw: st.DrawFn) -> Known:
    epoch = draw(st.integers(0, 5))
    released = bool(epoch) and (draw(st.booleans()) or OWNERS[epoch] == JOB)
    left = epoch if released and draw(st.booleans()) else 0
    granted = draw(st.integers(0, 9)) > 0
    promised = EPOCH if granted else draw(st.integers(1, 14))
    sealed = draw(st.integers(0, 5))
    max_seq = draw(st.integers(0, 20))
    return Known(granted, promised, max_seq, OWNERS.get(epoch, 0), epoch, released, left, sealed)


@settings(max_examples=400)
@given(QUORUMS, st.data())
def test_a_chunk_is_won_by_enough_grants_and_what_is_found_is_the_greatest_of_each(
    quorum: Quorum, data: st.DataObject
) -> None:
    inquiry = Inquiry("a", {3: EPOCH}, quorum, JOB, 0.0)
    counted: list[tuple[int, Known, dict[int, int], int, int]] = []
    against = grants = 0
    refused: dict[int, int] = {}
    need = max(quorum.r, quorum.n // 2 + 1)
    assert need == fence_need(quorum) and record_need(quorum) >= max(quorum.r, quorum.w)
    for replica in range(quorum.n):
        if data.draw(st.integers(0, 5)) == 0:
            inquiry.failed()
            against += 1
            continue
        one = data.draw(known())
        leases = data.draw(st.dictionaries(st.integers(1, 2), st.integers(1, 50)))
        grace, at = data.draw(st.sampled_from([0, 0, 30])), 100 + replica
        inquiry.answered(replica, [one], leases, grace, at)
        if not one.granted or one.promised != EPOCH:
            refused[3] = max(one.promised, refused.get(3, 0))
            against += 1
        else:
            if grants < need:
                counted.append((replica, one, leases, grace, at))
            grants += 1
    assert inquiry.refused == refused
    if grants >= need:
        assert inquiry.outcome is Outcome.WON
    else:
        assert inquiry.outcome is Outcome.LOST
        return
    [found] = inquiry.found()
    top = max(one.owner_epoch for _, one, *_ in counted)
    last = [one for _, one, *_ in counted if one.owner_epoch == top]
    released = any(one.released for one in last)
    assert (found.max_seq, found.owner_epoch) == (max(k.max_seq for _, k, *_ in counted), top)
    places = {("a", i) for i, one, *_ in counted if released and one.snapshot_epoch == top > 0}
    assert set(found.places) == (places if released else set())
    sealed = max(one.sealed for _, one, *_ in counted)
    free = not top or released or last[0].owner == JOB or sealed >= top
    until = 0
    if not free:
        owner = last[0].owner
        lasts = [(at, max(ls.get(owner, 0), grace)) for _, _, ls, grace, at in counted]
        until = max(at + (left + 1 if left else 0) for at, left in lasts)
    assert found.until_ns == until


@given(st.lists(known(), min_size=2, max_size=2))
def test_of_two_sets_the_later_owner_counts_and_the_greater_max_seq(both: list[Known]) -> None:
    found = []
    for name, single in zip("ab", both, strict=True):
        inquiry = Inquiry(name, {3: EPOCH}, Quorum(1, 1, 1), JOB, 0.0)
        inquiry.answered(0, [single._replace(granted=True, promised=EPOCH)], {1: 5, 2: 7}, 0, 100)
        found += inquiry.found()
    one, other = found
    result = combined(one, other)
    assert result.max_seq == max(one.max_seq, other.max_seq)
    assert result.until_ns == max(one.until_ns, other.until_ns)
    assert result.owner_epoch == max(one.owner_epoch, other.owner_epoch)
    if one.owner_epoch != other.owner_epoch:
        later = max(found, key=lambda f: f.owner_epoch)
        assert (result.snapshot_epoch, result.places) == (later.snapshot_epoch, later.places)
