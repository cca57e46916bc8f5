"""`seqctl cluster init` and `seqctl cluster status`: a cluster's map in etcd, and who is in it.

Everything that is asked is asked at once and given up after --timeout, so that a dead replica
delays an answer by that much and hides nothing else.
"""

import argparse
import asyncio
from collections.abc import Mapping

from clustermap.coordinator import Coordinator, Listing
from clustermap.errors import MapUnavailable
from clustermap.model import ASSIGNMENTS_PREFIX, CLUSTER_KEY, SETS_PREFIX
from seqctl import arguments, credentials, remote
from seqctl.cluster_asking import ask_every_store, ask_stores, probe_nodes
from seqctl.cluster_plan import (
    Plan,
    Wanted,
    WantedSet,
    check_wanted,
    described,
    is_what_stands,
    wanted_set,
)
from seqctl.cluster_plan import plan as planned
from seqctl.cluster_report import Report, picture, report, shown_spec
from seqctl.cluster_tables import print_report
from seqctl.credentials import credentials_of
from seqctl.failures import NOT_DONE, OK, NotDone
from seqctl.groups import Group, add_output
from seqctl.output import print_json, say
from seqctl.strays import check_strays
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.sections import SEQ_LIMIT

_LASTING = (CLUSTER_KEY, SETS_PREFIX, ASSIGNMENTS_PREFIX)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl cluster`."""
    group = Group(parser)
    status = group.add(
        "status",
        "show Sets, replicas, leases, nodes and sections; leaves with 3 if not all is well",
        run_status,
        example="seqctl cluster status --etcd 10.0.0.9:2379 -o json",
    )
    init = group.add(
        "init",
        "write the map of a new cluster",
        run_init,
        example="seqctl cluster init --etcd 10.0.0.9:2379 --set a=10.0.1.1:7421",
    )
    _add_init_arguments(init)
    for command in (status, init):
        remote.add_arguments(command)
        credentials.add_arguments(command)
        add_output(command)


def _add_init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="sets",
        metavar="NAME[:FIRST-LAST[,...]]=HOST:PORT[,...]",
        type=_set,
        action="append",
        required=True,
        help="a Set, its sections (all, if it is the only one) and its replicas; repeatable",
    )
    add_quorum_arguments(parser)
    parser.add_argument(
        "--seq-limit",
        metavar="N",
        type=arguments.positive,
        default=SEQ_LIMIT,
        help=f"the highest number ever handed out (default {SEQ_LIMIT})",
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="take stores that hold sections: the map was lost, the stores were not",
    )
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="leave a map alone that says just this already, and leave with 0",
    )


def add_quorum_arguments(parser: argparse.ArgumentParser) -> None:
    """-r and -w."""
    for name, what in (("r", "answer a fence or a read"), ("w", "acknowledge a raise or a lease")):
        parser.add_argument(
            f"-{name}",
            metavar="N",
            type=arguments.positive,
            help=f"how many replicas of a Set must {what} (default: the smallest majority)",
        )


def run_init(args: argparse.Namespace) -> int:
    """Write a new cluster: 0 if it is written, 2 or 3 and nothing is written otherwise."""
    wanted = Wanted(tuple(args.sets), args.r, args.w, args.seq_limit, args.adopt)
    check_wanted(wanted)
    return remote.run(args, lambda coordinator: _init(args, coordinator, wanted))


def run_status(args: argparse.Namespace) -> int:
    """Show the cluster: 0 if all is well, else 3, after showing all the same."""
    return remote.run(args, lambda coordinator: _status(args, coordinator))


async def initialise(
    coordinator: Coordinator,
    wanted: Wanted,
    timeout_s: float,
    credentials: Credentials = PLAIN,
    *,
    if_missing: bool = False,
) -> Plan | None:
    """Write the map of a new cluster, in one transaction that expects none.

    None: `if_missing` and the map says this already. Raises NotDone, WrongUsage; MapUnavailable
    and MapCorrupt from the coordinator.
    """
    entries = _lasting(await coordinator.get(""))
    if entries:
        if if_missing and is_what_stands(wanted, entries):
            return None
        raise NotDone(f"refused, nothing was written: the map holds {described(entries)}")
    plan = planned(wanted, await ask_every_store(wanted.addresses, timeout_s, credentials))
    if wanted.adopt:
        await check_strays(plan.cluster, plan.specs, timeout_s, credentials)
    puts: Mapping[str, bytes | None] = plan.puts()
    try:
        written = await coordinator.transact(dict.fromkeys(puts, 0), puts) is not None
    except MapUnavailable:
        # It may have been done all the same.
        written = _lasting(await coordinator.get("")) == puts
        if not written:
            raise
    if not written:
        raise NotDone("refused, nothing was written: somebody else has just written a map")
    return plan


async def survey(
    coordinator: Coordinator, timeout_s: float, credentials: Credentials = PLAIN
) -> Report:
    """What the map and everybody in it says. Raises MapUnavailable."""
    listing = await coordinator.get("")
    entries = {key: (held.value, held.revision) for key, held in listing.entries.items()}
    found = picture(listing.revision, entries)
    infos, probes = await asyncio.gather(
        ask_stores({replica.address for _, replica in found.replicas}, timeout_s, credentials),
        probe_nodes(found.owners, timeout_s, credentials),
    )
    return report(found, infos, probes)


async def _init(args: argparse.Namespace, coordinator: Coordinator, wanted: Wanted) -> int:
    plan = await initialise(
        coordinator, wanted, args.timeout, credentials_of(args), if_missing=args.if_missing
    )
    if args.output == "json":
        print_json(_as_json(plan))
    elif plan is None:
        say("the map says so already, nothing was written")
    else:
        say(f"written: {described(plan.puts())}")
    return OK


async def _status(args: argparse.Namespace, coordinator: Coordinator) -> int:
    found = await survey(coordinator, args.timeout, credentials_of(args))
    if args.output == "json":
        print_json(found.shown)
    else:
        print_report(found.shown)
    return OK if found.well else NOT_DONE


def _lasting(listing: Listing) -> dict[str, bytes]:
    """The documents; without what is bound to the life of a process."""
    entries = listing.entries.items()
    return {key: held.value for key, held in entries if key.startswith(_LASTING)}


def _as_json(plan: Plan | None) -> dict[str, object]:
    if plan is None:
        return {"written": False}
    specs = [shown_spec(spec) for spec in plan.specs]
    return {"written": True, "cluster": plan.cluster.id, "sets": specs}


def _set(text: str) -> WantedSet:
    try:
        return wanted_set(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
