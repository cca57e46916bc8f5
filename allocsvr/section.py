"""The counters of one section.  Keeps SEQ-1..SEQ-5 within one owner.

A section starts at a *base*: the ceiling that its owner found (M of docs/PROTOCOL.md, section 4),
or the base its predecessor left with its snapshot. `cur_seq` of a uid is kept as the distance above
the base, in the node's cells (counters.py), of which a section has some only once one of its uids
was used: an untouched uid is at the base. So a distance above 0 (or a base of 0) says that cur_seq
was really handed out; a distance of 0 that it is a ceiling. A section that starts from a ceiling
has base = found; one that starts from a snapshot asks for a window above its highest number in use,
not above `found`, or every graceful restart would lift max_seq by a step (SEQ-5).

A uid that is `advance`d counts as one that was handed all numbers up to its floor, and so does to
`current`. Others of the section are not moved by it, as long as somebody has the counters; an owner
that starts from the ceiling starts them all from above the greatest floor.

Obligations: `take` and `advance` never pass max_seq, which is durable on W replicas before it gets
here (SEQ-3), and they run to completion, so check and increment are one step. When any uid crosses
the low-water mark, half a step below max_seq, the section is *hungry* and says so once; the owner
raises max_seq in the background. `raised` only ever lifts.

The step follows demand: it doubles from one raise to the next as long as a section asks more than
once in HOT_NS, however fast its fastest uid is, and halves where it asks less than once in COLD_NS.
"""

from array import array
from collections.abc import Callable, Iterator
from enum import Enum

import numpy as np

from allocsvr.counters import Cells, Counters
from seqsvr.sections import SEQ_LIMIT, STEP

PAGE_SIZE = 256
"""Counters of a snapshot's block."""

MAX_STEP = 1024 * STEP
"""The largest step that may be asked for by an option."""
STEP_CAP = 1 << 40
"""The largest that demand may lead to: a section is asked for 10^12 numbers a second by nobody."""
HOT_NS = 1_000_000_000
COLD_NS = 60_000_000_000

USED_UP = 0
EXHAUSTED = -1

Pages = list["array[int] | None"]
"""Distances by page of PAGE_SIZE, as a snapshot has them; None: all of them are 0."""


class State(Enum):
    """Where a section stands on its way to being served; the rest of it is in acquisition.py."""

    RAISING = "raising"
    SERVING = "serving"
    LEAVING = "leaving"
    LOST = "lost"


