"""An arbiter that does one thing: relieve nodes that say that they are draining."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from cluster_in_a_box.box import KEY, SET, Box
from clustermap import placement
from clustermap.coordinator import follow
from clustermap.model import Assignments, nodes_prefix
from clustermap.nodes import Node


@asynccontextmanager
async def relieving(box: Box) -> AsyncIterator[None]:
    """Marks all sections of draining nodes inside the `async with`, spread over the others."""
    task = asyncio.create_task(_relieve(box))
    try:
        yield
    finally:
        task.cancel()


async def registered(box: Box) -> dict[int, Node]:
    """Nodes by incarnation, as the map knows them."""
    entries = (await box.coordinator.get(nodes_prefix(SET))).entries
    nodes = [Node.from_json(held.value) for held in entries.values()]
    return {node.incarnation: node for node in nodes}


async def _relieve(box: Box) -> None:
    async with aclosing(follow(box.coordinator, "")) as pictures:
        async for _ in pictures:
            await _look(box)


async def _look(box: Box) -> None:
    nodes = await registered(box)
    others = [node for node in nodes.values() if not node.draining]
    held = (await box.coordinator.get(KEY)).entries[KEY]
    document = old = Assignments.from_json(held.value)
    for entry in old.entries:
        node = nodes.get(entry.incarnation)
        if node is None or not node.draining or entry.leaving:
            continue
        for section in range(entry.first, entry.last + 1):
            successor = others[section % len(others)].owner if others else None
            document = placement.mark_leaving(document, section, section, successor)
    if document is not old:
        await box.coordinator.transact({KEY: held.revision}, {KEY: document.to_json()})
