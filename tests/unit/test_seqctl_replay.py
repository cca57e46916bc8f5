"""The run of a replay, on a scripted client: baselines, order of the trace, failures."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count

import pytest

from seqctl.failures import NotDone
from seqctl.replay import Replay
from seqctl.tally import Baseline
from seqctl.trace import Trace
from seqsvr.errors import OutcomeUnknown, SeqError, Unavailable


class Answered:
    def __init__(self, value: int, exact: bool) -> None:
        self.value = value
        self.exact = exact


class ScriptedNumbers:
    """Dense numbers from a dictionary; `failing` decides by the number of the call."""

    def __init__(self, failing: set[int] | None = None, error: SeqError | None = None) -> None:
        self.counters: Counter[int] = Counter()
        self.failing = failing or set()
        self.error = error or Unavailable("scripted", reason="UNREACHABLE")
        self.calls: list[list[int]] = []
        self.current_calls: list[list[int]] = []
        self.exact = True
        self.most_in_flight = 0
        self._in_flight = 0

    async def next_many(self, uids: Sequence[int], *, timeout: float) -> list[int]:
        index = len(self.calls)
        self.calls.append(list(uids))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        await asyncio.sleep(0)
        self._in_flight -= 1
        if index in self.failing:
            raise self.error
        found = []
        for uid in uids:
            self.counters[uid] += 1
            found.append(self.counters[uid])
        return found

    async def current_many(self, uids: Sequence[int], *, timeout: float) -> list[Answered]:
        self.current_calls.append(list(uids))
        return [Answered(self.counters[uid], self.exact) for uid in uids]


def trace_of(*messages: tuple[int, int]) -> Trace:
    trace = Trace("trace")
    for line, (sender, recipient) in enumerate(messages, start=1):
        trace._append(line, sender, recipient)
    return trace


def replay_of(numbers: ScriptedNumbers, trace: Trace, clients: int = 4) -> Replay:
    ticks = count(1)
    return Replay(numbers, trace, clients=clients, timeout_s=1.0, clock=lambda: next(ticks))


async def test_each_message_takes_the_number_of_its_recipient_and_of_its_sender() -> None:
    numbers = ScriptedNumbers()
    replay = replay_of(numbers, trace_of((1, 2), (3, 1), (4, 4)))
    await replay.run()
    assert numbers.calls == [[2, 1], [1, 3], [4, 4]]
    summary = replay.summary(section_size=1)
    assert (summary.messages, summary.numbers, summary.uids, summary.sections) == (3, 6, 4, 4)
    assert (summary.jumps, summary.violations, summary.failed) == (0, 0, 0)


async def test_as_many_calls_are_in_flight_as_there_are_clients() -> None:
    numbers = ScriptedNumbers()
    replay = replay_of(numbers, trace_of(*[(1, 2)] * 50), clients=7)
    await replay.run()
    assert numbers.most_in_flight == 7
    assert replay.done == 50


async def test_the_baseline_of_every_uid_is_read_first_in_bounded_batches() -> None:
    numbers = ScriptedNumbers()
    numbers.counters[5] = 77
    replay = replay_of(numbers, trace_of(*[(uid, 5) for uid in range(2500)]))
    await replay.run()
    assert [len(batch) for batch in numbers.current_calls] == [1000, 1000, 500]
    assert replay.tally.baselines[5] == Baseline(77, True, 1, 2)
    assert replay.summary(section_size=100).jumps == 0


async def test_a_ceiling_as_baseline_is_a_jump() -> None:
    numbers = ScriptedNumbers()
    numbers.counters.update({1: 10_000, 2: 10_000})
    numbers.exact = False
    replay = replay_of(numbers, trace_of((1, 2), (1, 2)))
    await replay.run()
    summary = replay.summary(section_size=100)
    assert (summary.jumps, summary.violations) == (2, 0)


async def test_a_service_that_forgets_is_found_out() -> None:
    numbers = ScriptedNumbers()
    replay = replay_of(numbers, trace_of(*[(1, 2)] * 10), clients=1)
    original = numbers.next_many

    async def forgetful(uids: Sequence[int], *, timeout: float) -> list[int]:
        if len(numbers.calls) == 8:
            numbers.counters.clear()
        return await original(uids, timeout=timeout)

    numbers.next_many = forgetful  # type: ignore[method-assign]
    await replay.run()
    summary = replay.summary(section_size=100)
    assert summary.violations > 0
    assert {violation.promise for violation in summary.shown} == {"SEQ-1", "SEQ-2"}


async def test_a_failed_call_is_counted_and_not_repeated() -> None:
    error = OutcomeUnknown("scripted", reason="OUTCOME_UNKNOWN")
    numbers = ScriptedNumbers(failing={3}, error=error)
    replay = replay_of(numbers, trace_of(*[(1, 2)] * 10))
    await replay.run()
    assert len(numbers.calls) == 10
    assert replay.last_error is error
    assert not replay.gave_up
    assert (replay.summary(100).failed, replay.summary(100).messages) == (1, 9)


async def test_single_failures_in_between_never_end_a_replay() -> None:
    numbers = ScriptedNumbers(failing=set(range(0, 100, 2)))
    replay = replay_of(numbers, trace_of(*[(1, 2)] * 100), clients=4)
    await replay.run()
    assert len(numbers.calls) == 100
    assert replay.summary(100).failed == 50


@pytest.mark.parametrize(("clients", "calls"), [(1, 3), (2, 4), (8, 15)])
async def test_a_cluster_that_is_down_for_good_ends_it_soon(clients: int, calls: int) -> None:
    numbers = ScriptedNumbers(failing=set(range(10_000)))
    replay = replay_of(numbers, trace_of(*[(1, 2)] * 10_000), clients=clients)
    await replay.run()
    assert replay.gave_up
    assert len(numbers.calls) <= calls


async def test_without_baselines_nothing_is_handed_out() -> None:
    numbers = ScriptedNumbers()

    async def down(uids: Sequence[int], *, timeout: float) -> list[Answered]:
        raise numbers.error

    numbers.current_many = down  # type: ignore[method-assign]
    with pytest.raises(NotDone, match="baseline"):
        await replay_of(numbers, trace_of((1, 2))).run()
    assert numbers.calls == []
