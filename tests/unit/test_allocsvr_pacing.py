"""Heavy work leaves as much time as it takes, on a clock that jumps."""

import asyncio

import pytest

from allocsvr.pacing import MAX_REST_NS, Pace
from cluster_in_a_box import JumpingClock

MS = 1_000_000


async def stretch(pace: Pace, clock: JumpingClock, took_ns: int, seen: list[int]) -> None:
    async with pace:
        seen.append(clock.now_ns())
        clock.advance(took_ns / 1e9)


async def test_a_stretch_is_followed_by_a_rest_as_long_as_itself() -> None:
    clock, seen = JumpingClock(0), list[int]()
    pace = Pace(clock)
    for took_ns in (3 * MS, 7 * MS, MS):
        await stretch(pace, clock, took_ns, seen)
    assert [*seen, clock.now_ns()] == [0, 6 * MS, 20 * MS, 22 * MS]


async def test_those_who_come_together_go_one_after_the_other() -> None:
    clock, seen = JumpingClock(0), list[int]()
    pace = Pace(clock)
    await asyncio.gather(*(stretch(pace, clock, n * MS, seen) for n in (5, 2, 1)))
    assert seen == [0, 10 * MS, 14 * MS]


async def test_a_process_that_was_stopped_in_a_stretch_does_not_rest_as_long() -> None:
    clock = JumpingClock(0)
    await stretch(Pace(clock), clock, 60_000 * MS, [])
    assert clock.now_ns() == 60_000 * MS + MAX_REST_NS


async def test_a_stretch_that_fails_lets_the_next_one_go_on() -> None:
    pace = Pace(JumpingClock())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with pace:
                raise ZeroDivisionError
