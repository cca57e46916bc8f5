"""Everything that a store writes comes back as it was, or not at all. NRW-2.

Whatever happens to the bytes (a flipped bit, a cut, a tail, another key) is either refused, or left
them as they were; and any bytes at all are refused. There is no value that reads as 0.
"""

from collections.abc import Callable

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storesvr.errors import CorruptRecord, EngineCorrupt, Foreign
from storesvr.ledger import (
    Totals,
    Witness,
    check_identity,
    decode_identity,
    decode_outliving,
    decode_totals,
    decode_witness,
    encode_identity,
    encode_outliving,
    encode_totals,
    encode_witness,
)
from storesvr.port import Identity
from storesvr.records import (
    RECORD_SIZE,
    SEALED_SIZE,
    SNAPSHOT_OVERHEAD,
    Record,
    Snapshot,
    decode,
    decode_snapshot,
    encode,
    encode_snapshot,
    stored_crc,
    trusted,
)

U64 = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1), st.just(2**64 - 1))
RECORDS = st.builds(Record, U64, U64, U64, U64, st.booleans(), U64, U64, st.booleans(), U64)
SNAPSHOTS = st.builds(Snapshot, U64, U64, st.binary(max_size=40))
NAMES = st.text(max_size=8)
IDENTITIES = st.builds(
    Identity, NAMES, NAMES, NAMES, st.integers(1, 2**32), U64, st.integers(1, 9), U64
)


Stored = tuple[bytes, Callable[[bytes], object], object]


def stored(value: object) -> Stored:
    """It, encoded; how it is read; what must come out. A number is a lease's longest time."""
    if isinstance(value, Record):
        return encode(value), lambda raw: decode(value.section, raw), value
    if isinstance(value, Snapshot):
        return encode_snapshot(value), lambda raw: decode_snapshot(value.section, raw), value
    if isinstance(value, Identity):
        return encode_identity(value), decode_identity, value
    if isinstance(value, Totals):
        return encode_totals(value), decode_totals, value
    if isinstance(value, Witness):
        return encode_witness(value), decode_witness, value
    assert isinstance(value, int)
    return encode_outliving(value), decode_outliving, value


STORED = st.one_of(
    RECORDS,
    SNAPSHOTS,
    IDENTITIES,
    st.builds(Totals, U64, U64, U64),
    st.builds(Witness, U64, U64),
    U64,
).map(stored)


@settings(max_examples=300)
@given(STORED)
def test_what_is_written_is_read_back(made: Stored) -> None:
    raw, read, value = made
    assert read(raw) == value


