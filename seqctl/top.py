"""`seqctl top`: a cluster at a glance, looked at again and again until q or Ctrl-C."""

import argparse
import asyncio
import os
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from rich.console import Console
from rich.live import Live

from clustermap.coordinator import Coordinator
from clustermap.errors import MapCorrupt, MapUnavailable
from seqctl import arguments, credentials, remote
from seqctl.cluster import survey
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone
from seqctl.following import job_as_json
from seqctl.groups import add_output
from seqctl.nodes import listed
from seqctl.output import print_json
from seqctl.sections import hottest
from seqctl.top_frame import Seen, frame
from seqctl.writing import looked
from seqsvr.credentials import PLAIN, Credentials
from svrprocess.signals import Stop

EXAMPLE = "seqctl top --interval 2"
MORE = (
    "Shows nodes, replicas, the busiest sections, jobs and what is wrong; q leaves. Where standard"
    " output is no terminal it prints one frame after the other; -o json prints one look."
)
INTERVAL_S = 1.0
_REMEMBERED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl top`."""
    parser.add_argument("--once", action="store_true", help="one frame, and no more")
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=arguments.seconds,
        default=INTERVAL_S,
        help=f"between two looks (default {INTERVAL_S:g})",
    )
    remote.add_arguments(parser)
    credentials.add_arguments(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0, whatever state the cluster is in. Raises NotDone where the first look fails."""
    return remote.run(args, lambda coordinator: _top(args, coordinator))


async def look(
    coordinator: Coordinator, timeout_s: float, credentials: Credentials = PLAIN
) -> Seen:
    """Everything that a frame shows. Raises MapUnavailable, MapCorrupt, NotDone, TimeoutError."""
    async with asyncio.timeout(2 * timeout_s):
        found = await looked(coordinator)
        shown = (await survey(coordinator, timeout_s, credentials)).shown
    jobs = [job_as_json(job) for _, job in sorted(found.jobs.items())]
    at = time.strftime("%H:%M:%S")
    return Seen(shown, listed(found, shown), hottest(found), jobs, at)


async def _top(args: argparse.Namespace, coordinator: Coordinator) -> int:
    seen = await look(coordinator, args.timeout, credentials_of(args))
    if args.output == "json":
        print_json(asdict(replace(seen, rates=(seen.per_second,))))
        return OK
    console = Console(highlight=False)
    rates = deque([seen.per_second], _REMEMBERED)
    seen = replace(seen, rates=tuple(rates))
    if args.once or not console.is_terminal:
        console.print(frame(seen, console.width, None))
    if args.once:
        return OK
    with _asked_to_leave() as stop:
        if console.is_terminal:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                live.update(frame(seen, *console.size), refresh=True)
                async for later in _looks(args, coordinator, seen, rates, stop):
                    live.update(frame(later, *console.size), refresh=True)
        else:
            async for later in _looks(args, coordinator, seen, rates, stop):
                console.print()
                console.print(frame(later, console.width, None))
    return OK


async def _looks(
    args: argparse.Namespace, coordinator: Coordinator, seen: Seen, rates: deque[int], stop: Stop
) -> AsyncIterator[Seen]:
    """One after the other until `stop`; one that fails is the one before, with the reason."""
    good_s = time.monotonic()
    while not stop.asked:
        await stop.unless(asyncio.sleep(args.interval))
        try:
            later = await stop.unless(look(coordinator, args.timeout, credentials_of(args)))
            if later is None:
                return
            seen, good_s = later, time.monotonic()
            rates.append(seen.per_second)
        except (MapUnavailable, MapCorrupt, NotDone, TimeoutError) as error:
            why = str(error) or "no answer"
            seen = replace(seen, trouble=f"{time.monotonic() - good_s:.0f} s old: {why}")
        seen = replace(seen, rates=tuple(rates))
        yield seen


@contextmanager
def _asked_to_leave() -> Iterator[Stop]:
    """By q, Ctrl-C or SIGTERM; keys are read one by one, where there is a keyboard."""
    stop, loop = Stop.on_signals(), asyncio.get_running_loop()
    if not sys.stdin.isatty():
        yield stop
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        if os.read(keyboard, 1) in (b"q", b"Q", b""):
            stop.ask()

    try:
        tty.setcbreak(keyboard)
        loop.add_reader(keyboard, pressed)
        yield stop
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
