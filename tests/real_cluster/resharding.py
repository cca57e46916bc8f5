"""A Set split in two and merged back under load, while participants are killed or are not.

    python -m real_cluster.resharding --minutes 10 [--seed N] [--kill-s 3 | --no-kills | --pauses]

Half of the first Set's sections move to another Set and back, over and over until time is up; what
callers saw is said after each round trip, and everything they recorded is checked at the end. Exit
code 1: a call failed, a promise was broken, or a move was not clean. --pauses: nobody is killed,
and few callers ask often, so that it is seen how long a section that moves is without an answer.
"""

import argparse
import json
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from real_cluster.cluster import RealCluster, Shape, open_cluster
from real_cluster.killing import Killings, under_killing
from real_cluster.load import Load, Row, summary, under_load

CLIENTS = 16
TIMEOUT_S = 10.0
PROBE_S = 0.02
CALM_S = 10.0
WAIT_S = 600.0
SHAPE = Shape(etcds=1, nodes=2, sets=("a",), uid_limit=40_000)
OTHER = "b"


def sixteen_clients(cluster: RealCluster, pace_s: float = 4.0) -> Load:
    """The load of a cluster: each client calls every uid once in `pace_s`."""
    return Load(cluster, clients=CLIENTS, timeout_s=TIMEOUT_S, pace_s=pace_s)


def probing(cluster: RealCluster) -> Load:
    """A load that sees pauses: one of five of the sections that move is asked all the time."""
    uids = cluster.shape.uids()
    moving = uids[len(uids) // 2 :]
    return Load(cluster, clients=1, timeout_s=TIMEOUT_S, pace_s=PROBE_S, uids=moving[::5])


def there_and_back(cluster: RealCluster, chunk: int) -> list[float]:
    """Half of the first Set moves to OTHER, then all of that back; how many seconds each took."""
    home = cluster.sets[0].name
    return [
        moved(cluster, home, OTHER, "--half", chunk),
        moved(cluster, OTHER, home, "--all", chunk),
    ]


def moved(cluster: RealCluster, source: str, target: str, which: str, chunk: int) -> float:
    """One move, planned, started, waited for and verified; how many seconds it took."""
    plan = _told(cluster, "plan", "--from", source, "--to", target, which, "--chunk", chunk)
    began_s = time.monotonic()
    ended = _told(cluster, "start", plan["id"], "--yes", "--wait")
    took_s = time.monotonic() - began_s
    assert ended["state"] == "done", ended
    verdict = _told(cluster, "verify", plan["id"])
    assert verdict["clean"], verdict
    return took_s


def retired(cluster: RealCluster) -> None:
    """OTHER out of the map, and its nodes stopped."""
    done = _seqctl(cluster, "set", "retire", OTHER, "--yes")
    assert done.returncode == 0, done.stderr
    for node in cluster.sets[-1].nodes:
        node.leave()


def _told(cluster: RealCluster, *arguments: object) -> Any:
    """The answer of a `seqctl move` command; one that nobody was there for is given again."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        done = _seqctl(cluster, "move", *arguments)
        nobody = done.returncode == 3 and ("no live node" in done.stderr or "answer" in done.stderr)
        if not nobody or time.monotonic() > deadline_s:
            assert done.stdout, f"{arguments}: {done.returncode}: {done.stderr}"
            return json.loads(done.stdout)
        time.sleep(0.5)


def _seqctl(cluster: RealCluster, *arguments: object) -> Any:
    etcd = cluster.etcd.addresses
    return cluster.seqctl(*arguments, "--etcd", etcd, "-o", "json", timeout_s=WAIT_S)


def pauses(row: Row) -> str:
    """What callers saw of it, uid by uid: the longest that one answer took, in milliseconds."""
    slowest = sorted(seconds * 1e3 for seconds in row.slowest_s.values())
    median_ms = statistics.median(slowest)
    return f"longest answer per uid: median {median_ms:.0f} ms, most {slowest[-1]:.0f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(prog="resharding", description="Sets split and merged.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of the kills; default: drawn")
    parser.add_argument("--kill-s", type=float, default=3.0, help="seconds between two kills")
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--pauses", action="store_true", help="no kills, and few callers")
    parser.add_argument("--chunk", type=int, default=4, help="sections at a time, at most")
    parser.add_argument("--pace-s", type=float, default=4.0)
    args = parser.parse_args()
    seed = secrets.randbelow(10**9) if args.seed is None else args.seed
    folder = Path(tempfile.mkdtemp(prefix="resharding-"))
    print(f"seed {seed}, folder {folder}", flush=True)
    with open_cluster(folder, SHAPE) as cluster:
        load = probing(cluster) if args.pauses else sixteen_clients(cluster, args.pace_s)
        cluster.load = load
        load.flows()
        cluster.add_set(OTHER)
        if args.pauses:
            _pauses(cluster, args)
        elif not _rounds(cluster, args, seed):
            return 1
        retired(cluster)
    shutil.rmtree(folder)
    return 0


def _rounds(cluster: RealCluster, args: argparse.Namespace, seed: int) -> bool:
    until_s, number, sound = time.monotonic() + 60 * args.minutes, 0, True
    while sound and time.monotonic() < until_s:
        number += 1
        work, killings = partial(there_and_back, cluster, args.chunk), Killings()
        with under_load(cluster, f"resharding, round {number}") as shaken:
            if args.no_kills:
                took_s = work()
            else:
                took_s, killings = under_killing(cluster, seed + number, work, args.kill_s)
            shaken.load.flows()
        said = f"moved in {took_s[0]:.1f} and {took_s[1]:.1f} s; {pauses(shaken.row)}"
        print(said + (f"; killed {killings.told()}" if killings.done else ""), flush=True)
        sound = not shaken.row.failed
    print(f"{number} round trips" + ("" if sound else f"; a call failed: {summary(shaken.row)}"))
    return sound


def _pauses(cluster: RealCluster, args: argparse.Namespace) -> None:
    """Says how long moved sections were without an answer, and how long when nothing moved."""
    load, until_s = cluster.load, time.monotonic() + 60 * args.minutes
    assert load is not None
    calm: list[float] = []
    moving: list[float] = []
    home = cluster.sets[0].name
    while time.monotonic() < until_s:
        load.flows()
        load.phase("calm")
        time.sleep(CALM_S)
        calm += load.phase("moving").gaps_s.values()
        for source, target, which in ((home, OTHER, "--half"), (OTHER, home, "--all")):
            moved(cluster, source, target, which, args.chunk)
            row = load.phase("moving")
            assert not row.failed and not row.jumps and not row.broken, summary(row)
            moving += row.gaps_s.values()
    for name, gaps_s in (("nothing moves", calm), ("sections move", moving)):
        shown = ", ".join(f"{1e3 * _quantile(gaps_s, q):.0f}" for q in (0.5, 0.9, 1))
        print(f"{name}: longest gap of a uid in ms, median, p90, most of {len(gaps_s)}: {shown}")


def _quantile(values: Sequence[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


if __name__ == "__main__":
    sys.exit(main())
