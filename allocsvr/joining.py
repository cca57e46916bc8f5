"""A node's way into its cluster: what it is part of, asked of the map until the map knows.

Servers are started in any order, so neither etcd that is away nor a map that has not been written
yet is a reason to leave. Each try that fails says why, in the log.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from clustermap.coordinator import Coordinator
from clustermap.errors import MapCorrupt, MapUnavailable
from clustermap.logs import get_logger
from clustermap.model import CLUSTER_KEY, SETS_PREFIX, Cluster, SetSpec, set_key

log = get_logger(__name__)

TRY_S = 5.0
BACKOFF_S = 0.1
MAX_BACKOFF_S = 1.0

T = TypeVar("T")


class NotInMap(Exception):
    """The map can be read, and what we look for is not in it; the text is for the operator."""


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """The first result of `attempt` that is one: it is tried for ever, TRY_S each time."""
    backoff_s = BACKOFF_S
    while True:
        try:
            async with asyncio.timeout(TRY_S):
                return await attempt()
        except TimeoutError:
            log.warning("waiting_for_map", error=f"no answer within {TRY_S} s")
        except MapUnavailable as error:
            log.warning("waiting_for_map", error=str(error))
        except (NotInMap, MapCorrupt) as error:
            log.error("waiting_for_map", error=str(error))
        await asyncio.sleep(random.uniform(backoff_s / 2, backoff_s))
        backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)


async def read(coordinator: Coordinator, name: str) -> tuple[Cluster, SetSpec]:
    """The cluster, and its Set `name`. Raises NotInMap, MapUnavailable, MapCorrupt."""
    cluster = (await coordinator.get(CLUSTER_KEY)).entries.get(CLUSTER_KEY)
    if cluster is None:
        raise NotInMap("the cluster map has not been written yet (seqctl cluster init does it)")
    sets = (await coordinator.get(SETS_PREFIX)).entries
    spec = sets.get(set_key(name))
    if spec is None:
        known = ", ".join(sorted(key.removeprefix(SETS_PREFIX) for key in sets)) or "none"
        raise NotInMap(f"the cluster map has no Set {name!r}; its Sets: {known}")
    return Cluster.from_json(cluster.value), SetSpec.from_json(spec.value)
