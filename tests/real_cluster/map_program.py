"""The cluster map, from a host of the network: `python -m real_cluster.map_program --etcd ...`.

Asked line by line:

    {"do": "move", "set": NAME, "first": N, "last": N, "to": ADDRESS}   a planned move
    {"do": "give", "set": NAME, "first": N, "last": N, "to": ADDRESS}   as if its owner had died
    {"do": "candidates"}            values of those who stand for election, the leader first
    {"do": "document", "set": NAME} who owns what: [first, last, address, epoch, leaving] each
    {"do": "membership", "set": NAME}  its version, and whether it is a joint one

answered with {"answer": ...} or {"error": ...}.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from clustermap import placement
from clustermap.errors import MapUnavailable
from clustermap.etcd import ELECTIONS_PREFIX, EtcdCoordinator, EtcdOptions
from clustermap.model import Assignments, SetSpec, assignments_key, nodes_prefix, set_key
from clustermap.nodes import Node

Change = Callable[[Assignments, int, int, Node], Assignments]


async def answer(coordinator: EtcdCoordinator, question: dict[str, Any]) -> object:
    match question["do"]:
        case "move":
            return await _change(coordinator, question, _leaving)
        case "give":
            return await _change(coordinator, question, placement.reassign)
        case "candidates":
            found = (await coordinator.get(ELECTIONS_PREFIX)).entries.values()
            ranked = sorted(found, key=lambda candidate: candidate.revision)
            return [candidate.value.decode() for candidate in ranked]
        case "document":
            document, _ = await _read(coordinator, question["set"])
            return [[e.first, e.last, e.address, e.epoch, e.leaving] for e in document.entries]
        case "membership":
            key = set_key(question["set"])
            spec = SetSpec.from_json((await coordinator.get(key)).entries[key].value)
            return [spec.membership, spec.joint is not None]
        case other:
            raise ValueError(other)


def _leaving(document: Assignments, first: int, last: int, node: Node) -> Assignments:
    return placement.mark_leaving(document, first, last, node.owner)


async def _change(
    coordinator: EtcdCoordinator, question: dict[str, Any], change: Change
) -> list[int]:
    """Returns the range that was changed."""
    name, first, last = question["set"], question["first"], question["last"]
    nodes = (await coordinator.get(nodes_prefix(name))).entries.values()
    found = [Node.from_json(node.value) for node in nodes]
    node = next(node for node in found if node.address == question["to"])
    while True:
        document, revision = await _read(coordinator, name)
        puts: dict[str, bytes | None] = {
            assignments_key(name): change(document, first, last, node).to_json()
        }
        if await coordinator.transact({assignments_key(name): revision}, puts) is not None:
            return [first, last]


async def _read(coordinator: EtcdCoordinator, name: str) -> tuple[Assignments, int]:
    key = assignments_key(name)
    held = (await coordinator.get(key)).entries[key]
    return Assignments.from_json(held.value), held.revision


async def serve(etcd: str) -> None:
    coordinator = await EtcdCoordinator.open(EtcdOptions(tuple(etcd.split(","))))
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            said = {"answer": await answer(coordinator, json.loads(line))}
        except (MapUnavailable, StopIteration, KeyError) as error:
            said = {"error": repr(error)}
        print(json.dumps(said), flush=True)
    await coordinator.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--etcd", required=True)
    asyncio.run(serve(parser.parse_args().etcd))
