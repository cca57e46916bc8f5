"""A server program from its start to its exit code.

Whatever goes wrong before it serves is one line on standard error; what goes wrong later is in the
log, with its traceback, and ends the process with FATAL: the supervisor starts another one.
"""

import argparse
import gc
import resource
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from clustermap.logs import get_logger
from seqsvr import loops
from svrprocess import logs, signals, supervisor, tracing
from svrprocess.failures import FATAL, INTERRUPTED, Failed, leaves, one_line
from svrprocess.logs import LOG_OPTIONS
from svrprocess.options import Option, parse

_log = get_logger(__name__)

# Python's own collect after each 700 new objects, which at 100,000 messages a second is a tenth of
# the work, and for nothing: what a message leaves behind is freed when it has been answered.
_GC_THRESHOLDS = (100_000, 50, 100)

Serve = Callable[[argparse.Namespace], Coroutine[Any, Any, int]]


def main(
    name: str,
    description: str,
    options: Sequence[Option],
    serve: Serve,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, serve, and say what went wrong; the exit code. --help leaves by SystemExit.

    options: those for logging come with them.
    """
    try:
        args = parse(name, description, [*options, *LOG_OPTIONS], argv)
        return run(serve(args), args.log_format, args.log_level, name)
    except Failed as failed:
        print(f"{name}: {one_line(str(failed))}", file=sys.stderr)
        return failed.code
    except KeyboardInterrupt:
        return INTERRUPTED


def run(
    work: Coroutine[Any, Any, int],
    log_format: str = "console",
    log_level: str = "info",
    name: str = "seqsvr",
) -> int:
    """Run `work` on a loop of its own, with logging and room for connections; its exit code.

    name: of the program, in traces.
    Raises Failed where nothing but that ended it, also out of an exception group. Anything else
    is logged, and is FATAL. Signals that come once `work` has ended change nothing any more.
    """
    logs.set_up(log_format, log_level)
    raise_file_limit()
    try:
        end_tracing = tracing.set_up(name)
    except BaseException:
        work.close()
        raise
    try:
        return loops.run(_to_its_end(work))
    except Exception as error:  # noqa: BLE001 - the last line of defence, and it says all it knows
        faults = [leaf for leaf in leaves(error) if not isinstance(leaf, Failed)]
        if not faults:
            raise leaves(error)[0] from None
        for fault in faults:
            _log.critical("fatal", error=fault, exc_info=fault)
        return FATAL
    finally:
        end_tracing()


async def _to_its_end(work: Coroutine[Any, Any, int]) -> int:
    try:
        return await work
    finally:
        signals.deafen()


def announce(address: str) -> None:
    """Say that `address` serves, once: on standard output, and to systemd if it asked.

    What start-up left is out of gc's way from then on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    print(f"ready {address}", flush=True)
    supervisor.tell(supervisor.READY)


def raise_file_limit() -> None:
    """As far as allowed: each connection takes a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
