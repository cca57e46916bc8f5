"""What every command that changes a cluster has in common: --dry-run, --yes, and an audit line.

A change is first shown, then confirmed, then made. That it was tried, by whom, and what came of it
stands in the map under `audit/` (the newest KEPT of them) and as a line on standard error.
"""

import argparse
import getpass
import json
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from clustermap.coordinator import Coordinator
from clustermap.errors import MapUnavailable
from seqctl.failures import CommandFailed, NotDone, WrongUsage
from seqctl.output import say

AUDIT_PREFIX = "audit/"
KEPT = 1_000
_AT_ONCE = 64  # deleted in one transaction; etcd takes 128 operations


def add_arguments(parser: argparse.ArgumentParser, *, dangerous: bool = False) -> None:
    """--dry-run; and --yes for what cannot simply be undone."""
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and change nothing"
    )
    if dangerous:
        parser.add_argument(
            "--yes", action="store_true", help="do not ask whether it is meant; for scripts"
        )


def confirm(args: argparse.Namespace, question: str) -> None:
    """Ask on the terminal whether it is meant. Raises NotDone (no), WrongUsage (nobody to ask)."""
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage(f"{question} Nobody is there to be asked: --yes says that it is meant")
    say(f"{question} [yes/no] ", end="", file=sys.stderr)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotDone("not confirmed, nothing was changed")


@dataclass(slots=True)
class Outcome:
    """What the audit line will say came of a change; the body of `audited` may say more."""

    text: str = "done"


@asynccontextmanager
async def audited(what: str, coordinator: Coordinator | None = None) -> AsyncIterator[Outcome]:
    """The body makes the change `what`; afterwards there is an audit line about it.

    coordinator: the map that keeps the line, None: there is none, and standard error is all. A map
    that cannot be written takes nothing back of a change that is made.
    """
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        known = isinstance(error, CommandFailed | MapUnavailable)
        outcome.text = f"failed: {error if known else repr(error)}"
        raise
    finally:
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "who": actor(),
            "what": what,
            "outcome": " ".join(outcome.text.split()),
        }
        said = " ".join(f"{name}={json.dumps(value)}" for name, value in line.items())
        say(f"audit {said}", file=sys.stderr)
        if coordinator is not None:
            with suppress(MapUnavailable, TimeoutError):
                await _keep(coordinator, line)


def actor() -> str:
    """Who makes changes: SEQSVR_ACTOR, else user@host."""
    named = os.environ.get("SEQSVR_ACTOR")
    if named:
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


async def _keep(coordinator: Coordinator, line: dict[str, str]) -> None:
    held = sorted((await coordinator.get(AUDIT_PREFIX)).entries)
    puts: dict[str, bytes | None] = dict.fromkeys(held[: max(0, len(held) - KEPT + 1)][:_AT_ONCE])
    key = f"{AUDIT_PREFIX}{time.time_ns():020d}-{random.getrandbits(32):08x}"
    puts[key] = json.dumps(line, sort_keys=True).encode()
    await coordinator.transact({key: 0}, puts)
