"""`seqctl restore`: a backup onto blank replicas, above everything that was handed out since.

What makes a replica usable is that it is counted at the membership that the map says, and that the
map names its store id. So the stores first adopt a version above all that there were, as learners:
from then on they refuse to be counted, also by nodes that find them in the map already, and so
does a store that was left behind by a restore that was cut off. After every replica has every
record and was read back they are told to be counted, and the map is told last, in one transaction.
The same command, given again, goes on where it was.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from clustermap.coordinator import Coordinator
from clustermap.errors import MapUnavailable, ReplicaFailed
from clustermap.model import CLUSTER_KEY, Replica, SetSpec, assignments_key, nodes_prefix, set_key
from clustermap.ranges import Range, shown
from seqctl import arguments, credentials, remote
from seqctl.backup_file import Backup, read_backup
from seqctl.changing import add_arguments as add_change
from seqctl.changing import audited, confirm
from seqctl.cluster_asking import ask_stores
from seqctl.cluster_report import Picture, picture
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone, WrongUsage
from seqctl.groups import add_output
from seqctl.output import print_json, say
from seqctl.progress import progress
from seqctl.restore_plan import Held, Restoration, plan, unfit
from seqsvr.v1 import store_pb2 as pb
from svrprocess.set_reading import SetReader, reading, windows

EXAMPLE = (
    "seqctl restore /backup/2026-01-31.seqsvr --etcd 10.0.0.9:2379 --set a"
    " --replicas 10.0.2.1:7421,10.0.2.2:7421,10.0.2.3:7421 --advance-by 1000000000 --yes"
)
MORE = (
    "For a Set whose replicas are lost, all or so many that fewer than R are left; one lost replica"
    " is replaced instead (`seqctl store replace`), which needs no backup. The backup does not know"
    " what was handed out after it. --advance-by says how many numbers that can have been, and must"
    " be at least what the busiest uid of the Set took since the backup, plus a window (the step)"
    " for each time its section changed owners unplanned. Too small a value makes numbers repeat;"
    " one far too large costs a gap, and there are 2^63 numbers: 1000000000 is a good value where"
    " nobody knows better. Stop the old replicas, and do not start them again."
)
WIDTH = 512  # records per request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl restore`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="written by seqctl backup")
    parser.add_argument("--set", metavar="NAME", required=True, help="the Set to restore")
    parser.add_argument(
        "--replicas",
        metavar="HOST:PORT,...",
        type=arguments.addresses,
        help="blank stores that are to be its replicas (default: those that the map names)",
    )
    parser.add_argument(
        "--advance-by",
        metavar="N",
        type=arguments.positive,
        help="raise every section by this above the backup; required, see above",
    )
    add_change(parser, dangerous=True)
    remote.add_arguments(parser)
    credentials.add_arguments(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Restore: 0; 1 if the file is damaged; 2 or 3 and nothing can be served otherwise."""
    if args.advance_by is None:
        raise WrongUsage(
            "--advance-by N is missing: without it every number that was handed out after the"
            " backup would be handed out again. --help says how to choose it"
        )
    backup = read_backup(args.file)
    return remote.run(args, lambda coordinator: _restore(args, coordinator, backup))


async def _restore(args: argparse.Namespace, coordinator: Coordinator, backup: Backup) -> int:
    listing = await coordinator.get("")
    entries = {key: (held.value, held.revision) for key, held in listing.entries.items()}
    found = picture(listing.revision, entries)
    held = _held(found, args.set, {key: one.revision for key, one in listing.entries.items()})
    infos = await _targets(args, held.spec, backup)
    await _check_old(args, held.spec, infos)
    replicas = [Replica(info.replica, where, info.store_id) for where, info in infos.items()]
    restoration = plan(backup, args.set, held, replicas, _membership(infos), args.advance_by)
    wrong = unfit(infos, restoration.cluster, args.set)
    if wrong:
        raise NotDone(f"refused, nothing was written: {'; '.join(wrong)}")
    named = _named(held.spec, infos)
    used = any(info.leases for info in infos.values())
    if named and (used or any(node.set == args.set for node in found.nodes.values())):
        raise NotDone(
            f"refused, nothing was written: the map names these stores and nodes of Set {args.set}"
            " run, so numbers may just be handed out from nothing. Stop its nodes"
        )
    async with reading(
        restoration.cluster, restoration.spec, args.timeout, credentials=credentials_of(args)
    ) as reader:
        if any(info.sections for info in infos.values()):
            await _check_blank(args, restoration, infos)
        if args.dry_run:
            return _say(args, restoration, backup, done=False)
        confirm(args, _question(restoration, backup))
        what = f"restore {args.file} of {backup.began} to Set {args.set} by {args.advance_by}"
        async with audited(f"{what} at {','.join(infos)}", coordinator):
            await _adopt(reader, learning=True)
            await _check_unused(coordinator, args.set, named)
            await _write(reader, restoration)
            await _read_back(args, reader, restoration, infos)
            await _adopt(reader, learning=False)
            await _name(coordinator, restoration, held.revisions)
    return _say(args, restoration, backup, done=True)


