"""What replicas copy from each other: whoever copies from whom, in any order, they end alike.

NRW-1. A promise goes only where it is to (the caller leaves it out), a seal always. Records come
 from owners as a sane map makes them: one owner per epoch, who says "released"
last and leaves at most one snapshot. Digests, bounds and the messages of the wire go with them.
"""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustermap.errors import ReplicaFailed
from seqsvr.sections import SEQ_LIMIT, Layout
from storesvr.bounds import MAX_EPOCH, MAX_SECTIONS, Bounds, check_count
from storesvr.messages import check_header, epoch_ranges, header_of, stored_record, to_stored
from storesvr.port import Identity
from storesvr.records import Record
from storesvr.repair import DIGEST_SIZE, digests, merge


class Life(NamedTuple):
    """What the owner of an epoch has said by now: nothing more, released, with its counters."""

    released: bool
    snapshot: bool


@st.composite
def copies(draw: st.DrawFn) -> list[Record]:
    """Of one section, on several replicas that each missed some of its history."""
    lives = [
        Life(released, released and draw(st.booleans()))
        for released in draw(st.lists(st.booleans(), min_size=1, max_size=4))
    ]
    found = []
    for _ in range(draw(st.integers(2, 4))):
        epoch = draw(st.integers(0, len(lives)))
        max_seq = draw(st.integers(0, 60))
        if epoch == 0:
            promised, sealed = draw(st.integers(0, 9)), draw(st.integers(0, 5))
            found.append(Record(1, promised, max_seq=max_seq, sealed=sealed))
            continue
        life = lives[epoch - 1]
        released = life.released and draw(st.booleans())
        found.append(
            Record(
                1,
                draw(st.integers(0, 9)),
                epoch,
                100 + epoch,
                released,
                max_seq,
                draw(st.integers(0, 9)),
                released and life.snapshot,
                draw(st.integers(0, 5)),
            )
        )
    return found


def carried(record: Record) -> tuple[int, int, int, int, int, bool, bool]:
    """All that is carried: versions stay where they were made."""
    return (
        record.promised,
        record.sealed,
        record.max_seq,
        record.owner_epoch,
        record.owner,
        record.released,
        record.has_snapshot,
    )


@settings(max_examples=300)
@given(copies(), st.data())
def test_whoever_copies_from_whom_all_end_with_the_greatest_of_each_nrw_1(
    records: list[Record], data: st.DataObject
) -> None:
    epoch = max(record.owner_epoch for record in records)
    latest = [record for record in records if record.owner_epoch == epoch]
    expected = (
        max(record.promised for record in records),
        max(record.sealed for record in records),
        max(record.max_seq for record in records),
        epoch,
        100 + epoch if epoch else 0,
        any(record.released for record in latest),
        any(record.has_snapshot for record in latest),
    )
    ours = records[0]
    for theirs in data.draw(st.permutations(records)) + data.draw(st.permutations(records)):
        merged = merge(ours, theirs)
        assert merged.max_seq >= max(ours.max_seq, theirs.max_seq)
        assert merged.owner_epoch == max(ours.owner_epoch, theirs.owner_epoch)
        assert merged.fence_version == ours.fence_version
        kept = merge(ours, theirs._replace(promised=0))
        assert kept == merged._replace(promised=ours.promised), "repair carries no promise"
        assert merge(merged, theirs) == merged, "told twice"
        ours = merged
    assert carried(ours) == expected


@given(copies(), st.integers(1, 5))
def test_two_owners_of_one_epoch_are_not_copied(records: list[Record], owner: int) -> None:
    """Then the map was broken: ours is kept, and at worst the next owner waits."""
    for ours in records:
        if ours.owner_epoch:
            theirs = ours._replace(owner=owner, released=True, has_snapshot=True, max_seq=99)
            theirs = theirs._replace(sealed=7)
            assert merge(ours, theirs) == ours._replace(max_seq=99, sealed=7)


ROWS = st.dictionaries(
    st.integers(0, 11),
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.booleans()),
)


def rows_of(rows: dict[int, tuple[int, int, int, bool]]) -> list[Record]:
    return [
        Record(section, 9, epoch, owner, released, max_seq)
        for section, (max_seq, epoch, owner, released) in sorted(rows.items())
    ]


@given(ROWS, ROWS, st.integers(1, 5), st.integers(0, 3))
def test_digests_of_chunks_agree_where_and_only_where_their_rows_do(
    some: dict[int, tuple[int, int, int, bool]],
    others: dict[int, tuple[int, int, int, bool]],
    chunk: int,
    first: int,
) -> None:
    some = {section: row for section, row in some.items() if section >= first}
    others = {section: row for section, row in others.items() if section >= first}
    told = [{d.first: d for d in digests(rows_of(rows), first, chunk)} for rows in (some, others)]
    for start in range(first, 12, chunk):
        span = range(start, start + chunk)
        inside = [{s: rows[s] for s in span if s in rows} for rows in (some, others)]
        assert (told[0].pop(start, None) == told[1].get(start)) == (inside[0] == inside[1])
        one = told[1].pop(start, None)
        assert (one.records if one else 0) == len(inside[1])
        assert one is None or len(one.digest) == DIGEST_SIZE
    assert told == [{}, {}], "chunks begin where they should"


