"""`seqctl audit`: who changed what in a cluster, oldest first."""

import argparse
import json

from clustermap.coordinator import Coordinator
from seqctl import arguments, remote
from seqctl.changing import AUDIT_PREFIX
from seqctl.failures import OK
from seqctl.groups import add_output
from seqctl.output import print_json, print_table

EXAMPLE = "seqctl audit --last 5 --etcd 10.0.0.9:2379"
_COLUMNS = ("at", "who", "what", "outcome")
LAST = 50
EXAMPLE = "seqctl audit --etcd 10.0.0.9:2379 --last 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl audit`."""
    parser.add_argument(
        "--last",
        metavar="N",
        type=arguments.positive,
        default=LAST,
        help=f"how many (default {LAST})",
    )
    remote.add_arguments(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Show the newest lines: 0."""
    return remote.run(args, lambda coordinator: _show(args, coordinator))


async def _show(args: argparse.Namespace, coordinator: Coordinator) -> int:
    held = sorted((await coordinator.get(AUDIT_PREFIX)).entries.items())[-args.last :]
    lines = [json.loads(entry.value) for _, entry in held]
    if args.output == "json":
        print_json(lines)
    else:
        print_table(_COLUMNS, [[line[name] for name in _COLUMNS] for line in lines])
    return OK
