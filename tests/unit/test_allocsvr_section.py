"""The counters of one section. SEQ-1..SEQ-5 within one owner."""

import mmap
import random
import sys
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest

from allocsvr.counters import Counters
from allocsvr.section import COLD_NS, EXHAUSTED, HOT_NS, STEP_CAP, USED_UP, Section
from allocsvr.snapshot import decode, encode
from processes.memory import resident_bytes
from seqsvr.sections import MAX_COUNT, SECTION_SIZE, SEQ_LIMIT, STEP

S = 10**9


class Owned:
    """A section with a list of the times it got hungry, and a raise that works at once."""

    def __init__(self, base: int = 0, *, size: int = 1000, raised: bool = True, **options: Any):
        self.hungry: list[int] = []
        self.now_ns = 100 * S
        options.setdefault("found", base)
        self.section = Section(
            0, 1, base, size=size, on_hungry=lambda s: self.hungry.append(s.max_seq), **options
        )
        if raised:
            self.raise_now()

    def raise_now(self, after_ns: int = 2 * S) -> int:
        """One raise, `after_ns` after the last; the target."""
        self.now_ns += after_ns
        target = self.section.target(self.now_ns)
        self.section.raised(target)
        return target


@pytest.mark.parametrize("indexes", [(0, 1), (0, SECTION_SIZE - 1), (255, 256), (7, 7 + 256)])
def test_two_uids_of_a_section_advance_independently(indexes: tuple[int, int]) -> None:
    section = Owned(size=SECTION_SIZE).section
    a, b = indexes
    assert [section.take(a, 1), section.take(a, 5), section.take(b, 2)] == [1, 2, 1]
    assert [section.take(b, 1), section.take(a, 1)] == [3, 7]
    assert (section.current(a), section.current(b)) == ((7, True), (3, True))


def test_every_uid_of_a_short_section_has_a_counter_of_its_own() -> None:
    section = Owned(size=513).section
    for index in range(513):
        assert section.take(index, index + 1) == 1
    assert [section.take(index, 1) for index in range(513)] == [i + 2 for i in range(513)]


def test_nothing_is_handed_out_before_the_first_raise_is_durable_seq_3() -> None:
    for base in (0, 500):
        owned = Owned(base, raised=False)
        assert owned.section.take(3, 1) == USED_UP
        assert owned.section.current(3) == (base, base == 0)
        owned.raise_now()
        assert owned.section.take(3, 1) == base + 1


def test_a_used_up_window_takes_nothing_and_is_hungry_exactly_once() -> None:
    owned = Owned(step=10)
    section = owned.section
    assert section.take(3, 10) == 1
    assert owned.hungry == [10]
    for _ in range(5):
        assert section.take(3, 1) == USED_UP
        assert section.take(4, 10_000) == USED_UP
    assert owned.hungry == [10]
    assert section.current(3) == (10, True)
    owned.raise_now()
    assert section.take(4, 10_000) == 1
    assert section.take(3, 1) == 11


def test_it_is_hungry_at_half_a_step_below_max_seq_and_not_before() -> None:
    owned = Owned(step=10)
    assert owned.section.take(1, 5) == 1
    assert owned.hungry == []
    assert owned.section.take(2, 6) == 1
    assert owned.hungry == [10]
    assert owned.section.take(1, 5) == 6  # the rest of the window is served meanwhile


def test_a_raise_lifts_and_never_lowers_however_often_it_is_answered() -> None:
    owned = Owned(step=10)
    section = owned.section
    section.take(1, 8)
    targets = [20, 40, 30, 40, 0, 20]
    highest = 10
    for target in targets:
        section.raised(target)
        highest = max(highest, target)
        assert section.max_seq == highest
        assert not section.hungry
    assert section.take(1, 32) == 9
    assert section.take(1, 1) == USED_UP


def test_a_raise_that_is_lost_leaves_the_window_as_it_was() -> None:
    owned = Owned(step=10)
    section = owned.section
    section.take(1, 10)
    first = section.target(200 * S)
    assert section.take(1, 1) == USED_UP
    assert section.max_seq == 10
    second = section.target(300 * S)
    assert second >= first > 10


def test_a_demand_beyond_the_step_is_met_by_one_raise() -> None:
    owned = Owned(step=10)
    section = owned.section
    assert section.take(1, MAX_COUNT) == USED_UP
    owned.raise_now()
    assert section.take(1, MAX_COUNT) == 1


def test_seq_limit_is_reached_exactly_and_never_passed() -> None:
    owned = Owned(step=10, seq_limit=25)
    section = owned.section
    got = []
    while (seq := section.take(3, 3)) != EXHAUSTED:
        if seq == USED_UP:
            owned.raise_now()
        else:
            got.append(seq)
    assert got == [1, 4, 7, 10, 13, 16, 19, 22]
    assert section.take(3, 1) == 25
    assert section.max_seq == 25
    assert section.take(3, 1) == EXHAUSTED
    assert section.current(3) == (25, True)
    assert section.take(4, 26) == EXHAUSTED
    assert section.take(4, 25) == 1


