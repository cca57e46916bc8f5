"""What every clock must do: the host's, and the one of the tests."""

import asyncio
from collections.abc import Callable

import pytest

from cluster_in_a_box import JumpingClock
from clustermap.clock import BootClock, Clock

IMPLEMENTATIONS: dict[str, Callable[[], Clock]] = {"boot": BootClock, "jumping": JumpingClock}


@pytest.fixture(params=IMPLEMENTATIONS)
def clock(request: pytest.FixtureRequest) -> Clock:
    return IMPLEMENTATIONS[request.param]()


async def test_it_never_goes_back(clock: Clock) -> None:
    seen = clock.now_ns()
    assert seen > 0
    for turn in range(300):
        if turn % 100 == 0:
            await clock.sleep(0.001)
        now = clock.now_ns()
        assert now >= seen
        seen = now


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.05, -1.0])
async def test_sleep_lets_at_least_that_time_pass(clock: Clock, seconds: float) -> None:
    before = clock.now_ns()
    await clock.sleep(seconds)
    # The event loop's own clock may be finer than it sleeps: by a millisecond at most.
    assert clock.now_ns() - before >= int(seconds * 1e9) - 1_000_000


async def test_sleepers_wake_in_the_order_of_their_alarms(clock: Clock) -> None:
    woken: list[int] = []

    async def sleeper(centiseconds: int) -> None:
        await clock.sleep(centiseconds / 100)
        woken.append(centiseconds)

    await asyncio.gather(*(sleeper(n) for n in (9, 1, 5, 13)))
    assert woken == [1, 5, 9, 13]


async def test_a_sleeper_can_be_cancelled_and_holds_up_nobody(clock: Clock) -> None:
    sleeping = asyncio.create_task(clock.sleep(1000))
    await clock.sleep(0.001)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await clock.sleep(0.001)


async def test_two_sleepers_do_not_add_up(clock: Clock) -> None:
    before = clock.now_ns()
    await asyncio.gather(*(clock.sleep(0.2) for _ in range(20)))
    assert clock.now_ns() - before < 3 * 10**9


async def test_an_hour_of_the_jumping_clock_takes_no_time() -> None:
    clock = JumpingClock()
    before = clock.now_ns()
    async with asyncio.timeout(20):
        await asyncio.gather(clock.sleep(3600), clock.sleep(1800))
    assert clock.now_ns() - before == 3600 * 10**9
    clock.advance(5)
    assert clock.now_ns() - before == 3605 * 10**9
