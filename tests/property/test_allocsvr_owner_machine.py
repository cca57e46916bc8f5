"""Generations of owners of one section against a dictionary. SEQ-1, SEQ-2, SEQ-3, SEQ-4, SEQ-5.

The oracle knows the highest number handed out for each uid, what W replicas have, and what some
replica may have: nothing else. Raises are answered late, twice, in any order or never; an owner
ends by a crash, by a promise to somebody else or gracefully; the next one may find any value that
R replicas can show.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allocsvr.lease import Grants, Lease
from allocsvr.ledger import Ledger
from allocsvr.section import Section, State
from allocsvr.snapshot import decode, encode
from clustermap.membership import one_group
from seqsvr.sections import Layout

S = 10**9
SIZE = 300
UIDS = st.sampled_from([300, 301, 300 + 255, 300 + 256, 599])
COUNTS = st.one_of(st.integers(1, 12), st.integers(1, 60))
CALLS = st.lists(st.tuples(UIDS, COUNTS), min_size=1, max_size=6)
# How an owner begins: mostly with its first raise answered, or little else would be reached.
READY = st.sampled_from([True, True, True, False])
# Ends of owners are as likely to be drawn as any rule, and should be rarer.
# A crash near the limit of the numbers ends all of them for good.
SELDOM = st.integers(0, 9).map(lambda drawn: drawn == 5)


class Owners(RuleBasedStateMachine):
    @initialize(
        step=st.integers(1, 20),
        limit=st.sampled_from([12, 60, 150, 2**63 - 1]),
        vector_from=st.sampled_from([1, 2, 100]),
    )
    def first_owner(self, step: int, limit: int, vector_from: int) -> None:
        self.vector_from = vector_from
        self.limit = limit
        self.step = self.steepest = step
        self.highest: dict[int, int] = {}  # handed out, or said by `current`
        self.given: dict[int, int] = {}  # handed out
        self.durable = 0  # on W replicas
        self.anywhere = 0  # on any replica
        self.wanted = 0  # the greatest number anybody asked for
        self.epoch = 0
        self.now_ns = S
        self.begin(0, None, True)

    def begin(self, found: int, snapshot: bytes | None, ready: bool) -> None:
        self.epoch += 1
        self.found = found
        self.lease = Lease(100 * S, 0.01)
        Grants(self.lease, one_group(1, 1)).granted(0, self.now_ns)
        self.ledger = Ledger(Layout(SIZE, 10 * SIZE), self.lease, self.vector_from)
        base, pages = found, None
        if snapshot is not None:
            base, _, pages = decode(1, SIZE, snapshot)
        self.exact_start = snapshot is not None or found == 0
        self.asked: list[int] = []  # raises on the way
        self.done: list[int] = []  # raises on W replicas, answered or not
        self.hungry = 1  # a section begins with a raise
        self.section = Section(
            1,
            self.epoch,
            base,
            found=found,
            size=SIZE,
            step=self.step,
            seq_limit=self.limit,
            on_hungry=self.got_hungry,
            counters=self.ledger.counters,
            pages=pages,
        )
        self.ledger.admit(self.section)
        self.used: set[int] = set()  # uids that this owner handed numbers out for
        if ready:
            self.raise_at_once()

    def got_hungry(self, section: Section) -> None:
        assert section is self.section
        assert self.hungry == 0, "hungry twice"
        self.hungry += 1

    # -- callers -------------------------------------------------------------------------------

    @rule(batch=CALLS)
    def call(self, batch: list[tuple[int, int]]) -> None:
        uids = [uid for uid, _ in batch]
        answers = self.ledger.next_batch(uids, [count for _, count in batch], self.now_ns)
        serving = self.section.state is State.SERVING and self.lease.held(self.now_ns)
        waited: set[int] = set()
        failed = dict(answers.failures)
        for index, (uid, count) in enumerate(batch):
            seq = answers.seqs[index]
            if not serving:
                assert seq == 0
                assert failed[index] not in ("SEQUENCE_EXHAUSTED",)
                continue
            self.wanted = max(self.wanted, self.section.current(uid - SIZE)[0] + count)
            if index in answers.waiting:
                waited.add(uid)
            elif index in failed:
                assert failed[index] == "SEQUENCE_EXHAUSTED"
                assert self.section.current(uid - SIZE)[0] + count > self.limit
            else:
                assert uid not in waited, "a later entry overtook an earlier one"
                self.handed_out(uid, seq, count)

    def handed_out(self, uid: int, seq: int, count: int) -> None:
        last = seq + count - 1
        assert seq > self.highest.get(uid, 0), "SEQ-1, SEQ-2"
        assert last <= self.durable, "SEQ-3"
        assert last <= self.limit
        if uid in self.used or self.exact_start:
            assert seq == max(self.given.get(uid, 0), self.section.base) + 1, "SEQ-5: dense"
        else:
            assert seq <= self.found + 1, "SEQ-5: no more than the window is skipped"
        self.used.add(uid)
        self.highest[uid] = self.given[uid] = last

    @rule(uid=UIDS, above=st.integers(-3, 90))
    def advance(self, uid: int, above: int) -> None:
        """As if somebody had been handed all numbers up to there."""
        stands, _ = self.section.current(uid - SIZE)
        floor = max(0, stands + above)
        answers = self.ledger.advance_batch([uid], [floor], 2**63, self.now_ns)
        if not (self.section.state is State.SERVING and self.lease.held(self.now_ns)):
            assert answers.seqs == [0]
            assert answers.failures
        elif floor > max(stands, self.limit):
            assert answers.failures == [(0, "JUMP_TOO_LARGE")]
            assert answers.bounds == {0: self.limit}
        else:
            self.wanted = max(self.wanted, floor)
            assert not answers.failures
            if answers.waiting:
                assert floor > self.section.max_seq
            else:
                assert answers.seqs == [max(floor, stands)]
                assert answers.seqs[0] <= max(self.durable, self.found), "SEQ-3"
                self.highest[uid] = max(self.highest.get(uid, 0), answers.seqs[0])
                if floor > stands:
                    self.used.add(uid)
                    self.given[uid] = floor

    @rule(uid=UIDS)
    def current(self, uid: int) -> None:
        answers = self.ledger.current_batch([uid], self.now_ns)
        if answers.failures:
            return
        seq, exact = answers.seqs[0], answers.exact[0]
        assert seq >= self.highest.get(uid, 0), "SEQ-4"
        if exact:
            assert seq == self.given.get(uid, 0), "SEQ-4: exact"
        else:
            assert seq == self.section.base > 0
            assert uid not in self.used
        self.highest[uid] = max(self.highest.get(uid, 0), seq)

    # -- raises --------------------------------------------------------------------------------

    @precondition(lambda self: self.hungry)
    @rule()
    def ask(self) -> None:
        """The owner's retry, too: an earlier raise may still be on its way."""
        if self.section.state in (State.RAISING, State.SERVING):
            target = self.section.target(self.now_ns)
            self.steepest = max(self.steepest, self.section.step)
            assert self.section.max_seq <= target <= self.limit or target == self.found
            self.asked.append(target)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), everywhere=st.booleans())
    def arrive(self, data: st.DataObject, everywhere: bool) -> None:
        """At W replicas, or at too few; whether that is answered is another matter."""
        target = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        self.anywhere = max(self.anywhere, target)
        if everywhere:
            self.durable = max(self.durable, target)
            self.done.append(target)

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Any of those that happened, also once more."""
        self.raised(data.draw(st.sampled_from(self.done)))

    def raise_at_once(self) -> None:
        target = self.section.target(self.now_ns)
        self.steepest = max(self.steepest, self.section.step)
        self.anywhere = max(self.anywhere, target)
        self.durable = max(self.durable, target)
        self.raised(target)

    def raised(self, target: int) -> None:
        before = self.section.max_seq
        self.hungry = 0
        self.ledger.raised(self.section, target)
        assert self.section.max_seq >= before
        assert self.section.serving is (self.section.state is State.SERVING)
        if not self.section.serving:
            return
        if self.section.max_seq > self.durable:
            raise AssertionError("SEQ-3: the window is above what is durable")

    @precondition(lambda self: self.section.state is State.SERVING)
    @rule(calls=CALLS)
    def one_raise_is_enough(self, calls: list[tuple[int, int]]) -> None:
        """A call that waits is answered by the next raise that succeeds."""
        Grants(self.lease, one_group(1, 1)).granted(0, self.now_ns)
        for uid, count in calls:
            self.wanted = max(self.wanted, self.section.current(uid - SIZE)[0] + count)
            answers = self.ledger.next_batch([uid], [count], self.now_ns)
            if answers.waiting:
                self.raise_at_once()
                answers = self.ledger.next_batch([uid], [count], self.now_ns)
            assert not answers.waiting, f"uid {uid} waits for ever"
            if answers.failures:
                assert answers.failures == [(0, "SEQUENCE_EXHAUSTED")]
                assert self.section.current(uid - SIZE)[0] + count > self.limit
            else:
                self.handed_out(uid, answers.seqs[0], count)

    # -- time, and ends of owners --------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 1, 30, 70, 200]), renewed=READY)
    def pass_time(self, seconds: int, renewed: bool) -> None:
        self.now_ns += seconds * S
        if renewed:
            Grants(self.lease, one_group(1, 1)).granted(0, self.now_ns)

    @rule(step=st.integers(1, 30))
    def change_step(self, step: int) -> None:
        """Of the owners to come."""
        self.step = step
        self.steepest = max(self.steepest, step)

    @rule(found=st.booleans(), ready=READY, really=SELDOM)
    def crash(self, found: bool, ready: bool, really: bool) -> None:
        """found: the next owner's R replicas show what only a minority had."""
        if really:
            self.begin(self.anywhere if found else self.durable, None, ready)

    @rule(found=st.booleans(), ready=READY, really=SELDOM)
    def promised_elsewhere(self, found: bool, ready: bool, really: bool) -> None:
        if not really:
            return
        section = self.section
        assert self.ledger.promise(0, 5, self.epoch) == []  # our own fence, told by Renew
        assert self.ledger.promise(0, 5, self.epoch + 1) == [section]
        assert section.state is State.LOST
        self.ledger.raised(section, self.anywhere + 5)
        assert not section.serving
        assert self.ledger.next_batch([SIZE], [], self.now_ns).seqs == [0]
        self.epoch += 1
        self.begin(self.anywhere if found else self.durable, None, ready)

    @rule(found=st.booleans(), ready=READY)
    def hand_over(self, found: bool, ready: bool) -> None:
        """Gracefully, with whatever raises had been answered by then."""
        self.ledger.leave(self.section)
        assert self.ledger.next_batch([SIZE], [], self.now_ns).seqs == [0]
        exact, used, base = self.exact_start, self.used, self.section.base
        snapshot = encode(self.section)
        self.begin(self.anywhere if found else self.durable, snapshot, ready)
        assert self.section.base == base
        self.exact_start, self.used = exact, used

    @invariant()
    def max_seq_stays_near_what_was_asked_for(self) -> None:
        """SEQ-5: neither restarts nor retries lift it without demand."""
        bound = max(self.found, self.wanted + self.section.base + 3 * self.steepest)
        assert self.section.max_seq <= bound
        assert self.durable <= self.anywhere
        assert self.durable <= max(self.limit, self.found)


Owners.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestOwners = Owners.TestCase
