"""`seqctl replay`: hands out the numbers of a message trace and verifies every one of them.

Each message takes the next number of its recipient and of its sender (write fan-out to both
inboxes) in one call; `clients` workers pull messages in the order of the trace. A call that fails
is counted and not repeated: its numbers are unknown. Where as many calls in a row fail as there
are workers (at least 3), the cluster is taken to be down and the replay ends.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from seqctl.credentials import client_of
from seqctl.failures import OK, VIOLATION, NotDone
from seqctl.output import print_json, print_table, print_violations, say
from seqctl.progress import progress
from seqctl.tally import Baseline, Summary, Tally, summarize
from seqctl.trace import Trace, read_trace
from seqsvr import loops
from seqsvr.errors import SeqError
from seqsvr.sections import Layout

_BASELINE_BATCH = 1_000
_LEAST_PATIENCE = 3


class Answer(Protocol):
    """What `current` says of one uid."""

    @property
    def value(self) -> int: ...
    @property
    def exact(self) -> bool: ...


class Numbers(Protocol):
    """What a replay needs of a client; seqsvr.AsyncClient is one. Failures are SeqErrors."""

    async def next_many(self, uids: Sequence[int], *, timeout: float) -> list[int]: ...
    async def current_many(self, uids: Sequence[int], *, timeout: float) -> Sequence[Answer]: ...


class Replay:
    """One replay of a trace: `await run()`, then `summary()`.

    clients: calls in flight, at least 1; timeout_s: bound of each call, in seconds; clock: now in
    nanoseconds, never falling and never 0.
    """

    def __init__(
        self,
        numbers: Numbers,
        trace: Trace,
        *,
        clients: int,
        timeout_s: float,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.numbers = numbers
        self.clock = clock
        self.trace = trace
        self.clients = clients
        self.timeout_s = timeout_s
        self.tally = Tally(len(trace), {})
        self.done = 0
        self.elapsed_ns = 0
        self.last_error: SeqError | None = None
        self.gave_up = False
        self._failures_in_a_row = 0

    async def run(self) -> None:
        """Read the baselines, then hand out everything. Raises NotDone without baselines."""
        self.tally.baselines = await self._baselines()
        messages = iter(range(len(self.trace)))
        started = self.clock()
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(self.clients, len(self.trace))):
                workers.create_task(self._work(messages))
        self.elapsed_ns = self.clock() - started

    def summary(self, section_size: int) -> Summary:
        return summarize(
            self.trace, self.tally, elapsed_ns=self.elapsed_ns, section_size=section_size
        )

    async def _baselines(self) -> dict[int, Baseline]:
        uids = sorted({*self.trace.senders, *self.trace.recipients})
        found: dict[int, Baseline] = {}
        for at in range(0, len(uids), _BASELINE_BATCH):
            batch = uids[at : at + _BASELINE_BATCH]
            call_ns = self.clock()
            try:
                answers = await self.numbers.current_many(batch, timeout=self.timeout_s)
            except SeqError as error:
                raise NotDone(f"cannot read the baseline: {error}") from error
            return_ns = self.clock()
            for uid, answer in zip(batch, answers, strict=True):
                found[uid] = Baseline(answer.value, answer.exact, call_ns, return_ns)
        return found

    async def _work(self, messages: Iterator[int]) -> None:
        next_many, clock, handed = self.numbers.next_many, self.clock, self.tally.handed
        recipients, senders = self.trace.recipients, self.trace.senders
        timeout_s = self.timeout_s
        for message in messages:
            pair = [recipients[message], senders[message]]
            call_ns = clock()
            try:
                recipient_seq, sender_seq = await next_many(pair, timeout=timeout_s)
            except SeqError as error:
                self._note_failure(error)
            else:
                handed(message, recipient_seq, sender_seq, call_ns, clock())
                self._failures_in_a_row = 0
            self.done += 1
            if self.gave_up:
                return

    def _note_failure(self, error: SeqError) -> None:
        self.tally.failed += 1
        self.last_error = error
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= max(self.clients, _LEAST_PATIENCE):
            self.gave_up = True


def run(args: argparse.Namespace) -> int:
    """The command: 0, 1 on any violation, 3 where calls failed."""
    trace = read_trace(args.file, spread=args.spread, limit=args.limit)
    replay, layout = loops.run(_replay(args, trace))
    summary = replay.summary(layout.section_size)  # long, so not where it would bar Ctrl-C
    if args.output == "json":
        print_json(summary.as_json())
    else:
        print_table(("", "replay"), _rows(summary))
    print_violations(summary.shown, summary.violations, sys.stderr)
    if replay.last_error is not None:
        ending = "gave up" if replay.gave_up else "went on"
        text = f"{summary.failed} calls failed ({ending}), the last: {replay.last_error}"
        if not summary.violations:
            raise NotDone(text)
        say(f"seqctl replay: {text}", file=sys.stderr)
    return VIOLATION if summary.violations else OK


async def _replay(args: argparse.Namespace, trace: Trace) -> tuple[Replay, Layout]:
    async with client_of(args, history=args.history) as client:
        layout = (await client.route(timeout=args.timeout)).layout
        trace.require_below(layout.uid_limit)
        replay = Replay(client, trace, clients=args.clients, timeout_s=args.timeout)
        async with progress("messages", len(trace), lambda: replay.done):
            await replay.run()
    return replay, layout


def _rows(summary: Summary) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        ("messages", f"{summary.messages:,}"),
        ("numbers", f"{summary.numbers:,}"),
        ("uids", f"{summary.uids:,}"),
        ("sections", f"{summary.sections:,}"),
        ("numbers/s", f"{summary.per_second:,.0f}"),
        ("p50", f"{summary.p50_ms:.3f} ms"),
        ("p99", f"{summary.p99_ms:.3f} ms"),
        ("p99.9", f"{summary.p999_ms:.3f} ms"),
        ("jumps", f"{summary.jumps:,}"),
        ("violations", f"{summary.violations:,}"),
    ]
    return [*rows, ("failed calls", f"{summary.failed:,}")] if summary.failed else rows
