"""Requests to batches, batches to answers: the shapes of seqsvr.v1.Alloc, and their bounds."""

from collections.abc import Sequence
from typing import Any

from google.rpc import status_pb2

from allocsvr.answering import Batch
from seqsvr.errors import reason_value
from seqsvr.sections import MAX_BATCH, MAX_COUNT, MAX_JUMP
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.wire import refusal

# A planned move takes a few tens of milliseconds, of which most has been waited for here.
RETRY_AFTER_MS = {
    "ACQUIRING": 10,
    "LEASE_EXPIRED": 100,
    "STORE_UNAVAILABLE": 100,
    "DRAINING": 10,
    "OVERLOADED": 50,
}

_TEXTS = {
    "NOT_OWNER": "this node does not own it",
    "ACQUIRING": "its owner is just winning it, or another one is",
    "LEASE_EXPIRED": "the node's lease ran out before it was renewed",
    "STORE_UNAVAILABLE": "too few StoreSvr replicas answered",
    "DRAINING": "the node is leaving",
    "STALE_EPOCH": "its epoch has been superseded",
    "OVERLOADED": "too many calls wait already",
    "CORRUPT": "stored data failed its checksum",
}


class Refused(Exception):
    """A request that is refused as a whole."""

    def __init__(
        self,
        reason: str,
        text: str,
        field: str = "",
        bound: int = 0,
        table: pb.RoutingTable | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.field = field
        self.bound = bound
        self.table = table
        self.retry_after_ms = (
            RETRY_AFTER_MS.get(reason, 0) if retry_after_ms is None else retry_after_ms
        )

    def status(self) -> status_pb2.Status:
        """For a unary call."""
        return refusal(
            self.reason,
            self.text,
            retry_after_ms=self.retry_after_ms,
            field=self.field,
            bound=self.bound,
            table=self.table,
        )

    def entry(self, index: int = 0) -> pb.EntryError:
        """For one entry of a batch, or a whole request of a Session."""
        return pb.EntryError(
            index=index,
            reason=reason_value(self.reason),  # type: ignore[arg-type]
            text=self.text,
            retry_after_ms=self.retry_after_ms,
            field=self.field,
            bound=self.bound,
        )


def explained(
    batch: Batch, index: int, reason: str, bound: int, *, section_size: int, uid_limit: int
) -> Refused:
    """Why the entry at `index` failed, in words. bound: of its answer, where that has one."""
    uid = batch.uids[index]
    if reason == "UID_OUT_OF_RANGE":
        return Refused(reason, f"uid {uid} must be below {uid_limit}", "uid", uid_limit)
    if reason == "COUNT_OUT_OF_RANGE":
        text = f"count {batch.counts[index]} must be in 1..{MAX_COUNT}"
        return Refused(reason, text, "count", MAX_COUNT)
    if reason == "JUMP_TOO_LARGE":
        text = f"uid {uid} can be advanced to {bound} at most by a max_jump of {batch.max_jump}"
        return Refused(reason, f"{text}, not to {batch.floors[index]}", "at_least", bound)
    if reason == "PERMISSION_DENIED":
        return Refused(reason, f"uid {uid} is outside of those that the caller may ask for")
    if reason == "SEQUENCE_EXHAUSTED":
        return Refused(reason, f"uid {uid} has no numbers left")
    text = f"section {uid // section_size} of uid {uid}: {_TEXTS.get(reason, reason)}"
    return Refused(reason, text)


def next_batch(request: pb.BatchGetSeqRequest) -> Batch:
    """Raises Refused where the batch as a whole is out of bounds."""
    uids, counts = request.uids, request.counts
    check_size(len(uids))
    if counts and len(counts) != len(uids):
        text = f"counts has {len(counts)} entries, uids {len(uids)}: as many, or none"
        raise Refused("COUNT_OUT_OF_RANGE", text, "counts", len(uids))
    return Batch(False, uids, counts, forwards(request), request.route_version)


def current_batch(request: pb.BatchGetCurSeqRequest) -> Batch:
    """Raises Refused where the batch as a whole is out of bounds."""
    uids = request.uids
    check_size(len(uids))
    return Batch(True, uids, (), forwards(request), request.route_version)


def advance_batch(request: pb.AdvanceSeqRequest) -> Batch:
    """Raises Refused where the batch as a whole is out of bounds."""
    uids, floors = request.uids, request.at_least
    check_size(len(uids))
    if len(floors) != len(uids):
        text = f"at_least has {len(floors)} entries, uids {len(uids)}: it needs as many"
        raise Refused("MALFORMED", text, "at_least", len(uids))
    max_jump = request.max_jump if request.HasField("max_jump") else MAX_JUMP
    forward, version = forwards(request), request.route_version
    return Batch(False, uids, (), forward, version, floors, max_jump)


def check_size(size: int) -> None:
    if not 1 <= size <= MAX_BATCH:
        text = f"a batch has 1..{MAX_BATCH} entries, not {size}"
        raise Refused("BATCH_TOO_LARGE", text, "uids", MAX_BATCH)


def forwards(request: Any) -> bool:
    """A caller without a routing table is forwarded, once."""
    return not request.route_version and not request.forwarded


def undelivered(request: pb.BatchGetSeqRequest, response: pb.SessionResponse) -> int:
    """How many numbers an answer, or a part of one, took for its caller."""
    seqs = response.next.seqs
    if not request.counts:
        return len(seqs) - list(seqs).count(0)
    indexes = response.indexes or range(len(seqs))
    return sum(request.counts[i] for i, seq in zip(indexes, seqs, strict=True) if seq)


def compact(epochs: Sequence[int]) -> Sequence[int]:
    """One epoch where all entries that were served have the same."""
    first = epochs[0]
    if first and epochs.count(first) == len(epochs):
        return (first,)
    served = set(epochs) - {0}
    return tuple(served) if len(served) <= 1 else epochs