def test_a_section_at_the_end_of_the_numbers_asks_for_no_more() -> None:
    owned = Owned(SEQ_LIMIT - 5)
    section = owned.section
    assert section.max_seq == SEQ_LIMIT
    assert section.take(0, 6) == EXHAUSTED
    assert section.take(0, 5) == SEQ_LIMIT - 4
    assert section.take(0, 1) == EXHAUSTED
    assert owned.hungry == []
    for base in (SEQ_LIMIT, SEQ_LIMIT - 1):
        full = Owned(base)
        assert full.section.max_seq == SEQ_LIMIT
        assert full.section.take(0, 2) == EXHAUSTED


def test_neighbours_of_an_exhausted_uid_go_on_after_a_start_from_a_snapshot() -> None:
    owned = Owned(step=10, seq_limit=30)
    owned.section.take(0, 10)
    owned.raise_now()
    owned.section.take(0, 10)
    owned.raise_now()
    assert owned.section.take(0, 10) == 21
    assert owned.section.take(1, 4) == 1
    base, found, pages = decode(0, 1000, encode(owned.section))
    again = Owned(base, found=found, pages=pages, seq_limit=30)
    assert again.section.take(0, 1) == EXHAUSTED
    assert again.section.take(1, 1) == 5
    assert again.section.take(2, 30) == 1


def test_the_step_follows_the_fastest_uid_until_the_section_asks_once_a_second() -> None:
    """From nothing to a million a second, without a call that had to wait for longer than 1 ms."""
    owned = Owned()
    section, per_ms, asked = owned.section, 1_000, []
    target = due_ns = 0
    for _ in range(10_000):  # milliseconds
        owned.now_ns += S // 1000
        if due_ns and owned.now_ns >= due_ns:
            section.raised(target)
            due_ns = 0
        assert section.take(1, per_ms) > 0, "a call found its window used up"
        if owned.hungry and not due_ns:
            owned.hungry.clear()
            target, due_ns = section.target(owned.now_ns), owned.now_ns + 3 * S // 1000
            asked.append(owned.now_ns)
    late = [at for at in asked if at > asked[0] + S]
    assert all(b - a >= S for a, b in pairwise(late))
    assert len(asked) < 20
    assert section.window < 6 * 1000 * per_ms, "the window is no larger than it has to be"


def test_the_step_doubles_while_hot_up_to_a_cap_and_halves_while_cold() -> None:
    owned = Owned(step=10)
    section = owned.section
    for _ in range(50):
        owned.raise_now(HOT_NS - 1)
    assert section.step == STEP_CAP
    seen = section.max_seq
    for _ in range(50):
        owned.raise_now(COLD_NS + 1)
        assert section.max_seq > seen
        seen = section.max_seq
    assert section.step == 10
    owned.raise_now(2 * S)
    assert section.step == 10


def test_the_first_raise_is_by_the_configured_step() -> None:
    for base in (0, 77):
        assert Owned(base).section.max_seq == base + STEP


