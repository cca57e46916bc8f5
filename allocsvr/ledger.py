"""What a node may answer, and does: the four conditions of docs/PROTOCOL.md, section 4, step 4.

A number is handed out iff the section is SERVING, no promise above its epoch was ever seen, the
lease has not run out, and the window holds it (SEQ-1..SEQ-4, FENCE-1, LEASE-1). The first two meet
in `Section.serving`, which `promise` takes away in the instant that it learns of a higher epoch.
The clock is read once for a batch, after the request has come in and before its first number is
taken: every call in it had begun by then. From there to the last number nothing is awaited.

A uid that occurs twice in a batch gets rising numbers, so once one of its entries waits for the
window, the later ones wait behind it.

A batch of VECTOR_FROM entries and more is tried as a whole first (counters.py): that goes well
where every entry is plain, which `Section` sees to by showing nothing of itself that it is not
serving. Whatever is special goes through the loop, entry by entry.
"""

from collections.abc import Callable, Container, Sequence

import numpy as np

from allocsvr.counters import Counters, Taken
from allocsvr.lease import Lease, Promises
from allocsvr.section import EXHAUSTED, USED_UP, Section, State
from seqsvr.invariants import require
from seqsvr.sections import MAX_COUNT, Layout

VECTOR_FROM = 24
"""Entries from which on numpy's overhead is worth it."""


class Answers:
    """Entries of one batch, by index; an entry that failed or waits has seq 0 and epoch 0.

    numbers: how many were taken, all together. bounds: what entries that failed with
    JUMP_TOO_LARGE could have asked for at most.
    """

    __slots__ = ("bounds", "epochs", "exact", "failures", "numbers", "seqs", "waiting")

    def __init__(self, size: int) -> None:
        self.numbers = 0
        self.seqs = [0] * size
        self.epochs = [0] * size
        self.exact: list[bool] = []
        self.failures: list[tuple[int, str]] = []  # (index, reason)
        self.bounds: dict[int, int] = {}
        self.waiting: list[int] = []  # indexes whose window is used up


