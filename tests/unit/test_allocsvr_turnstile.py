"""Turns of an event loop are kept short."""

import asyncio

import pytest

from allocsvr.line import work_s
from allocsvr.turnstile import TURN_S, Shed, Turnstile

PER_TURN = int(TURN_S / work_s(1)) + 1


async def turn() -> None:
    await asyncio.sleep(0)


async def test_as_long_as_turns_are_short_nobody_waits() -> None:
    turnstile = Turnstile(1.0)
    for _ in range(10 * PER_TURN):
        assert not turnstile.closed
        turnstile.passed(1)
        if turnstile.closed:
            await turn()
            await turn()


async def test_what_is_too_much_for_a_turn_waits_for_later_ones() -> None:
    turnstile = Turnstile(100.0)
    for _ in range(PER_TURN):
        turnstile.passed(1)
    assert turnstile.closed
    done: list[int] = []

    async def one(index: int) -> None:
        await turnstile.enter("one", 1)
        done.append(index)

    async with asyncio.TaskGroup() as group:
        for index in range(5 * PER_TURN):
            group.create_task(one(index))
        most, before = 0, 0
        while len(done) < 5 * PER_TURN:
            await turn()
            most, before = max(most, len(done) - before), len(done)
    assert done == sorted(done)
    assert most <= 2 * PER_TURN
    await turn()
    await turn()
    assert not turnstile.closed and not turnstile.waiting


async def test_who_would_wait_too_long_is_told_when_to_come_again() -> None:
    turnstile = Turnstile(0.003)
    for _ in range(PER_TURN):
        turnstile.passed(1)
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(turnstile.enter("one", 1)) for _ in range(25)]
        await turn()
        with pytest.raises(Shed) as shed:
            await turnstile.enter("one", 4096)
        assert 0.003 < shed.value.again_s < 5
        await asyncio.wait(held)


async def test_one_who_leaves_while_waiting_is_passed_over() -> None:
    turnstile = Turnstile(1.0)
    for _ in range(PER_TURN):
        turnstile.passed(1)
    gone = asyncio.create_task(turnstile.enter("one", 1))
    stays = asyncio.create_task(turnstile.enter("one", 1))
    await turn()
    gone.cancel()
    await asyncio.wait_for(stays, 10)
    assert gone.cancelled() or gone.cancelling()


async def test_other_tasks_of_the_loop_have_their_turns_while_many_wait() -> None:
    """What a lease's renewal needs: turns, of which there is one per few milliseconds of work."""
    turnstile, turns, running = Turnstile(100.0), 0, True

    async def renewal() -> None:
        nonlocal turns
        while running:
            turns += 1
            await turn()

    async def one() -> None:
        if turnstile.closed:
            await turnstile.enter("one", 1_000)
        else:
            turnstile.passed(1_000)

    other = asyncio.create_task(renewal())
    async with asyncio.TaskGroup() as group:
        for _ in range(500):
            group.create_task(one())
    running = False
    await other
    assert turns > 500 * work_s(1_000) / TURN_S / 2


async def test_single_calls_get_turns_of_their_own_while_streams_wait() -> None:
    """One call that is begun again and again, as gRPC begins one after the other."""

    async def calls(count: int, *, single: bool) -> int:
        turnstile, served = Turnstile(1_000.0), 0

        async def stream() -> None:
            nonlocal served
            while True:
                if turnstile.closed:
                    await turnstile.enter("flood", 4_096)
                else:
                    turnstile.passed(4_096)
                    await turn()
                served += 1

        async with asyncio.TaskGroup() as group:
            flood = [group.create_task(stream()) for _ in range(50)]
            for _ in range(count):
                for _ in range(3):  # turns that it takes to begin it
                    await turn()
                if single:
                    turnstile.called(1)
            for task in flood:
                task.cancel()
        return served

    assert await calls(300, single=True) < 0.6 * await calls(300, single=False)