# -- what may be asked at all

LAYOUT = Layout(10, 95)
SECTION = st.one_of(st.integers(0, 9), st.sampled_from([-1, 10, 2**64]))
EPOCH = st.one_of(st.integers(1, 5), st.sampled_from([0, -1, MAX_EPOCH, MAX_EPOCH + 1]))
MAX_SEQ = st.one_of(st.integers(0, 9), st.sampled_from([-1, SEQ_LIMIT, SEQ_LIMIT + 1]))


def refuses(ask: object, *arguments: object) -> bool:
    try:
        ask(*arguments)  # type: ignore[operator]
    except ReplicaFailed as failed:
        assert failed.reason == "MALFORMED"
        return True
    return False


@settings(max_examples=200)
@given(st.lists(st.tuples(SECTION, SECTION, EPOCH), max_size=3))
def test_ranges_are_taken_section_by_section_or_refused_as_a_whole(
    ranges: list[tuple[int, int, int]],
) -> None:
    sound = all(0 <= f <= last < 10 and 1 <= epoch <= MAX_EPOCH for f, last, epoch in ranges)
    bounds = Bounds(LAYOUT)
    assert refuses(bounds.expand, ranges) == (not sound)
    if sound:
        expected = [(s, epoch) for f, last, epoch in ranges for s in range(f, last + 1)]
        assert bounds.expand(ranges) == expected


@given(st.lists(st.tuples(SECTION, EPOCH, MAX_SEQ), max_size=3), st.integers(0, 2))
def test_entries_are_bounded_one_by_one(entries: list[tuple[int, int, int]], who: int) -> None:
    bounds = Bounds(LAYOUT)
    sound = all(0 <= s < 10 and 1 <= epoch <= MAX_EPOCH for s, epoch, _ in entries)
    assert refuses(bounds.entries, who, entries) == (not sound or who == 0)
    for section, _, max_seq in entries:
        assert refuses(bounds.max_seq, section, max_seq) == (not 0 <= max_seq <= SEQ_LIMIT)


@given(st.integers(0, 12), st.integers(0, 12))
def test_a_span_is_cut_at_the_last_section_there_is(first: int, last: int) -> None:
    bounds = Bounds(LAYOUT)
    if first > last or first > 9:
        assert refuses(bounds.span, first, last)
    else:
        assert bounds.span(first, last) == min(last, 9)
    assert not refuses(check_count, MAX_SECTIONS)
    assert refuses(check_count, MAX_SECTIONS + 1)
    payload = bytes(bounds.max_snapshot)
    assert not refuses(bounds.snapshot, 1, payload)
    assert refuses(bounds.snapshot, 1, payload + b"!")


@given(copies(), st.binary(max_size=4), st.integers(0, 1))
def test_a_record_survives_the_wire_but_for_its_fence_version(
    records: list[Record], payload: bytes, wrong: int
) -> None:
    """A snapshot goes along only if it is of the very epoch that was released."""
    for record in records:
        sent = to_stored(record, payload if record.snapshot_epoch else b"")
        sent.snapshot_epoch += wrong
        got, snapshot = stored_record(sent)
        usable = bool(record.snapshot_epoch and payload and not wrong)
        assert got == record._replace(fence_version=0, has_snapshot=usable)
        assert snapshot == sent.snapshot
        assert not refuses(Bounds(LAYOUT).theirs, got, snapshot)


@given(st.dictionaries(st.integers(0, 9), st.integers(1, 3)))
def test_refusals_reach_the_caller_section_by_section(refused: dict[int, int]) -> None:
    told = {s: r.epoch for r in epoch_ranges(refused) for s in range(r.first, r.last + 1)}
    assert told == refused


NAMES = st.sampled_from(["a", "b"])


STANDINGS = st.sampled_from([(False, False), (True, False), (False, True)])


@given(NAMES, NAMES, NAMES, NAMES, st.integers(1, 2), st.integers(1, 2), STANDINGS)
def test_a_request_is_answered_only_by_the_store_that_it_is_for(
    cluster: str,
    other: str,
    name: str,
    another: str,
    here: int,
    there: int,
    standing: tuple[bool, bool],
) -> None:
    store = Identity(cluster, name, "r", 10, 95, here, 5, *standing)
    header = header_of(Identity(other, another, "r", 10, 95, there))
    if (cluster, name) != (other, another):
        with pytest.raises(ReplicaFailed, match="FOREIGN"):
            check_header(header, store)
    elif here != there or store.retired:
        with pytest.raises(ReplicaFailed, match="MEMBERSHIP") as caught:
            check_header(header, store, counting=False)
        assert caught.value.membership == here
    elif store.learning:
        check_header(header, store, counting=False)
        with pytest.raises(ReplicaFailed, match="LEARNING"):
            check_header(header, store)
    else:
        check_header(header, store)
