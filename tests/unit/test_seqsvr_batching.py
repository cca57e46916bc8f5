from collections.abc import Sequence

import pytest

from seqsvr.batching import LINGER_S, Answer, Batch, Outbox
from seqsvr.calls import Bulk, Entry, Failure, Op, Tally, lost, refused


class Caller:
    """A future without a loop; a second result is an error of the code under test."""

    def __init__(self) -> None:
        self.finished = False

    def done(self) -> bool:
        return self.finished

    def set_result(self, result: None, /) -> None:
        assert not self.finished, "settled twice"
        self.finished = True

    def leave(self) -> None:
        self.finished = True


def make(*, max_in_flight: int = 4, max_queue: int = 100_000, gather: int = 1) -> Outbox:
    return Outbox("node:1", max_in_flight=max_in_flight, max_queue=max_queue, gather=gather)


def put(
    outbox: Outbox, uids: Sequence[int], *, op: Op = Op.NEXT, deadline_s: float = 10.0
) -> list[Entry]:
    entries = []
    for uid in uids:
        entry = Entry(op, uid, 1, deadline_s)
        entry.section = uid // 100
        entry.waiter = Caller()
        assert outbox.put(entry)
        entries.append(entry)
    return entries


def leave(entry: Entry) -> None:
    assert isinstance(entry.waiter, Caller)
    entry.waiter.leave()


def take(outbox: Outbox, now_s: float = 0.0) -> Batch:
    batch = outbox.take(now_s)
    assert batch is not None
    return batch


def uids(batch: Batch) -> list[int]:
    return [entry.uid for entry in batch.entries if entry is not None]


def believe(section: int, epoch: int) -> bool:
    return True


def answered(batch: Batch, seqs: Sequence[int], **more: object) -> Answer:
    return Answer(batch.id, seqs=seqs, epochs=[1], **more)  # type: ignore[arg-type]


def test_with_nothing_in_flight_everything_queued_goes_at_once() -> None:
    outbox = make()
    put(outbox, [1, 2, 3])
    assert uids(take(outbox)) == [1, 2, 3]
    assert outbox.take(0.0) is None


def test_calls_gather_while_the_flight_is_full_and_go_together_after_an_answer() -> None:
    outbox = make(max_in_flight=1)
    put(outbox, [1])
    first = take(outbox)
    put(outbox, [2])
    put(outbox, [3])
    assert outbox.take(0.0) is None
    outbox.settle(answered(first, [1]), believe)
    assert uids(take(outbox)) == [2, 3]


def test_a_batch_that_waits_holds_the_others_up_for_the_linger_only() -> None:
    outbox = make(max_in_flight=1)
    put(outbox, [1])
    take(outbox, 5.0)
    put(outbox, [2])
    assert outbox.room_at_s() == 5.0 + LINGER_S
    assert outbox.take(5.0 + LINGER_S / 2) is None
    assert uids(take(outbox, 5.0 + LINGER_S)) == [2]
    assert outbox.in_flight == 2


def test_a_partly_answered_batch_does_not_hold_the_others_up() -> None:
    outbox = make(max_in_flight=1)
    put(outbox, [1, 2])
    first = take(outbox)
    put(outbox, [3])
    outbox.settle(answered(first, [9], indexes=[1], more=True), believe)
    assert uids(take(outbox)) == [3]


def test_no_batch_is_above_4096_entries() -> None:
    outbox = make()
    put(outbox, range(10_000))
    sizes = [len(take(outbox).entries) for _ in range(3)]
    assert sizes == [4096, 4096, 10_000 - 2 * 4096]


def test_the_two_kinds_of_call_travel_apart_and_take_turns() -> None:
    outbox = make()
    put(outbox, range(4096))
    put(outbox, [1], op=Op.CURRENT)
    put(outbox, range(5))
    assert [take(outbox).op for _ in range(3)] == [Op.NEXT, Op.CURRENT, Op.NEXT]


def test_answers_out_of_order_reach_their_entries() -> None:
    outbox = make()
    a, b = put(outbox, [1, 2])
    first = take(outbox)
    (c,) = put(outbox, [3])
    second = take(outbox)
    outbox.settle(answered(second, [30]), believe)
    outbox.settle(answered(first, [20], indexes=[1], more=True), believe)
    assert (a.seq, b.seq, c.seq) == (None, 20, 30)
    outbox.settle(answered(first, [10], indexes=[0]), believe)
    assert a.seq == 10
    assert outbox.idle


