"""Every attack against `seqctl up`, with many connections: what it costs those who mean well.

    PYTHONPATH=tests python -m hostile.figures --connections 10000 --seconds 15 --data DIR

An honest client takes a number every 10 ms, before and meanwhile; another one connects anew in the
midst of it. Prints a table in Markdown. Loopback only.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import seqsvr
from hostile.attacks import ATTACKS
from processes import ROOT, Service, environment, seqctl
from seqctl import certs_folder

PACE_S = 0.01
SETTLE_S = 3.0
MB = 2**20
COLUMNS = (
    *("attack", "connections", "p50 ms", "p99 ms", "newcomer s", "failed"),
    *("CPU %", "RSS MB", "fds", "closed", "frames"),
)


class Honest:
    """Calls at a steady pace, from a thread of its own. times_s: of each, by phase; failed: why
    those of the last phase did.
    """

    def __init__(self, address: str, tls: seqsvr.Tls | None = None) -> None:
        self._address, self._tls = address, tls
        self.times_s: list[list[float]] = []
        self.failed: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> "Honest":
        self.next_phase()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def next_phase(self) -> None:
        self.times_s.append([])
        self.failed = []

    def _call(self) -> None:
        with seqsvr.Client(self._address, tls=self._tls) as client:
            client.next(1, timeout=30)
            while not self._ended.wait(PACE_S):
                phase, began_s = self.times_s[-1], time.monotonic()
                try:
                    client.next(1, timeout=10)
                except seqsvr.SeqError as error:
                    self.failed.append(repr(error))
                phase.append(time.monotonic() - began_s)

    def quantiles_ms(self, share: float) -> list[float]:
        """Phase by phase."""
        ordered = [sorted(phase) for phase in self.times_s]
        return [1000 * times[int(share * (len(times) - 1))] for times in ordered]


@dataclass
class Seen:
    """What an attack did. Sizes in bytes, times in seconds; before, during and after.

    cpu: of the service, in cores, before and during.
    """

    honest: Honest
    cpu: Sequence[float]
    newcomer_s: float
    rss: Sequence[int]
    descriptors: Sequence[int]
    attacker: dict[str, int]


@dataclass(frozen=True)
class Shown:
    """Certificates of a service, of an honest caller, and of a hostile one, who may only read."""

    folder: Path

    def of_service(self) -> list[str]:
        """Options of `seqctl up`."""
        found = ["--client-cert-auth", "--peer-client-cert-auth"]
        for prefix, name in (("", "server"), ("peer-", "peer")):
            found += [f"--{prefix}trusted-ca-file", str(self.folder / "ca.crt")]
            found += [f"--{prefix}cert-file", str(self.folder / f"{name}.crt")]
            found += [f"--{prefix}key-file", str(self.folder / f"{name}.key")]
        return found

    def of_honest(self) -> seqsvr.Tls:
        ca, cert, key = (self.folder / name for name in _FILES)
        return seqsvr.Tls(ca, cert, key)

    def of_newcomer(self) -> list[str]:
        """Options of seqctl."""
        flags = zip(("--ca", "--cert", "--key"), _FILES, strict=True)
        return [part for flag, name in flags for part in (flag, str(self.folder / name))]

    def of_hostile(self) -> list[str]:
        """Options of the attacker."""
        files = ("ca.crt", "reader.crt", "reader.key")
        flags = zip(("--tls-ca", "--tls-cert", "--tls-key"), files, strict=True)
        return [part for flag, name in flags for part in (flag, str(self.folder / name))]


_FILES = ("ca.crt", "allocator.crt", "allocator.key")


def attacked(
    service: Service, name: str, connections: int, seconds: float, shown: Shown | None = None
) -> Seen:
    """One attack on a service that runs, and what it was like before, during and after."""
    more = shown.of_hostile() if shown else []
    with Honest(service.address, shown.of_honest() if shown else None) as honest:
        cpu = [_cores(service, seconds / 2)]
        sizes, opened = [service.rss_bytes()], [service.descriptors()]
        process = start_attack(service.address, name, connections, seconds, *more)
        wait_for(process)
        # Counting thousands of descriptors keeps this process from what it measures.
        descriptors, most = service.descriptors(), service.rss_bytes()
        honest.next_phase()
        newcomer_s = _newcomer(service.address, shown.of_newcomer() if shown else [])
        cpu.append(_cores(service, seconds / 2))
        while process.poll() is None:
            most = max(most, service.rss_bytes())
            time.sleep(0.1)
        attacker = attacker_says(process)
    time.sleep(SETTLE_S)
    sizes += [most, service.rss_bytes()]
    opened += [descriptors, service.descriptors()]
    return Seen(honest, cpu, newcomer_s, sizes, opened, attacker)


def _cores(service: Service, seconds: float) -> float:
    """What it takes of the machine's cores for so long: other than times, no matter of its load."""
    began, began_s = _cpu_s(service.pid), time.monotonic()
    time.sleep(seconds)
    return (_cpu_s(service.pid) - began) / (time.monotonic() - began_s)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_attack(
    address: str, name: str, connections: int, seconds: float, *more: str
) -> "subprocess.Popen[str]":
    """A process that attacks, in time."""
    command = [sys.executable, "-m", "hostile.program", "--addr", address, "--attack", name]
    command += ["--connections", str(connections), "--seconds", str(seconds), *more]
    environ = {**environment(), "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, cwd=ROOT, text=True)


def wait_for(process: "subprocess.Popen[str]") -> None:
    """Until all its connections stand, or were refused."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def attacker_says(process: "subprocess.Popen[str]") -> dict[str, int]:
    """What it came to, once it has ended."""
    said, _ = process.communicate(timeout=120)
    found: dict[str, int] = json.loads(said.splitlines()[-1])
    return found


def _newcomer(address: str, shown: Sequence[str]) -> float:
    """Seconds that a new process takes to get a number, about 0.7 of them to start at all."""
    began_s = time.monotonic()
    done = seqctl("next", "2", "--addr", address, "--timeout", "30", *shown)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tls", action="store_true", help="mTLS; the hostile ones may read")
    parser.add_argument("--only", choices=ATTACKS, action="append")
    args = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name in args.only or ATTACKS:
        shown = None
        if args.tls:
            shown = Shown(args.data / "certs")
            certs_folder.init(shown.folder)
        service = Service(args.data / name, options=shown.of_service() if shown else ())
        try:
            service.start()
            many = max(1, args.connections // 100) if ATTACKS[name].few else args.connections
            seen = attacked(service, name, many, args.seconds, shown)
            print(_row(name, seen), flush=True)
        finally:
            service.kill()
    return 0


def _row(name: str, seen: Seen) -> str:
    cells = (
        name,
        seen.attacker["most_open"],
        *(_arrows(seen.honest.quantiles_ms(share), "{:.1f}") for share in (0.5, 0.99)),
        f"{seen.newcomer_s:.1f}",
        len(seen.honest.failed),
        _arrows([100 * cores for cores in seen.cpu], "{:.0f}"),
        _arrows([size / MB for size in seen.rss], "{:.0f}"),
        _arrows(seen.descriptors, "{}"),
        seen.attacker["closed"],
        seen.attacker["frames"],
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _arrows(values: Sequence[float], shown: str) -> str:
    return " -> ".join(map(shown.format, values))


if __name__ == "__main__":
    sys.exit(main())
