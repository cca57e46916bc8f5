"""Batches that are taken as a whole, or not at all. SEQ-2, SEQ-3."""

import mmap
import subprocess
import sys

import numpy as np
import pytest

from allocsvr.counters import MAX_INDEXED, Counters
from processes.memory import resident_bytes

SIZE, SECTIONS = 100, 5


def uids(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return np.array(values, np.uint64)


@pytest.fixture
def counters() -> Counters:
    """Section 1 stands at base 1000, epoch 7, section 3 at 0, epoch 9; both may go up to 50."""
    made = Counters(SIZE, SECTIONS)
    made.show(1, made.give(), 50, 1000, 7)
    made.show(3, made.give(), 50, 0, 9)
    return made


def seqs(
    counters: Counters, values: list[int], counts: int | list[int] | None = None
) -> list[int] | None:
    each = None if counts is None else np.zeros(len(values), np.int64) + np.array(counts)
    taken = counters.take(uids(*values), each)
    return None if taken is None else taken.seqs.tolist()


def test_a_batch_over_several_sections_gets_the_next_number_of_each_uid(counters: Counters) -> None:
    taken = counters.take(uids(100, 199, 300), None)
    assert taken is not None
    assert taken.seqs.tolist() == [1001, 1001, 1]
    assert not isinstance(taken.epochs, int) and taken.epochs.tolist() == [7, 7, 9]
    assert seqs(counters, [300, 101, 100]) == [2, 1001, 1002]


def test_epochs_that_are_all_the_same_are_one(counters: Counters) -> None:
    def epochs(*values: int) -> object:
        taken = counters.take(uids(*values), None)
        assert taken is not None
        return taken.epochs if isinstance(taken.epochs, int) else taken.epochs.tolist()

    assert epochs(100, 101) == 7
    assert epochs(300, 301) == 9
    assert epochs(102, 302) == [7, 9]
    counters.show(1, 0, 0, 0, 0)
    assert epochs(303, 304) == 9, "what is shown no more does not count"
    counters.show(1, counters.give(), 50, 0, 9)
    assert epochs(100, 305) == 9


def test_counts_are_ranges_and_the_first_number_of_each_is_given(counters: Counters) -> None:
    assert seqs(counters, [100, 300], [10, 3]) == [1001, 1]
    assert seqs(counters, [100, 300], [1, 47]) == [1011, 4]


@pytest.mark.parametrize(
    "special",
    [
        [100, 200],  # a section without a slot
        [100, 300, 100],  # a uid that occurs twice
        [100, 500],  # of no section
        [100, 2**64 - 1],
    ],
)
def test_a_batch_with_anything_special_takes_nothing(
    counters: Counters, special: list[int]
) -> None:
    assert seqs(counters, special) is None
    assert seqs(counters, [100, 300]) == [1001, 1]


def test_the_low_water_mark_is_reached_and_not_passed(counters: Counters) -> None:
    assert seqs(counters, [100, 300], 49) == [1001, 1]
    assert seqs(counters, [100], 2) is None
    assert seqs(counters, [300, 100], [1, 2]) is None
    assert seqs(counters, [300, 100]) == [50, 1050]
    assert seqs(counters, [100]) is None


def test_at_the_end_of_the_number_space_nothing_overflows() -> None:
    counters = Counters(SIZE, SECTIONS)
    at = counters.give()
    counters.cells[at] = 2**63 - 3
    counters.show(0, at, 2**63 - 1, 0, 1)
    assert seqs(counters, [0], 10_000) is None
    assert seqs(counters, [0], 2) == [2**63 - 2]
    assert seqs(counters, [0]) is None


def test_a_section_that_is_no_longer_shown_is_left_alone(counters: Counters) -> None:
    counters.show(1, 0, 0, 0, 0)
    assert seqs(counters, [300, 100]) is None


def test_a_slot_comes_back_blank_and_nobody_elses_is_touched() -> None:
    counters = Counters(SIZE, SECTIONS)
    slots = [counters.give() for _ in range(SECTIONS)]
    assert len(set(slots)) == SECTIONS and 0 not in slots
    for slot in slots:
        counters.slot(slot)[:] = slot
    counters.take_back(slots[2])
    again = counters.give()
    assert again == slots[2]
    assert not counters.slot(again).any()
    for slot in slots[:2] + slots[3:]:
        assert (counters.slot(slot) == slot).all(), "growing moves memory, and keeps what is in it"


def test_numbers_are_counted_by_section_once(counters: Counters) -> None:
    seqs(counters, [100, 101, 300], [2, 3, 4])
    seqs(counters, [101, 300])
    assert counters.taken() == [(1, 6), (3, 5)]
    assert counters.taken() == []
    for _ in range(600):
        counters.show(1, counters.give(), 50, 0, 7)
        assert seqs(counters, [100]) == [1]
    assert counters.taken() == [(1, 600)]


@pytest.mark.parametrize(("size", "sections"), [(2, MAX_INDEXED + 1), (1, 10)])
def test_what_has_too_many_sections_or_too_small_ones_is_served_entry_by_entry(
    size: int, sections: int
) -> None:
    counters = Counters(size, sections)
    for section in (0, sections - 1):
        counters.show(section, counters.give(), 50, 0, 1)
    for uid in (0, sections * size - 1, 2**64 - 1):
        assert counters.take(uids(uid), None) is None


def test_addresses_are_reserved_and_memory_is_not() -> None:
    before = resident_bytes()
    counters = Counters(1 << 20, 1024)
    slots = [counters.give() for _ in range(1024)]  # 8 GB
    for at in slots:
        counters.cells[at] = 1
    assert resident_bytes() - before < 3 * 1024 * mmap.PAGESIZE


def test_where_no_addresses_are_left_that_is_said_and_what_there_is_goes_on() -> None:
    script = """
import resource
from allocsvr.counters import Counters
from allocsvr.ledger import Ledger
from allocsvr.lease import Grants, Lease
from clustermap.membership import one_group
from allocsvr.section import Section
from seqsvr.sections import Layout
lease = Lease(10**9, 0.01)
Grants(lease, one_group(1, 1)).granted(0, 0)
ledger = Ledger(Layout(), lease)
for number in range(600):
    section = Section(
        number, 1, 0, found=0, size=100_000, on_hungry=print, counters=ledger.counters
    )
    ledger.admit(section)
    ledger.raised(section, 10_000)
assert ledger.next_batch([0], [], 1).seqs == [1]
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300 * 2**20,) * 2)
uids = [100_000 * number for number in range(600)]
failed = dict(ledger.next_batch(uids, [], 2).failures)
assert set(failed.values()) == {"OVERLOADED"} and 0 not in failed and 0 < len(failed) < 600
assert ledger.next_batch([0], [], 3).seqs == [3]
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