def test_one_entry_of_a_batch_may_fail_alone() -> None:
    outbox = make()
    a, b = put(outbox, [1, 2])
    failures = {0: refused("ACQUIRING", "soon", "node:1", 0.5)}
    outbox.settle(Answer(take(outbox).id, seqs=[0, 5], epochs=[0, 3], failures=failures), believe)
    assert a.failure == failures[0]
    assert (b.seq, b.epoch, b.failure) == (5, 3, None)
    assert a.doubt == b.doubt == 0


def test_a_refused_batch_fails_every_entry_without_doubt() -> None:
    outbox = make()
    entries = put(outbox, [1, 2])
    outbox.settle(Answer(take(outbox).id, refused=refused("DRAINING", "", "node:1")), believe)
    assert [entry.failure and entry.failure.reason for entry in entries] == ["DRAINING"] * 2
    assert [entry.doubt for entry in entries] == [0, 0]


def test_an_answer_under_a_superseded_epoch_is_dropped_route_1() -> None:
    outbox = make()
    (entry,) = put(outbox, [1])
    outbox.settle(answered(take(outbox), [5]), lambda section, epoch: False)
    assert entry.seq is None
    assert entry.failure is not None
    assert (entry.failure.reason, entry.failure.reroute) == ("STALE_EPOCH", True)
    assert entry.doubt == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(1, seqs=[1], epochs=[1]),
        Answer(1, seqs=[1, 2, 3], epochs=[1]),
        Answer(1, seqs=[1, 0], epochs=[1]),
        Answer(1, seqs=[1, 2], epochs=[]),
        Answer(1, seqs=[1, 2], epochs=[1, 2, 3]),
        Answer(1, seqs=[1], epochs=[1], indexes=[2]),
        Answer(1, seqs=[1, 0], epochs=[1], failures={2: refused("CORRUPT", "", "")}),
        Answer(1, seqs=[1, 2], epochs=[1], failures={0: refused("CORRUPT", "", "")}),
        Answer(1, seqs=[1], epochs=[1], indexes=[0], more=False),
    ],
    ids=[
        "too few", "too many", "zero", "no epoch", "epochs", "index", "error", "both", "left out",
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_settles_all_and_never_hands_out_a_zero(answer: Answer) -> None:
    outbox = make()
    entries = put(outbox, [1, 2])
    assert take(outbox).id == 1
    outbox.settle(answer, believe)
    assert all(entry.waiter.done() for entry in entries)
    assert "INTERNAL" in [entry.failure and entry.failure.reason for entry in entries]
    assert all(entry.seq != 0 for entry in entries)
    assert outbox.idle


def test_an_index_named_twice_settles_its_entry_once() -> None:
    outbox = make()
    put(outbox, [1, 2])
    outbox.settle(answered(take(outbox), [5, 6, 7], indexes=[0, 0, 1]), believe)
    assert outbox.idle


def test_current_says_whether_it_is_exact_and_may_be_zero() -> None:
    outbox = make()
    a, b = put(outbox, [1, 2], op=Op.CURRENT)
    outbox.settle(answered(take(outbox), [0, 9], exact=[True, False]), believe)
    assert [(a.seq, a.exact), (b.seq, b.exact)] == [(0, True), (9, False)]


def test_a_late_answer_is_ignored() -> None:
    outbox = make()
    (entry,) = put(outbox, [1], deadline_s=1.0)
    batch = take(outbox)
    assert outbox.sweep(1.0) is None
    assert entry.failure is not None
    assert entry.failure.reason == "TIMEOUT"
    assert entry.doubt == 1
    outbox.settle(answered(batch, [5]), believe)
    assert entry.seq is None
    assert outbox.idle


def test_a_sweep_fails_what_is_late_and_names_the_next_deadline() -> None:
    outbox = make(max_in_flight=1)
    early, late = put(outbox, [1], deadline_s=1.0) + put(outbox, [2], deadline_s=3.0)
    take(outbox)
    (queued,) = put(outbox, [3], deadline_s=2.0)
    assert outbox.sweep(1.5) == 2.0
    assert [entry.waiter.done() for entry in (early, late, queued)] == [True, False, False]
    assert outbox.sweep(2.5) == 3.0
    assert queued.failure is not None
    assert queued.doubt == 0


def test_a_caller_that_leaves_unsent_is_not_sent_and_one_that_leaves_sent_is_ignored() -> None:
    outbox = make()
    a, b, c = put(outbox, [1, 2, 3])
    leave(a)
    batch = take(outbox)
    assert uids(batch) == [2, 3]
    leave(b)
    outbox.settle(answered(batch, [5, 6]), believe)
    assert (a.seq, b.seq, c.seq) == (None, None, 6)
    assert outbox.idle


def test_a_queue_of_callers_that_left_sends_nothing() -> None:
    outbox = make()
    for entry in put(outbox, range(10)):
        leave(entry)
    assert outbox.take(0.0) is None
    assert outbox.idle


def test_the_queue_is_bounded_over_what_waits_and_what_flies() -> None:
    outbox = make(max_queue=3)
    put(outbox, [1, 2])
    batch = take(outbox)
    put(outbox, [3])
    assert not outbox.put(Entry(Op.NEXT, 4, 1, 1.0))
    outbox.settle(answered(batch, [1, 1]), believe)
    put(outbox, [4, 5])


def test_a_broken_stream_leaves_doubt_on_what_was_sent_only() -> None:
    outbox = make(max_in_flight=1)
    (sent,) = put(outbox, [1])
    take(outbox)
    (queued,) = put(outbox, [2])
    outbox.fail_all(lost("node:1", "broke"))
    assert (sent.doubt, queued.doubt) == (1, 0)
    assert all(entry.failure and entry.failure.retry for entry in (sent, queued))
    assert outbox.idle


def test_entries_of_sections_that_moved_are_given_back() -> None:
    outbox = make(max_in_flight=1)
    sent_moved, sent_stays = put(outbox, [100, 200])
    take(outbox)
    moved, stays = put(outbox, [101, 201])
    outbox.evict(lambda section: section == 1, in_flight=False)
    done = [entry.waiter.done() for entry in (sent_moved, sent_stays, moved, stays)]
    assert done == [False, False, True, False]
    outbox.evict(lambda section: section == 1, in_flight=True)
    assert sent_moved.failure is not None
    assert sent_moved.doubt == 1
    assert not sent_stays.waiter.done()


def test_a_failure_of_an_attempt_is_forgotten_when_the_next_one_succeeds() -> None:
    outbox = make()
    (entry,) = put(outbox, [1])
    outbox.settle(Answer(take(outbox).id, refused=Failure("ACQUIRING", "")), believe)
    entry.waiter = Caller()
    outbox.put(entry)
    outbox.settle(answered(take(outbox), [8]), believe)
    assert (entry.seq, entry.failure) == (8, None)


def test_few_calls_wait_for_the_answer_that_is_on_its_way_and_many_do_not() -> None:
    outbox = make(gather=3)
    put(outbox, [1])
    first = take(outbox)
    put(outbox, [2, 3])
    assert outbox.take(0.0) is None
    put(outbox, [4])
    assert take(outbox).uids() == [2, 3, 4]
    put(outbox, [5])
    outbox.settle(answered(first, [1]), believe)
    assert outbox.take(0.0) is None, "the second one is still on its way"
    assert take(outbox, LINGER_S).uids() == [5], "and holds nobody up for longer than this"


def test_a_bulk_waits_for_nobody_as_long_as_there_is_room() -> None:
    outbox = make(gather=100, max_in_flight=2)
    for uid in (1, 2, 3):
        put_bulk(outbox, [uid])
    assert [take(outbox).uids() for _ in range(2)] == [[1], [2]]
    assert outbox.take(0.0) is None


def test_a_zero_that_is_not_the_failed_entrys_is_no_number() -> None:
    outbox = make()
    entries = put(outbox, [1, 2])
    failure = refused("ACQUIRING", "", "node:1")
    outbox.settle(answered(take(outbox), [7, 0], failures={0: failure}), believe)
    for entry in entries:
        assert entry.seq is None
        assert entry.failure is not None and entry.failure.reason == "INTERNAL"


# -- bulks: many uids of one call, settled together as long as all goes well


def put_bulk(outbox: Outbox, uids: list[int], *, deadline_s: float = 10.0) -> tuple[Bulk, Caller]:
    caller = Caller()
    bulk = Bulk(uids, [uid // 100 for uid in uids], deadline_s, Tally(caller, len(uids)))
    assert outbox.put_bulk(bulk)
    return bulk, caller


def test_a_bulk_goes_as_a_batch_of_its_own_and_is_settled_at_once() -> None:
    outbox = make()
    bulk, caller = put_bulk(outbox, [5, 105, 7])
    single = put(outbox, [9])
    batches = [take(outbox), take(outbox)]
    assert sorted(batch.uids() for batch in batches) == [[5, 105, 7], [9]]
    (whole,) = (batch for batch in batches if batch.bulk is not None)
    outbox.settle(answered(whole, [1, 2, 3]), believe)
    assert caller.done() and bulk.seqs == [1, 2, 3] and not bulk.entries
    assert not single[0].waiter.done() and outbox.in_flight == 1


def test_bulks_and_single_calls_take_turns() -> None:
    outbox = make(max_in_flight=10)
    for uid in (1, 2):
        put_bulk(outbox, [uid])
    put(outbox, [8])
    assert [take(outbox).uids() for _ in range(3)] in ([[1], [8], [2]], [[8], [1], [2]])


def test_what_fails_of_a_bulk_fails_alone() -> None:
    outbox = make()
    bulk, caller = put_bulk(outbox, [5, 6, 7])
    failure = refused("ACQUIRING", "", "node:1")
    outbox.settle(answered(take(outbox), [1, 0, 3], failures={1: failure}), believe)
    assert caller.done()
    assert [entry.seq for entry in bulk.entries] == [1, None, 3]
    assert [entry.failure for entry in bulk.entries] == [None, failure, None]
    assert [entry.doubt for entry in bulk.entries] == [0, 0, 0]


def test_a_bulk_that_is_answered_in_parts_is_settled_with_the_last() -> None:
    outbox = make()
    bulk, caller = put_bulk(outbox, [5, 6, 7])
    batch = take(outbox)
    outbox.settle(answered(batch, [30, 10], indexes=[2, 0], more=True), believe)
    assert not caller.done()
    outbox.settle(answered(batch, [20], indexes=[1]), believe)
    assert caller.done() and [entry.seq for entry in bulk.entries] == [10, 20, 30]
    assert outbox.idle


def test_of_a_bulk_under_epochs_of_which_one_is_superseded_that_part_is_in_doubt() -> None:
    outbox = make()
    bulk, caller = put_bulk(outbox, [5, 105])
    answer = Answer(take(outbox).id, seqs=[1, 2], epochs=[7, 3])
    outbox.settle(answer, lambda section, epoch: epoch >= 7)
    assert caller.done()
    first, second = bulk.entries
    assert (first.seq, first.doubt) == (1, 0)
    assert second.failure is not None and second.failure.reason == "STALE_EPOCH"
    assert second.doubt == 1


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("how", ["broken", "late", "moved"])
def test_a_bulk_that_comes_to_nothing_is_in_doubt_only_if_it_was_sent(how: str, sent: bool) -> None:
    outbox = make()
    bulk, caller = put_bulk(outbox, [5, 105])
    if sent:
        take(outbox)
    if how == "broken":
        outbox.fail_all(lost("node:1", "broke"))
    elif how == "late":
        assert outbox.sweep(9.9) == 10.0
        assert outbox.sweep(10.0) is None
    else:
        outbox.evict(lambda section: section in (0, 1), in_flight=True)
    assert caller.done() and outbox.idle
    assert all(entry.failure is not None for entry in bulk.entries)
    assert [entry.doubt for entry in bulk.entries] == [int(sent)] * 2


def test_a_bulk_of_which_a_part_has_moved_goes_on_with_the_rest() -> None:
    outbox = make()
    bulk, caller = put_bulk(outbox, [5, 105, 6])
    outbox.evict(lambda section: section == 1, in_flight=False)
    batch = take(outbox)
    assert batch.uids() == [5, 6]
    outbox.settle(answered(batch, [1, 2]), believe)
    assert caller.done()
    assert [entry.seq for entry in bulk.entries] == [1, None, 2]


def test_a_bulk_that_does_not_fit_the_queue_is_not_taken_and_leaves_the_room() -> None:
    outbox = make(max_queue=3)
    tally = Tally(Caller(), 4)
    assert not outbox.put_bulk(Bulk([1, 2, 3, 4], [0] * 4, 10.0, tally))
    put(outbox, [1, 2, 3])


def test_a_bulk_whose_caller_has_gone_is_not_sent() -> None:
    outbox = make()
    _, caller = put_bulk(outbox, [5, 6])
    caller.leave()
    assert outbox.take(0.0) is None and outbox.idle
