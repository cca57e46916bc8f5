"""Random faults against one cluster under load, until time is up or a promise is broken.

    python -m real_cluster.soak --minutes 10 [--seed N] [--report FILE] [--folder DIR]
    python -m real_cluster.soak --from-json FILE [--report FILE]

Says its seed first; the same seed plans the same faults. Ends at the first violation, at numbers
that do not flow again, at a server that ends by itself or writes a Traceback: then the logs and
histories are kept. However it ends, it writes a report to look at (soak-SEED.html) and all that was
measured beside it (soak-SEED.json), from which --from-json makes the report again. Exit code 0: no
violation; 1: a violation, or the run failed; 130: interrupted.
"""

import argparse
import random
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from real_cluster.cluster import RealCluster, Shape, address_of
from real_cluster.crowd import Crowd
from real_cluster.faults import BY_NAME, FAULTS, LAST
from real_cluster.interrupts import uninterrupted
from real_cluster.load import Load
from real_cluster.measured import Ended, Measured, Strike
from real_cluster.network import Host
from real_cluster.program import Program
from real_cluster.scene import Scene
from real_cluster.soak_report import report, table
from real_cluster.soak_run import Broken, Run
from real_cluster.soak_schedule import Blow, last, schedule
from real_cluster.traces import Traces

PROCESSES = 3
PACE_S = 0.3


class RealStage:
    """A cluster with its callers as soak_run.Stage wants them."""

    def __init__(self, cluster: RealCluster, measured: Measured, file: Path) -> None:
        self._cluster, self._measured, self._file = cluster, measured, file
        self._hosts = [cluster.client, *_more_hosts(cluster, PROCESSES - 1)]
        loads = [
            Load(cluster, pace_s=PACE_S, host=host, name=f"callers-{index}")
            for index, host in enumerate(self._hosts)
        ]
        self.callers = Crowd(loads)
        self._leaving: set[Program] = set()
        self._traces = Traces(cluster.folder, [program.name for program in cluster.programs])

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def strike(self, blow: Blow, undo: ExitStack) -> Strike:
        fault = BY_NAME[blow.kind]
        dice = random.Random(blow.dice)
        scene = Scene(self._cluster, self.callers, self._hosts, dice, undo, self._leaving)
        fault.strike(scene)
        return Strike(fault.name, fault.group, 0.0, scene.hit)

    def heal(self) -> None:
        self._cluster.heal()

    def judge(self, histories: list[Path]) -> Any:
        with uninterrupted():
            return self._cluster.verdicts.judge(histories)

    def traces(self) -> str:
        return self._traces.found()

    def say(self, text: str) -> None:
        print(text, flush=True)

    def save(self) -> None:
        save(self._measured, self._file)


def _more_hosts(cluster: RealCluster, count: int) -> list[Host]:
    return [cluster.network.host(f"client-{index}") for index in range(1, count + 1)]


def save(measured: Measured, file: Path) -> None:
    """The report, and the measurements beside it; a reader never meets half of either."""
    for path, text in ((file, report(measured)), (json_of(file), measured.to_json())):
        written = path.with_name(f".{path.name}.new")
        written.write_text(text, encoding="utf-8")
        written.replace(path)


def json_of(file: Path) -> Path:
    return file.with_suffix(".json")


def soaked(folder: Path, measured: Measured, file: Path) -> None:
    """Run; `measured` says how it ended, and is saved in any case."""
    with ExitStack() as ending:
        ending.callback(save, measured, file)
        try:
            cluster = RealCluster(folder, Shape())
            ending.callback(cluster.close)
            stage = RealStage(cluster.start(), measured, file)
            ending.callback(stage.callers.close)
            nodes = {address_of(node): node.name for node in cluster.nodes}
            _run(Run(stage, measured, nodes), measured)
        except KeyboardInterrupt:
            measured.ended = "interrupted"
        except Exception as error:  # noqa: BLE001 - whatever it is belongs into the report
            _failed(measured, error)


def _run(run: Run, measured: Measured) -> None:
    plans = schedule(measured.seed, FAULTS)
    try:
        run.go(plans, last(measured.seed, LAST), 60 * measured.minutes)
        measured.ended = "time is up"
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("interrupted: checking what was recorded", file=sys.stderr, flush=True)
        measured.ended = "interrupted"
    except Exception as error:  # noqa: BLE001 - as above; what was recorded is checked all the same
        _failed(measured, error)
    try:
        run.end()
    except Exception as error:  # noqa: BLE001
        _failed(measured, error)


def _failed(measured: Measured, error: Exception) -> None:
    """The first failure is told; a violation counts more than any other."""
    how: Ended = "violation" if isinstance(error, Broken) else "failed"
    if measured.ended in ("violation", "failed") and how == "failed":
        return
    measured.ended, measured.trouble = how, f"{type(error).__name__}: {error}"
    if not isinstance(error, AssertionError):
        traceback.print_exception(error)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="Random faults under load.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and said")
    parser.add_argument("--report", type=Path, default=None, help="default: soak-SEED.html")
    parser.add_argument("--folder", type=Path, default=None, help="for logs and histories")
    parser.add_argument("--from-json", type=Path, default=None, help="make this one's report again")
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    if args.from_json is not None:
        return _again(args.from_json, args.report or args.from_json.with_suffix(".html"))
    seed = secrets.randbelow(10**9) if args.seed is None else args.seed
    file = args.report or Path(f"soak-{seed}.html")
    again = f"make soak MINUTES={args.minutes:g} SEED={seed}"
    folder = args.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {seed}, folder {folder}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = f"{datetime.now():%Y-%m-%d %H:%M}"
    nodes = [f"set-0-node-{index}" for index in range(Shape().nodes)]
    measured = Measured(seed, args.minutes, again, began, PROCESSES, facts(), nodes)
    soaked(folder, measured, file)
    return _told(measured, file, folder, keep=args.folder is not None)


def facts() -> dict[str, str]:
    """What was soaked, for the report."""
    shape = Shape()
    return {
        "cluster": f"{shape.nodes} AllocSvr, {shape.stores} StoreSvr, {shape.etcds} etcd, "
        f"{shape.arbiters} arbiters, each on a host of its own",
        "sections": f"{shape.sections} of {shape.section_size} uids, step {shape.step}",
        "lease": f"{shape.lease_ttl_s:g} s",
        "callers": f"{PROCESSES} processes with 2 clients each, on one uid of every section",
    }


def _told(measured: Measured, file: Path, folder: Path, keep: bool) -> int:
    print(table(measured))
    print(f"report: {shlex.quote(str(file))}, measurements: {shlex.quote(str(json_of(file)))}")
    good = measured.ended in ("time is up", "interrupted") and not measured.contradictions
    if not good:
        print(measured.trouble, file=sys.stderr)
        print(f"logs and histories: {folder}\nagain: {measured.again}", file=sys.stderr)
        return 1
    if not keep:
        shutil.rmtree(folder)
    return 0 if measured.ended == "time is up" else 130


def _again(measurements: Path, file: Path) -> int:
    try:
        measured = Measured.from_json(measurements.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{measurements}: {error}", file=sys.stderr)
        return 1
    file.write_text(report(measured), encoding="utf-8")
    print(f"report: {shlex.quote(str(file))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
