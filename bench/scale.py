"""What scale costs on this machine, and what a load of any size would take.

    .venv/bin/python bench/scale.py [--only memory,table] [--write docs/CAPACITY.md]

    memory       a node with the full space of 2^32 uids: start-up, RSS idle, per touched uid
    connections  2,000 client connections on one node, each with a Session and a call now and then
    table        a routing table of 42,950 entries: wire, milliseconds, memory, per lookup
    workers      `allocsvr --workers 2` against one, with three StoreSvr and etcd
    capacity     constants of the capacity model, predictions against measurements, examples
                 (measures memory and connections, too)

Prints a table for each, ends by itself; --write puts them between their marks in a document.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]

from scaling import connections, constants, document, fragments, memory, workers  # noqa: E402
from seqbench.run import machine  # noqa: E402
from seqsvr.sections import Layout  # noqa: E402

PARTS = ("memory", "connections", "table", "workers", "capacity")
Show = Callable[[str, str], None]


def measure(only: list[str], folder: Path, seconds: float, quick: bool, show: Show) -> None:
    """show: gets the name of each part and its table, as soon as there is one."""
    sizes, crowd = {}, {}
    if {"memory", "capacity"} & set(only):
        sizes = memory.measure(folder, quick=quick)
        show("memory", memory.table(sizes))
    if {"connections", "capacity"} & set(only):
        count = 200 if quick else connections.CONNECTIONS
        crowd = connections.measure(folder, count, 5 * seconds)
        show("connections", connections.table(crowd))
    if "table" in only:
        layout = Layout(uid_limit=100_000 * 430) if quick else Layout()
        show("table", fragments.table(fragments.measure(layout)))
    if "workers" in only:
        show("workers", workers.table(workers.measure(folder, 2 * seconds)))
    if "capacity" in only:
        found = constants.measure(folder, sizes["idle_b"], crowd["connection_b"], seconds)
        lone = found.constants.node_us(1), crowd["call_us"]
        checks = memory.checks(sizes) + connections.checks(crowd)
        checks += [("CPU of a node, us per call now and then", *lone), *found.checks]
        show("constants", document.constants_table(found.constants))
        show("shapes", document.shapes_table(found.constants))
        show("checks", document.checks_table(checks))
        show("widest", document.widest_table(found.constants))
        show("examples", document.examples_table(found.constants))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--quick", action="store_true", help="small: shows that it works")
    parser.add_argument("--data", default=None, help="where the servers' directories are made")
    parser.add_argument("--write", type=Path, help="a document with marks for the tables")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    return options


def main() -> None:
    options = parsed()
    shown: dict[str, str] = {}

    def show(name: str, table: str) -> None:
        shown[name] = table
        print(f"\n## {name}\n\n{table}", end="", flush=True)

    facts = machine()
    where = f"{facts['cores']} cores of {facts['cpu']}, Python {facts['python']}, Linux "
    show("machine", f"{where}{facts['kernel']}, {facts['time']} UTC\n")
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.data) as folder:
        measure(options.only, Path(folder), options.seconds, options.quick, show)
    if options.write:
        document.write_into(options.write, shown)


if __name__ == "__main__":
    main()
