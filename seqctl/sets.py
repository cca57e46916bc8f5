"""`seqctl set`: Sets are made without sections, are given some by `seqctl move`, and go without."""

import argparse
from typing import Any

from clustermap.coordinator import Coordinator
from seqctl import arguments, changing, credentials, map_arguments, remote
from seqctl.changing import audited, confirm
from seqctl.cluster import add_quorum_arguments, survey
from seqctl.cluster_asking import ask_every_store
from seqctl.cluster_plan import Wanted, WantedSet, check_wanted
from seqctl.cluster_report import picture, report, shown_spec
from seqctl.cluster_tables import print_report, print_sets
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone
from seqctl.groups import Group, add_output
from seqctl.output import print_json, say
from seqctl.set_plan import creation, retirement
from seqctl.writing import looked, written

_SPLIT = (
    "A Set is split in two by making a new one and moving half of the sections to it: set create,"
    " start nodes with --set NAME, move plan --half, move start. Two are merged by moving all that"
    " one has to the other: move plan --all, move start, set retire."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl set`."""
    group = Group(parser)
    create = group.add(
        "create",
        "make a Set without sections, of replicas that are blank",
        run_create,
        example="seqctl set create b --replicas 10.0.2.1:7421,10.0.2.2:7421,10.0.2.3:7421",
        more=_SPLIT,
    )
    create.add_argument("name", metavar="NAME", type=map_arguments.name)
    create.add_argument(
        "--replicas",
        metavar="HOST:PORT[,...]",
        type=arguments.addresses,
        required=True,
        help="StoreSvr processes that were started with --set NAME",
    )
    add_quorum_arguments(create)
    listing = group.add(
        "list", "show all Sets", run_list, example="seqctl set list --etcd 10.0.0.9:2379 -o json"
    )
    show = group.add(
        "show", "show a Set, its replicas and nodes", run_show, example="seqctl set show b"
    )
    show.add_argument("name", metavar="NAME", type=map_arguments.name)
    retire = group.add(
        "retire",
        "take a Set out of the map that has no sections any more",
        run_retire,
        example="seqctl set retire b --yes",
        more=f"Its nodes and replicas are to be stopped after that. {_SPLIT}",
    )
    retire.add_argument("name", metavar="NAME", type=map_arguments.name)
    changing.add_arguments(create)
    changing.add_arguments(retire, dangerous=True)
    for command in (create, listing, show, retire):
        remote.add_arguments(command)
        credentials.add_arguments(command)
        add_output(command)


def run_create(args: argparse.Namespace) -> int:
    """0 if the Set is in the map."""
    wanted = Wanted((WantedSet(args.name, (), tuple(args.replicas)),), args.r, args.w)
    check_wanted(wanted)
    return remote.run(args, lambda coordinator: _create(args, coordinator, wanted))


def run_list(args: argparse.Namespace) -> int:
    """0, whatever state they are in."""
    return remote.run(args, lambda coordinator: _list(args, coordinator))


def run_show(args: argparse.Namespace) -> int:
    """0, or 3 if there is none of that name."""
    return remote.run(args, lambda coordinator: _show(args, coordinator))


def run_retire(args: argparse.Namespace) -> int:
    """0 if the Set is out of the map."""
    return remote.run(args, lambda coordinator: _retire(args, coordinator))


async def _create(args: argparse.Namespace, coordinator: Coordinator, wanted: Wanted) -> int:
    infos = await ask_every_store(wanted.addresses, args.timeout, credentials_of(args))
    spec, _ = creation(await looked(coordinator), wanted, infos)
    if not args.dry_run:
        where = ",".join(wanted.addresses)
        async with audited(f"set create {args.name}: without sections, at {where}", coordinator):
            spec = await written(coordinator, lambda found: creation(found, wanted, infos))
    shown = {"written": not args.dry_run, **shown_spec(spec)}
    quorum = f"N/R/W {spec.quorum.n}/{spec.r}/{spec.w}"
    _say(args, shown, f"Set {spec.name} without sections, {quorum}")
    return OK


async def _list(args: argparse.Namespace, coordinator: Coordinator) -> int:
    listing = await coordinator.get("")
    entries = {key: (held.value, held.revision) for key, held in listing.entries.items()}
    shown: Any = report(picture(listing.revision, entries), {}, {}).shown
    if args.output == "json":
        print_json(shown["sets"])
    else:
        print_sets(shown["sets"])
    return OK


async def _show(args: argparse.Namespace, coordinator: Coordinator) -> int:
    shown: Any = (await survey(coordinator, args.timeout, credentials_of(args))).shown
    found = [one for one in shown["sets"] if one["name"] == args.name]
    if not found:
        known = ", ".join(one["name"] for one in shown["sets"]) or "none"
        raise NotDone(f"the map has no Set {args.name!r}; its Sets: {known}")
    of_set = {
        what: [one for one in shown[what] if one["set"] == args.name]
        for what in ("replicas", "nodes")
    }
    jobs = [job for job in shown["jobs"] if args.name in job["sets"]]
    if args.output == "json":
        print_json({**found[0], **of_set, "jobs": jobs})
    else:
        print_report(
            {**shown, "sets": found, **of_set, "jobs": jobs, "problems": [], "well": False}
        )
    return OK


async def _retire(args: argparse.Namespace, coordinator: Coordinator) -> int:
    found = await looked(coordinator)
    spec, _ = retirement(found, args.name)
    nodes = [node.address for node in found.nodes if node.set == args.name]
    if not args.dry_run:
        confirm(args, f"Take Set {args.name} out of the map?")
        async with audited(f"set retire {args.name}", coordinator):
            spec = await written(coordinator, lambda found: retirement(found, args.name))
    stores = [replica.address for replica in spec.replicas]
    shown = {"written": not args.dry_run, **shown_spec(spec), "nodes": nodes}
    still = f"stop its nodes ({', '.join(nodes) or 'none'}) and replicas ({', '.join(stores)})"
    _say(args, shown, f"Set {args.name} is out of the map; {still}")
    return OK


def _say(args: argparse.Namespace, shown: dict[str, object], text: str) -> None:
    if args.output == "json":
        print_json(shown)
    else:
        say(f"would be done, nothing was written: {text}" if args.dry_run else text)
