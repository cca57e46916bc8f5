"""Many callers on one uid, in one process and in several (SEQ-1, SEQ-2)."""

import asyncio
import threading

import seqsvr
from processes import Services, seqctl
from processes.calls import plain

UID = 424_242


async def test_two_clients_that_take_turns_on_one_uid_get_rising_numbers(
    services: Services,
) -> None:
    """LESSONS, octo-lib: blocks per process were not monotone across them."""
    service = services().start()
    async with (
        seqsvr.AsyncClient(service.address) as first,
        seqsvr.AsyncClient(service.address) as second,
    ):
        numbers = [await (second if turn % 2 else first).next(UID) for turn in range(1_000)]
        assert numbers == list(range(1, 1_001))
        assert (await first.current(UID)) == (await second.current(UID))
        assert await first.current(UID) == seqsvr.Current(1_000, True)


def test_clients_of_four_kinds_that_take_turns_get_rising_numbers(services: Services) -> None:
    service = services().start()
    numbers: list[int] = []
    with seqsvr.Client(service.address) as blocking, plain(service.address) as calls:
        for _ in range(5):
            numbers.append(blocking.next(UID))
            numbers.append(calls.next(UID))
            numbers += blocking.next_many([UID, UID])
            numbers += blocking.next_range(UID, 3)
            done = seqctl("next", UID, "--addr", service.address)
            assert done.returncode == 0, done.stderr
            numbers.append(int(done.stdout.split()[-1]))
    assert numbers == list(range(1, 41))


async def test_64_callers_on_one_uid_get_distinct_and_dense_numbers(services: Services) -> None:
    service = services().start()

    async def caller(client: seqsvr.AsyncClient) -> list[int]:
        return [await client.next(UID) for _ in range(200)]

    async with seqsvr.AsyncClient(service.address) as client:
        taken = await asyncio.gather(*(caller(client) for _ in range(64)))
    assert all(numbers == sorted(numbers) for numbers in taken)
    assert sorted(n for numbers in taken for n in numbers) == list(range(1, 64 * 200 + 1))


def test_64_threads_on_one_uid_get_distinct_and_dense_numbers(services: Services) -> None:
    service = services().start()
    taken: list[list[int]] = [[] for _ in range(64)]
    begin = threading.Barrier(64)

    def caller(numbers: list[int], client: seqsvr.Client) -> None:
        begin.wait()
        for _ in range(50):
            numbers += client.next_range(UID, 3)

    with seqsvr.Client(service.address) as one, seqsvr.Client(service.address) as other:
        threads = [
            threading.Thread(target=caller, args=(numbers, (one, other)[index % 2]))
            for index, numbers in enumerate(taken)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(numbers == sorted(numbers) for numbers in taken)
    assert sorted(n for numbers in taken for n in numbers) == list(range(1, 64 * 150 + 1))


def test_clients_that_come_and_go_do_not_disturb_one_that_stays(services: Services) -> None:
    """All clients of a process share one completion queue inside grpc."""
    service = services().start()
    stop = threading.Event()
    numbers: list[int] = []

    def stays(client: seqsvr.Client) -> None:
        while not stop.is_set():
            numbers.append(client.next(UID))

    with seqsvr.Client(service.address) as client:
        thread = threading.Thread(target=stays, args=(client,))
        thread.start()
        try:
            for turn in range(1, 51):
                with seqsvr.Client(service.address) as other:
                    assert other.next(UID + 1) == turn
        finally:
            stop.set()
            thread.join()
        assert numbers == list(range(1, len(numbers) + 1))
        assert client.next(UID) == len(numbers) + 1


async def test_a_hot_uid_goes_on_densely_through_many_raises(services: Services) -> None:
    """Windows of 10,000 used up faster than they are raised: callers wait, none is failed."""
    service = services().start()

    async def caller(client: seqsvr.AsyncClient) -> list[range]:
        return [await client.next_range(UID, 10_000) for _ in range(20)]

    async with seqsvr.AsyncClient(service.address) as client:
        taken = await asyncio.gather(*(caller(client) for _ in range(16)))
    starts = sorted(numbers.start for ranges in taken for numbers in ranges)
    assert starts == list(range(1, 320 * 10_000, 10_000))
