"""What a replica has missed, by comparing it with the others.  Pure.

A record carries two things that only rise: max_seq, and who owned the section last. The *goal* of a
section is the greatest of each among the replicas that were asked; a replica is behind if its own
is lower in either. The order of owners is that of storesvr's merge: the greater epoch; at one
epoch of one owner "released", which it says last, and with the counters rather than without. Two
owners of one epoch contradict each other: neither is copied. Promises are nobody's to copy.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from seqsvr.v1 import store_pb2 as pb

Records = Mapping[int, pb.StoredRecord]  # by section

MAX_PUT = 512
MAX_PUT_BYTES = 2 << 20

_Rank = tuple[int, bool, bool]


def windows(sections: Iterable[int], span: int) -> Iterator[tuple[int, int]]:
    """First and last section of each aligned window of `span` that holds any of them (sorted)."""
    first = last = -1
    for section in sections:
        if first >= 0 and section // span == first // span:
            last = section
            continue
        if first >= 0:
            yield first, last
        first = last = section
    if first >= 0:
        yield first, last


def differing(answers: Collection[Sequence[pb.ChunkDigest]]) -> list[int]:
    """First sections of the chunks in which not all answers agree, in order."""
    votes: dict[int, set[tuple[int, bytes]]] = {}
    count: dict[int, int] = {}
    for chunks in answers:
        for chunk in chunks:
            votes.setdefault(chunk.first, set()).add((chunk.records, chunk.digest))
            count[chunk.first] = count.get(chunk.first, 0) + 1
    return sorted(
        first
        for first, found in votes.items()
        if len(found) > 1 or count[first] < len(answers)  # one of them holds no record there
    )


def goal(records: Iterable[pb.StoredRecord]) -> pb.StoredRecord:
    """The greatest of what is known of one section; at least one record, in any order."""
    known = list(records)
    best = max(known, key=_rank)
    result = pb.StoredRecord(
        section=best.section,
        max_seq=max(r.max_seq for r in known),
        sealed=max(r.sealed for r in known),
    )
    owners = {r.owner for r in known if r.owner_epoch == best.owner_epoch}
    if best.owner_epoch and len(owners) == 1:
        result.owner_epoch, result.owner = best.owner_epoch, best.owner
        result.released = best.released
        if _rank(best)[2]:
            result.snapshot_epoch, result.snapshot = best.snapshot_epoch, best.snapshot
    return result


def is_behind(record: pb.StoredRecord | None, wanted: pb.StoredRecord) -> bool:
    """Whether a replica with `record` (None: it has none) would rise by `wanted`."""
    if record is None:
        return bool(wanted.max_seq or wanted.owner_epoch)
    if record.max_seq < wanted.max_seq or record.owner_epoch < wanted.owner_epoch:
        return True
    if record.sealed < wanted.sealed:
        return True
    same = (record.owner_epoch, record.owner) == (wanted.owner_epoch, wanted.owner)
    return same and _rank(record) < _rank(wanted)


def goals(found: Collection[Records], sections: Iterable[int]) -> dict[int, pb.StoredRecord]:
    """section -> goal, of those sections in which some replica is behind."""
    wanted = {}
    for section in sections:
        records = [records.get(section) for records in found]
        known = [record for record in records if record is not None]
        if not known:
            continue
        best = goal(known)
        if any(is_behind(record, best) for record in records):
            wanted[section] = best
    return wanted


def batches(records: Iterable[pb.StoredRecord]) -> Iterator[list[pb.StoredRecord]]:
    """What may go in one request to raise them."""
    batch: list[pb.StoredRecord] = []
    size = 0
    for record in records:
        if batch and (len(batch) == MAX_PUT or size + len(record.snapshot) > MAX_PUT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record.snapshot)
    if batch:
        yield batch


def _rank(record: pb.StoredRecord) -> _Rank:
    usable = record.released and record.snapshot_epoch == record.owner_epoch > 0
    return record.owner_epoch, record.released, usable
