"""The simulated cluster map does what every implementation of the coordinator port must do.

The cases are those of tests/integration/test_clustermap_contract.py, run in virtual time.
"""

import importlib.util
import inspect
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from clustermap.coordinator import Coordinator
from simsvr.hosts import Host
from simsvr.loop import SimLoop
from simsvr.mapclient import MapClient
from simsvr.mapserver import NAME, MapDisk, MapServer
from simsvr.network import Network

SUITE = Path(__file__).parents[1] / "integration" / "test_clustermap_contract.py"
SEEDS = range(5)

Case = Callable[[Coordinator], Awaitable[None]]


def contract() -> dict[str, Case]:
    spec = importlib.util.spec_from_file_location("the_coordinator_contract", SUITE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = inspect.getmembers(module, inspect.iscoroutinefunction)
    return {name: case for name, case in found if name.startswith("test_")}


CASES = contract()


def test_the_contract_is_found() -> None:
    assert len(CASES) >= 15
    for case in CASES.values():
        assert list(inspect.signature(case).parameters) == ["coordinator"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_simulated_map_keeps_the_contract(case: Case) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        loop = SimLoop(rng)
        network = Network(loop, rng)
        host = network.hosts["node"] = Host(loop, "node")
        network.hosts[NAME] = Host(loop, NAME)
        disk = MapDisk()
        MapServer(network.hosts[NAME], network, rng, disk)

        async def run(host: Host = host, network: Network = network, disk: MapDisk = disk) -> None:
            client = MapClient(host, network, disk, random.Random(1))
            await case(client)
            await client.aclose()

        loop.run_until_complete(host.spawn(run()))
        assert loop.faults == []
        loop.sink()
        loop.close()
