"""Reading all records of one Set from its replicas, while they serve.

In windows of WINDOW sections, each asked of every replica at once, so small that they do not get in
the way of serving. An answer counts only if it comes from the store that the map names (NRW-2). A
replica that fails for a while is asked again; one that goes on failing is not asked any more.

Each section is read as a new owner would read it: of any R replicas one knows of every raise that
was acknowledged before they were asked. Sections are read one after the other, which is no less:
nothing ties the numbers of one uid to those of another.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from clustermap.errors import ReplicaFailed
from clustermap.levelling import goal
from clustermap.model import Cluster, Replica, SetSpec
from clustermap.ranges import Range
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from svrprocess.store_client import GrpcReplica

WINDOW = 512
MAX_WIDE = 1024
PAUSE_S = 0.005
TRIES = 4
_RETRY_S = 0.3
_PASSING = ("TIMEOUT", "UNREACHABLE", "OVERLOADED", "INTERNAL")

Records = dict[int, pb.StoredRecord]


def windows(ranges: Iterable[Range], width: int = WINDOW) -> list[Range]:
    """The ranges, cut into pieces of at most `width` sections."""
    return [
        Range(start, min(start + width - 1, last))
        for first, last in ranges
        for start in range(first, last + 1, width)
    ]


def wide_windows(ranges: Sequence[Range]) -> list[Range]:
    """The same of ranges that hold few records or none, at most MAX_WIDE and one for each range."""
    return windows(ranges, max(WINDOW, sum(span.sections for span in ranges) // MAX_WIDE))


def combined(found: Iterable[Mapping[int, pb.StoredRecord]]) -> Records:
    """By section, the greatest of all that these replicas know, promises among it."""
    known: dict[int, list[pb.StoredRecord]] = {}
    for records in found:
        for section, record in records.items():
            known.setdefault(section, []).append(record)
    return {section: _greatest(known[section]) for section in sorted(known)}


def _greatest(records: Sequence[pb.StoredRecord]) -> pb.StoredRecord:
    best = goal(records)
    best.promised = max(record.promised for record in records)
    return best


class SetReader:
    """The replicas of one Set. lost: replica's name -> why it is not asked any more.

    done: sections that were read, for showing.
    """

    def __init__(
        self,
        cluster: Cluster,
        spec: SetSpec,
        replicas: Sequence[Replica],
        timeout_s: float,
        credentials: Credentials = PLAIN,
    ) -> None:
        self.spec = spec
        self.replicas = tuple(replicas)
        self.lost: dict[str, str] = {}
        self.done = 0
        self.header = pb.StoreHeader(cluster=cluster.id, set=spec.name, membership=spec.membership)
        self._transports = [
            GrpcReplica(
                one.address, timeout_s=timeout_s, quick_s=timeout_s, credentials=credentials
            )
            for one in replicas
        ]

    async def aclose(self) -> None:
        await asyncio.gather(*(transport.aclose() for transport in self._transports))

    async def read(
        self, ranges: Iterable[Range], *, with_snapshots: bool = False
    ) -> AsyncIterator[tuple[Range, dict[int, Records]]]:
        """Window after window: what each replica that answered in full holds, by its index."""
        for window in windows(ranges):
            yield window, await self.window(window, with_snapshots=with_snapshots)
            self.done += window.sections
            await asyncio.sleep(PAUSE_S)

    async def window(self, window: Range, *, with_snapshots: bool = False) -> dict[int, Records]:
        """What each replica that answers in full holds of a few sections."""
        asked = [i for i, one in enumerate(self.replicas) if one.name not in self.lost]
        answers = await asyncio.gather(*(self._persist(i, window, with_snapshots) for i in asked))
        return {i: found for i, found in zip(asked, answers, strict=True) if found is not None}

    async def put(self, index: int, records: Sequence[pb.StoredRecord], *, whole: bool) -> int:
        """Raise records at one replica; how many rose. Raises ReplicaFailed.

        whole: promises too.
        """
        request = pb.PutAtLeastRequest(header=self.header, records=records, with_promises=whole)
        answer = await self._transports[index].put_at_least(request)
        self._check(index, answer.store_id)
        return answer.raised

    async def adopt(self, index: int, *, learning: bool = False, retired: bool = False) -> None:
        """Have a replica take over the Set's membership. Raises ReplicaFailed."""
        one = self.replicas[index]
        request = pb.AdoptRequest(
            header=self.header, learning=learning, retired=retired, store_id=one.store_id
        )
        self._check(index, (await self._transports[index].adopt(request)).store_id)

    async def info(self, index: int) -> pb.InfoResponse:
        """What a replica says of itself. Raises ReplicaFailed."""
        answer = await self._transports[index].info()
        self._check(index, answer.store_id)
        return answer

    async def _persist(self, index: int, window: Range, with_snapshots: bool) -> Records | None:
        for left in reversed(range(TRIES)):
            try:
                return await self._scan(index, window, with_snapshots)
            except ReplicaFailed as failed:
                if not left or failed.reason not in _PASSING:
                    self.lost[self.replicas[index].name] = str(failed)
                    return None
            await asyncio.sleep(random.uniform(_RETRY_S / 2, _RETRY_S))
        return None

    async def _scan(self, index: int, window: Range, with_snapshots: bool) -> Records:
        found: Records = {}
        first = window.first
        while True:
            request = pb.ScanRequest(
                header=self.header,
                first=first,
                last=window.last,
                limit=WINDOW,
                with_snapshots=with_snapshots,
            )
            answer = await self._transports[index].scan(request)
            self._check(index, answer.store_id)
            found.update((record.section, record) for record in answer.records)
            if answer.next <= first:  # 0: that was all
                return found
            first = answer.next

    def _check(self, index: int, store_id: int) -> None:
        wanted = self.replicas[index].store_id
        if store_id != wanted:
            text = f"store {store_id:016x} answers, not {wanted:016x}"
            raise ReplicaFailed("FOREIGN", text)


@asynccontextmanager
async def reading(
    cluster: Cluster,
    spec: SetSpec,
    timeout_s: float,
    replicas: Sequence[Replica] | None = None,
    *,
    credentials: Credentials = PLAIN,
) -> AsyncIterator[SetReader]:
    """A reader of a Set, at its replicas if no others are named."""
    asked = spec.replicas if replicas is None else replicas
    reader = SetReader(cluster, spec, asked, timeout_s, credentials)
    try:
        yield reader
    finally:
        await reader.aclose()
