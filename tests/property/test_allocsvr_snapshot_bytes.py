"""Snapshots of any counters, and any bytes taken for a snapshot. SEQ-5."""

import struct
import sys
import zlib
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocsvr.section import PAGE_SIZE, Section
from allocsvr.snapshot import BadSnapshot, decode, encode
from seqsvr.sections import SEQ_LIMIT

SIZES = st.sampled_from([1, 7, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE, 1000])
ROOMS = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**32 + 1, SEQ_LIMIT]),
    st.integers(0, SEQ_LIMIT),
)


@st.composite
def sections(draw: st.DrawFn) -> Section:
    size = draw(SIZES)
    room = draw(ROOMS)
    base = draw(st.integers(0, SEQ_LIMIT - room))
    indexes = st.integers(0, size - 1)
    distances = st.one_of(st.integers(0, room), st.sampled_from([0, room, room // 2]))
    counters = draw(st.dictionaries(indexes, distances, max_size=40))
    pages: list[array[int] | None] = [None] * -(-size // PAGE_SIZE)
    for index, distance in counters.items():
        page = pages[index // PAGE_SIZE]
        if page is None:
            page = pages[index // PAGE_SIZE] = array("Q", bytes(8 * PAGE_SIZE))
        page[index % PAGE_SIZE] = distance
    section = Section(5, 1, base, found=0, size=size, on_hungry=lambda s: None, pages=pages)
    section.raised(base + room)
    return section


@given(sections())
def test_every_counter_comes_back_and_max_seq_with_it(section: Section) -> None:
    base, max_seq, pages = decode(5, section.size, encode(section))
    assert (base, max_seq) == (section.base, section.max_seq)
    again = Section(
        5, 2, base, found=max_seq, size=section.size, on_hungry=lambda s: None, pages=pages
    )
    for index in range(section.size):
        assert again.current(index) == section.current(index)
    assert again.highest() == section.highest()


@settings(max_examples=400)
@given(sections(), st.data())
def test_spoiled_bytes_are_refused_or_give_counters_that_are_not_above_max_seq(
    section: Section, data: st.DataObject
) -> None:
    raw = bytearray(encode(section))
    how = data.draw(st.sampled_from(["cut", "flip", "insert", "tail"]))
    at = data.draw(st.integers(0, len(raw) - 1))
    if how == "cut":
        raw = raw[:at]
    elif how == "flip":
        raw[at] ^= data.draw(st.integers(1, 255))
    elif how == "insert":
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    else:
        raw += data.draw(st.binary(min_size=1, max_size=9))
    harmless(bytes(raw), section.size)


@given(st.binary(max_size=200), SIZES)
def test_any_bytes_are_refused_or_harmless(raw: bytes, size: int) -> None:
    harmless(raw, size)


def harmless(raw: bytes, size: int) -> None:
    try:
        base, max_seq, pages = decode(5, size, raw)
    except BadSnapshot:
        return
    assert 0 <= base <= max_seq
    for page in pages or ():
        assert page is None or (len(page) == PAGE_SIZE and base + max(page) <= max_seq)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=3), st.integers(0, 2**16 - 1))
def test_a_counter_below_the_base_is_refused(distances: list[int], room: int) -> None:
    """Sound in form, so that no checksum is in its way: only a reader that looks can see it."""
    below = array("H", [*distances, *[0] * (PAGE_SIZE - len(distances))])
    if sys.byteorder == "big":
        below.byteswap()
    header = struct.pack("<4sHHQQQ", b"SQSN", 1, PAGE_SIZE, 5, SEQ_LIMIT, room)
    raw = header + zlib.compress(struct.pack("<IB", 0, 2) + below.tobytes())
    if max(distances) > room:
        with pytest.raises(BadSnapshot):
            decode(5, PAGE_SIZE, raw)
    else:
        base, max_seq, pages = decode(5, PAGE_SIZE, raw)
        assert (base, max_seq) == (SEQ_LIMIT - room, SEQ_LIMIT)
        assert (
            pages and pages[0] and [room - d for d in distances] == list(pages[0])[: len(distances)]
        )
