"""`seqctl node`: who serves, and who is to serve no more."""

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from clustermap.coordinator import Coordinator
from seqctl import changing, credentials, remote
from seqctl.changing import audited, confirm
from seqctl.cluster import survey
from seqctl.cluster_asking import probe_nodes
from seqctl.credentials import credentials_of
from seqctl.failures import OK
from seqctl.groups import Group, add_output
from seqctl.map_view import Change, View
from seqctl.node_plan import Named, drained, named, removed, undrained
from seqctl.output import print_json, print_table, say
from seqctl.progress import progress
from seqctl.writing import looked, written

_LOOK_S = 0.3
_COLUMNS = (
    *("Set", "node", "address", "state", "alive", "leased", "numbers/s", "sections", "serves"),
    *("acquires", "gives up", "pinned", "error"),
)
_BY_ADDRESS = (
    "A drain is of the address: it outlives restarts of the node, and ends with node undrain. A"
    " node that is stopped needs none, it hands its sections over by itself."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl node`."""
    group = Group(parser)
    listing = group.add(
        "list", "show all nodes, and who of them answers", run_list, example="seqctl node list"
    )
    drain = group.add(
        "drain",
        "hand all sections of a node to others, and give it none",
        run_drain,
        example="seqctl node drain 10.0.0.8:7420 --wait",
        more=_BY_ADDRESS,
    )
    drain.add_argument("--wait", action="store_true", help="until it has no section any more")
    undrain = group.add(
        "undrain",
        "let a drained node have sections again",
        run_undrain,
        example="seqctl node undrain 10.0.0.8:7420",
    )
    remove = group.add(
        "remove",
        "take what a dead node has left out of the map: sections, drains, pins",
        run_remove,
        example="seqctl node remove 10.0.0.8:7420 --yes",
        more="The arbiter does the first by itself, in seconds, if one runs.",
    )
    for command in (drain, undrain, remove):
        command.add_argument("node", metavar="NODE", help="its address, or its incarnation")
        changing.add_arguments(command, dangerous=command is remove)
    for command in (listing, drain, undrain, remove):
        remote.add_arguments(command)
        credentials.add_arguments(command)
        add_output(command)


def run_list(args: argparse.Namespace) -> int:
    """0, whatever state they are in."""
    return remote.run(args, lambda coordinator: _list(args, coordinator))


def run_drain(args: argparse.Namespace) -> int:
    """0 if it is marked; with --wait: if it has no section any more."""
    return remote.run(args, lambda coordinator: _drain(args, coordinator))


def run_undrain(args: argparse.Namespace) -> int:
    """0 if it may have sections again."""

    async def undrain(coordinator: Coordinator) -> int:
        node = await _changed(args, coordinator, lambda found: undrained(found, args.node))
        _tell(args, node, f"{node.address} may have sections of Set {node.set} again")
        return OK

    return remote.run(args, undrain)


def run_remove(args: argparse.Namespace) -> int:
    """0 if the map knows it no more."""
    return remote.run(args, lambda coordinator: _remove(args, coordinator))


def listed(found: View, shown: Any) -> list[dict[str, Any]]:
    """All nodes as the map, their own words and a probe have them; and drains of who is not there.

    shown: Report.shown.
    """
    rows = [{**one, **_ordered(found, one)} for one in shown["nodes"]]
    there = {(row["set"], row["address"]) for row in rows}
    for name, orders in sorted(found.orders.items()):
        rows += [
            {"set": name, "address": address, "state": "drained", "sections": 0, "pinned": 0}
            for address in orders.drained
            if (name, address) not in there
        ]
    return rows


def state(row: dict[str, Any], ordered: bool) -> str:
    """In one word, the worst first."""
    if not row["registered"]:
        return "unregistered" if row["alive"] else "gone"
    if row["draining"]:
        return "leaving"
    if ordered:
        return "draining" if row["sections"] else "drained"
    return "serving" if row["leased"] else "unleased"


def _ordered(found: View, row: dict[str, Any]) -> dict[str, object]:
    orders = found.ordered(row["set"])
    pins = [pin for pin in orders.pins if pin.address == row["address"]]
    return {
        "state": state(row, row["address"] in orders.drained),
        "pinned": sum(pin.sections for pin in pins),
        "alone": any(pin.alone for pin in pins),
    }


async def _list(args: argparse.Namespace, coordinator: Coordinator) -> int:
    found = await looked(coordinator)
    rows = listed(found, (await survey(coordinator, args.timeout, credentials_of(args))).shown)
    if args.output == "json":
        print_json(rows)
    else:
        print_table(_COLUMNS, (_row(row) for row in rows))
    return OK


async def _drain(args: argparse.Namespace, coordinator: Coordinator) -> int:
    node = await _changed(args, coordinator, lambda found: drained(found, args.node))
    if args.wait and not args.dry_run:
        await _relieved(coordinator, node)
        _tell(args, node, f"{node.address} has no section any more, and gets none")
    else:
        _tell(args, node, f"{node.address} hands its {node.sections} sections to others")
    return OK


async def _relieved(coordinator: Coordinator, node: Named) -> None:
    left = node.sections

    def done() -> int:
        return node.sections - left

    async with progress("sections handed over", node.sections, done):
        while left:
            left = named(await looked(coordinator), node.address).sections
            if left:
                await asyncio.sleep(_LOOK_S)


async def _remove(args: argparse.Namespace, coordinator: Coordinator) -> int:
    node = named(await looked(coordinator), args.node)
    answers = await probe_nodes(node.owners, args.timeout, credentials_of(args))
    alive = [owner for owner, answer in answers.items() if answer is True]
    held = f"; the {node.sections} sections that it had get another owner"
    question = f"Take {node.address} out of Set {node.set}{held if node.sections else ''}?"
    node = await _changed(
        args, coordinator, lambda found: removed(found, args.node, alive), question
    )
    _tell(args, node, f"{node.address} is out of the map{held if node.sections else ''}")
    return OK


async def _changed(
    args: argparse.Namespace,
    coordinator: Coordinator,
    decide: Callable[[View], tuple[Named, Change]],
    question: str = "",
) -> Named:
    """What `decide` makes of the map, written unless --dry-run, and audited."""
    node, _ = decide(await looked(coordinator))
    if args.dry_run:
        return node
    if question:
        confirm(args, question)
    verb = args.run.__name__.removeprefix("run_")
    async with audited(f"node {verb} {node.address} of Set {node.set}", coordinator):
        return await written(coordinator, decide)


def _tell(args: argparse.Namespace, node: Named, text: str) -> None:
    if args.output == "json":
        print_json(
            {
                "written": not args.dry_run,
                "set": node.set,
                "address": node.address,
                "sections": node.sections,
            }
        )
    else:
        say(f"would be done, nothing was written: {text}" if args.dry_run else text)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    pinned = f"{row['pinned']}{' alone' if row.get('alone') else ''}" if row["pinned"] else ""
    names = ("set", "incarnation", "address", "state", "alive", "leased", "per_second", "sections")
    cells = [row.get(name) for name in (*names, "serving", "acquiring", "leaving")]
    return tuple(_cell(cell) for cell in (*cells, pinned, row.get("error")))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
