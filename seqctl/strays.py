"""Sections that a new map would take from the Set that knows them: `seqctl cluster init --adopt`.

The map that was lost knew which sections had moved from Set to Set. If the one that is to take its
place gives a section to a Set that never had it, or has it no more, that Set begins from what it
knows, be it nothing, and numbers repeat. So a section is given to a Set only if each other one is
shut there, or was never used (a Set that it was moved from has it sealed), and if no other knows of
greater numbers (a move that was cut off may have sealed it and brought it nowhere yet).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

from clustermap.model import Cluster, SetSpec
from clustermap.ranges import Range, shown
from clustermap.spans import union
from seqctl.failures import NotDone
from seqctl.move_verdict import BLANK, Records, Seen
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from svrprocess.set_reading import SetReader, reading, wide_windows

ADVICE = (
    "a Set that is given what it does not know begins it anew, and numbers repeat. Give each"
    " section to the Set that holds it: --set NAME:FIRST-LAST,FIRST-LAST=..."
)


class Side(NamedTuple):
    """A Set, and what those of its replicas know that answered; at least R."""

    spec: SetSpec
    answers: Sequence[Records]

    def seen(self, section: int) -> list[Seen]:
        return [records.get(section, BLANK) for records in self.answers]

    @property
    def silent(self) -> int:
        return len(self.spec.replicas) - len(self.answers)

    def is_open(self, section: int) -> bool:
        """Whether numbers were handed out, and R replicas may let a node go on with that."""
        seen = self.seen(section)
        free = sum(not one.shut for one in seen) + self.silent
        return any(one.max_seq for one in seen) and free >= self.spec.r

    def most_given(self, section: int) -> int:
        """Nothing above this was handed out here: no W have acknowledged more."""
        falling = sorted((one.max_seq for one in self.seen(section)), reverse=True)
        return falling[max(0, self.spec.w - 1 - self.silent)]

    def least_known(self, section: int) -> int:
        """What some R replicas may take for the greatest number."""
        rising = sorted(one.max_seq for one in self.seen(section))
        return rising[max(0, self.spec.r - 1 - self.silent)]


def holders(section: int, sides: Sequence[Side]) -> Iterator[tuple[str, str]]:
    """(Set that holds it, Set that is to have it) wherever that is not to be."""
    for owner in sides:
        if not owner.spec.covers(section, section):
            continue
        known = owner.least_known(section)
        for other in sides:
            if other is not owner and (other.is_open(section) or other.most_given(section) > known):
                yield other.spec.name, owner.spec.name


async def check_strays(
    cluster: Cluster,
    specs: Sequence[SetSpec],
    timeout_s: float,
    credentials: Credentials = PLAIN,
) -> None:
    """Raises NotDone if a Set is to be given sections of which another one knows more."""
    found: dict[tuple[str, str], list[Range]] = {}
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(
                reading(cluster, spec, timeout_s, credentials=credentials)
            )
            for spec in specs
        ]
        for window in wide_windows([Range(0, cluster.layout.sections - 1)]):
            sides = await asyncio.gather(*(_side(reader, window) for reader in readers))
            known = {s for side in sides for records in side.answers for s in records}
            for section in sorted(known):
                for names in holders(section, sides):
                    found.setdefault(names, []).append(Range(section, section))
    wrong = [
        f"Set {holder} holds sections {shown(union(sections))}, which Set {owner} is to have"
        for (holder, owner), sections in sorted(found.items())
    ]
    if wrong:
        raise NotDone(f"refused, nothing was written: {'; '.join(wrong)}; {ADVICE}")


async def _side(reader: SetReader, window: Range) -> Side:
    answers = (await reader.window(window)).values()
    if len(answers) < reader.spec.r:
        why = "; ".join(f"{name}: {text}" for name, text in reader.lost.items())
        raise NotDone(
            f"refused, nothing was written: too few replicas of Set {reader.spec.name} tell what"
            f" they hold: {why}"
        )
    return Side(reader.spec, [_seen(records) for records in answers])


def _seen(records: Mapping[int, pb.StoredRecord]) -> Records:
    return {s: Seen(one.max_seq, one.owner_epoch, one.sealed) for s, one in records.items()}
