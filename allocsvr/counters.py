"""cur_seq of every uid of a node, as distances above its section's base, in one piece of memory.

A section that was used has a *slot*: as many 64-bit cells as it has uids, in whole pages of the
kernel's. A cell that nobody wrote to lies on a page that does not exist yet, so an untouched uid
costs nothing, and an idle node no more than its process. Slots are given out at a section's first
number and taken back, blank, when it is lost.

Because all cells are one array, a large batch over many sections is one gather and one scatter:
`take` does what Section.take does, for all its uids or for none of them. It needs to know of each
section how far it may go without a word (`low`: its low-water mark, 0 where it is not to be served
from here or has no slot), its base and its epoch; sections `show` these whenever they change.

Obligations: nothing is awaited in here, so check and increment are one step (SEQ-2). A cell is
first raised and then read again, never the other way round: whatever may interrupt it leaves a gap
and no number that goes out twice. `low` never is above what is durable (SEQ-3).
"""

import mmap
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_INDEXED = 1 << 22
"""Sections of a cluster from which on batches are no longer taken in one piece."""

_ONES = 256
_PAGE_CELLS = mmap.PAGESIZE // 8
_NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux, which module mmap has no name for before 3.13

Cells = NDArray[np.int64]


class Taken(NamedTuple):
    """The first number of each entry, and the epoch of its section (of all, if one)."""

    seqs: Cells
    epochs: Cells | int
    numbers: int


class Counters:
    """Cells for sections of `size` uids; batches of uids of sections 0..sections-1, all full."""

    def __init__(self, size: int, sections: int = 0) -> None:
        # With a size of 1 the greatest uids would wrap around to sections that there are.
        indexed = sections if sections <= MAX_INDEXED and size > 1 else 0
        self.size = size
        self._divisor = np.uint64(size)
        self.slot_cells = -(-size // _PAGE_CELLS) * _PAGE_CELLS
        self._taken = np.zeros(indexed, np.int64)  # by section
        self._low = np.zeros(indexed, np.int64)
        self._first = np.zeros(indexed, np.int64)  # base + 1
        self._ones: list[Cells] = []  # sections of entries that took one number each
        self._epoch = np.zeros(indexed, np.int64)
        self._indexed = indexed > 0
        self._shown: dict[int, int] = {}  # how many sections are shown, by epoch
        # From a uid to its cell. Without a slot: to some cell of slot 0, which is nobody's.
        self._offset = np.arange(indexed, dtype=np.int64) * -size
        self._memory = _reserve(8 * self.slot_cells)
        self._slots = 1
        self._free: list[int] = []
        self._look()

    def _look(self) -> None:
        self.cells = memoryview(self._memory).cast("q")
        self._array = np.frombuffer(self._memory, np.int64)

    def give(self) -> int:
        """The place of the first cell of a blank slot. Raises MemoryError."""
        if not self._free:
            self._grow()
        return self._free.pop()

    def take_back(self, at: int) -> None:
        """The slot at `at` is used no more."""
        self._memory.madvise(mmap.MADV_DONTNEED, 8 * at, 8 * self.slot_cells)
        self._free.append(at)

    def slot(self, at: int) -> Cells:
        """All cells of a slot, to be used before anything else is asked for."""
        return self._array[at : at + self.slot_cells]

    def show(self, section: int, at: int, low: int, base: int, epoch: int) -> None:
        """What `take` is to know of a section; low 0: leave it alone."""
        if section < len(self._low):
            self._count(int(self._epoch[section]), -1)
            self._count(epoch, 1)
            self._low[section] = low
            self._first[section] = base + 1
            self._epoch[section] = epoch
            self._offset[section] = at - section * self.size

    def _count(self, epoch: int, more: int) -> None:
        count = self._shown.get(epoch, 0) + more if epoch else 0
        if count:
            self._shown[epoch] = count
        else:
            self._shown.pop(epoch, None)

    def take(self, uids: NDArray[np.uint64], counts: Cells | None) -> Taken | None:
        """The next counts[i] (None: 1) numbers of uids[i]; None: nothing was taken.

        None where any entry is not plain: of a section that is not shown, above a low-water mark,
        a uid that occurs twice. uids must not be empty, counts be at least 1.
        """
        if not self._indexed:
            return None
        sections = (uids // self._divisor).view(np.int64)
        try:
            places = uids.view(np.int64) + self._offset[sections]
        except IndexError:
            return None
        cells = self._array
        before = cells[places]
        low = self._low[sections]
        if counts is not None:
            low -= counts - 1  # not `before + counts`, which could overflow
        if np.count_nonzero(before >= low):
            return None
        np.add.at(cells, places, 1 if counts is None else counts)
        added = cells[places]
        added -= before
        numbers = len(places) if counts is None else int(counts.sum())
        if np.add.reduce(added) != numbers:  # some entries see what others have added
            cells[places] = before
            return None
        self._note(sections, counts)
        before += self._first[sections]
        return Taken(before, self._epochs_of(sections), numbers)

    def _note(self, sections: Cells, counts: Cells | None) -> None:
        """Who got how many is added up later, for many batches at a time."""
        if counts is not None:
            np.add.at(self._taken, sections, counts)
            return
        self._ones.append(sections)
        if len(self._ones) >= _ONES:
            self._add_up()

    def _add_up(self) -> None:
        if self._ones:
            np.add.at(self._taken, np.concatenate(self._ones), 1)
            self._ones.clear()

    def _epochs_of(self, sections: Cells) -> "Cells | int":
        if len(self._shown) == 1:
            return next(iter(self._shown))
        epochs = self._epoch[sections]
        first = int(epochs[0])
        return epochs if np.count_nonzero(epochs != first) else first

    def taken(self) -> list[tuple[int, int]]:
        """(section, numbers) that `take` has handed out since the last time this was asked."""
        self._add_up()
        sections = np.flatnonzero(self._taken)
        numbers = self._taken[sections]
        self._taken[sections] = 0
        return list(zip(sections.tolist(), numbers.tolist(), strict=True))

    def _grow(self) -> None:
        """Twice the slots. The memory may move, so nobody may look at it meanwhile."""
        more, step = self._slots, 8 * self.slot_cells
        self.cells.release()
        del self.cells, self._array
        try:
            self._memory.resize(2 * more * step)
        except OSError as refused:
            text = f"no addresses for {2 * more} sections: {refused.strerror}"
            raise MemoryError(f"{text} (ulimit -v, or vm.overcommit_memory=2)") from None
        finally:
            self._look()
        self._slots = 2 * more
        cells = self.slot_cells
        self._free += range((2 * more - 1) * cells, (more - 1) * cells, -cells)


def _reserve(size: int) -> mmap.mmap:
    """Addresses without memory behind them; pages come one by one as they are written to."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    memory = mmap.mmap(-1, size, flags=flags)
    # A huge page for one uid would be 2 MB; a kernel that knows no huge pages refuses to hear it.
    with suppress(OSError):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
