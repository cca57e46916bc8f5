"""A client with its default timeout sees nothing of a graceful restart."""

import asyncio
import random
import time
from collections import Counter

import seqsvr
from processes import Service, Services, free_port

CALLERS = 32
UIDS = [7, 99_999, 100_000, 999_999]
ROUNDS = 3
PATIENCE_S = 20.0
TRIES = 20
# The client's timeout is 2 s, and it may look around for half a second after the service is back.
# On a machine so busy that the service is away for longer than this, a round proves nothing.
LONGEST_S = 1.2


async def restarted(service: Service) -> float:
    """A graceful restart; for how many seconds nobody was served."""
    began = time.monotonic()
    code = await asyncio.to_thread(service.terminate)
    assert code == 0, service.stderr()
    await asyncio.to_thread(service.start)
    return time.monotonic() - began


async def test_no_call_fails_while_the_service_restarts(services: Services) -> None:
    service = services(port=free_port()).start()
    stop = asyncio.Event()
    failed: Counter[str] = Counter()
    highest: dict[int, int] = {}
    answered = 0
    slowest_s = 0.0

    async def caller(client: seqsvr.AsyncClient) -> None:
        nonlocal answered, slowest_s
        while not stop.is_set():
            uid = random.choice(UIDS)
            before, began = highest.get(uid, 0), time.monotonic()
            try:
                number = await client.next(uid)
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
        good = 0
        for _ in range(TRIES):
            await asyncio.sleep(0.3)
            failed.clear()
            before = answered
            outage_s = await restarted(service)
            async with asyncio.timeout(PATIENCE_S):  # nobody found the service again
                while answered == before:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            print(f"outage {outage_s:.2f} s, slowest call {slowest_s:.2f} s, failed {dict(failed)}")
            good += outage_s <= LONGEST_S
            assert not failed or outage_s > LONGEST_S
            if good == ROUNDS:
                break
        stop.set()
    assert good == ROUNDS, "the machine is too busy to restart the service in time"
    assert answered > 1_000
