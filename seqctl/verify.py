"""`seqctl verify`: that replicas agree, and that a backup is not ahead of the Sets it is of.

A backup knows nothing that a Set does not: max_seq never falls (NRW-1). Where it does, the Set was
put back to something older, or is another one, and numbers repeat.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from clustermap.coordinator import Coordinator
from clustermap.model import SetSpec
from seqctl import credentials, remote
from seqctl.backup import chosen, read_map
from seqctl.backup_file import Backup, read_backup
from seqctl.cluster_report import Picture
from seqctl.comparing import SHOWN, Compared, compare
from seqctl.credentials import credentials_of
from seqctl.failures import OK, VIOLATION, NotDone
from seqctl.groups import add_output
from seqctl.output import print_json, print_table, say
from svrprocess.set_reading import Records

EXAMPLE = "seqctl verify /backup/2026-01-31.seqsvr --etcd 10.0.0.9:2379 -o json"
MORE = (
    "Reads every record of every replica, while they serve; leaves with 1 if a replica is behind,"
    " out of the quorum or not there. With FILE also if the file is damaged, or if a section has a"
    " lower max_seq now than in the backup."
)
_BEHIND = ("Set", "replica", "section", "max_seq", "should be", "epoch", "should be ")
_LOWER = ("section", "Set", "max_seq in the backup", "max_seq now")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl verify`."""
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="a backup")
    parser.add_argument(
        "--set", dest="sets", metavar="NAME", action="append", help="repeatable (default: all)"
    )
    remote.add_arguments(parser)
    credentials.add_arguments(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Compare: 0 if all is well, else 1 after showing what is not."""
    backup = read_backup(args.file) if args.file else None
    return remote.run(args, lambda coordinator: _verify(args, coordinator, backup))


async def _verify(args: argparse.Namespace, coordinator: Coordinator, backup: Backup | None) -> int:
    cluster, found = await read_map(coordinator)
    if backup is not None and (cluster.id, cluster.layout) != (
        backup.cluster.id,
        backup.cluster.layout,
    ):
        raise NotDone(f"the map is of {cluster}, the backup of {backup.cluster}")
    results = [
        await compare(cluster, spec, args.timeout, credentials_of(args))
        for spec in chosen(found, args.sets)
    ]
    ahead = lower(backup, found, results) if backup is not None else []
    well = all(one.well for one in results) and not ahead
    if args.output == "json":
        said: dict[str, object] = {"well": well, "sets": [one.shown() for one in results]}
        if backup is not None:
            said |= {"backup": backup.began, "lower": ahead[:SHOWN], "lower_sections": len(ahead)}
        print_json(said)
    else:
        print_compared(results)
        _print_lower(ahead)
        if well:
            say("all is well")
    return OK if well else VIOLATION


def lower(backup: Backup, found: Picture, results: Sequence[Compared]) -> list[dict[str, object]]:
    """The sections that have a lower max_seq now than in the backup.

    Sections may have moved: what counts is the Set that the map gives them to now.
    """
    known: Records = {}
    for kept in backup.sets.values():
        for section, record in kept.records.items():
            if section not in known or known[section].max_seq < record.max_seq:
                known[section] = record
    now = {section: r.max_seq for one in results for section, r in one.greatest.items()}
    compared = [one.spec for one in results]
    asked = [spec for spec in found.specs.values() if spec in compared]
    everywhere = list(found.specs.values())
    return [
        {
            "section": section,
            "set": _home(everywhere, section),
            "max_seq_backup": record.max_seq,
            "max_seq": now.get(section),
        }
        for section, record in sorted(known.items())
        if record.max_seq > now.get(section, 0)
        and (_home(asked, section) is not None or _home(everywhere, section) is None)
    ]


def _home(specs: Iterable[SetSpec], section: int) -> str | None:
    return next((spec.name for spec in specs if spec.covers(section, section)), None)


def print_compared(results: Iterable[Compared]) -> None:
    """Replicas in a table, and below it the sections in which they are behind."""
    rows = []
    behind = []
    for one in results:
        for replica in one.spec.replicas:
            missed = sum(name == replica.name for name, _, _ in one.behind)
            error = one.lost.get(replica.name, "")
            read = one.read.get(replica.name, 0)
            rows.append((one.spec.name, replica.name, replica.address, read, missed, error))
        for name, record, wanted in one.behind[:SHOWN]:
            has = (record.max_seq, record.owner_epoch) if record else ("none", "none")
            pairs = (has[0], wanted.max_seq, has[1], wanted.owner_epoch)
            behind.append((one.spec.name, name, wanted.section, *pairs))
    print_table(("Set", "replica", "address", "records read", "behind", "error"), rows)
    if behind:
        say()
        print_table(_BEHIND, behind)


def _print_lower(ahead: Sequence[dict[str, object]]) -> None:
    if ahead:
        say()
        print_table(_LOWER, [tuple(one.values()) for one in ahead[:SHOWN]])
        say(f"{len(ahead)} sections are behind the backup: numbers repeat there")
