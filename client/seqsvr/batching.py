"""What goes out to one owner, when, and what its answers settle. Pure: no clock, no stream.

Entries wait in one queue per kind of call. `take` makes the next batch of them:

* nothing in flight: at once, with whatever is queued;
* otherwise calls gather, and go out together with the next answer; not before it unless there are
  `GATHER` of them (or a bulk) and fewer than `max_in_flight` batches wait for their first answer.
  A message costs as much as tens of calls in it, so two half batches at a time are slower than one
  whole after the other; of large ones, one is made while the other is served.
* a batch stops counting when it is first answered, or after `LINGER_S`. A section that waits
  for a raise therefore delays a call to another section by `LINGER_S` at most (by twice that where
  `max_in_flight` is 1 and calls of both kinds and bulks take turns).

Every entry put in is settled exactly once: by an answer, by `sweep` at its deadline, by `evict`,
or by `fail_all`; except those nobody waits for any more (a caller's own cancellation), which are
forgotten where they are met. Answers to ids that are no longer known are ignored: a late number
is a gap (SEQ-5). An answer under a superseded epoch is dropped and its entry fails with
STALE_EPOCH (ROUTE-1).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from seqsvr.calls import Bulk, Entry, Failure, Op, refused
from seqsvr.sections import MAX_BATCH, SEQ_LIMIT

LINGER_S = 0.01
GATHER = 64

Observe = Callable[[int, int], bool]
"""(section, epoch) of an answer -> whether it is to be believed; see routing.Router.observe."""


class Batch:
    """Entries sent under one id; an entry's place is None once it is settled.

    Or a bulk, in which case there are no entries until it is opened up.
    """

    __slots__ = ("bulk", "entries", "id", "left", "op", "sent_s", "size")

    def __init__(
        self, id_: int, op: Op, entries: list[Entry], sent_s: float, bulk: Bulk | None = None
    ) -> None:
        self.id = id_
        self.op = op
        self.entries: list[Entry | None] = list(entries)
        self.bulk = bulk
        self.left = self.size = len(entries) if bulk is None else len(bulk.uids)
        self.sent_s = sent_s

    def uids(self) -> list[int]:
        """What is asked for, as long as nothing is settled."""
        if self.bulk is not None:
            return self.bulk.uids
        return [entry.uid for entry in self.entries if entry is not None]

    def counts(self) -> list[int]:
        """How much of it; empty: one number each."""
        counts = [entry.count for entry in self.entries if entry is not None]
        return [] if counts.count(1) == len(counts) else counts

    def open_up(self) -> None:
        """From a bulk to its entries."""
        if self.bulk is not None:
            self.entries = list(self.bulk.unpack(doubt=1))
            self.bulk = None


@dataclass(slots=True)
class Answer:
    """One answer, decoded; `indexes` empty: it holds every entry of its batch, in order."""

    id: int
    indexes: Sequence[int] = ()
    more: bool = False
    seqs: Sequence[int] = ()
    exact: Sequence[bool] = ()
    epochs: Sequence[int] = ()
    failures: dict[int, Failure] = field(default_factory=dict)
    refused: Failure | None = None


class Outbox:
    """The queues and the batches in flight of one owner."""

    def __init__(
        self, address: str, *, max_in_flight: int, max_queue: int, gather: int = GATHER
    ) -> None:
        self.address = address
        self._gather = gather
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._queues: dict[Op, list[Entry]] = {op: [] for op in Op}
        self._bulks: list[Bulk] = []
        self._turn = Op.NEXT
        self._bulk_turn = True
        self._in_flight: dict[int, Batch] = {}
        self._young: dict[int, float] = {}  # id -> sent_s of batches that count as in flight
        self._size = 0  # entries queued or in flight
        self._last_id = 0

    @property
    def idle(self) -> bool:
        return self._size == 0

    @property
    def in_flight(self) -> int:
        """Batches sent that are not wholly settled."""
        return len(self._in_flight)

    @property
    def oldest_sent_s(self) -> float | None:
        """When the oldest batch in flight was sent; None: there is none."""
        return next((batch.sent_s for batch in self._in_flight.values()), None)

    def put(self, entry: Entry) -> bool:
        """Queue an entry; False: there is no room and it was not taken."""
        if self._size >= self._max_queue:
            return False
        self._size += 1
        self._queues[entry.op].append(entry)
        return True

    def put_bulk(self, bulk: Bulk) -> bool:
        """Queue a bulk, of at most MAX_BATCH uids; False: there is no room for all of it."""
        if self._size + len(bulk.uids) > self._max_queue:
            return False
        self._size += len(bulk.uids)
        self._bulks.append(bulk)
        return True

    def inherit(self, other: "Outbox") -> None:
        """Take over what another one has not sent, room or none; what it sent stays with it."""
        for op, queue in other._queues.items():
            self._queues[op] += queue
            other._queues[op] = []
        self._bulks += other._bulks
        other._bulks = []
        sent = sum(batch.left for batch in other._in_flight.values())
        self._size += other._size - sent
        other._size = sent

    # --- sending

    def take(self, now_s: float) -> Batch | None:
        """The next batch to send; None: nothing to send, or no room (see `room_at_s`)."""
        while self._size and self._has_room(now_s):
            self._bulk_turn = not self._bulk_turn
            if self._bulks and (self._bulk_turn or not any(self._queues.values())):
                bulk = self._bulks.pop(0)
                if not bulk.waiter.done():
                    return self._sent(Op.NEXT, [], now_s, bulk)
                self._size -= len(bulk.uids)
                continue
            op = self._next_op()
            if op is None:
                return None
            entries = self._pop(op)
            if entries:
                return self._launch(op, entries, now_s)
        return None

    def room_at_s(self) -> float | None:
        """When a queued entry may go out even if no answer comes; None: nothing is held up."""
        if not self._young or not (self._bulks or any(self._queues.values())):
            return None
        return next(iter(self._young.values())) + LINGER_S

    def _has_room(self, now_s: float) -> bool:
        young = self._young
        while young:
            oldest = next(iter(young))
            if young[oldest] + LINGER_S > now_s:
                break
            del young[oldest]
        if not young:
            return True
        if len(young) >= self._max_in_flight:
            return False
        return bool(self._bulks) or sum(map(len, self._queues.values())) >= self._gather

    def _next_op(self) -> Op | None:
        first = self._turn
        second = Op.CURRENT if first is Op.NEXT else Op.NEXT
        op = first if self._queues[first] else second
        self._turn = second if op is first else first
        return op if self._queues[op] else None

    def _pop(self, op: Op) -> list[Entry]:
        queue = self._queues[op]
        if len(queue) <= MAX_BATCH:
            self._queues[op] = []
            taken = queue
        else:
            taken, self._queues[op] = queue[:MAX_BATCH], queue[MAX_BATCH:]
        wanted = [entry for entry in taken if not entry.waiter.done()]
        self._size -= len(taken) - len(wanted)
        return wanted

    def _launch(self, op: Op, entries: list[Entry], now_s: float) -> Batch:
        for entry in entries:
            entry.doubt += 1
        return self._sent(op, entries, now_s)

    def _sent(self, op: Op, entries: list[Entry], now_s: float, bulk: Bulk | None = None) -> Batch:
        self._last_id += 1
        batch = Batch(self._last_id, op, entries, now_s, bulk)
        self._in_flight[batch.id] = batch
        self._young[batch.id] = now_s
        return batch

    # --- answers

    def settle(self, answer: Answer, observe: Observe) -> None:
        """Settle the entries that an answer holds."""
        batch = self._in_flight.get(answer.id)
        if batch is None:
            return
        self._young.pop(batch.id, None)
        if answer.refused is not None:
            self._close(batch, answer.refused)
            return
        if not self._fits(batch, answer):
            text = f"{self.address}: an answer does not fit its request"
            self._close(batch, refused("INTERNAL", text, self.address))
            return
        if batch.bulk is not None:
            if self._settle_bulk(batch, batch.bulk, answer, observe):
                return
            batch.open_up()
        picked = self._pick(batch, answer)
        for index, failure in answer.failures.items():
            entry = picked[index]
            if entry is not None:
                picked[index] = None
                entry.doubt -= 1
                entry.fail(failure)
        self._deliver(picked, answer, observe)
        if batch.left == 0 or not answer.more:
            self._close(batch, refused("INTERNAL", "the server left it out", self.address))

    def _settle_bulk(self, batch: Batch, bulk: Bulk, answer: Answer, observe: Observe) -> bool:
        """Settle all of it at once; False: the answer is not as plain as that."""
        if answer.indexes or answer.failures or bulk.waiter.done():
            return False
        one = repeat(answer.epochs[0]) if len(answer.epochs) == 1 else answer.epochs
        served = set(zip(bulk.sections, one, strict=False))
        if not all(observe(section, epoch) for section, epoch in served):
            return False
        self._forget(batch)
        bulk.settle(answer.seqs)
        return True

    @staticmethod
    def _fits(batch: Batch, answer: Answer) -> bool:
        """Whether the answer can be one to this batch: what would not be is never handed out."""
        size, failed = len(answer.indexes) or batch.size, len(answer.failures)
        if len(answer.seqs) != size or max(answer.indexes, default=0) >= batch.size:
            return False
        if failed and max(answer.failures) >= size:
            return False
        if len(answer.epochs) not in ((1, size) if failed < size else (0, 1, size)):
            return False
        if batch.op is Op.CURRENT:
            return len(answer.exact) == size and max(answer.seqs) <= SEQ_LIMIT
        if failed and any(answer.seqs[index] for index in answer.failures):
            return False
        return answer.seqs.count(0) == failed and max(answer.seqs) <= SEQ_LIMIT

    def _pick(self, batch: Batch, answer: Answer) -> list[Entry | None]:
        """Take the answer's entries out of the batch."""
        entries = batch.entries
        if not answer.indexes:
            # The common case: a whole batch at once.
            batch.entries = []
            self._size -= batch.left
            batch.left = 0
            return entries
        picked: list[Entry | None] = []
        for index in answer.indexes:
            entry = entries[index]
            picked.append(entry)
            if entry is not None:
                entries[index] = None
                batch.left -= 1
                self._size -= 1
        return picked

    def _deliver(self, picked: list[Entry | None], answer: Answer, observe: Observe) -> None:
        one = answer.epochs[0] if answer.epochs else 0
        epochs: Iterable[int] = repeat(one) if len(answer.epochs) <= 1 else answer.epochs
        exacts: Iterable[bool] = answer.exact or repeat(False)
        for entry, seq, epoch, exact in zip(picked, answer.seqs, epochs, exacts, strict=False):
            if entry is None:
                continue
            waiter = entry.waiter
            if waiter.done():
                continue
            if not observe(entry.section, epoch):
                # Doubt stays: the superseded owner may have taken a number.
                text = f"{self.address}: epoch {epoch} is superseded"
                entry.failure = refused("STALE_EPOCH", text, self.address)
            else:
                entry.doubt -= 1
                entry.failure = None
                entry.seq = seq
                entry.epoch = epoch
                entry.exact = exact
            waiter.set_result(None)

    def _close(self, batch: Batch, failure: Failure) -> None:
        """Forget a batch, failing what is left of it with an answer that the server gave."""
        batch.open_up()
        self._forget(batch)
        for entry in batch.entries:
            if entry is not None:
                entry.doubt -= 1
                entry.fail(failure)

    def _forget(self, batch: Batch) -> None:
        del self._in_flight[batch.id]
        self._young.pop(batch.id, None)
        self._size -= batch.left

    # --- time and trouble

    def sweep(self, now_s: float) -> float | None:
        """Fail what is past its deadline, forget what nobody waits for.

        Returns the next deadline; None: nothing is left.
        """
        late = Failure("TIMEOUT", f"{self.address}: no answer in time", self.address)

        def stays(entry: Entry) -> bool:
            if entry.waiter.done():
                return False
            if entry.deadline_s <= now_s:
                entry.fail(late)
                return False
            return True

        whole = self._open_up(lambda bulk: bulk.waiter.done() or bulk.deadline_s <= now_s)
        left = self._filter_queues(stays) + self._filter_in_flight(stays)
        deadlines = [bulk.deadline_s for bulk in whole] + [entry.deadline_s for entry in left]
        return min(deadlines, default=None)

    def evict(self, moved: Callable[[int], bool], *, in_flight: bool) -> None:
        """Fail entries whose section has `moved` to another owner, for their callers to reroute.

        in_flight: those sent as well; for an owner that has gone silent.
        """

        def stays(entry: Entry) -> bool:
            if not moved(entry.section):
                return True
            text = f"section {entry.section} has left {self.address}"
            entry.fail(refused("NOT_OWNER", text, self.address))
            return False

        self._open_up(lambda bulk: any(map(moved, set(bulk.sections))), in_flight=in_flight)
        self._filter_queues(stays)
        if in_flight:
            self._filter_in_flight(stays)

    def fail_all(self, failure: Failure) -> None:
        """Fail everything; what was sent stays in doubt."""
        self._open_up(lambda _: True)
        queues, batches = self._queues.values(), self._in_flight.values()
        self._queues = {op: [] for op in Op}
        self._in_flight, self._young, self._size = {}, {}, 0
        sent = (entry for batch in batches for entry in batch.entries if entry is not None)
        for entry in chain(sent, *queues):
            entry.fail(failure)

    def _open_up(self, which: Callable[[Bulk], bool], *, in_flight: bool = True) -> list[Bulk]:
        """Make entries of those bulks with which something is to happen; returns the others."""
        whole: list[Bulk] = []
        for bulk in self._bulks:
            if which(bulk):
                self._queues[Op.NEXT] += bulk.unpack(doubt=0)
            else:
                whole.append(bulk)
        self._bulks = whole.copy()
        for batch in self._in_flight.values():
            if batch.bulk is not None:
                if in_flight and which(batch.bulk):
                    batch.open_up()
                else:
                    whole.append(batch.bulk)
        return whole

    def _filter_queues(self, stays: Callable[[Entry], bool]) -> list[Entry]:
        left: list[Entry] = []
        for op, queue in self._queues.items():
            kept = [entry for entry in queue if stays(entry)]
            self._size -= len(queue) - len(kept)
            self._queues[op] = kept
            left += kept
        return left

    def _filter_in_flight(self, stays: Callable[[Entry], bool]) -> list[Entry]:
        left: list[Entry] = []
        for batch in list(self._in_flight.values()):
            for index, entry in enumerate(batch.entries):
                if entry is None:
                    continue
                if stays(entry):
                    left.append(entry)
                else:
                    batch.entries[index] = None
                    batch.left -= 1
                    self._size -= 1
            if batch.left == 0:
                del self._in_flight[batch.id]
                self._young.pop(batch.id, None)
        return left
