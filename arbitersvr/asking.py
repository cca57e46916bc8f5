"""The steps of a move that replicas are asked to do: fence, seal, read counters, write records.

What follows from the answers is settling.py's; why in this order, moving_sets.py's.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing

from arbitersvr.settling import Found, Inquiry, Known, Outcome, Votes, record_need
from arbitersvr.stores import Store, Stores
from clustermap.clock import Clock
from clustermap.errors import ReplicaFailed
from clustermap.switching import as_floors
from seqsvr.v1 import store_pb2 as pb

PUT_BYTES = 4 << 20
PUT_SECTIONS = 1024

_log = logging.getLogger(__name__)


async def fence(clock: Clock, stores: Stores, inquiry: Inquiry, won: Mapping[int, int]) -> None:
    """Fence the sections (section -> epoch) through seals, until the inquiry is decided."""
    request = pb.FenceRequest(header=stores.header, through_seal=True)
    for span in as_floors(won):
        request.ranges.add(first=span.first, last=span.last, epoch=span.epoch)

    async def send(store: Store) -> pb.FenceResponse:
        return await store.fence(request)

    async with aclosing(stores.ask(send)) as answers:
        async for index, answer in answers:
            if isinstance(answer, ReplicaFailed):
                _log.debug("event=fence_failed replica=%d error=%s", index, answer)
                inquiry.failed()
            elif (known := _known(answer, len(won))) is None:
                inquiry.failed()
            else:
                leases = {lease.incarnation: lease.left_ns for lease in answer.leases}
                now_ns = clock.now_ns()
                inquiry.answered(index, known, leases, answer.boot_grace_ns, now_ns)
            if inquiry.outcome is not Outcome.PENDING:
                return


async def seal(stores: Stores, won: Mapping[int, int]) -> dict[int, int]:
    """Seal at W; what was refused instead, and by which promise."""
    entries = [pb.SealEntry(section=s, epoch=e) for s, e in won.items()]
    request = pb.SealRequest(header=stores.header, entries=entries)
    refused: dict[int, int] = {}

    async def send(store: Store) -> pb.SealResponse:
        return await store.seal(request)

    votes = Votes(stores.spec.quorum.n, stores.spec.w)
    async with aclosing(stores.ask(send)) as answers:
        async for _, answer in answers:
            usable = not isinstance(answer, ReplicaFailed) and not answer.refused
            if isinstance(answer, pb.SealResponse):
                for span in answer.refused:
                    for section in range(span.first, span.last + 1):
                        refused[section] = max(span.epoch, refused.get(section, 0))
            if votes.count(usable) is Outcome.WON:
                return {}
            if votes.outcome is Outcome.LOST and refused:
                return refused
    raise ReplicaFailed("UNREACHABLE", f"too few replicas of Set {stores.spec.name} sealed")


async def counters(sets: Mapping[str, Stores], found: Sequence[Found]) -> dict[int, bytes]:
    """What the last owners left. One that cannot be had costs a jump, nothing else."""
    payloads: dict[int, bytes] = {}
    for turn in range(max((len(one.places) for one in found), default=0)):
        wanted: dict[tuple[str, int], dict[int, int]] = {}
        for one in found:
            if one.section not in payloads and turn < len(one.places):
                wanted.setdefault(one.places[turn], {})[one.section] = one.snapshot_epoch
        for (name, index), left in sorted(wanted.items()):
            for record in await records(sets[name], index, left, with_snapshots=True):
                if record.snapshot_epoch == left.get(record.section):
                    payloads[record.section] = record.snapshot
    missing = sum(bool(one.places) and one.section not in payloads for one in found)
    if missing:
        _log.warning("event=snapshots_missing sections=%d", missing)
    return payloads


async def records(
    stores: Stores, index: int, sections: Mapping[int, int], *, with_snapshots: bool
) -> list[pb.StoredRecord]:
    """Of one replica, of the sections; fewer where it does not answer."""
    found: list[pb.StoredRecord] = []
    first, last = min(sections), max(sections)
    while first <= last:
        request = pb.ScanRequest(
            header=stores.header, first=first, last=last, with_snapshots=with_snapshots
        )

        async def send(store: Store, request: pb.ScanRequest = request) -> pb.ScanResponse:
            return await store.scan(request)

        answer = await stores.ask_one(index, send)
        if isinstance(answer, ReplicaFailed):
            _log.debug("event=scan_failed replica=%d error=%s", index, answer)
            break
        found += [record for record in answer.records if record.section in sections]
        if answer.next <= first:
            break
        first = answer.next
    return found


async def put(stores: Stores, whole: Sequence[pb.StoredRecord]) -> None:
    """Write whole records at `record_need` replicas."""
    for batch in _batches(whole):
        request = pb.PutAtLeastRequest(header=stores.header, records=batch, with_promises=True)

        async def send(
            store: Store, request: pb.PutAtLeastRequest = request
        ) -> pb.PutAtLeastResponse:
            return await store.put_at_least(request)

        quorum = stores.spec.quorum
        votes = Votes(quorum.n, record_need(quorum))
        async with aclosing(stores.ask(send)) as answers:
            async for _, answer in answers:
                if votes.count(not isinstance(answer, ReplicaFailed)) is not Outcome.PENDING:
                    break
        if votes.outcome is not Outcome.WON:
            text = f"too few replicas of Set {stores.spec.name} took the records"
            raise ReplicaFailed("UNREACHABLE", text)


def record(found: Found, epoch: int, job: int, payload: bytes) -> pb.StoredRecord:
    """What is written of a section that the job has won at `epoch`."""
    return pb.StoredRecord(
        section=found.section,
        promised=epoch,
        max_seq=found.max_seq,
        owner_epoch=epoch,
        owner=job,
        released=True,
        snapshot_epoch=epoch if payload else 0,
        snapshot=payload,
    )


def _known(response: pb.FenceResponse, sections: int) -> list[Known] | None:
    """By section; None: that is no answer for so many."""
    columns: list[Sequence[int]] = [
        response.granted,
        response.promised,
        response.max_seq,
        response.owner,
        response.owner_epoch,
        response.released,
        response.snapshot_epoch,
        response.sealed or [0] * sections,
    ]
    if any(len(column) != sections for column in columns):
        return None
    return [Known(*row) for row in zip(*columns, strict=True)]


def _batches(records: Iterable[pb.StoredRecord]) -> Iterator[list[pb.StoredRecord]]:
    batch: list[pb.StoredRecord] = []
    size = 0
    for one in records:
        if batch and (len(batch) == PUT_SECTIONS or size + len(one.snapshot) > PUT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.snapshot)
    if batch:
        yield batch
