"""Answers batches: what is ready at once, what waits for a raise or another node as it gets ready.

Entries that wait are grouped by section, entries of other owners by owner, and each group is
answered by itself, so none holds up another.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from allocsvr.ledger import Answers
from allocsvr.node import AllocNode
from allocsvr.peers import Peers


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one request. counts: one per uid, or empty (each 1; always so for current).

    forward: entries of other owners may be sent on to them (the caller has no routing table).
    """

    current: bool
    uids: Sequence[int]
    counts: Sequence[int] = ()
    forward: bool = False

    def only(self, indexes: Sequence[int]) -> "Batch":
        """The same for some of the entries."""
        uids, counts = self.uids, self.counts
        return Batch(
            self.current,
            [uids[i] for i in indexes],
            [counts[i] for i in indexes] if counts else (),
            self.forward,
        )


@dataclass(slots=True)
class Later:
    """Entries of a batch that cannot be answered at once, by section and by owner's address."""

    waiting: dict[int, list[int]] = field(default_factory=dict)
    foreign: dict[str, list[int]] = field(default_factory=dict)

    def indexes(self) -> Iterable[int]:
        for group in (*self.waiting.values(), *self.foreign.values()):
            yield from group

    def __bool__(self) -> bool:
        return bool(self.waiting or self.foreign)


class Answering:
    """Batches against one node and, where they are to be forwarded, its peers."""

    def __init__(self, node: AllocNode, peers: Peers) -> None:
        self._node = node
        self._peers = peers

    def now(self, batch: Batch) -> Answers:
        """Answer what can be answered without waiting. Runs to completion."""
        now_ns = self._node.clock.now_ns()
        if batch.current:
            return self._node.ledger.current_batch(batch.uids, now_ns)
        answers = self._node.ledger.next_batch(batch.uids, batch.counts, now_ns)
        self._node.metrics.numbers.inc(handed_out(batch, answers))
        return answers

    def later(self, batch: Batch, answers: Answers) -> Later:
        """What of `answers` is not final: entries that wait, and those to be forwarded."""
        later = Later()
        size = self._node.cluster.section_size
        if answers.waiting:
            self._node.metrics.raise_waits.inc(len(answers.waiting))
            for index in answers.waiting:
                later.waiting.setdefault(batch.uids[index] // size, []).append(index)
        if batch.forward and answers.failures:
            final = []
            for index, reason in answers.failures:
                owner = self._owner(batch.uids[index] // size) if reason == "NOT_OWNER" else None
                if owner is None:
                    final.append((index, reason))
                else:
                    later.foreign.setdefault(owner, []).append(index)
            answers.failures = final
        return later

    async def each(
        self, batch: Batch, later: Later, timeout_s: float
    ) -> AsyncIterator[tuple[list[int], Answers]]:
        """The groups of `later` with their answers, in the order in which they get ready."""
        groups = [
            asyncio.ensure_future(self._grown(batch, section, indexes, timeout_s))
            for section, indexes in later.waiting.items()
        ]
        groups += [
            asyncio.ensure_future(self._forwarded(batch, address, indexes, timeout_s))
            for address, indexes in later.foreign.items()
        ]
        try:
            for group in asyncio.as_completed(groups):
                yield await group
        finally:
            for task in groups:
                task.cancel()

    async def all(self, batch: Batch, timeout_s: float) -> Answers:
        """Every entry, whatever it takes."""
        answers = self.now(batch)
        later = self.later(batch, answers)
        if later:
            async for indexes, part in self.each(batch, later, timeout_s):
                merge(answers, indexes, part)
            answers.waiting = []
        return answers

    async def _grown(
        self, batch: Batch, section: int, indexes: list[int], timeout_s: float
    ) -> tuple[list[int], Answers]:
        """Entries of one section, once its window holds them."""
        until = asyncio.get_running_loop().time() + timeout_s
        own = batch.only(indexes)
        answers = self.now(own)
        grown = False
        while answers.waiting:
            # Between the try that failed and this wait nothing is awaited: no raise is missed.
            left_s = until - asyncio.get_running_loop().time()
            reason = await self._node.waiting.grown(section, max(left_s, 0.0))
            again, answers.waiting = answers.waiting, []
            if reason is not None:
                # The window did grow, but others were there first.
                reason = "OVERLOADED" if grown else reason
                answers.failures += [(index, reason) for index in again]
                break
            grown = True
            part = self.now(own.only(again))
            merge(answers, again, part)
            answers.waiting = [again[index] for index in part.waiting]
        return indexes, answers

    async def _forwarded(
        self, batch: Batch, address: str, indexes: list[int], timeout_s: float
    ) -> tuple[list[int], Answers]:
        """Entries of another owner; what it refuses for not being the owner stays refused."""
        self._node.metrics.forwarded.inc(len(indexes))
        own = batch.only(indexes)
        ask = self._peers.current if batch.current else self._peers.next
        return indexes, await ask(address, own.uids, own.counts, timeout_s)

    def _owner(self, section: int) -> str | None:
        address = self._node.router.owner(section)
        return address if address != self._node.address else None


def merge(whole: Answers, indexes: Sequence[int], part: Answers) -> None:
    """Put the entries of `part`, which stand at `indexes` of `whole`, in their places."""
    for at, index in enumerate(indexes):
        whole.seqs[index] = part.seqs[at]
        whole.epochs[index] = part.epochs[at]
        if part.exact:
            whole.exact[index] = part.exact[at]
    whole.failures += [(indexes[at], reason) for at, reason in part.failures]


def pick(whole: Answers, indexes: Sequence[int]) -> Answers:
    """The entries at `indexes`, as a batch of their own."""
    part = Answers(0)
    part.seqs = [whole.seqs[i] for i in indexes]
    part.epochs = [whole.epochs[i] for i in indexes]
    part.exact = [whole.exact[i] for i in indexes] if whole.exact else []
    place = {index: at for at, index in enumerate(indexes)}
    part.failures = [(place[i], reason) for i, reason in whole.failures if i in place]
    return part


def handed_out(batch: Batch, answers: Answers) -> int:
    """How many numbers a batch of `next` took."""
    if not batch.counts:
        return len(batch.uids) - answers.seqs.count(0)
    return sum(count for count, seq in zip(batch.counts, answers.seqs, strict=True) if seq)
