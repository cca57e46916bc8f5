"""The part of a measurement that counts: what was done between its beginning and its end."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from seqbench.processes import cpu_s, machine_cpu_s
from seqbench.samples import percentiles

ENOUGH = 10
POLL_S = 0.05


class Window:
    """Latencies go into `samples` (ns); `open` forgets those so far, `close` says the figures.

    pids: processes of the server. numbers: handed out per sample.
    """

    def __init__(self, pids: Sequence[int], numbers: int = 1) -> None:
        self.samples: list[int] = []
        self.over = False
        self._pids, self._numbers = pids, numbers
        self._began = (0.0, 0.0, 0.0, 0.0)

    def open(self) -> None:
        self.samples.clear()
        self._began = self._clocks()

    @property
    def lacks(self) -> bool:
        """Too few answers yet to say anything: on a machine that is busy elsewhere, wait."""
        return len(self.samples) < ENOUGH

    async def lasts(self, seconds: float) -> None:
        """Return when it may be closed."""
        await asyncio.sleep(seconds)
        while self.lacks:  # noqa: ASYNC110 - an event would cost each call
            await asyncio.sleep(POLL_S)

    def close(self) -> dict[str, Any]:
        """Numbers per second, latencies, and CPU time per number in microseconds.

        cpu_us: of the busier one of load and server, each of which has one core at most.
        """
        ended, samples = self._clocks(), self.samples[:]
        self.over = True
        wall_s, client_s, server_s, all_s = (
            after - before for before, after in zip(self._began, ended, strict=True)
        )
        numbers = len(samples) * self._numbers
        if not numbers:
            raise RuntimeError("nothing was answered")
        return {
            "per_s": numbers / wall_s,
            **percentiles(samples),
            "client_us": client_s / numbers * 1e6,
            "server_us": server_s / numbers * 1e6,
            "cpu_us": max(client_s, server_s) / numbers * 1e6,
            "client_busy": client_s / wall_s,
            "server_busy": server_s / wall_s,
            "others_busy": max(0.0, all_s - client_s - server_s) / wall_s,
        }

    def _clocks(self) -> tuple[float, float, float, float]:
        times = time.perf_counter(), time.process_time()
        return *times, cpu_s(self._pids), machine_cpu_s()