def test_a_raise_asked_for_again_is_not_demand_and_does_not_lift_the_step() -> None:
    owned = Owned(step=10)
    section = owned.section
    section.take(1, 6)
    owned.now_ns += 10 * S
    first = section.target(owned.now_ns)
    for again in range(1, 20):  # a store that refuses to answer, asked every 50 ms
        assert section.target(owned.now_ns + again * S // 20) <= first + 10


def test_a_start_from_a_snapshot_asks_above_the_highest_number_in_use_seq_5() -> None:
    base, found, pages = 0, 0, None
    for round_ in range(50):
        owned = Owned(base, found=found, pages=pages, step=10)
        section = owned.section
        assert section.max_seq >= found
        assert section.take(3, 1) == round_ + 1
        base, found, pages = decode(0, 1000, encode(section))
    assert found <= 50 + 2 * 10


def test_a_start_from_a_ceiling_is_above_it_and_says_so() -> None:
    section = Owned(500).section
    assert section.current(3) == (500, False)
    assert section.take(3, 2) == 501
    assert section.current(3) == (502, True)
    assert section.current(4) == (500, False)
    assert section.highest() == 502


def test_an_advanced_uid_goes_on_above_its_floor_and_others_stay() -> None:
    section = Owned().section
    assert section.advance(3, 700)
    assert section.current(3) == (700, True)
    assert section.take(3, 1) == 701
    assert section.take(4, 1) == 1
    assert section.highest() == 701


def test_an_advance_never_lowers_and_twice_is_once() -> None:
    section = Owned().section
    assert section.take(3, 50) == 1
    assert all(section.advance(3, floor) for floor in (0, 50, 49))
    assert section.current(3) == (50, True)
    assert section.advance(3, 60) and section.advance(3, 60)
    assert section.take(3, 1) == 61


def test_an_advance_beyond_what_is_durable_changes_nothing_until_it_is_seq_3() -> None:
    owned = Owned(step=10)
    section = owned.section
    assert not section.advance(3, 10**9)
    assert section.current(3) == (0, True)
    assert section.take(3, 1) == 1
    assert owned.hungry == [10]
    assert owned.raise_now() == 10**9 + 10
    assert section.advance(3, 10**9)
    assert [section.take(3, 1), section.take(4, 1)] == [10**9 + 1, 1]


def test_floors_that_rise_ever_faster_do_not_lift_the_step() -> None:
    owned = Owned(step=10)
    for turn in range(1, 40):
        assert not owned.section.advance(3, 1000 * turn)
        assert owned.raise_now(after_ns=1) == 1000 * turn + 10
        assert owned.section.advance(3, 1000 * turn)
        assert owned.section.advance(4, 1000 * turn + 8)  # into the upper half of the window
    assert owned.section.step == 10


def test_an_advance_below_a_ceiling_says_the_ceiling_and_takes_no_cells() -> None:
    section = Owned(500).section
    assert section.advance(3, 500)
    assert section.current(3) == (500, False)
    assert not section.touched


def test_an_advance_to_the_limit_leaves_no_numbers() -> None:
    owned = Owned(seq_limit=SEQ_LIMIT)
    assert not owned.section.advance(3, SEQ_LIMIT)
    assert owned.raise_now() == SEQ_LIMIT
    assert owned.section.advance(3, SEQ_LIMIT)
    assert owned.section.take(3, 1) == EXHAUSTED
    assert owned.section.take(4, 1) == 1


def test_advanced_uids_go_on_densely_after_a_hand_over_seq_5() -> None:
    owned = Owned(size=600)
    for index, floor in ((0, 5), (300, 10**15), (599, 2**40)):
        owned.section.advance(index, floor)
        owned.raise_now()
        assert owned.section.advance(index, floor)
    owned.section.leave()
    base, found, pages = decode(0, 600, encode(owned.section))
    after = Owned(base, found=found, pages=pages, size=600).section
    assert [after.take(i, 1) for i in (0, 1, 300, 599)] == [6, 1, 10**15 + 1, 2**40 + 1]


def test_current_allocates_nothing_and_takes_no_cells() -> None:
    section = Owned().section
    for index in range(1000):
        assert section.current(index) == (0, True)
    assert not section.touched
    section.take(0, 1)
    section.take(999, 1)
    assert section.touched
    assert [index for index, _ in section.pages()] == [0, 3]


def test_window_says_how_much_is_left() -> None:
    owned = Owned(step=10)
    assert owned.section.window == 10
    owned.section.take(0, 7)
    assert owned.section.window == 3
    owned.section.take(0, 5)
    assert owned.section.window == 0


# -- memory: what Python itself asks for by tracemalloc, cells by what the kernel has given -------


def allocated(make: Any, count: int) -> float:
    """Bytes per made object, with all they hold."""
    keep: list[Any] = [None] * count
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(count):
            keep[i] = make(i)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / count


def on_hungry(_: Section) -> None:
    """Shared by all sections, as a node's is."""


def untouched(i: int, counters: Counters | None = None) -> Section:
    section = Section(
        10**6 + i,
        10**9 + i,
        10**12 + i,
        found=10**12 + i,
        size=SECTION_SIZE,
        on_hungry=on_hungry,
        counters=counters,
    )
    section.raised(section.target(10**15 + i))
    return section


def test_an_untouched_section_costs_under_1_kb() -> None:
    assert allocated(untouched, 2000) < 1024
    section = untouched(1)
    assert sys.getsizeof(section) < 1024


def test_dense_sections_cost_under_9_bytes_per_uid() -> None:
    counters, count = Counters(SECTION_SIZE), 20
    before = resident_bytes()
    sections = [untouched(i, counters) for i in range(count)]
    for section in sections:
        for index in range(SECTION_SIZE):
            section.take(index, 1 + index % 3)
    assert 8 <= (resident_bytes() - before) / (count * SECTION_SIZE) < 9


def test_one_uid_of_a_section_costs_a_page_and_no_more() -> None:
    counters, count = Counters(SECTION_SIZE), 2000
    before = resident_bytes()
    sections = [untouched(i, counters) for i in range(count)]
    for section in sections:
        section.take(random.Random(section.id).randrange(SECTION_SIZE), 1)
    assert (resident_bytes() - before) / count < 1024 + mmap.PAGESIZE + 512
    before = resident_bytes()
    for section in sections:
        section.lose()
    assert before - resident_bytes() > 0.9 * count * mmap.PAGESIZE, "what is lost is given back"
