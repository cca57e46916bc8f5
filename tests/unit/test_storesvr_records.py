"""The binary form of what is stored: exact, or CorruptRecord. NRW-2."""

import pytest

from seqsvr.sections import SEQ_LIMIT
from storesvr import ledger
from storesvr.errors import CorruptRecord, EngineCorrupt, Foreign
from storesvr.port import Identity
from storesvr.records import (
    RECORD_SIZE,
    Record,
    Snapshot,
    decode,
    decode_snapshot,
    encode,
    encode_snapshot,
)

FULL = Record(42_949, 9, 8, 2**64 - 1, True, SEQ_LIMIT, 2**64 - 1, True)
IDENTITY = Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, 77)


@pytest.mark.parametrize("record", [Record(0), Record(7, promised=1), FULL])
def test_a_record_comes_back_as_it_was_stored(record: Record) -> None:
    value = encode(record)
    assert len(value) == RECORD_SIZE
    assert decode(record.section, value) == record


@pytest.mark.parametrize("payload", [b"", b"x", bytes(800_000)])
def test_a_snapshot_comes_back_as_it_was_stored(payload: bytes) -> None:
    snapshot = Snapshot(5, 3, payload)
    assert decode_snapshot(5, encode_snapshot(snapshot)) == snapshot


def test_the_form_of_a_record_is_fixed() -> None:
    assert encode(Record(1, 2, 3, 4, True, 5, 6, True)).hex() == (
        "5351524300010003" + "".join(f"{n:016x}" for n in (1, 2, 3, 4, 5, 6)) + "c2dbc0c5"
    )


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    value = encode(FULL)
    for bit in range(8 * len(value)):
        spoilt = bytearray(value)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecord):
            decode(FULL.section, bytes(spoilt))


def test_every_flipped_bit_of_a_snapshot_is_noticed() -> None:
    value = encode_snapshot(Snapshot(5, 3, b"payload"))
    for bit in range(8 * len(value)):
        spoilt = bytearray(value)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecord):
            decode_snapshot(5, bytes(spoilt))


@pytest.mark.parametrize("length", [0, 1, 4, 27, RECORD_SIZE - 1])
def test_a_shortened_value_is_noticed(length: int) -> None:
    with pytest.raises(CorruptRecord):
        decode(FULL.section, encode(FULL)[:length])
    with pytest.raises(CorruptRecord):
        decode_snapshot(5, encode_snapshot(Snapshot(5, 3, bytes(60)))[:length])


def test_a_value_under_the_key_of_another_section_is_noticed() -> None:
    with pytest.raises(CorruptRecord, match="value of section 42949") as caught:
        decode(1, encode(FULL))
    assert caught.value.section == 1
    with pytest.raises(CorruptRecord, match="value of section 5"):
        decode_snapshot(6, encode_snapshot(Snapshot(5, 3, b"")))


def test_a_sound_record_of_another_version_or_with_unknown_flags_is_refused() -> None:
    for position, why in ((5, "head"), (7, "flags")):
        body = bytearray(encode(Record(1))[:-4])
        body[position] = 0x80
        with pytest.raises(CorruptRecord, match=why):
            decode(1, ledger._sealed(bytes(body)))


def test_zeros_are_no_record() -> None:
    with pytest.raises(CorruptRecord):
        decode(0, bytes(RECORD_SIZE))
    with pytest.raises(CorruptRecord):
        decode_snapshot(0, bytes(28))


def test_the_ledger_comes_back_as_it_was_stored_and_notices_every_flipped_bit() -> None:
    forms = [
        (ledger.encode_identity(IDENTITY), ledger.decode_identity, IDENTITY),
        (ledger.encode_totals(ledger.Totals(1, 2, 3)), ledger.decode_totals, (1, 2, 3)),
        (ledger.encode_witness(ledger.Witness(4, 5)), ledger.decode_witness, (4, 5)),
    ]
    for value, read, expected in forms:
        assert read(value) == expected
        for bit in range(8 * len(value)):
            spoilt = bytearray(value)
            spoilt[bit // 8] ^= 1 << bit % 8
            with pytest.raises(EngineCorrupt):
                read(bytes(spoilt))


def test_totals_do_not_depend_on_the_order_of_commits() -> None:
    start = ledger.Totals()
    one = start.after([(None, 10), (None, 2**32 - 1)]).after([(10, 5)])
    two = start.after([(None, 5)]).after([(None, 2**32 - 1)])
    assert one == two == ledger.Totals(2, 2, 2**32 + 4)


@pytest.mark.parametrize(
    ("field", "other"),
    [("cluster", "c2"), ("set", "set-1"), ("replica", "store-1"), ("section_size", 10),
     ("uid_limit", 2**31), ("store_id", 78)],
)  # fmt: skip
def test_an_identity_that_differs_is_foreign_and_both_sides_are_named(
    field: str, other: object
) -> None:
    wanted = IDENTITY._replace(**{field: other})  # type: ignore[arg-type]
    with pytest.raises(Foreign) as caught:
        ledger.check_identity(IDENTITY, wanted)
    assert field in str(caught.value)
    assert repr(other) in str(caught.value)
    assert repr(getattr(IDENTITY, field)) in str(caught.value)


def test_what_a_store_has_adopted_is_nobody_elses_to_say() -> None:
    adopted = IDENTITY._replace(membership=5, learning=True)
    ledger.check_identity(adopted, IDENTITY)
    assert ledger.decode_identity(ledger.encode_identity(adopted)) == adopted


def test_an_identity_that_has_adopted_nothing_is_written_as_before_there_was_adopt() -> None:
    assert not {b"learning", b"retired"} & set(ledger.encode_identity(IDENTITY).split(b'"'))


def test_a_store_id_of_zero_asks_for_whichever_store_it_is() -> None:
    ledger.check_identity(IDENTITY, IDENTITY._replace(store_id=0))
