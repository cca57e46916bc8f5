"""`seqctl rebalance`: loads of nodes evened out, by hand or by the arbiter alone."""

import argparse
import asyncio
import math
from dataclasses import asdict

from clustermap.coordinator import Coordinator
from clustermap.ranges import Range
from clustermap.scene import Limits
from seqctl import changing, map_arguments, remote
from seqctl.changing import audited
from seqctl.failures import OK, NotDone
from seqctl.groups import Group, add_output
from seqctl.map_view import Change, View
from seqctl.node_plan import balanced
from seqctl.output import print_json, print_table, say
from seqctl.progress import progress
from seqctl.rebalance_plan import Balance, balance, leaving
from seqctl.writing import looked, written

_LIMITS = Limits()
_LOOK_S = 0.3
_SETTLE_S = 6.0
_MAX_STEPS = 200
_NODES = ("node", "sections", "then", "numbers/s", "then")
_MOVES = ("sections", "from", "to")
_MEANWHILE = (
    "Each section that moves pauses once, for some 50 ms, and its numbers stay dense. The arbiter"
    " does the same by itself, more slowly, unless that is switched off (rebalance auto)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl rebalance`."""
    group = Group(parser)
    plan = group.add(
        "plan",
        "show what would even out the loads of a Set's nodes",
        run_plan,
        example="seqctl rebalance plan --set set-0",
    )
    run = group.add(
        "run",
        "even out the loads of a Set's nodes, step by step",
        run_run,
        example="seqctl rebalance run --set set-0 --share 0.02",
        more=_MEANWHILE,
    )
    auto = group.add(
        "auto",
        "let the arbiter balance a Set by itself, or not",
        run_auto,
        example="seqctl rebalance auto off --set set-0",
    )
    auto.add_argument("wanted", choices=("on", "off"))
    run.add_argument(
        "--share",
        metavar="X",
        type=_fraction,
        default=_LIMITS.balance_share,
        help=f"of the Set's sections, that move at a time (default {_LIMITS.balance_share:g})",
    )
    for command in (plan, run):
        command.add_argument(
            "--hysteresis",
            metavar="X",
            type=_fraction,
            default=_LIMITS.hysteresis,
            help="how far off the mean a node may be, as a fraction of it"
            f" (default {_LIMITS.hysteresis:g})",
        )
    for command in (run, auto):
        changing.add_arguments(command)
    for command in (plan, run, auto):
        command.add_argument("--set", metavar="NAME", type=map_arguments.name, required=True)
        remote.add_arguments(command)
        add_output(command)


def run_plan(args: argparse.Namespace) -> int:
    """0, also where it is even enough."""
    args.dry_run = True
    return remote.run(args, lambda coordinator: _show(args, coordinator))


def run_run(args: argparse.Namespace) -> int:
    """0 if it is even enough, after what moved."""
    return remote.run(args, lambda coordinator: _run(args, coordinator))


def run_auto(args: argparse.Namespace) -> int:
    """0 if it is switched."""

    async def auto(coordinator: Coordinator) -> int:
        on = args.wanted == "on"
        what = f"rebalance auto {args.wanted} of Set {args.set}"
        balanced(await looked(coordinator), args.set, on=on)
        if not args.dry_run:
            async with audited(what, coordinator):
                await written(coordinator, lambda found: balanced(found, args.set, on=on))
        if args.output == "json":
            print_json({"written": not args.dry_run, "set": args.set, "balance": on})
        else:
            say(f"would be done, nothing was written: {what}" if args.dry_run else f"done: {what}")
        return OK

    return remote.run(args, auto)


async def _show(args: argparse.Namespace, coordinator: Coordinator) -> int:
    made = balance(await looked(coordinator), args.set, args.hysteresis, 1.0)
    if args.output == "json":
        print_json(_as_json(made, written=False))
    else:
        _print(made)
    return OK


async def _run(args: argparse.Namespace, coordinator: Coordinator) -> int:
    whole = balance(await looked(coordinator), args.set, args.hysteresis, 1.0)
    if args.output == "table":
        _print(whole)
    if args.dry_run or not whole.moves:
        if args.output == "json":
            print_json(_as_json(whole, written=False))
        return OK
    moved = 0
    async with (
        audited(f"rebalance run of Set {args.set}", coordinator) as outcome,
        progress("sections moved", whole.sections, lambda: moved),
    ):
        for _ in range(_MAX_STEPS):
            step = await _step(args, coordinator)
            if not step.moves:
                break
            await _arrived(coordinator, args.set)
            moved += step.sections
            outcome.text = f"moved {moved} sections"
            await asyncio.sleep(_SETTLE_S)  # nodes say every few seconds what is asked of them
        else:
            raise NotDone(f"still uneven after {moved} sections: loads change as fast as they move")
    if args.output == "json":
        print_json({**_as_json(whole, written=True), "moved": moved})
    else:
        say(f"moved {moved} sections")
    return OK


async def _step(args: argparse.Namespace, coordinator: Coordinator) -> Balance:
    def decide(found: View) -> tuple[Balance, Change]:
        made = balance(found, args.set, args.hysteresis, args.share)
        return made, made.change or Change({}, {})

    return await written(coordinator, decide)


async def _arrived(coordinator: Coordinator, name: str) -> None:
    while leaving((await looked(coordinator)).document(name)):  # noqa: ASYNC110 - others' doing
        await asyncio.sleep(_LOOK_S)


def _print(made: Balance) -> None:
    rows = [
        (s.address, s.sections, s.sections_then, s.per_second, s.per_second_then)
        for s in made.shares
    ]
    print_table(_NODES, rows)
    say()
    if made.moves:
        print_table(_MOVES, ((_range(span), *way) for span, *way in made.moves))
        say()
    say(f"Set {made.set}: {made.sections} sections to move" if made.moves else "even enough")


def _range(span: Range) -> str:
    return str(span) if span.sections > 1 else str(span.first)


def _as_json(made: Balance, *, written: bool) -> dict[str, object]:
    moves = [{**span.fields(), "from": source, "to": to} for span, source, to in made.moves]
    nodes = [asdict(share) for share in made.shares]
    return {"written": written, "set": made.set, "moves": moves, "nodes": nodes}


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text!r}")
    return value
