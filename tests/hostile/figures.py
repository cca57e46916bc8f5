"""Every attack against `seqctl up`, with many connections: what it costs those who mean well.

    PYTHONPATH=tests python -m hostile.figures --connections 10000 --seconds 15 --data DIR

An honest client takes a number every 10 ms, before and meanwhile; another one connects anew in the
midst of it. Prints a table in Markdown. Loopback only.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import seqsvr
from hostile.attacks import ATTACKS
from processes import ROOT, Service, environment

PACE_S = 0.01
SETTLE_S = 3.0
MB = 2**20


@dataclass
class Honest:
    """Calls at a steady pace, from a thread of its own. times_s: of each; failed: of how many."""

    address: str
    times_s: list[float] = field(default_factory=list)
    failed: int = 0

    def __enter__(self) -> "Honest":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _call(self) -> None:
        with seqsvr.Client(self.address) as client:
            client.next(1, timeout=30)
            while not self._ended.wait(PACE_S):
                began_s = time.monotonic()
                try:
                    client.next(1, timeout=10)
                except seqsvr.SeqError:
                    self.failed += 1
                self.times_s.append(time.monotonic() - began_s)

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.times_s)
        return 1000 * ordered[int(share * (len(ordered) - 1))]


@dataclass
class Seen:
    """What an attack did. Sizes in bytes, times in seconds."""

    before: Honest
    during: Honest
    newcomer_s: float
    rss: Sequence[int]
    descriptors: Sequence[int]
    attacker: dict[str, int]


def attacked(service: Service, name: str, connections: int, seconds: float, *tls: str) -> Seen:
    """One attack on a service that runs, and what it was like before, during and after."""
    with Honest(service.address) as before:
        time.sleep(seconds / 2)
    sizes, opened = [service.rss_bytes()], [service.descriptors()]
    command = [sys.executable, "-m", "hostile.program", "--addr", service.address]
    command += ["--attack", name, "--connections", str(connections), "--seconds", str(seconds)]
    environ = {**environment(), "PYTHONPATH": str(ROOT / "tests")}
    process = subprocess.Popen(
        [*command, *tls], stdout=subprocess.PIPE, env=environ, cwd=ROOT, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with Honest(service.address) as during:
        newcomer_s = _newcomer(service.address)
        most, descriptors = 0, 0
        while process.poll() is None:
            most = max(most, service.rss_bytes())
            descriptors = max(descriptors, service.descriptors())
            time.sleep(0.1)
    attacker = json.loads(process.stdout.read())
    time.sleep(SETTLE_S)
    sizes += [most, service.rss_bytes()]
    opened += [descriptors, service.descriptors()]
    return Seen(before, during, newcomer_s, sizes, opened, attacker)


def _newcomer(address: str) -> float:
    began_s = time.monotonic()
    with seqsvr.Client(address) as client:
        client.next(2, timeout=30)
    return time.monotonic() - began_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=ATTACKS, action="append")
    args = parser.parse_args()
    print(
        "| attack | connections | p50 ms | p99 ms | newcomer s | failed | RSS MB | fds | closed |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.only or ATTACKS:
        service = Service(args.data / name)
        try:
            service.start()
            many = max(1, args.connections // 100) if ATTACKS[name].few else args.connections
            seen = attacked(service, name, many, args.seconds)
            print(_row(name, seen), flush=True)
        finally:
            service.kill()
    return 0


def _row(name: str, seen: Seen) -> str:
    both = (seen.before, seen.during)
    cells = (
        name,
        seen.attacker["most_open"],
        " -> ".join(f"{one.quantile_ms(0.5):.1f}" for one in both),
        " -> ".join(f"{one.quantile_ms(0.99):.1f}" for one in both),
        f"{seen.newcomer_s:.2f}",
        seen.during.failed,
        " -> ".join(f"{size / MB:.0f}" for size in seen.rss),
        " -> ".join(map(str, seen.descriptors)),
        seen.attacker["closed"],
    )
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