@settings(max_examples=500)
@given(STORED, st.data())
def test_spoilt_bytes_are_refused_nrw_2(made: Stored, data: st.DataObject) -> None:
    raw, read, _ = made
    how = data.draw(st.sampled_from(["flip", "flip two", "cut", "extend", "insert", "swap"]))
    at = data.draw(st.integers(0, len(raw) - 1))
    spoilt = bytearray(raw)
    if how == "cut":
        del spoilt[data.draw(st.sampled_from([at, len(raw) - 1])) :]
    elif how == "extend":
        spoilt += data.draw(st.binary(min_size=1, max_size=60))
    elif how == "insert":
        spoilt[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    elif how == "swap":
        spoilt = bytearray(bytes(spoilt[at:]) + bytes(spoilt[:at]))
    else:
        for place in {at, data.draw(st.integers(0, len(raw) - 1))} if "two" in how else {at}:
            spoilt[place] ^= 1 << data.draw(st.integers(0, 7))
    if bytes(spoilt) != raw:
        with pytest.raises(EngineCorrupt):
            read(bytes(spoilt))


@given(st.one_of(st.binary(max_size=80), st.binary(min_size=RECORD_SIZE, max_size=RECORD_SIZE)))
def test_any_bytes_are_refused_nrw_2(raw: bytes) -> None:
    for read in (decode, decode_snapshot):
        with pytest.raises(CorruptRecord) as caught:
            read(5, raw)
        assert caught.value.section == 5
    for read_own in (decode_identity, decode_totals, decode_witness, decode_outliving):
        with pytest.raises(EngineCorrupt):
            read_own(raw)


@given(RECORDS, SNAPSHOTS, U64)
def test_a_value_under_another_key_is_refused(record: Record, snapshot: Snapshot, key: int) -> None:
    if key != record.section:
        with pytest.raises(CorruptRecord):
            decode(key, encode(record))
    if key != snapshot.section:
        with pytest.raises(CorruptRecord):
            decode_snapshot(key, encode_snapshot(snapshot))


@given(RECORDS, st.integers(4, 7), st.integers(1, 255))
def test_a_sound_checksum_makes_no_other_format_or_flag_known(
    record: Record, place: int, change: int
) -> None:
    """Written by a version to come, or by a bug: refused, never read as if it were ours."""
    body = bytearray(encode(record)[:-4])
    body[place] ^= change & ~3 if place == 7 else change
    sealed = bytes(body) + google_crc32c.value(bytes(body)).to_bytes(4, "big")
    if sealed != encode(record):
        with pytest.raises(CorruptRecord):
            decode(record.section, sealed)


@given(RECORDS)
def test_a_record_is_as_long_as_the_format_says_and_ends_with_its_checksum(record: Record) -> None:
    raw = encode(record)
    assert len(raw) == (SEALED_SIZE if record.sealed else RECORD_SIZE)
    assert stored_crc(raw) == google_crc32c.value(raw[:-4])
    assert len(encode_snapshot(Snapshot(1, 2, b"abc"))) == SNAPSHOT_OVERHEAD + 3
    expected = record.owner_epoch if record.released and record.has_snapshot else 0
    assert record.snapshot_epoch == expected


def test_records_of_before_there_were_seals_are_read_as_they_were_written() -> None:
    """What a release without seals wrote, byte for byte."""
    old = bytes.fromhex(
        "53515243000100010000000000000005000000000000000a000000000000000a"
        "000000000000000700000000000027740000000000000003"
    )
    old += int(google_crc32c.value(old)).to_bytes(4, "big")
    record = Record(5, 10, 10, 7, True, 10100, 3)
    assert (decode(5, old), encode(record)) == (record, old)


@given(RECORDS)
def test_a_record_has_one_form_only(record: Record) -> None:
    """With a seal of 0 in the longer form it would be the same, and digests would not agree."""
    body = bytearray(encode(record._replace(sealed=1))[:-4])
    body[-8:] = bytes(8)
    raw = bytes(body) + int(google_crc32c.value(bytes(body))).to_bytes(4, "big")
    with pytest.raises(CorruptRecord, match="seal of epoch 0"):
        decode(record.section, raw)


@given(RECORDS, U64)
def test_a_record_whose_max_seq_changes_keeps_everything_else(record: Record, max_seq: int) -> None:
    assert record.at(max_seq) == record._replace(max_seq=max_seq)


@given(RECORDS)
def test_a_row_that_is_known_reads_as_one_that_is_checked(record: Record) -> None:
    known = trusted(encode(record))
    assert known == decode(record.section, encode(record)) == record
    assert [type(field) for field in known] == [type(field) for field in record]


COMMITS = st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 2**32 - 1), max_size=4))


@given(COMMITS)
def test_totals_after_any_commits_are_those_of_what_is_stored(
    commits: list[dict[int, int]],
) -> None:
    totals = Totals()
    crcs: dict[int, int] = {}
    for commit in commits:
        totals = totals.after([(crcs.get(section), crc) for section, crc in commit.items()])
        crcs.update(commit)
    assert totals == Totals(len(commits), len(crcs), sum(crcs.values()) % 2**64)
    assert decode_totals(encode_totals(totals)) == totals


@given(st.integers(2**64 - 9, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_sum_of_checksums_wraps_where_64_bits_end(at: int, old: int, new: int) -> None:
    totals = Totals(1, 1, at).after([(old, new)])
    assert totals.crc_sum == (at + new - old) % 2**64
    encode_totals(totals)


ADOPTED = {"membership", "learning", "retired"}


@given(IDENTITIES, IDENTITIES)
def test_a_store_is_opened_only_as_what_it_is(found: Identity, wanted: Identity) -> None:
    check_identity(found, found)
    check_identity(found, found._replace(store_id=0))
    for name in Identity._fields:
        asked = found._replace(**{name: getattr(wanted, name)})
        if asked == found or name in ADOPTED or (name == "store_id" and not wanted.store_id):
            check_identity(found, asked)
        else:
            with pytest.raises(Foreign, match=name):
                check_identity(found, asked)
