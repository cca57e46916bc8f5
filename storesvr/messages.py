"""Between the replica's values and the messages of store.proto."""

from collections.abc import Iterable, Mapping

from clustermap.errors import ReplicaFailed
from seqsvr.v1 import store_pb2 as pb
from storesvr.adoption import check_membership
from storesvr.notices import merged
from storesvr.port import Identity
from storesvr.records import Record
from storesvr.replica import FenceAnswer, Replica


def header_of(identity: Identity) -> pb.StoreHeader:
    """The header of a request that this store answers."""
    return pb.StoreHeader(
        cluster=identity.cluster, set=identity.set, membership=identity.membership
    )


def check_header(header: pb.StoreHeader, identity: Identity, *, counting: bool = True) -> None:
    """Raises ReplicaFailed FOREIGN, MEMBERSHIP, LEARNING; counting: see adoption.py."""
    check_home(header, identity)
    check_membership(identity, header.membership, counting=counting)


def check_home(header: pb.StoreHeader, identity: Identity) -> None:
    """Raises ReplicaFailed FOREIGN."""
    if (header.cluster, header.set) != (identity.cluster, identity.set):
        raise ReplicaFailed(
            "FOREIGN",
            f"request for {header.cluster!r}/{header.set!r} at a store of "
            f"{identity.cluster!r}/{identity.set!r}",
        )


def ranges(request: pb.FenceRequest) -> list[tuple[int, int, int]]:
    return [(r.first, r.last, r.epoch) for r in request.ranges]


def epoch_ranges(refused: Mapping[int, int]) -> list[pb.EpochRange]:
    """Section -> promise, as ranges."""
    return wire_ranges(merged(sorted(refused.items())))


def wire_ranges(found: Iterable[tuple[int, int, int]]) -> list[pb.EpochRange]:
    """(first, last, epoch) each."""
    return [pb.EpochRange(first=first, last=last, epoch=epoch) for first, last, epoch in found]


def fence_response(store_id: int, answer: FenceAnswer) -> pb.FenceResponse:
    records = [record for record, _ in answer.entries]
    return pb.FenceResponse(
        store_id=store_id,
        boot_grace_ns=answer.boot_grace_ns,
        leases=[pb.LeaseLeft(incarnation=i, left_ns=left) for i, left in answer.leases],
        promised=[record.promised for record in records],
        granted=[granted for _, granted in answer.entries],
        max_seq=[record.max_seq for record in records],
        owner_epoch=[record.owner_epoch for record in records],
        owner=[record.owner for record in records],
        released=[record.released for record in records],
        snapshot_epoch=[record.snapshot_epoch for record in records],
        sealed=[record.sealed for record in records] if any(r.sealed for r in records) else (),
    )


def to_stored(record: Record, payload: bytes) -> pb.StoredRecord:
    return pb.StoredRecord(
        section=record.section,
        promised=record.promised,
        max_seq=record.max_seq,
        owner_epoch=record.owner_epoch,
        owner=record.owner,
        released=record.released,
        snapshot_epoch=record.snapshot_epoch,
        snapshot=payload,
        sealed=record.sealed,
    )


def stored_record(stored: pb.StoredRecord) -> tuple[Record, bytes]:
    """A snapshot counts only if it comes along and is of the released owner's epoch."""
    usable = stored.released and bool(stored.snapshot)
    record = Record(
        section=stored.section,
        promised=stored.promised,
        owner_epoch=stored.owner_epoch,
        owner=stored.owner,
        released=stored.released,
        max_seq=stored.max_seq,
        has_snapshot=usable and stored.snapshot_epoch == stored.owner_epoch,
        sealed=stored.sealed,
    )
    return record, stored.snapshot


def info_response(replica: Replica, now_ns: int) -> pb.InfoResponse:
    identity = replica.durable_identity
    return pb.InfoResponse(
        store_id=identity.store_id,
        cluster=identity.cluster,
        set=identity.set,
        replica=identity.replica,
        membership=identity.membership,
        section_size=identity.section_size,
        fence_version=replica.fence_version,
        sections=replica.sections,
        boot_grace_ns=replica.boot_grace_left_ns(now_ns),
        out_of_quorum=replica.out_of_quorum,
        uid_limit=identity.uid_limit,
        learning=identity.learning,
        retired=identity.retired,
        leases=[pb.LeaseLeft(incarnation=i, left_ns=n) for i, n in replica.leases_left(now_ns)],
    )
