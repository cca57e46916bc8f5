"""`seqctl next`, `current` and `route`: one-shot calls."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import seqsvr
from seqctl.credentials import client_of
from seqctl.failures import OK
from seqctl.output import print_json, print_table, say
from seqsvr.routing import RoutingTable

T = TypeVar("T")


def run_next(args: argparse.Namespace) -> int:
    """Prints the number, or first..last of several."""
    numbers = _ask(args, lambda client: client.next_range(args.uid, args.count, **_bound(args)))
    if args.output == "json":
        print_json({"uid": args.uid, "seq": numbers[0], "count": len(numbers)})
    elif len(numbers) == 1:
        say(numbers[0])
    else:
        say(f"{numbers[0]}..{numbers[-1]}")
    return OK


def run_current(args: argparse.Namespace) -> int:
    answers = _ask(args, lambda client: client.current_many(args.uids, **_bound(args)))
    rows = [(uid, c.value, c.exact) for uid, c in zip(args.uids, answers, strict=True)]
    if args.output == "json":
        print_json([dict(zip(("uid", "seq", "exact"), row, strict=True)) for row in rows])
    else:
        print_table(("uid", "seq", "exact"), ((u, s, "yes" if e else "no") for u, s, e in rows))
    return OK


def run_route(args: argparse.Namespace) -> int:
    table = _ask(args, lambda client: client.route(timeout=args.timeout))
    if args.output == "json":
        print_json(_table_as_json(table))
        return OK
    say(
        f"cluster {table.cluster}, version {table.version}, sections of"
        f" {table.layout.section_size} uids, uid_limit {table.layout.uid_limit}"
    )
    rows = ((f"{r.first}..{r.last}", r.address, r.epoch) for r in table.routes)
    print_table(("sections", "address", "epoch"), rows)
    return OK


def _table_as_json(table: RoutingTable) -> dict[str, object]:
    routes = [
        {
            "first_section": route.first,
            "last_section": route.last,
            "address": route.address,
            "epoch": route.epoch,
        }
        for route in table.routes
    ]
    return {
        "cluster": table.cluster,
        "version": table.version,
        "section_size": table.layout.section_size,
        "uid_limit": table.layout.uid_limit,
        "routes": routes,
    }


def _bound(args: argparse.Namespace) -> dict[str, float]:
    return {"timeout": args.timeout}


def _ask(args: argparse.Namespace, question: Callable[[seqsvr.AsyncClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with client_of(args) as client:
            return await question(client)

    return asyncio.run(ask())
