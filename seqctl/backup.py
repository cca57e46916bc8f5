"""`seqctl backup`: the records of Sets in one file, taken while they serve."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from clustermap.coordinator import Coordinator
from clustermap.model import Cluster, SetSpec, set_key
from seqctl import credentials, remote
from seqctl.backup_file import Kept, Writer, utc
from seqctl.changing import actor
from seqctl.cluster_report import Picture, picture
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone, WrongUsage
from seqctl.groups import add_output
from seqctl.output import print_json, say
from seqctl.progress import progress
from svrprocess.set_reading import combined, reading

EXAMPLE = "seqctl backup --etcd 10.0.0.9:2379 --all --out /backup/2026-01-31.seqsvr"
MORE = (
    "A backup covers every number that was handed out before it began: each section is read as a"
    " new owner would read it, the greatest of what R replicas know. Sets serve meanwhile."
    " It does not cover what was handed out since; that is what `seqctl restore"
    " --advance-by` is for."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl backup`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--set", dest="sets", metavar="NAME", action="append", help="repeatable")
    which.add_argument("--all", action="store_true", help="all Sets")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="must not exist")
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="a majority is lost: take what there is of the others, which proves nothing",
    )
    remote.add_arguments(parser)
    credentials.add_arguments(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write a file: 0; nothing is left of it otherwise."""
    return remote.run(args, lambda coordinator: _backup(args, coordinator))


async def read_map(coordinator: Coordinator) -> tuple[Cluster, Picture]:
    """The cluster, and the whole map. Raises NotDone where there is none."""
    listing = await coordinator.get("")
    entries = {key: (held.value, held.revision) for key, held in listing.entries.items()}
    found = picture(listing.revision, entries)
    if found.cluster is None:
        raise NotDone("the map names no cluster")
    return found.cluster, found


def chosen(found: Picture, names: Sequence[str] | None) -> list[SetSpec]:
    """The Sets of these names, all where there are none. Raises WrongUsage."""
    missing = sorted(set(names or ()) - found.specs.keys())
    if missing:
        raise WrongUsage(f"the map names no Set {missing[0]!r}, but {', '.join(found.specs)}")
    return [spec for name, spec in sorted(found.specs.items()) if not names or name in names]


async def _backup(args: argparse.Namespace, coordinator: Coordinator) -> int:
    cluster, found = await read_map(coordinator)
    specs = chosen(found, args.sets)
    began = utc()
    sets = []
    with Writer(args.out) as writer:
        writer.begin(cluster, actor())
        for spec in specs:
            kept = Kept(
                spec,
                found.revision,
                found.assignments[spec.name].version if spec.name in found.assignments else 0,
                _highest_epoch(found, spec),
                not args.incomplete,
            )
            sets.append(await _one_set(args, coordinator, writer, cluster, kept))
        digest = writer.finish()
    said: dict[str, object] = {
        "file": str(args.out),
        "cluster": cluster.id,
        "began": began,
        "sha256": digest,
    }
    size = os.path.getsize(args.out)
    said |= {"bytes": size, "sets": sets}
    if args.output == "json":
        print_json(said)
    else:
        for one in sets:
            say(f"Set {one['set']}: {one['records']} records of {one['sections']} sections")
        say(f"{args.out}: {size:,} bytes, sha256 {digest}")
    return OK


async def _one_set(
    args: argparse.Namespace,
    coordinator: Coordinator,
    writer: Writer,
    cluster: Cluster,
    kept: Kept,
) -> dict[str, object]:
    spec = kept.spec
    key = set_key(spec.name)
    before = (await coordinator.get(key)).entries.get(key)
    if before is None or before.value != spec.to_json():
        raise NotDone(f"Set {spec.name} has just been changed: take the backup again")
    writer.begin_set(kept)
    count = highest = 0
    async with reading(cluster, spec, args.timeout, credentials=credentials_of(args)) as reader:
        what = f"sections of Set {spec.name}"
        async with progress(what, spec.sections, lambda: reader.done):
            async for window, found in reader.read(spec.ranges):
                if len(found) < (1 if args.incomplete else spec.r):
                    lost = "; ".join(f"{name}: {why}" for name, why in reader.lost.items())
                    raise NotDone(
                        f"Set {spec.name}, sections {window.first}..{window.last}: {len(found)} "
                        f"replicas answer and R is {spec.r} ({lost}). Where the others are lost for"
                        " good, --incomplete takes what there is"
                    )
                records = combined(found.values())
                writer.records(records.values())
                count += len(records)
                highest = max(highest, *(r.max_seq for r in records.values()), 0)
    after = (await coordinator.get(key)).entries.get(key)
    if after is None or after.revision != before.revision:
        raise NotDone(f"Set {spec.name} was changed while it was read: take the backup again")
    writer.end_set(spec.name, count)
    said: dict[str, object] = {"set": spec.name, "sections": spec.sections, "records": count}
    return said | {"highest_max_seq": highest, "replicas_lost": reader.lost}


def _highest_epoch(found: Picture, spec: SetSpec) -> int:
    document = found.assignments.get(spec.name)
    if document is None:
        return 0
    return max((document.highest_epoch(*span) for span in spec.ranges), default=0)
