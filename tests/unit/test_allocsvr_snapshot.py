"""What an owner leaves behind: exact, bounded, and never above what is durable. SEQ-5."""

import struct
import tracemalloc
import zlib
from array import array
from random import Random

import pytest

from allocsvr.section import PAGE_SIZE, Section
from allocsvr.snapshot import BadSnapshot, decode, encode
from seqsvr.sections import SECTION_SIZE, SEQ_LIMIT, Layout
from storesvr.bounds import Bounds

HEADER = struct.Struct("<4sHHQQQ")


def section_of(
    counters: dict[int, int], *, base: int = 0, max_seq: int = 10**6, size: int = 1000, id_: int = 3
) -> Section:
    """A section whose uids stand at the given distances above the base."""
    section = Section(id_, 1, base, found=base, size=size, on_hungry=lambda s: None)
    section.raised(max_seq)
    for index, distance in counters.items():
        for count in (distance // 10_000 * [10_000], [distance % 10_000] * (distance % 10_000 > 0)):
            for taken in count:
                assert section.take(index, taken) > 0
    return section


def framed(body: bytes, *, id_: int = 3, max_seq: int = 100, room: int = 100) -> bytes:
    return HEADER.pack(b"SQSN", 1, PAGE_SIZE, id_, max_seq, room) + zlib.compress(body)


def block(index: int, width: int, items: "array[int]") -> bytes:
    return struct.pack("<IB", index, width) + items.tobytes()


FULL_PAGE = block(0, 2, array("H", [100] * PAGE_SIZE))


def test_a_round_trip_gives_every_counter_back() -> None:
    section = section_of({0: 1, 255: 70_000, 256: 3, 999: 10}, base=50)
    base, max_seq, pages = decode(3, 1000, encode(section))
    assert (base, max_seq) == (50, 10**6)
    again = Section(3, 2, base, found=max_seq, size=1000, on_hungry=lambda s: None, pages=pages)
    assert [again.current(i) for i in range(1000)] == [section.current(i) for i in range(1000)]
    assert again.highest() == section.highest() == 70_050


def test_an_untouched_section_leaves_its_header_only() -> None:
    data = encode(section_of({}))
    assert len(data) == HEADER.size
    assert decode(3, 1000, data) == (0, 10**6, None)


def test_the_ends_of_the_number_space_survive() -> None:
    section = Section(3, 1, SEQ_LIMIT - 9, found=0, size=10, on_hungry=lambda s: None)
    section.raised(SEQ_LIMIT)
    section.take(0, 9)
    base, max_seq, pages = decode(3, 10, encode(section))
    assert (base, max_seq) == (SEQ_LIMIT - 9, SEQ_LIMIT)
    assert pages is not None
    assert pages[0] is not None
    assert pages[0][0] == 9


@pytest.mark.parametrize("room", [1, 2**16 - 1, 2**16, 2**32 - 1, 2**32, SEQ_LIMIT])
@pytest.mark.parametrize("size", [1, 256, 257, 5000])
def test_every_width_of_counters_survives_with_every_page_in_use(room: int, size: int) -> None:
    pages = [array("Q", [i % (room + 1) for i in range(256)]) for _ in range(-(-size // 256))]
    pages[0][0] = room
    section = Section(3, 1, 0, found=0, size=size, on_hungry=lambda s: None, pages=list(pages))
    section.raised(section.highest())
    assert decode(3, size, encode(section)) == (0, room, pages)


@pytest.mark.parametrize("size", [1, 100, 1000, SECTION_SIZE])
def test_the_largest_snapshot_is_one_that_a_store_takes(size: int) -> None:
    """Counters that do not compress, eight bytes each."""
    random = Random(1)
    pages = [
        array("Q", [random.randrange(2**62) for _ in range(256)]) for _ in range(-(-size // 256))
    ]
    section = Section(3, 1, 0, found=0, size=size, on_hungry=lambda s: None, pages=list(pages))
    assert len(encode(section)) <= Bounds(Layout(size)).max_snapshot


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SQSN",
        framed(FULL_PAGE)[: HEADER.size + 3],
        framed(FULL_PAGE)[:-1],
        framed(FULL_PAGE) + b"x",
        framed(FULL_PAGE + b"x"),
        framed(FULL_PAGE[:-1]),
        framed(FULL_PAGE + FULL_PAGE),
        framed(b"", id_=4),
        framed(FULL_PAGE, max_seq=99),
        framed(FULL_PAGE, room=99),
        framed(block(4, 2, array("H", [0] * PAGE_SIZE))),
        framed(block(2**32 - 1, 2, array("H", [0] * PAGE_SIZE))),
        framed(block(0, 3, array("H", [0] * PAGE_SIZE))),
        framed(block(0, 8, array("Q", [2**64 - 1] * PAGE_SIZE))),
        framed(FULL_PAGE).replace(b"SQSN", b"SQSM"),
        framed(FULL_PAGE)[:4] + b"\x02" + framed(FULL_PAGE)[5:],
        HEADER.pack(b"SQSN", 1, PAGE_SIZE, 3, 100, 100) + b"no zlib stream at all",
        framed(FULL_PAGE, max_seq=2**64 - 1, room=2**64 - 1),
    ],
)
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(BadSnapshot):
        decode(3, 1000, data)


def test_a_body_that_inflates_without_end_is_refused_early() -> None:
    bomb = framed(bytes(64 << 20))
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(BadSnapshot):
            decode(3, 1000, bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
