"""All replicas of a Set read through and compared, as `verify` and `store scrub` show it.

Every record and snapshot of every replica is read, which makes the replica verify its checksums.
A raise that is only on its way makes replicas differ for a moment, so a section in which one seemed
behind is read once more: it is behind if it does not know then what was known before (as in
allocsvr/repairing.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from clustermap.levelling import goals, is_behind
from clustermap.model import Cluster, SetSpec
from clustermap.ranges import Range
from seqctl.progress import progress
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from svrprocess.set_reading import Records, SetReader, combined, reading

SECOND_LOOK_S = 1.0
SHOWN = 100
"""Sections named in a report, of each kind."""


@dataclass(slots=True)
class Compared:
    """One Set. read: records per replica; lost: replica -> why it was not read to the end;
    behind: (replica, its record or None, what it should hold at least); greatest: by section."""

    spec: SetSpec
    read: dict[str, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    behind: list[tuple[str, pb.StoredRecord | None, pb.StoredRecord]] = field(default_factory=list)
    greatest: Records = field(default_factory=dict)

    @property
    def well(self) -> bool:
        return not self.lost and not self.behind

    def shown(self) -> dict[str, object]:
        """As JSON has it."""
        missed: dict[str, int] = {}
        for name, _, _ in self.behind:
            missed[name] = missed.get(name, 0) + 1
        return {
            "set": self.spec.name,
            "sections": self.spec.sections,
            "records": len(self.greatest),
            "well": self.well,
            "replicas": [
                {
                    "name": one.name,
                    "address": one.address,
                    "read": self.read.get(one.name, 0),
                    "behind": missed.get(one.name, 0),
                    "error": self.lost.get(one.name),
                }
                for one in self.spec.replicas
            ],
            "behind": [_shown(*one) for one in self.behind[:SHOWN]],
        }


async def compare(
    cluster: Cluster, spec: SetSpec, timeout_s: float, credentials: Credentials = PLAIN
) -> Compared:
    """Read all replicas through, with progress on standard error."""
    async with reading(cluster, spec, timeout_s, credentials=credentials) as reader:
        return await compare_by(reader)


async def compare_by(reader: SetReader) -> Compared:
    """The same by a reader of one's own."""
    spec = reader.spec
    result = Compared(spec, lost=reader.lost)
    suspects: Records = {}
    reader.done = 0
    async with progress(f"sections of Set {spec.name}", spec.sections, lambda: reader.done):
        async for window, found in reader.read(spec.ranges, with_snapshots=True):
            for index, records in found.items():
                name = reader.replicas[index].name
                result.read[name] = result.read.get(name, 0) + len(records)
            result.greatest |= combined(found.values())
            suspects |= goals(list(found.values()), range(window.first, window.last + 1))
    if suspects:
        await asyncio.sleep(SECOND_LOOK_S)
        await _second_look(reader, suspects, result)
    return result


async def _second_look(reader: SetReader, suspects: Records, result: Compared) -> None:
    for section, was in sorted(suspects.items()):
        found = await reader.window(Range(section, section), with_snapshots=True)
        now = combined(found.values()).get(section, was)
        for index, records in found.items():
            if is_behind(records.get(section), was):
                result.behind.append((reader.replicas[index].name, records.get(section), now))


def behind_of(result: Compared, replicas: Sequence[str]) -> dict[str, Records]:
    """Replica -> what it has to be raised to."""
    wanted: dict[str, Records] = {name: {} for name in replicas}
    for name, _, record in result.behind:
        wanted[name][record.section] = record
    return wanted


def _shown(name: str, record: pb.StoredRecord | None, wanted: pb.StoredRecord) -> dict[str, object]:
    return {
        "section": wanted.section,
        "replica": name,
        "max_seq": record.max_seq if record else None,
        "owner_epoch": record.owner_epoch if record else None,
        "wanted_max_seq": wanted.max_seq,
        "wanted_owner_epoch": wanted.owner_epoch,
    }
