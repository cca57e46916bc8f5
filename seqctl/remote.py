"""Commands that work on the cluster map in etcd: their options, the connection, how they fail."""

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from clustermap.coordinator import Coordinator
from clustermap.errors import MapCorrupt, MapUnavailable
from seqctl import arguments
from seqctl.failures import NotDone, WrongUsage
from seqsvr.credentials import Credentials
from svrprocess.etcd_options import ETCD_OPTIONS, etcd_options
from svrprocess.options import CONFIG, add_flags, resolve
from svrprocess.security import Security

TIMEOUT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--timeout, and all that says where etcd is."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=TIMEOUT_S,
        help=f"how long a server may take to answer (default {TIMEOUT_S:g})",
    )
    add_flags(parser, ETCD_OPTIONS)


def run(args: argparse.Namespace, command: Callable[[Coordinator], Awaitable[int]]) -> int:
    """The exit code of `command`, which is given the map. Raises NotDone, WrongUsage."""

    async def work() -> int:
        async with opened(args) as coordinator:
            return await command(coordinator)

    try:
        return asyncio.run(work())
    except (MapUnavailable, MapCorrupt) as error:
        raise NotDone(f"the cluster map: {error}") from None


@asynccontextmanager
async def opened(args: argparse.Namespace) -> AsyncIterator[Coordinator]:
    """The map that the arguments name. Raises WrongUsage where they name none."""
    # A configuration file is the servers'; it may hold options that are none here.
    environ = {name: value for name, value in os.environ.items() if name != CONFIG.variable}
    if "etcd" not in args and not environ.get("SEQSVR_ETCD"):
        raise WrongUsage("--etcd is missing (or SEQSVR_ETCD)")
    options = etcd_options(resolve(args, ETCD_OPTIONS, environ))
    from clustermap.etcd import EtcdCoordinator

    # What fails is said once, by the command.
    logging.getLogger("clustermap").addHandler(logging.NullHandler())
    try:
        credentials = Credentials(options.tls)
    except (OSError, ValueError) as error:
        raise WrongUsage(f"--etcd options: {error}") from None
    coordinator = await EtcdCoordinator.open(options, credentials=credentials)
    try:
        async with Security(etcd=credentials).kept_fresh():  # some commands run for hours
            yield coordinator
    finally:
        await coordinator.aclose()
