"""A client with its default timeout sees nothing of a graceful restart.

On a machine too busy to restart the service well within that, the timeout is longer by as much.
"""

import asyncio
import random
import time
from collections import Counter

import seqsvr
from processes import Service, Services, free_port
from seqsvr.client import TIMEOUT_S

CALLERS = 32
UIDS = [7, 99_999, 100_000, 999_999]
ROUNDS = 3
PATIENCE_S = 20.0
TRIES = 20
# How long the client may look around once the service is back, in seconds. A round in which the
# service was away, and this process held up, for longer than the rest of the timeout proves
# nothing.
LOOKING_S = 0.8
BEAT_S = 0.02


async def restarted(service: Service) -> float:
    """A graceful restart; for how many seconds nobody was served."""
    began = time.monotonic()
    code = await asyncio.to_thread(service.terminate)
    assert code == 0, service.stderr()
    await asyncio.to_thread(service.start)
    return time.monotonic() - began


class Late:
    """How long this process's loop was held up since `clear`, in seconds."""

    def __init__(self) -> None:
        self.sum_s = 0.0

    def clear(self) -> None:
        self.sum_s = 0.0

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            await asyncio.sleep(BEAT_S)
            # What a quiet machine needs for a turn of the loop does not count.
            self.sum_s += max(0.0, time.monotonic() - began - 3 * BEAT_S)


async def test_no_call_fails_while_the_service_restarts(services: Services) -> None:
    service = services(port=free_port()).start()
    timeout_s = TIMEOUT_S
    stop = asyncio.Event()
    failed: Counter[str] = Counter()
    highest: dict[int, int] = {}
    answered = 0
    slowest_s = 0.0
    late = Late()

    async def caller(client: seqsvr.AsyncClient) -> None:
        nonlocal answered, slowest_s
        while not stop.is_set():
            uid = random.choice(UIDS)
            before, began = highest.get(uid, 0), time.monotonic()
            try:
                number = await client.next(uid, timeout=timeout_s)
            except seqsvr.SeqError as error:
                failed[error.reason] += 1
            else:
                assert number > before
                highest[uid] = max(number, highest.get(uid, 0))
                answered += 1
                slowest_s = max(slowest_s, time.monotonic() - began)
            await asyncio.sleep(0.002)

    async with seqsvr.AsyncClient(service.address) as client, asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller(client))
        group.create_task(late.watch(stop))
        good = 0
        for _ in range(TRIES):
            await asyncio.sleep(0.3)
            failed.clear()
            late.clear()
            before = answered
            outage_s = await restarted(service)
            async with asyncio.timeout(PATIENCE_S):  # nobody found the service again
                while answered == before:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            away_s = outage_s + late.sum_s
            print(
                f"timeout {timeout_s:.2f} s, outage {outage_s:.2f} s, late {late.sum_s:.2f} s, "
                f"slowest call {slowest_s:.2f} s, failed {dict(failed)}"
            )
            if away_s <= timeout_s - LOOKING_S:
                assert not failed
                good += 1
            else:
                timeout_s = max(timeout_s, 2 * away_s)
            if good == ROUNDS:
                break
        stop.set()
    assert good == ROUNDS, "the machine is too busy to restart the service in time"
    assert answered > 1_000
