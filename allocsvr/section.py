"""The counters of one section.  Keeps SEQ-1..SEQ-5 within one owner.

A section starts at a *base*: the ceiling that its owner found (M of docs/PROTOCOL.md, section 4),
or the base its predecessor left with its snapshot. `cur_seq` of a uid is kept as the distance above
the base, in pages of 256 uids that exist only once one of their uids was used: an untouched uid is
at the base. So a distance above 0 (or a base of 0) says that cur_seq was really handed out; a
distance of 0 that it is a ceiling. A section that starts from a ceiling has base = found; one that
starts from a snapshot asks for a window above its highest number in use, not above `found`, or
every graceful restart would lift max_seq by a step (SEQ-5).

Obligations: `take` never passes max_seq, which is durable on W replicas before it gets here
(SEQ-3), and it runs to completion, so check and increment are one step. When any uid crosses the
low-water mark, half a step below max_seq, the section is *hungry* and says so once; the owner
raises max_seq in the background. `raised` only ever lifts.
"""

from array import array
from collections.abc import Callable
from enum import Enum

from seqsvr.sections import SEQ_LIMIT, STEP

PAGE_BITS = 8
PAGE_SIZE = 1 << PAGE_BITS
PAGE_MASK = PAGE_SIZE - 1
_BLANK = bytes(8 * PAGE_SIZE)

MAX_STEP = 1024 * STEP
HOT_NS = 1_000_000_000
COLD_NS = 60_000_000_000

USED_UP = 0
EXHAUSTED = -1


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
        "min_step",
        "on_hungry",
        "pages",
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
        pages: "list[array[int] | None] | None" = None,
    ) -> None:
        """`found`: the greatest max_seq of R replicas; `pages`: from a snapshot over `base`."""
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
        self.pages = pages
        self.taken = 0  # numbers handed out since somebody last set it to 0 (load.py)
        self.max_seq = self.highest()
        self._room = 0
        self._low = 0
        self._wanted = self.max_seq - base
        self._raised_at_ns = 0
        self._answered = True

    def take(self, index: int, count: int) -> int:
        """First of the next `count` numbers of a uid; USED_UP or EXHAUSTED if there are none."""
        pages = self.pages
        if pages is None:
            pages = self.pages = [None] * (-(-self.size // PAGE_SIZE))
        page = pages[index >> PAGE_BITS]
        if page is None:
            page = pages[index >> PAGE_BITS] = array("Q", _BLANK)
        slot = index & PAGE_MASK
        distance = page[slot]
        after = distance + count
        if after > self._low and not self._fits(after):
            return EXHAUSTED if self.base + after > self.seq_limit else USED_UP
        page[slot] = after
        self.taken += count
        return self.base + distance + 1

    def _fits(self, after: int) -> bool:
        """Past the low-water mark: get hungry, and say whether the window holds `after`."""
        self._wanted = max(self._wanted, min(after, self.seq_limit - self.base))
        if not self.hungry and self.max_seq < self.seq_limit:
            self.hungry = True
            self.on_hungry(self)
        return after <= self._room

    def current(self, index: int) -> tuple[int, bool]:
        """cur_seq of a uid, and whether it was really handed out (0: nothing ever was)."""
        page = self.pages[index >> PAGE_BITS] if self.pages is not None else None
        distance = page[index & PAGE_MASK] if page is not None else 0
        return self.base + distance, distance > 0 or self.base == 0

    def highest(self) -> int:
        """The greatest cur_seq of the section."""
        if self.pages is None:
            return self.base
        pages = (page for page in self.pages if page is not None)
        return self.base + max(map(max, pages), default=0)

    def target(self, now_ns: int) -> int:
        """max_seq to ask for now, with the step adapted to how often the section asks."""
        if self._answered:  # asking again is no demand: it must not lift the step
            since = now_ns - self._raised_at_ns
            if self._raised_at_ns and since < HOT_NS:
                self.step = min(self.step * 2, MAX_STEP)
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

    @property
    def window(self) -> int:
        """Numbers between the highest demand seen and max_seq."""
        return max(0, self._room - self._wanted)
