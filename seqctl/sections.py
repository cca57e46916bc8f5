"""`seqctl section`: which sections are asked for most, and which are to be where."""

import argparse
from collections.abc import Callable
from typing import Any

from clustermap.coordinator import Coordinator
from clustermap.orders import Orders
from clustermap.ranges import shown
from seqctl import arguments, changing, map_arguments, remote
from seqctl.changing import audited
from seqctl.failures import OK
from seqctl.groups import Group, add_output
from seqctl.map_view import Change, View
from seqctl.node_plan import pinned, unpinned
from seqctl.output import print_json, print_table, say
from seqctl.writing import looked, written

SHOWN = 20
_TOP = ("section", "uids", "Set", "node", "numbers/s", "of its node", "pinned to")
_PINS = ("Set", "sections", "node", "alone")
_HOT = "Nodes name their 64 busiest sections; a rate is that of the last seconds."
_ISOLATED = (
    "A section that is far hotter than the rest gets a node nearly for itself without that: the"
    " arbiter moves others away from it, in a large Set up to a few neighbours."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl section`."""
    group = Group(parser)
    top = group.add(
        "top", "show the busiest sections", run_top, example="seqctl section top -n 5", more=_HOT
    )
    top.add_argument("--set", metavar="NAME", type=map_arguments.name, help="of this Set only")
    top.add_argument(
        *("-n", "--number"),
        metavar="N",
        type=arguments.positive,
        default=SHOWN,
        help=f"how many (default {SHOWN})",
    )
    pins = group.add(
        "pins", "show which sections are pinned to a node", run_pins, example="seqctl section pins"
    )
    pin = group.add(
        "pin",
        "have sections served by one node, and by no other while it can",
        run_pin,
        example="seqctl section pin 4711 --node 10.0.0.9:7420 --alone",
        more=_ISOLATED,
    )
    pin.add_argument("--node", metavar="NODE", required=True, help="address, or incarnation")
    pin.add_argument("--alone", action="store_true", help="the node gets no other sections")
    unpin = group.add(
        "unpin",
        "let the arbiter place sections again",
        run_unpin,
        example="seqctl section unpin 4711",
    )
    for command in (pin, unpin):
        command.add_argument(
            "sections", metavar="FIRST-LAST[,...]", type=map_arguments.sections, help="or one"
        )
        changing.add_arguments(command)
    for command in (top, pins, pin, unpin):
        remote.add_arguments(command)
        add_output(command)


def run_top(args: argparse.Namespace) -> int:
    """0, also where nothing is asked for."""

    async def top(coordinator: Coordinator) -> int:
        rows = hottest(await looked(coordinator), args.set)[: args.number]
        if args.output == "json":
            print_json(rows)
        else:
            print_table(_TOP, (_row(row) for row in rows))
        return OK

    return remote.run(args, top)


def run_pins(args: argparse.Namespace) -> int:
    """0, also where none is."""

    async def pins(coordinator: Coordinator) -> int:
        held = sorted((await looked(coordinator)).orders.items())
        rows = [(name, pin) for name, orders in held for pin in orders.pins]
        if args.output == "json":
            print_json([{"set": name, **pin.fields(), "alone": pin.alone} for name, pin in rows])
        else:
            cells = [
                (name, f"{pin.first}..{pin.last}", pin.address, "yes" if pin.alone else "no")
                for name, pin in rows
            ]
            print_table(_PINS, cells)
        return OK

    return remote.run(args, pins)


def run_pin(args: argparse.Namespace) -> int:
    """0 if it is ordered; the arbiter moves them."""
    what = f"section pin {shown(args.sections)} to {args.node}{' alone' if args.alone else ''}"

    def decide(found: View) -> tuple[Orders, Change]:
        return pinned(found, args.sections, args.node, alone=args.alone)

    return remote.run(args, lambda coordinator: _order(args, coordinator, what, decide))


def run_unpin(args: argparse.Namespace) -> int:
    """0 if they are pinned no more."""
    what = f"section unpin {shown(args.sections)}"

    def decide(found: View) -> tuple[Orders, Change]:
        return unpinned(found, args.sections)

    return remote.run(args, lambda coordinator: _order(args, coordinator, what, decide))


def hottest(found: View, only: str | None = None) -> list[dict[str, Any]]:
    """What nodes name as their busiest sections, the busiest first."""
    layout = found.cluster.layout
    rows = []
    for node in found.nodes:
        pins = found.ordered(node.set).pins
        for section, rate in node.load.hot if only in (None, node.set) else ():
            homes = [pin.address for pin in pins if pin.first <= section <= pin.last]
            first, size = section * layout.section_size, layout.section_size
            rows.append(
                {
                    "section": section,
                    "first_uid": first,
                    "last_uid": min(first + size, layout.uid_limit) - 1,
                    "set": node.set,
                    "address": node.address,
                    "per_second": rate,
                    "share": round(rate / node.load.per_second, 3) if node.load.per_second else 0.0,
                    "pinned_to": homes[0] if homes else None,
                }
            )
    return sorted(rows, key=lambda row: (-row["per_second"], row["section"]))


async def _order(
    args: argparse.Namespace,
    coordinator: Coordinator,
    what: str,
    decide: Callable[[View], tuple[Orders, Change]],
) -> int:
    orders, _ = decide(await looked(coordinator))
    if not args.dry_run:
        async with audited(what, coordinator):
            orders = await written(coordinator, decide)
    if args.output == "json":
        pins = [{**pin.fields(), "alone": pin.alone} for pin in orders.pins]
        print_json({"written": not args.dry_run, "set": orders.set, "pins": pins})
    else:
        say(f"would be done, nothing was written: {what}" if args.dry_run else f"done: {what}")
    return OK


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    uids = f"{row['first_uid']}..{row['last_uid']}"
    share = f"{100 * row['share']:.0f} %"
    where = (row["set"], row["address"])
    cells = (row["section"], uids, *where, row["per_second"], share, row["pinned_to"] or "")
    return tuple(str(cell) for cell in cells)