# -- before anything is written


def _held(found: Picture, name: str, revisions: Mapping[str, int]) -> Held:
    keys = (CLUSTER_KEY, set_key(name), assignments_key(name))
    broken = [text for text in found.problems if text.startswith(keys)]
    if broken:
        raise NotDone(f"refused, nothing was written: {'; '.join(broken)}")
    return Held(
        found.cluster,
        found.specs.get(name),
        found.assignments.get(name),
        {key: revisions.get(key, 0) for key in (*keys, *map(set_key, found.specs))},
        tuple(spec for spec in found.specs.values() if spec.name != name),
    )


async def _targets(
    args: argparse.Namespace, spec: SetSpec | None, backup: Backup
) -> dict[str, pb.InfoResponse]:
    """What the stores that are to be written to say of themselves, all of them."""
    addresses = args.replicas or ([one.address for one in spec.replicas] if spec else [])
    if not addresses:
        kept = backup.sets.get(args.set)
        were = ",".join(one.address for one in kept.spec.replicas) if kept else "none"
        raise WrongUsage(f"the map names no replicas of Set {args.set}: --replicas (were {were})")
    if len(set(addresses)) < len(addresses):
        raise WrongUsage("--replicas names an address twice")
    answers = await ask_stores(addresses, args.timeout, credentials_of(args))
    dead = [f"{where}: {why}" for where, why in answers.items() if isinstance(why, str)]
    if dead:
        raise NotDone(f"not every replica answers, nothing was written: {'; '.join(dead)}")
    return {where: info for where, info in answers.items() if not isinstance(info, str)}


async def _check_old(
    args: argparse.Namespace, spec: SetSpec | None, targets: Mapping[str, pb.InfoResponse]
) -> None:
    """That no old replica is alive: it knows more than any backup."""
    ours = {info.store_id for info in targets.values()}
    old = [one for one in (spec.replicas if spec else ()) if one.store_id not in ours]
    answers = await ask_stores([one.address for one in old], args.timeout, credentials_of(args))
    alive = []
    for one in old:
        info = answers[one.address]
        if not isinstance(info, str) and info.store_id == one.store_id:
            alive.append(f"{one.name} at {one.address}")
    if alive:
        raise NotDone(
            f"refused, nothing was written: {', '.join(alive)} of Set {args.set} still runs and"
            " knows more than the backup. If R replicas are left, replace the others (seqctl store"
            " replace); else take `seqctl backup --incomplete`, stop it, and restore that"
        )


def _named(spec: SetSpec | None, infos: Mapping[str, pb.InfoResponse]) -> bool:
    """Whether the map counts any of these stores already."""
    ids = {info.store_id for info in infos.values()}
    return spec is not None and any(one.store_id in ids for one in spec.replicas)


def _membership(infos: Mapping[str, pb.InfoResponse]) -> int:
    """The greatest version that any of the stores is at."""
    return max(info.membership for info in infos.values())


async def _check_unused(coordinator: Coordinator, name: str, named: bool) -> None:
    """That no node of the Set was started while the map named stores that are blank."""
    if named and (await coordinator.get(nodes_prefix(name))).entries:
        raise NotDone(f"nodes of Set {name} have just been started: stop them, try again")


async def _check_blank(
    args: argparse.Namespace, restoration: Restoration, infos: Mapping[str, pb.InfoResponse]
) -> None:
    """That stores which are not blank have nothing but what this very restore writes."""
    everything = Range(0, restoration.cluster.layout.sections - 1)
    for one in restoration.spec.replicas:
        info = infos[one.address]
        spec = replace(restoration.spec, membership=info.membership)
        async with reading(
            restoration.cluster, spec, args.timeout, [one], credentials=credentials_of(args)
        ) as reader:
            async for window, found in reader.read([everything] if info.sections else []):
                _check_answers(reader, found, window)
                _check_ours(one, found[0], restoration)


def _check_ours(
    one: Replica, records: Mapping[int, pb.StoredRecord], restoration: Restoration
) -> None:
    for section, record in records.items():
        if not _same(record, restoration.record(section)):
            raise NotDone(
                f"refused, nothing was written: {one.address} is not blank (section {section} has"
                f" max_seq {record.max_seq}). Restore onto stores that were just created"
            )


