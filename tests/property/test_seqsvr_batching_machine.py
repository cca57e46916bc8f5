"""Whatever the owner does, every entry is settled once, with the number that was meant for it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seqsvr.batching import Answer, Batch, Outbox
from seqsvr.calls import Entry, Op, lost, refused

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


class OutboxMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox("node:1", max_in_flight=2, max_queue=20)
        self.now_s = 0.0
        self.uid = 0
        self.entries: list[tuple[Entry, Caller]] = []
        self.flying: list[tuple[Batch, dict[int, int]]] = []  # with index -> uid not answered

    @rule(op=st.sampled_from(Op), patience_s=st.floats(0.001, 0.1))
    def call(self, op: Op, patience_s: float) -> None:
        self.uid += 1
        entry, caller = Entry(op, self.uid, 1, self.now_s + patience_s), Caller()
        entry.waiter = caller
        if self.outbox.put(entry):
            self.entries.append((entry, caller))

    @rule()
    def send(self) -> None:
        batch = self.outbox.take(self.now_s)
        if batch is not None:
            uids = {i: entry.uid for i, entry in enumerate(batch.entries) if entry is not None}
            assert all(not entry.waiter.done() for entry in batch.entries if entry is not None)
            self.flying.append((batch, uids))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        batch, left = data.draw(st.sampled_from(self.flying))
        indexes = data.draw(st.lists(st.sampled_from(sorted(left)), min_size=1, unique=True))
        failing = data.draw(st.sets(st.integers(0, len(indexes) - 1)))
        seqs = [0 if i in failing else SENT + left[index] for i, index in enumerate(indexes)]
        for index in indexes:
            del left[index]
        if not left:
            self.flying.remove((batch, left))
        answer = Answer(
            batch.id,
            indexes=indexes,
            more=bool(left),
            seqs=seqs,
            exact=[True] * len(indexes),
            epochs=[1],
            failures={i: refused("ACQUIRING", "", "node:1") for i in failing},
        )
        self.outbox.settle(answer, lambda section, epoch: True)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.entries))[1].left = True

    @rule(seconds=st.floats(0.001, 0.05))
    def sweep(self, seconds: float) -> None:
        self.now_s += seconds
        self.outbox.sweep(self.now_s)
        for entry, caller in self.entries:
            assert caller.done() or entry.deadline_s > self.now_s

    @rule()
    def break_stream(self) -> None:
        self.outbox.fail_all(lost("node:1", "broke"))
        self.flying.clear()
        assert self.outbox.idle
        assert all(caller.done() for _, caller in self.entries)

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
    def whoever_still_waits_is_still_in_the_outbox(self) -> None:
        waiting = sum(not caller.done() for _, caller in self.entries)
        assert waiting == 0 or not self.outbox.idle


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
