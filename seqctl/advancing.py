"""What `seqctl advance` and `seqctl import` have in common: their options, and where audits go."""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from clustermap.coordinator import Coordinator
from seqctl import arguments, changing, remote
from seqctl.groups import add_client_options
from seqsvr.sections import MAX_JUMP
from svrprocess.etcd_options import ETCD_OPTIONS
from svrprocess.options import add_flags

_MAX_JUMP = (
    f"how far a uid may rise above where it stands (default {MAX_JUMP}: 1000 messages a day for"
    " 27 years; a time or an id given by mistake is above it). What a section must not repeat is"
    " kept as one number for all its uids: after a crash of its owner each of them may go on from"
    " above the highest floor of any"
)


def add_arguments(parser: argparse.ArgumentParser, *, timeout_s: float) -> None:
    """--max-jump, --dry-run, how to reach the nodes, and the map where the audit line is kept."""
    parser.add_argument(
        "--max-jump", metavar="J", type=arguments.seq, default=MAX_JUMP, help=_MAX_JUMP
    )
    changing.add_arguments(parser)
    add_client_options(parser, timeout_s)
    add_flags(parser, ETCD_OPTIONS)


@asynccontextmanager
async def audit_map(args: argparse.Namespace) -> AsyncIterator[Coordinator | None]:
    """The map in etcd if the arguments or the environment name one, else None."""
    if "etcd" in args or os.environ.get("SEQSVR_ETCD"):
        async with remote.opened(args) as coordinator:
            yield coordinator
    else:
        yield None
