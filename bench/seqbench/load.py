"""One measurement, in a process of its own on the core of the load.

    python -m seqbench.load JSON

JSON: the fields of Spec. The figures are one JSON object on standard output.
"""

import asyncio
import gc
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from seqbench import uids
from seqbench.closed import closed
from seqbench.drivers import DRIVERS, TIMEOUT_S, shown
from seqbench.on_loop import choose
from seqbench.paced import paced
from seqbench.redis_tool import redis_tool
from seqbench.streams import streams
from seqbench.threads import BLOCKING, threads
from seqbench.window import Window
from seqsvr import AsyncClient
from svrprocess.failures import leaves, one_line

MESSAGES = 64
CALM_S = 0.3
OURS = ("coalesced", "many", "unary")


@dataclass(frozen=True, slots=True)
class Spec:
    """shape, driver: see below; callers: at a time (batches in flight); batch: uids per call;
    per_s: of an open loop; pids: of the server; core: where to run; certificates: folder of those
    that are shown to it, empty: none, it listens in the clear.
    """

    shape: str
    driver: str
    address: str
    loop: str
    callers: int
    batch: int
    per_s: float
    warm_s: float
    seconds: float
    pids: list[int]
    core: int
    certificates: str = ""


async def _with_loop(spec: Spec, window: Window) -> dict[str, Any]:
    span = (spec.warm_s, spec.seconds)
    if spec.driver in OURS:
        await _served(spec)
    if spec.shape == "streams":
        made = uids.batches(spec.batch, MESSAGES)
        return await streams(spec.address, made, spec.callers, window, *span)
    more = {"certificates": spec.certificates} if spec.certificates else {}
    async with DRIVERS[spec.driver](spec.address, spec.callers, **more) as call:
        if spec.shape == "paced":
            shares = uids.shares(spec.callers)
            return await paced(call, shares, window, *span, spec.per_s)
        if spec.batch > 1:
            made = uids.batches(spec.batch, MESSAGES)
            turns = [made[index :: spec.callers] for index in range(spec.callers)]
            return await closed(call, turns, window, *span)
        return await closed(call, uids.shares(spec.callers), window, *span)


async def _served(spec: Spec) -> None:
    """A server of ours that stood still has to renew its lease; wait until it has."""
    tls = shown(spec.certificates)
    async with AsyncClient(spec.address, timeout=TIMEOUT_S, tls=tls) as client:
        await client.next_many([section * uids.SECTION_SIZE for section in uids.SECTIONS])
    await asyncio.sleep(CALM_S)


def measure(spec: Spec) -> dict[str, Any]:
    """The figures, see Window.close. Any error of any call is raised."""
    os.sched_setaffinity(0, {spec.core})
    choose(spec.loop)
    window = Window(spec.pids, spec.batch)
    if spec.shape == "redis-tool":
        return redis_tool(spec.address, spec.callers, spec.seconds, spec.pids)
    # Alike for all: what stays is out of the collector's way, and it comes less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    if spec.shape == "threads":
        with BLOCKING[spec.driver](spec.address) as take:
            take(0)
            time.sleep(CALM_S)
            shares = uids.shares(spec.callers)
            return threads(take, shares, window, spec.warm_s, spec.seconds)
    return asyncio.run(_with_loop(spec, window))


def main() -> int:
    try:
        print(json.dumps(measure(Spec(**json.loads(sys.argv[1])))))
    except Exception as error:  # noqa: BLE001 - one line for the table; nothing is lost by it
        first = leaves(error)[0]
        print(one_line(f"{type(first).__name__}: {first}")[:500], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