class Section:
    """Counters of `size` uids, addressed by index 0..size-1 (uid % section_size)."""

    __slots__ = (
        "_answered",
        "_at",
        "_counters",
        "_low",
        "_raised_at_ns",
        "_room",
        "_wanted",
        "base",
        "epoch",
        "found",
        "hungry",
        "id",
        "max_seq",
        "membership",
        "min_step",
        "on_hungry",
        "seq_limit",
        "serving",
        "size",
        "state",
        "step",
        "taken",
    )

    def __init__(
        self,
        section: int,
        epoch: int,
        base: int,
        *,
        found: int,
        size: int,
        step: int = STEP,
        seq_limit: int = SEQ_LIMIT,
        on_hungry: Callable[["Section"], None],
        counters: Counters | None = None,
        pages: Pages | None = None,
        membership: int = 1,
    ) -> None:
        """`found`: the greatest max_seq of R replicas; `pages`: from a snapshot over `base`.

        counters: those of the node; None: its own; membership: the version it was fenced under.
        """
        self.membership = membership
        self.id = section
        self.epoch = epoch
        self.base = base
        self.size = size
        self.step = self.min_step = step
        self.seq_limit = seq_limit
        self.on_hungry = on_hungry
        self.state = State.RAISING
        self.serving = False
        self.hungry = False
        self.found = found
        self.taken = 0  # numbers from `take` since somebody last set it to 0 (load.py)
        self._counters = counters
        self._at = -1
        if pages is not None:
            self._load(pages)
        self.max_seq = self.highest()
        self._room = 0
        self._low = 0
        self._wanted = self.max_seq - base
        self._raised_at_ns = 0
        self._answered = True

    # -- numbers -------------------------------------------------------------------------------

    def take(self, index: int, count: int) -> int:
        """First of the next `count` numbers of a uid; USED_UP or EXHAUSTED if there are none."""
        if self._at < 0:
            self._settle()
        place = self._at + index
        cells = self._counters.cells  # type: ignore[union-attr]
        distance = cells[place]
        after = distance + count
        if after > self._low and not self._fits(after):
            return EXHAUSTED if self.base + after > self.seq_limit else USED_UP
        cells[place] = after
        self.taken += count
        return self.base + distance + 1

    def advance(self, index: int, at_least: int) -> bool:
        """Raise cur_seq of a uid to at_least (in 0..seq_limit), if it is lower.

        False: the window does not reach there yet, and nothing was changed. Raises MemoryError.
        """
        distance = at_least - self.base
        if distance <= 0:
            return True
        if self._at < 0:
            self._settle()
        place = self._at + index
        cells = self._counters.cells  # type: ignore[union-attr]
        if distance > cells[place]:
            if distance > self._low:
                self._answered = False  # nobody asks for more numbers: the step is to stay
                if not self._fits(distance):
                    return False
            cells[place] = distance
        return True

    def _fits(self, after: int) -> bool:
        """Past the low-water mark: get hungry, and say whether the window holds `after`."""
        self._wanted = max(self._wanted, min(after, self.seq_limit - self.base))
        if not self.hungry and self.max_seq < self.seq_limit:
            self.hungry = True
            self.on_hungry(self)
        return after <= self._room

    def current(self, index: int) -> tuple[int, bool]:
        """cur_seq of a uid, and whether it was really handed out (0: nothing ever was)."""
        distance = 0
        if self._counters is not None and self._at >= 0:
            distance = self._counters.cells[self._at + index]
        return self.base + distance, distance > 0 or self.base == 0

    def highest(self) -> int:
        """The greatest cur_seq of the section."""
        distances = self._distances()
        return self.base if distances is None else self.base + int(distances.max())

    # -- max_seq -------------------------------------------------------------------------------

    def target(self, now_ns: int) -> int:
        """max_seq to ask for now, with the step adapted to how often the section asks."""
        if self._answered:  # asking again is no demand: it must not lift the step
            since = now_ns - self._raised_at_ns
            if self._raised_at_ns and since < HOT_NS:
                self.step = min(self.step * 2, STEP_CAP)
            elif since > COLD_NS:
                self.step = max(self.step // 2, self.min_step)
            self._raised_at_ns = now_ns
            self._answered = False
        goal = max(self.max_seq, self.base + self._wanted) + self.step
        return min(max(goal, self.found), self.seq_limit)

    def raised(self, max_seq: int) -> None:
        """max_seq is durable on W replicas: the window reaches up to it."""
        self.hungry = False
        self._answered = True
        room = max_seq - self.base
        if room <= self._room:  # not max_seq: a snapshot may have reached the limit already
            return
        self.max_seq = max_seq
        self._room = room
        self._low = room - self.step // 2 if max_seq < self.seq_limit else room
        self._show()

    @property
    def window(self) -> int:
        """Numbers between the highest demand seen and max_seq."""
        return max(0, self._room - self._wanted)

    # -- whether it is served ------------------------------------------------------------------

    def serve(self) -> None:
        """Its first raise is durable."""
        self.state = State.SERVING
        self.serving = True
        self._show()

    def leave(self) -> None:
        """Serve no more; the counters stay as they are."""
        self.state = State.LEAVING
        self.serving = False
        self._show()

    def lose(self) -> None:
        """Serve no more, and forget the counters."""
        self.state = State.LOST
        self.serving = False
        if self._counters is not None and self._at >= 0:
            at, self._at = self._at, -1
            self._counters.show(self.id, 0, 0, 0, 0)
            self._counters.take_back(at)

    # -- cells ---------------------------------------------------------------------------------

    @property
    def touched(self) -> bool:
        """Whether it ever had a number taken, here or by an owner whose counters it has."""
        return self._at >= 0

    def pages(self) -> Iterator[tuple[int, Cells]]:
        """(index, distances) of each page of PAGE_SIZE that has any distance above 0.

        To be used before anything else is asked of any section.
        """
        distances = self._distances()
        if distances is not None:
            pages = distances.reshape(-1, PAGE_SIZE)
            for index in np.flatnonzero(pages.any(axis=1)).tolist():
                yield index, pages[index]

    def _distances(self) -> Cells | None:
        """In whole pages; a slot is made of them."""
        if self._counters is None or self._at < 0:
            return None
        return self._counters.slot(self._at)

    def _settle(self) -> None:
        """Get cells."""
        if self._counters is None:
            self._counters = Counters(self.size)
        self._at = self._counters.give()
        self._show()

    def _load(self, pages: Pages) -> None:
        self._settle()
        distances = self._distances()
        for index, page in enumerate(pages):
            if page is not None and distances is not None:
                at = index * PAGE_SIZE
                distances[at : at + PAGE_SIZE] = np.frombuffer(page, np.int64)

    def _show(self) -> None:
        """Tell the counters how far batches may go here without asking."""
        if self._counters is not None and self._at >= 0:
            low = self._low if self.serving else 0
            self._counters.show(self.id, self._at, max(low, 0), self.base, self.epoch)
