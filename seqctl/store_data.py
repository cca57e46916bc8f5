"""`seqctl store scrub`, `repair` and `compact`: what the stores of Sets hold."""

import argparse
import asyncio

from clustermap.coordinator import Coordinator
from clustermap.errors import ReplicaFailed
from clustermap.levelling import batches
from seqctl import remote
from seqctl.backup import chosen, read_map
from seqctl.changing import audited
from seqctl.comparing import behind_of, compare, compare_by
from seqctl.credentials import credentials_of
from seqctl.failures import OK, VIOLATION, NotDone
from seqctl.output import print_json, say
from seqctl.verify import print_compared
from svrprocess.set_reading import reading


def run_scrub(args: argparse.Namespace) -> int:
    """0 if all replicas hold the same, and all of it is sound, else 1."""
    return remote.run(args, lambda coordinator: _scrub(args, coordinator))


def run_repair(args: argparse.Namespace) -> int:
    """0 if all replicas are level now, else 1."""
    return remote.run(args, lambda coordinator: _repair(args, coordinator))


def run_compact(args: argparse.Namespace) -> int:
    """0 if it is done, 3 and nothing has changed otherwise."""
    return asyncio.run(_compact(args))


async def _scrub(args: argparse.Namespace, coordinator: Coordinator) -> int:
    cluster, found = await read_map(coordinator)
    specs = chosen(found, args.sets)
    results = [await compare(cluster, spec, args.timeout, credentials_of(args)) for spec in specs]
    well = all(one.well for one in results)
    if args.output == "json":
        print_json({"well": well, "sets": [one.shown() for one in results]})
    else:
        print_compared(results)
    return OK if well else VIOLATION


async def _repair(args: argparse.Namespace, coordinator: Coordinator) -> int:
    cluster, found = await read_map(coordinator)
    raised: dict[str, int] = {}
    results = []
    for spec in chosen(found, args.sets):
        async with reading(cluster, spec, args.timeout, credentials=credentials_of(args)) as reader:
            result = await compare_by(reader)
            if result.behind and not args.dry_run:
                async with audited(f"repair {len(result.behind)} of Set {spec.name}", coordinator):
                    names = [one.name for one in spec.replicas]
                    for name, records in behind_of(result, names).items():
                        for batch in batches(records.values()):
                            try:
                                count = await reader.put(names.index(name), batch, whole=False)
                            except ReplicaFailed as failed:
                                raise NotDone(f"{name} of Set {spec.name}: {failed}") from None
                            raised[name] = raised.get(name, 0) + count
                result = await compare_by(reader)
        results.append(result)
    well = all(one.well for one in results)
    if args.output == "json":
        print_json({"well": well, "raised": raised, "sets": [one.shown() for one in results]})
    else:
        print_compared(results)
        for name, count in raised.items():
            say(f"{count} records of {name} raised")
    return OK if well else VIOLATION


async def _compact(args: argparse.Namespace) -> int:
    from storesvr.compacting import compact
    from storesvr.errors import EngineError

    try:
        if args.dry_run:
            done = compact(args.data, dry_run=True)
        else:
            async with audited(f"compact {args.data}") as outcome:
                done = compact(args.data)
                outcome.text = f"{done.before} bytes are {done.after} now"
    except EngineError as error:
        raise NotDone(f"{args.data}: {error}") from None
    said = {"replica": done.identity.replica, "before": done.before, "after": done.after}
    if args.output == "json":
        print_json({"compacted": not args.dry_run, **said})
    else:
        verb = "would have" if args.dry_run else "has"
        say(f"{args.data}: {done.before:,} bytes before, {verb} {done.after:,} now")
    return OK