def _question(restoration: Restoration, backup: Backup) -> str:
    spec = restoration.spec
    where = ", ".join(one.address for one in spec.replicas)
    return (
        f"Set {spec.name}, sections {shown(spec.ranges)}, will begin again from the backup of"
        f" {backup.began} plus {restoration.advance_by:,}, at {where}. If any uid was given more"
        " than that since, numbers repeat. Is that meant?"
    )


# -- writing


async def _adopt(reader: SetReader, *, learning: bool) -> None:
    """Have all stores take over the new membership, to be counted or not."""
    for index, one in enumerate(reader.replicas):
        try:
            await reader.adopt(index, learning=learning)
        except ReplicaFailed as failed:
            raise NotDone(f"{one.address}: {failed}; the same command goes on from here") from None


async def _write(reader: SetReader, restoration: Restoration) -> None:
    parts = windows(restoration.spec.ranges, WIDTH)
    done = 0

    async def fill(index: int) -> None:
        nonlocal done
        for window in parts:
            sections = range(window.first, window.last + 1)
            records = [restoration.record(section) for section in sections]
            try:
                await reader.put(index, records, whole=True)
            except ReplicaFailed as failed:
                where = reader.replicas[index].address
                raise NotDone(f"{where}: {failed}; the same command goes on from here") from None
            done += len(records)

    total = restoration.spec.sections * len(reader.replicas)
    async with progress("records written", total, lambda: done):
        await asyncio.gather(*(fill(index) for index in range(len(reader.replicas))))


async def _read_back(
    args: argparse.Namespace,
    reader: SetReader,
    restoration: Restoration,
    infos: Mapping[str, pb.InfoResponse],
) -> None:
    """That every replica holds just what was written, and that nobody was served meanwhile."""
    reader.done = 0
    async with progress("sections read back", restoration.spec.sections, lambda: reader.done):
        async for window, found in reader.read(restoration.spec.ranges):
            _check_answers(reader, found, window)
            for index, records in found.items():
                for section in range(window.first, window.last + 1):
                    record = records.get(section)
                    if record is None or not _same(record, restoration.record(section)):
                        where = reader.replicas[index].address
                        raise NotDone(
                            f"{where}, section {section}: read back as {record}. Somebody else"
                            " uses this store: nothing of it may be served. Begin with blank ones"
                        )
    again = await ask_stores(infos, args.timeout, credentials_of(args))
    for where, info in again.items():
        if isinstance(info, str) or info.store_id != infos[where].store_id:
            raise NotDone(f"{where} is not what it was: {info}")


async def _name(
    coordinator: Coordinator, restoration: Restoration, revisions: Mapping[str, int]
) -> None:
    puts: Mapping[str, bytes | None] = restoration.puts()
    try:
        done = await coordinator.transact(revisions, puts) is not None
    except MapUnavailable:
        entries = (await coordinator.get("")).entries
        done = all(key in entries and entries[key].value == value for key, value in puts.items())
        if not done:
            raise
    if not done:
        raise NotDone("the map has just been changed: the stores are written, try again")


def _check_answers(reader: SetReader, found: Mapping[int, object], window: Range) -> None:
    if len(found) < len(reader.replicas):
        why = "; ".join(f"{name}: {text}" for name, text in reader.lost.items())
        raise NotDone(f"sections {window}: not every replica answers: {why}")


def _same(record: pb.StoredRecord, wanted: pb.StoredRecord) -> bool:
    names: Sequence[str] = (
        *("promised", "max_seq", "owner_epoch", "owner", "released", "snapshot_epoch", "sealed"),
    )
    return all(getattr(record, name) == getattr(wanted, name) for name in names)


def _say(args: argparse.Namespace, restoration: Restoration, backup: Backup, *, done: bool) -> int:
    kept = backup.sets[args.set]
    spec = restoration.spec
    if not kept.complete:
        text = "the backup was taken with fewer than R replicas: --advance-by covers that, too"
        say(text, file=sys.stderr)
    said: dict[str, object] = {
        "restored": done,
        "set": spec.name,
        "backup": backup.began,
        "sections": spec.sections,
        "advance_by": restoration.advance_by,
        "epoch": restoration.epoch,
        "replicas": [one.fields() for one in spec.replicas],
    }
    if args.output == "json":
        print_json(said)
        return OK
    verb = "restored" if done else "would be restored"
    where = ", ".join(one.address for one in spec.replicas)
    say(f"Set {spec.name}: {spec.sections} sections {verb} at {where}, epoch {restoration.epoch}")
    return OK