class Ledger:
    """The sections of one node and the right to answer for them."""

    def __init__(self, layout: Layout, lease: Lease, vector_from: int = VECTOR_FROM) -> None:
        self.layout = layout
        self.lease = lease
        self.vector_from = vector_from
        # The last section, if it is short, is served entry by entry: it has uids beyond the limit.
        self.counters = Counters(layout.section_size, layout.uid_limit // layout.section_size)
        self.promises = Promises()
        self.sections: dict[int, Section] = {}
        self.acquiring: set[int] = set()
        self.wanted: Container[int] = ()  # ours by the map
        self.draining = False
        self.why_lapsed: Callable[[], str] = lambda: "LEASE_EXPIRED"

    def next_batch(self, uids: Sequence[int], counts: Sequence[int], now_ns: int) -> Answers:
        """Take counts[i] numbers (each 1 if `counts` is empty) for uids[i]."""
        lapsed = not self.lease.held(now_ns)
        if len(uids) >= self.vector_from and not lapsed:
            answers = self._at_once(uids, counts)
            if answers is not None:
                return answers
        return self._one_by_one(uids, counts, lapsed)

    def whole(self, uids: Sequence[int], now_ns: int) -> Taken | None:
        """One number for each entry of a large batch; None: nothing was taken, try next_batch."""
        if len(uids) < self.vector_from or not self.lease.held(now_ns):
            return None
        return self.counters.take(np.array(uids, np.uint64), None)

    def _at_once(self, uids: Sequence[int], counts: Sequence[int]) -> Answers | None:
        """All of them, or none: see Counters.take."""
        size, each = len(uids), None
        if counts:
            each = np.array(counts, np.int64)
            if each.min() < 1 or each.max() > MAX_COUNT:
                return None
        taken = self.counters.take(np.array(uids, np.uint64), each)
        if taken is None:
            return None
        answers = Answers(0)
        answers.seqs = taken.seqs.tolist()
        epochs = taken.epochs
        answers.epochs = [epochs] * size if isinstance(epochs, int) else epochs.tolist()
        answers.numbers = taken.numbers
        return answers

    def _one_by_one(self, uids: Sequence[int], counts: Sequence[int], lapsed: bool) -> Answers:
        answers = Answers(len(uids))
        size, limit = self.layout.section_size, self.layout.uid_limit
        sections, seqs, epochs = self.sections, answers.seqs, answers.epochs
        behind: set[int] = set()
        count = 1
        for index, uid in enumerate(uids):
            if counts:
                count = counts[index]
            if not (uid < limit and 0 < count <= MAX_COUNT):
                reason = "COUNT_OUT_OF_RANGE" if uid < limit else "UID_OUT_OF_RANGE"
                answers.failures.append((index, reason))
                continue
            section = sections.get(uid // size)
            if lapsed or section is None or not section.serving:
                answers.failures.append((index, self.why_not(uid // size, lapsed)))
                continue
            try:
                seq = section.take(uid % size, count) if uid not in behind else USED_UP
            except MemoryError:
                answers.failures.append((index, "OVERLOADED"))
                continue
            if seq > 0:
                seqs[index] = seq
                epochs[index] = section.epoch
                answers.numbers += count
            elif seq == EXHAUSTED:
                answers.failures.append((index, "SEQUENCE_EXHAUSTED"))
            else:
                behind.add(uid)
                answers.waiting.append(index)
        return answers

    def current_batch(self, uids: Sequence[int], now_ns: int) -> Answers:
        """cur_seq of each uid. Allocates nothing."""
        answers = Answers(len(uids))
        answers.exact = [False] * len(uids)
        lapsed = not self.lease.held(now_ns)
        size, limit = self.layout.section_size, self.layout.uid_limit
        for index, uid in enumerate(uids):
            if uid >= limit:
                answers.failures.append((index, "UID_OUT_OF_RANGE"))
                continue
            section = self.sections.get(uid // size)
            if lapsed or section is None or not section.serving:
                answers.failures.append((index, self.why_not(uid // size, lapsed)))
                continue
            answers.seqs[index], answers.exact[index] = section.current(uid % size)
            answers.epochs[index] = section.epoch
        return answers

    def advance_batch(
        self, uids: Sequence[int], floors: Sequence[int], max_jump: int, now_ns: int
    ) -> Answers:
        """Raise cur_seq of uids[i] to floors[i] where it is lower, by at most max_jump.

        What comes back as its seq is cur_seq after that, and durable.
        """
        answers = Answers(len(uids))
        lapsed = not self.lease.held(now_ns)
        size, limit = self.layout.section_size, self.layout.uid_limit
        for index, (uid, floor) in enumerate(zip(uids, floors, strict=True)):
            if uid >= limit:
                answers.failures.append((index, "UID_OUT_OF_RANGE"))
                continue
            section = self.sections.get(uid // size)
            if lapsed or section is None or not section.serving:
                answers.failures.append((index, self.why_not(uid // size, lapsed)))
                continue
            stands, _ = section.current(uid % size)
            bound = min(stands + max_jump, section.seq_limit)
            if floor > max(stands, bound):
                answers.failures.append((index, "JUMP_TOO_LARGE"))
                answers.bounds[index] = bound
                continue
            try:
                reached = section.advance(uid % size, floor)
            except MemoryError:
                answers.failures.append((index, "OVERLOADED"))
                continue
            if reached:
                answers.seqs[index] = max(stands, floor)
                answers.epochs[index] = section.epoch
            else:
                answers.waiting.append(index)
        return answers

    def why_not(self, section: int, lapsed: bool) -> str:
        """The reason for which a section is not served just now."""
        held = self.sections.get(section)
        if held is not None and held.serving:
            return self.why_lapsed() if lapsed else "STALE_EPOCH"
        if held is not None and held.state is State.LEAVING:
            return "DRAINING"
        if held is not None or section in self.acquiring or section in self.wanted:
            if self.draining:
                return "DRAINING"
            store = self.why_lapsed() if lapsed else "LEASE_EXPIRED"
            return "ACQUIRING" if store == "LEASE_EXPIRED" else store
        return "NOT_OWNER"

    def promise(self, first: int, last: int, epoch: int) -> list[Section]:
        """A replica has promised `epoch`: returns the sections of ours that are lost by it."""
        lost = []
        for section in self.promises.note(first, last, epoch):
            held = self.sections.get(section)
            if held is not None and held.epoch < epoch:
                self.lose(held)
                lost.append(held)
        return lost

    def admit(self, section: Section) -> None:
        """A section that was fenced, and waited for, is on its way to its first raise."""
        require(section.state is State.RAISING, "a section is admitted before its first raise")
        self.acquiring.discard(section.id)
        before = self.sections.get(section.id)
        if before is not None:
            self.lose(before)
        self.sections[section.id] = section

    def raised(self, section: Section, max_seq: int) -> None:
        """max_seq is durable on W replicas; the first time, serving begins."""
        if section.state is State.LOST:
            return
        section.raised(max_seq)
        if section.state is State.RAISING:
            require(
                self.promises.highest(section.id) <= section.epoch,
                "a section is lost to a promise above its epoch",
            )
            section.serve()

    def leave(self, section: Section) -> None:
        """Stop serving, for a planned hand-over."""
        if section.state is not State.LOST:
            section.leave()

    def lose(self, section: Section) -> None:
        """Stop serving at once and forget the counters: somebody else's now, or nobody's."""
        section.lose()
        if self.sections.get(section.id) is section:
            del self.sections[section.id]
