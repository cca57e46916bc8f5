"""redis-benchmark: a client in C, as fast as clients of Redis get."""

import csv
import io
import subprocess
from collections.abc import Sequence
from typing import Any

from seqbench.peers import found
from seqbench.processes import cpu_s
from seqbench.uids import USERS

TRIAL = 2_000


def redis_tool(address: str, callers: int, seconds: float, pids: Sequence[int]) -> dict[str, Any]:
    """INCR of random keys. It counts calls, not seconds, so a trial says how many to ask for."""
    calls = max(TRIAL, int(_run(address, callers, TRIAL)["per_s"] * seconds))
    before_s = cpu_s(pids)
    figures = _run(address, callers, calls)
    return {**figures, "server_us": (cpu_s(pids) - before_s) / calls * 1e6}


def _run(address: str, callers: int, calls: int) -> dict[str, float]:
    host, port = address.split(":")
    command = [found("redis-benchmark", "apt-get install redis-tools"), "-h", host, "-p", port]
    command += ["-c", str(callers), "-n", str(calls), "-r", str(USERS), "--csv"]
    command += ["INCR", "seq:__rand_int__"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = list(csv.DictReader(io.StringIO(done.stdout)))[-1]
    return {
        "per_s": float(row["rps"]),
        "p50_ms": float(row["p50_latency_ms"]),
        "p99_ms": float(row["p99_latency_ms"]),
        "max_ms": float(row["max_latency_ms"]),
    }
