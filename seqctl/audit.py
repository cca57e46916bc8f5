"""`seqctl audit`: who changed what in a cluster, oldest first."""

import argparse
import json
from collections.abc import Mapping

from clustermap.coordinator import Coordinator, Versioned
from seqctl import arguments, remote
from seqctl.changing import AUDIT_PREFIX
from seqctl.failures import OK
from seqctl.groups import add_output
from seqctl.output import print_json, print_table

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


def lines_of(held: Mapping[str, Versioned]) -> list[dict[str, str]]:
    """The lines of these documents; one that is none says so, and hides no other."""
    return [_line(key, document.value) for key, document in held.items()]


def _line(key: str, raw: bytes) -> dict[str, str]:
    try:
        line = json.loads(raw)
        return {name: str(line[name]) for name in _COLUMNS}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"at": "", "who": "", "what": f"{key}: no line of an audit", "outcome": ""}


async def _show(args: argparse.Namespace, coordinator: Coordinator) -> int:
    held = sorted((await coordinator.get(AUDIT_PREFIX)).entries.items())[-args.last :]
    lines = lines_of(dict(held))
    if args.output == "json":
        print_json(lines)
    else:
        print_table(_COLUMNS, [[line[name] for name in _COLUMNS] for line in lines])
    return OK
