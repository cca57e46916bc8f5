"""Calls nodes as a message service does, and checks the promises at each answer."""

import asyncio
from collections import defaultdict

from allocsvr.answering import Answering, Batch
from allocsvr.ledger import Answers
from allocsvr.peers import Peers
from cluster_in_a_box.box import Box, Member

LAPSES = 40


class NotServed(Exception):
    """The call was refused; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Caller:
    """All callers of a box together: what one was answered, no other may be answered later.

    SEQ-1 and SEQ-2: above everything answered before the call began. SEQ-3: durable on W replicas
    by the time of the answer. SEQ-4: `current` not below what was answered before it was asked, and
    what is handed out later is above it.
    """

    def __init__(self, box: Box) -> None:
        self._box = box
        self._highest: dict[int, int] = defaultdict(int)
        self._taken: dict[int, set[int]] = defaultdict(set)

    async def next(
        self, member: Member, uid: int, count: int = 1, *, timeout_s: float = 5.0
    ) -> int:
        """The first of the next `count` numbers. Raises NotServed."""
        return (await self.next_many(member, [uid], [count], timeout_s=timeout_s))[0]

    async def next_many(
        self,
        member: Member,
        uids: list[int],
        counts: list[int] | None = None,
        *,
        timeout_s: float = 5.0,
    ) -> list[int]:
        """One for each; raises NotServed with the first reason."""
        counts = counts or [1] * len(uids)
        floors = dict(self._highest)
        answers = await self._ask(member, Batch(False, uids, counts), timeout_s)
        for uid, count, seq in zip(uids, counts, answers.seqs, strict=True):
            if seq:
                self._check(uid, seq, count, floors.get(uid, 0))
        for _, reason in answers.failures:
            raise NotServed(reason)
        return answers.seqs

    async def current(self, member: Member, uid: int) -> tuple[int, bool]:
        """(cur_seq, exact). Raises NotServed."""
        floor = self._highest[uid]
        answers = await self._ask(member, Batch(True, [uid]), 1.0)
        for _, reason in answers.failures:
            raise NotServed(reason)
        seq, exact = answers.seqs[0], answers.exact[0]
        assert seq >= floor, f"SEQ-4: current {seq} of uid {uid} is below {floor}"
        self._highest[uid] = max(self._highest[uid], seq)
        return seq, exact

    async def _ask(self, member: Member, batch: Batch, timeout_s: float) -> Answers:
        """Again where a busy machine let a short lease lapse, as any client would."""
        answering = Answering(member.node, Peers())
        for _ in range(LAPSES):
            answers = await answering.rest(batch, answering.now(batch), timeout_s)
            if {reason for _, reason in answers.failures} != {"LEASE_EXPIRED"}:
                break
            await asyncio.sleep(0.05)
        return answers

    def _check(self, uid: int, seq: int, count: int, floor: int) -> None:
        assert seq > floor, f"SEQ-1: uid {uid} got {seq} after {floor}"
        numbers = set(range(seq, seq + count))
        assert not numbers & self._taken[uid], f"SEQ-2: uid {uid} got {seq} twice"
        last = seq + count - 1
        durable = self._box.durable(uid // self._box.cluster.section_size)
        assert last <= durable, f"SEQ-3: {last} was handed out, {durable} is durable"
        self._taken[uid] |= numbers
        self._highest[uid] = max(self._highest[uid], last)
