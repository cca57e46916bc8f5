"""Whatever the owner does, every entry is settled once, with the number that was meant for it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seqsvr.batching import Answer, Batch, Outbox
from seqsvr.calls import Bulk, Entry, Op, Tally, lost, refused

SECTIONS = 3
SENT = 1_000_000
"""The owner answers uid u with SENT + u, so that a mix-up shows."""


class Caller:
    def __init__(self) -> None:
        self.results = 0
        self.left = False

    def done(self) -> bool:
        return self.left or self.results > 0

    def set_result(self, result: None, /) -> None:
        self.results += 1


def opened() -> Outbox:
    return Outbox("node:1", max_in_flight=2, max_queue=20, gather=3)


class OutboxMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.outbox = opened()
        self.before: list[Outbox] = []  # whose place it took
        self.now_s = 0.0
        self.uid = 0
        self.entries: list[tuple[Entry, Caller]] = []
        self.bulks: list[tuple[Bulk, Caller]] = []
        # With the outbox that sent it, and index -> uid not answered.
        self.flying: list[tuple[Outbox, Batch, dict[int, int]]] = []

    @rule(op=st.sampled_from(Op), patience_s=st.floats(0.001, 0.1))
    def call(self, op: Op, patience_s: float) -> None:
        self.uid += 1
        entry, caller = Entry(op, self.uid, 1, self.now_s + patience_s), Caller()
        entry.section = self.uid % SECTIONS
        entry.waiter = caller
        if self.outbox.put(entry):
            self.entries.append((entry, caller))

    @rule(size=st.integers(1, 6), patience_s=st.floats(0.001, 0.1))
    def call_many(self, size: int, patience_s: float) -> None:
        uids = list(range(self.uid + 1, self.uid + 1 + size))
        self.uid += size
        caller = Caller()
        sections = [uid % SECTIONS for uid in uids]
        bulk = Bulk(uids, sections, self.now_s + patience_s, Tally(caller, size))
        if self.outbox.put_bulk(bulk):
            self.bulks.append((bulk, caller))

    @rule()
    def send(self) -> None:
        batch = self.outbox.take(self.now_s)
        if batch is not None:
            uids = dict(enumerate(batch.uids()))
            assert len(uids) == batch.size
            assert all(not entry.waiter.done() for entry in batch.entries if entry is not None)
            self.flying.append((self.outbox, batch, uids))

    @rule()
    def succeed(self) -> None:
        """What was not sent goes on elsewhere; what was sent ends here."""
        before, self.outbox = self.outbox, opened()
        self.outbox.inherit(before)
        assert before.take(self.now_s) is None
        assert before.idle == (before.in_flight == 0)
        self.before = [one for one in [*self.before, before] if not one.idle]

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        outbox, batch, left = data.draw(st.sampled_from(self.flying))
        everything = len(left) == batch.size and data.draw(st.booleans())
        choice = st.lists(st.sampled_from(sorted(left)), min_size=1, unique=True)
        indexes = sorted(left) if everything else data.draw(choice)
        failing = data.draw(st.sets(st.integers(0, len(indexes) - 1)) | st.just(set()))
        seqs = [0 if i in failing else SENT + left[index] for i, index in enumerate(indexes)]
        for index in indexes:
            del left[index]
        if not left:
            self.flying.remove((outbox, batch, left))
        answer = Answer(
            batch.id,
            indexes=() if everything else indexes,
            more=bool(left),
            seqs=seqs,
            exact=[True] * len(indexes),
            epochs=[1],
            failures={i: refused("ACQUIRING", "", "node:1") for i in failing},
        )
        stale = data.draw(st.sampled_from([None, None, None, *range(SECTIONS)]))
        outbox.settle(answer, lambda section, epoch: section != stale)

    @precondition(lambda self: self.entries or self.bulks)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([*self.entries, *self.bulks]))[1].left = True

    @rule(section=st.integers(0, SECTIONS - 1), silent=st.booleans())
    def move(self, section: int, silent: bool) -> None:
        for outbox in [self.outbox, *self.before]:
            outbox.evict(lambda moved: moved == section, in_flight=silent)

    @rule(seconds=st.floats(0.001, 0.05))
    def sweep(self, seconds: float) -> None:
        self.now_s += seconds
        for outbox in [self.outbox, *self.before]:
            outbox.sweep(self.now_s)
        for entry, caller in self.entries:
            assert caller.done() or entry.deadline_s > self.now_s
        for bulk, caller in self.bulks:
            assert caller.done() or bulk.deadline_s > self.now_s

    @rule()
    def break_stream(self) -> None:
        for outbox in [self.outbox, *self.before]:
            outbox.fail_all(lost("node:1", "broke"))
            assert outbox.idle
        self.flying.clear()
        assert all(caller.done() for _, caller in [*self.entries, *self.bulks])

    @invariant()
    def every_entry_is_settled_once_and_with_its_own_number(self) -> None:
        for entry, caller in self.entries:
            assert caller.results <= 1
            assert entry.doubt in (0, 1)
            if entry.seq is not None:
                assert entry.seq == SENT + entry.uid
                assert entry.doubt == 0
                assert entry.failure is None

    @invariant()
    def a_bulk_is_settled_as_a_whole_or_entry_by_entry(self) -> None:
        for bulk, caller in self.bulks:
            assert caller.results <= 1
            if bulk.seqs:
                assert not bulk.entries
                assert list(bulk.seqs) == [SENT + uid for uid in bulk.uids]
            elif caller.results:
                assert [entry.uid for entry in bulk.entries] == bulk.uids
            for entry in bulk.entries:
                assert entry.doubt in (0, 1)
                assert entry.seq in (None, SENT + entry.uid)
                if caller.results:
                    assert (entry.seq is None) == (entry.failure is not None)

    @invariant()
    def whoever_still_waits_is_still_in_the_outbox(self) -> None:
        waiting = sum(not caller.done() for _, caller in [*self.entries, *self.bulks])
        assert waiting == 0 or not all(one.idle for one in [self.outbox, *self.before])


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
