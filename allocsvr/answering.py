"""Answers batches: what is ready at once, what waits for a raise or another node as it gets ready.

Entries that wait are grouped by section, entries of other owners by owner, and each group is
answered by itself, so none holds up another.

A section on its way from one owner to another is in no one's hands for a moment. Callers that meet
it there wait here for up to PAUSE_S instead of coming back: at its old owner until it is known who
has it, at the new one until it serves.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from allocsvr.counters import Taken
from allocsvr.ledger import Answers
from allocsvr.node import AllocNode
from allocsvr.peers import Peers

# Longer than a planned move takes, shorter than anybody's patience.
PAUSE_S = 0.1


@dataclass(slots=True)
class Batch:
    """Entries of one request. counts: one per uid, or empty (each 1; always so for current).

    floors: what each uid is to be advanced to, by at most max_jump; of no other kind of request.

    forward: entries of other owners may be sent on to them (the caller has no routing table).
    version: of the caller's routing table, 0 if it has none. denied: entries that are not the
    caller's to ask for.
    """

    current: bool
    uids: Sequence[int]
    counts: Sequence[int] = ()
    forward: bool = False
    version: int = 0
    floors: Sequence[int] = ()
    max_jump: int = 0
    denied: Sequence[int] = ()

    def only(self, indexes: Sequence[int]) -> "Batch":
        """The same for some of the entries, none of them denied."""
        uids, counts, floors = self.uids, self.counts, self.floors
        return Batch(
            self.current,
            [uids[i] for i in indexes],
            [counts[i] for i in indexes] if counts else (),
            self.forward,
            self.version,
            [floors[i] for i in indexes] if floors else (),
            self.max_jump,
        )


@dataclass(slots=True)
class Later:
    """Entries of a batch that cannot be answered at once, by section and by owner's address.

    refused: what entries are told by which nobody waits for that.
    """

    waiting: dict[int, list[int]] = field(default_factory=dict)
    foreign: dict[str, list[int]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def indexes(self) -> Iterable[int]:
        for group in (*self.waiting.values(), *self.foreign.values()):
            yield from group

    def given_up(self) -> list[tuple[int, str]]:
        """Every entry with its failure, as if nobody had time for them."""
        return [(index, self.refused.get(index, "OVERLOADED")) for index in self.indexes()]

    def __bool__(self) -> bool:
        return bool(self.waiting or self.foreign)


class Answering:
    """Batches against one node and, where they are to be forwarded, its peers."""

    def __init__(self, node: AllocNode, peers: Peers) -> None:
        self._node = node
        self._peers = peers
        self._ledger = node.ledger
        self._now_ns = node.clock.now_ns
        self._numbers = node.metrics.numbers

    def now(self, batch: Batch) -> Answers:
        """Answer what can be answered without waiting. Runs to completion."""
        if batch.denied:
            return self._permitted(batch)
        now_ns = self._now_ns()
        if batch.current:
            return self._ledger.current_batch(batch.uids, now_ns)
        if batch.floors:
            return self._ledger.advance_batch(batch.uids, batch.floors, batch.max_jump, now_ns)
        answers = self._ledger.next_batch(batch.uids, batch.counts, now_ns)
        self._numbers.inc(answers.numbers)
        return answers

    def _permitted(self, batch: Batch) -> Answers:
        """As if those that are denied had not been asked for."""
        answers = Answers(len(batch.uids))
        answers.exact = [False] * len(batch.uids) if batch.current else []
        denied = frozenset(batch.denied)
        rest = [index for index in range(len(batch.uids)) if index not in denied]
        if rest:
            part = self.now(batch.only(rest))
            merge(answers, rest, part)
            answers.numbers = part.numbers
            answers.waiting = [rest[index] for index in part.waiting]
        answers.failures += [(index, "PERMISSION_DENIED") for index in batch.denied]
        return answers

    def whole(self, uids: Sequence[int]) -> Taken | None:
        """One number for each of many plain uids, as cheap as can be; None: try `now`."""
        taken = self._ledger.whole(uids, self._now_ns())
        if taken is not None:
            self._numbers.inc(taken.numbers)
        return taken

    def later(self, batch: Batch, answers: Answers) -> Later:
        """What of `answers` is not final: entries that wait, and those to be forwarded."""
        later = Later()
        size = self._node.cluster.section_size
        if answers.waiting:
            self._node.metrics.raise_waits.inc(len(answers.waiting))
            self._node.hurry()
            for index in answers.waiting:
                later.waiting.setdefault(batch.uids[index] // size, []).append(index)
        if answers.failures:
            final = []
            for index, reason in answers.failures:
                section = batch.uids[index] // size
                if self._passes(batch, reason):
                    later.waiting.setdefault(section, []).append(index)
                    later.refused[index] = reason
                elif (owner := self._elsewhere(batch, section, reason)) is not None:
                    later.foreign.setdefault(owner, []).append(index)
                else:
                    final.append((index, reason))
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

    async def rest(
        self, batch: Batch, answers: Answers, timeout_s: float, *, may_wait: bool = True
    ) -> Answers:
        """What `now` has answered, with the rest of it, whatever that takes."""
        later = self.later(batch, answers)
        if later and not may_wait:
            answers.failures += later.given_up()
            answers.waiting = []
        elif later:
            async for indexes, part in self.each(batch, later, timeout_s):
                merge(answers, indexes, part)
            answers.waiting = []
        return answers

    async def _grown(
        self, batch: Batch, section: int, indexes: list[int], timeout_s: float
    ) -> tuple[list[int], Answers]:
        """Entries of one section, once it serves and its window holds them."""
        now_s = asyncio.get_running_loop().time
        until_s = now_s() + timeout_s
        passes_s = now_s() + min(timeout_s, PAUSE_S)
        own = batch.only(indexes)
        answers = self.now(own)
        grown = False
        while open_ := self._open(own, answers):
            # Between the try that failed and this wait nothing is awaited: no wake-up is missed.
            left_s = (until_s if answers.waiting else passes_s) - now_s()
            reason = await self._node.waiting.grown(section, max(left_s, 0.0))
            again, answers.waiting = answers.waiting, []
            if reason is not None:
                # The window did grow, but others were there first.
                reason = "OVERLOADED" if grown else reason
                answers.failures += [(index, reason) for index in again]
                break
            grown = grown or bool(again)
            answers.failures = [(i, why) for i, why in answers.failures if i not in open_]
            tried = sorted(open_)
            part = self.now(own.only(tried))
            merge(answers, tried, part)
            answers.waiting = [tried[index] for index in part.waiting]
        return indexes, await self._sent_on(own, section, answers, until_s - now_s())

    def _open(self, batch: Batch, answers: Answers) -> set[int]:
        """Indexes of the entries for which it is worth waiting."""
        passing = {i for i, reason in answers.failures if self._passes(batch, reason)}
        return passing.union(answers.waiting)

    async def _sent_on(
        self, batch: Batch, section: int, answers: Answers, left_s: float
    ) -> Answers:
        """Forward what has got another owner while it waited."""
        owner = self._elsewhere(batch, section, "NOT_OWNER")
        gone = [index for index, reason in answers.failures if reason == "NOT_OWNER"]
        if owner is None or not gone or left_s <= 0:
            return answers
        _, part = await self._forwarded(batch, owner, gone, left_s)
        answers.failures = [(i, reason) for i, reason in answers.failures if reason != "NOT_OWNER"]
        merge(answers, gone, part)
        return answers

    async def _forwarded(
        self, batch: Batch, address: str, indexes: list[int], timeout_s: float
    ) -> tuple[list[int], Answers]:
        """Entries of another owner; what it refuses for not being the owner stays refused."""
        self._node.metrics.forwarded.inc(len(indexes))
        own = batch.only(indexes)
        address = self._node.reached(address)
        if own.floors:
            return indexes, await self._peers.advance(
                address, own.uids, own.floors, own.max_jump, timeout_s
            )
        ask = self._peers.current if batch.current else self._peers.next
        return indexes, await ask(address, own.uids, own.counts, timeout_s)

    def _passes(self, batch: Batch, reason: str) -> bool:
        """Whether a refusal is one of a moment in which the section changes hands."""
        if reason == "NOT_OWNER":  # by a caller who knows more than we do
            return batch.version > self._node.router.version
        draining = self._node.ledger.draining
        return reason == "ACQUIRING" or (reason == "DRAINING" and not draining)

    def _elsewhere(self, batch: Batch, section: int, reason: str) -> str | None:
        """Where to send an entry on to, if anywhere."""
        if not batch.forward or reason != "NOT_OWNER":
            return None
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
    whole.bounds.update((indexes[at], bound) for at, bound in part.bounds.items())


def pick(whole: Answers, indexes: Sequence[int]) -> Answers:
    """The entries at `indexes`, as a batch of their own."""
    part = Answers(0)
    part.seqs = [whole.seqs[i] for i in indexes]
    part.epochs = [whole.epochs[i] for i in indexes]
    part.exact = [whole.exact[i] for i in indexes] if whole.exact else []
    place = {index: at for at, index in enumerate(indexes)}
    part.failures = [(place[i], reason) for i, reason in whole.failures if i in place]
    return part
