"""When a node answers, and with what reason it does not: the four conditions, word by word.

SEQ-1, SEQ-3, FENCE-1, LEASE-1. A few sections at once, so that a batch meets all of them. The
oracle has a row per section and the promises as a dictionary; what happens within a section's
window is left to test_allocsvr_owner_machine.py.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allocsvr.lease import Grants, Lease
from allocsvr.ledger import Ledger
from allocsvr.section import Section, State
from clustermap.membership import one_group
from seqsvr.sections import MAX_COUNT, Layout

TTL = 1_000
MARGIN = 21
SIZE, SECTIONS, STEP = 3, 4, 10
UIDS = st.integers(0, SIZE * SECTIONS + 2)
COUNTS = st.sampled_from([1, 2, 7, 0, MAX_COUNT + 1])
IDS = st.integers(0, SECTIONS - 1)


@dataclass
class Row:
    """A section that the node holds."""

    section: Section
    serving: bool = False
    leaving: bool = False
    durable: int = 0


class Node(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 10
        self.until = 0
        self.ledger = Ledger(Layout(SIZE, SIZE * SECTIONS), Lease(TTL, 0.01))
        self.rows: dict[int, Row] = {}
        self.lost: list[Section] = []
        self.promised: dict[int, int] = {}
        self.last: dict[int, int] = {}  # uid -> last number that was given
        self.hungry: list[int] = []

    @initialize(vector_from=st.sampled_from([1, 1, 3, 100]), serving=st.integers(0, SECTIONS))
    def begin(self, vector_from: int, serving: int) -> None:
        """vector_from: as of Ledger; serving: so many sections from the start on."""
        self.ledger.vector_from = vector_from
        for number in range(serving):
            self.admit(number, 1)
            self.acknowledged(self.rows[number], STEP)
        self.time_passes(1, renewed=serving > 0)

    # -- sections

    @rule(number=IDS, above=st.integers(0, 2))
    def is_won(self, number: int, above: int) -> None:
        if number not in self.rows:
            self.admit(number, above)

    def admit(self, number: int, above: int) -> None:
        """Under an epoch that nothing stands against, as winning sees to."""
        epoch = max(1, self.promised.get(number, 0) + above)
        base = max([0] + [n for uid, n in self.last.items() if uid // SIZE == number])
        section = Section(
            number,
            epoch,
            base,
            found=base,
            size=SIZE,
            step=STEP,
            on_hungry=lambda section: self.hungry.append(section.id),
            counters=self.ledger.counters,
        )
        self.ledger.admit(section)
        self.rows[number] = Row(section, durable=base)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), more=st.sampled_from([STEP, STEP, 0]))
    def a_raise_is_acknowledged(self, data: st.DataObject, more: int) -> None:
        self.acknowledged(self.rows[data.draw(st.sampled_from(sorted(self.rows)))], more)

    def acknowledged(self, row: Row, more: int) -> None:
        row.durable = max(row.durable, row.section.base + more)
        self.ledger.raised(row.section, row.durable)
        row.serving = row.serving or not row.leaving

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def a_raise_of_a_lost_section_is_acknowledged(self, data: st.DataObject) -> None:
        section = data.draw(st.sampled_from(self.lost))
        self.ledger.raised(section, 10**6)
        self.ledger.leave(section)
        assert section.state is State.LOST
        assert not section.serving

    @rule(first=IDS, length=st.integers(0, 2), epoch=st.integers(1, 6))
    def somebody_is_promised(self, first: int, length: int, epoch: int) -> None:
        last = min(first + length, SECTIONS - 1)
        expected = []
        for number in range(first, last + 1):
            self.promised[number] = max(self.promised.get(number, 0), epoch)
            row = self.rows.get(number)
            if row is not None and row.section.epoch < epoch:
                expected.append(row.section)
                self.forget(number)
        assert self.ledger.promise(first, last, epoch) == expected

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), wholly=st.booleans())
    def give_up(self, data: st.DataObject, wholly: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.rows)))
        if wholly:
            self.ledger.lose(self.rows[number].section)
            self.forget(number)
        else:
            self.ledger.leave(self.rows[number].section)
            self.rows[number].serving, self.rows[number].leaving = False, True

    def forget(self, number: int) -> None:
        self.lost.append(self.rows.pop(number).section)

    # -- what else the answer depends on

    @rule(passed=st.sampled_from([1, 300, TTL]), renewed=st.sampled_from([True, True, False]))
    def time_passes(self, passed: int, renewed: bool) -> None:
        self.now += passed
        if renewed:
            Grants(self.ledger.lease, one_group(1, 1)).granted(0, self.now)
            self.until = self.now + TTL - MARGIN

    @rule(number=IDS, wanted=st.booleans(), acquiring=st.booleans())
    def the_map_wants(self, number: int, wanted: bool, acquiring: bool) -> None:
        self.ledger.wanted = {number} if wanted else set()
        self.ledger.acquiring = {number} if acquiring else set()

    @rule(draining=st.booleans(), why=st.sampled_from(["LEASE_EXPIRED", "STORE_UNAVAILABLE"]))
    def the_node_says(self, draining: bool, why: str) -> None:
        self.ledger.draining = draining
        self.ledger.why_lapsed = lambda: why

    # -- callers

    @rule(calls=st.lists(st.tuples(UIDS, COUNTS), min_size=1, max_size=6))
    def call(self, calls: list[tuple[int, int]]) -> None:
        uids, counts = [uid for uid, _ in calls], [count for _, count in calls]
        answers = self.ledger.next_batch(uids, counts, self.now)
        failures = dict(answers.failures)
        assert len(failures) == len(answers.failures)
        behind: set[int] = set()
        for index, (uid, count) in enumerate(calls):
            reason = self.why_not(uid, count)
            assert failures.get(index) == reason
            if reason is not None:
                assert (answers.seqs[index], answers.epochs[index]) == (0, 0)
                continue
            row = self.rows[uid // SIZE]
            before = max(self.last.get(uid, 0), row.section.base)
            if uid in behind or before + count > row.durable:
                assert index in answers.waiting
                behind.add(uid)
                continue
            assert index not in answers.waiting
            assert answers.seqs[index] == before + 1, "SEQ-1"
            assert answers.epochs[index] == row.section.epoch
            self.last[uid] = before + count

    @rule(
        wanted=st.lists(st.tuples(UIDS, st.integers(0, 40)), min_size=1, max_size=4),
        max_jump=st.sampled_from([0, 5, 2**63, 2**63]),
    )
    def advance(self, wanted: list[tuple[int, int]], max_jump: int) -> None:
        uids, floors = [uid for uid, _ in wanted], [floor for _, floor in wanted]
        answers = self.ledger.advance_batch(uids, floors, max_jump, self.now)
        failures = dict(answers.failures)
        for index, (uid, floor) in enumerate(wanted):
            reason = self.why_not(uid, 1)
            if reason is not None:
                assert failures.get(index) == reason
                continue
            row = self.rows[uid // SIZE]
            stands = max(self.last.get(uid, 0), row.section.base)
            if floor > stands + max_jump:
                assert failures.get(index) == "JUMP_TOO_LARGE"
                assert answers.bounds[index] == stands + max_jump
            elif floor > max(stands, row.durable):
                assert index in answers.waiting, "SEQ-3: it is not durable yet"
            else:
                assert index not in failures and index not in answers.waiting
                assert answers.seqs[index] == max(stands, floor)
                assert answers.epochs[index] == row.section.epoch
                if floor > stands:
                    self.last[uid] = floor
            if index in failures or index in answers.waiting:
                assert (answers.seqs[index], answers.epochs[index]) == (0, 0)

    @rule(uids=st.lists(UIDS, min_size=1, max_size=4))
    def current(self, uids: list[int]) -> None:
        answers = self.ledger.current_batch(uids, self.now)
        failures = dict(answers.failures)
        for index, uid in enumerate(uids):
            assert failures.get(index) == self.why_not(uid, 1)
            if index in failures:
                continue
            base = self.rows[uid // SIZE].section.base
            above = self.last.get(uid, 0) > base
            assert answers.seqs[index] == max(self.last.get(uid, 0), base), "SEQ-4"
            assert answers.exact[index] == (above or base == 0)

    def why_not(self, uid: int, count: int) -> str | None:
        """The table of reasons; None: it is served, or waits for its window."""
        if uid >= SIZE * SECTIONS:
            return "UID_OUT_OF_RANGE"
        if not 1 <= count <= MAX_COUNT:
            return "COUNT_OUT_OF_RANGE"
        number = uid // SIZE
        row = self.rows.get(number)
        lapsed = self.now >= self.until
        if row is not None and row.serving:
            return self.ledger.why_lapsed() if lapsed else None
        if row is not None and row.leaving:
            return "DRAINING"
        if row is None and number not in self.ledger.acquiring and number not in self.ledger.wanted:
            return "NOT_OWNER"
        if self.ledger.draining:
            return "DRAINING"
        stores_fail = lapsed and self.ledger.why_lapsed() != "LEASE_EXPIRED"
        return self.ledger.why_lapsed() if stores_fail else "ACQUIRING"

    # -- what must hold

    @invariant()
    def what_is_promised_to_others_is_not_served_fence_1(self) -> None:
        assert set(self.ledger.sections) == set(self.rows)
        for number, row in self.rows.items():
            assert row.section.serving == row.serving
            assert row.section.epoch >= self.promised.get(number, 0)
            assert self.ledger.promises.highest(number) == self.promised.get(number, 0)


Node.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestNode = Node.TestCase
