"""Calls at a steady rate, and when each of them was due and how long it took: for timeline.py.

    python -m seqbench.timed ADDRESS PER_S SECONDS {one|many}

one: all calls are for one uid; many: for uids of all sections. Says `begun` when the load stands,
and in the end one JSON object: due_ns (CLOCK_MONOTONIC), took_ns, failed.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Sequence

from seqbench.paced import kernel_timer
from seqbench.uids import shares
from seqsvr import AsyncClient, SeqError

TIMEOUT_S = 10.0


class Calls:
    """A call is a task of its own: those that wait do not keep others from being due."""

    def __init__(self, client: AsyncClient, uids: Sequence[int]) -> None:
        self._client, self._uids = client, uids
        self.due_ns: list[int] = []
        self.took_ns: list[int] = []
        self.failed = 0

    async def run(self, per_s: float, seconds: float) -> None:
        began_ns, made, tick = time.monotonic_ns(), 0, asyncio.Event()
        timer = kernel_timer()

        def on_tick() -> None:
            os.read(timer, 8)
            tick.set()

        asyncio.get_running_loop().add_reader(timer, on_tick)
        async with asyncio.TaskGroup() as calls:
            while made < per_s * seconds:
                await tick.wait()
                tick.clear()
                now_ns = time.monotonic_ns()
                while (due_ns := began_ns + int(made * 1e9 / per_s)) <= now_ns:
                    calls.create_task(self._call(self._uids[made % len(self._uids)], due_ns))
                    made += 1
            asyncio.get_running_loop().remove_reader(timer)
        os.close(timer)

    async def _call(self, uid: int, due_ns: int) -> None:
        try:
            await self._client.next(uid)
        except SeqError:
            self.failed += 1
        self.due_ns.append(due_ns)
        self.took_ns.append(time.monotonic_ns() - due_ns)


async def main(address: str, per_s: float, seconds: float, whose: str) -> None:
    uids = shares(1)[0][: 1 if whose == "one" else None]
    async with AsyncClient(address, timeout=TIMEOUT_S) as client:
        await client.next_many(uids)
        gc.collect()
        gc.freeze()
        print("begun", flush=True)
        calls = Calls(client, uids)
        await calls.run(per_s, seconds)
    said = {"due_ns": calls.due_ns, "took_ns": calls.took_ns, "failed": calls.failed}
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
