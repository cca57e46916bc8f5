"""The cluster map in etcd, as a program holds it: opened once, closed without waiting for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from clustermap.etcd import EtcdCoordinator
from clustermap.etcd_options import EtcdOptions
from clustermap.logs import get_logger
from seqsvr.credentials import Credentials
from svrprocess.failures import NotDone

log = get_logger(__name__)

CLOSE_S = 5.0


@asynccontextmanager
async def cluster_map(
    options: EtcdOptions, registry: CollectorRegistry, credentials: Credentials | None = None
) -> AsyncIterator[EtcdCoordinator]:
    """The map inside the `async with`. Raises NotDone where a file of the options cannot be read.

    registry: where it counts; credentials: refreshed by who made them, None: as the options say,
    for good. etcd need not answer. At the end registrations and elections are
    given back, unless that takes more than CLOSE_S seconds: then they end by their time to live.
    """
    try:
        coordinator = await EtcdCoordinator.open(options, registry, credentials)
    except (OSError, ValueError) as error:
        raise NotDone(f"cannot use etcd's options: {error}") from None
    try:
        yield coordinator
    finally:
        try:
            async with asyncio.timeout(CLOSE_S):
                await coordinator.aclose()
        except TimeoutError:
            log.warning("map_not_closed")
