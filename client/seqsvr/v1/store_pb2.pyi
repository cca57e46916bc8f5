from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StoreReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORE_REASON_UNSPECIFIED: _ClassVar[StoreReason]
    STORE_REASON_FOREIGN: _ClassVar[StoreReason]
    STORE_REASON_MEMBERSHIP: _ClassVar[StoreReason]
    STORE_REASON_BLANK: _ClassVar[StoreReason]
    STORE_REASON_CORRUPT: _ClassVar[StoreReason]
    STORE_REASON_OVERLOADED: _ClassVar[StoreReason]
    STORE_REASON_MALFORMED: _ClassVar[StoreReason]
    STORE_REASON_INTERNAL: _ClassVar[StoreReason]
    STORE_REASON_LEARNING: _ClassVar[StoreReason]
STORE_REASON_UNSPECIFIED: StoreReason
STORE_REASON_FOREIGN: StoreReason
STORE_REASON_MEMBERSHIP: StoreReason
STORE_REASON_BLANK: StoreReason
STORE_REASON_CORRUPT: StoreReason
STORE_REASON_OVERLOADED: StoreReason
STORE_REASON_MALFORMED: StoreReason
STORE_REASON_INTERNAL: StoreReason
STORE_REASON_LEARNING: StoreReason

class StoreHeader(_message.Message):
    __slots__ = ("cluster", "set", "membership")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    set: str
    membership: int
    def __init__(self, cluster: _Optional[str] = ..., set: _Optional[str] = ..., membership: _Optional[int] = ...) -> None: ...

class EpochRange(_message.Message):
    __slots__ = ("first", "last", "epoch")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    epoch: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class FenceRequest(_message.Message):
    __slots__ = ("header", "ranges", "through_seal")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    THROUGH_SEAL_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    ranges: _containers.RepeatedCompositeFieldContainer[EpochRange]
    through_seal: bool
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., ranges: _Optional[_Iterable[_Union[EpochRange, _Mapping]]] = ..., through_seal: _Optional[bool] = ...) -> None: ...

class FenceResponse(_message.Message):
    __slots__ = ("store_id", "boot_grace_ns", "leases", "promised", "granted", "max_seq", "owner_epoch", "owner", "released", "snapshot_epoch", "sealed")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_GRACE_NS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQ_FIELD_NUMBER: _ClassVar[int]
    OWNER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    boot_grace_ns: int
    leases: _containers.RepeatedCompositeFieldContainer[LeaseLeft]
    promised: _containers.RepeatedScalarFieldContainer[int]
    granted: _containers.RepeatedScalarFieldContainer[bool]
    max_seq: _containers.RepeatedScalarFieldContainer[int]
    owner_epoch: _containers.RepeatedScalarFieldContainer[int]
    owner: _containers.RepeatedScalarFieldContainer[int]
    released: _containers.RepeatedScalarFieldContainer[bool]
    snapshot_epoch: _containers.RepeatedScalarFieldContainer[int]
    sealed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, store_id: _Optional[int] = ..., boot_grace_ns: _Optional[int] = ..., leases: _Optional[_Iterable[_Union[LeaseLeft, _Mapping]]] = ..., promised: _Optional[_Iterable[int]] = ..., granted: _Optional[_Iterable[bool]] = ..., max_seq: _Optional[_Iterable[int]] = ..., owner_epoch: _Optional[_Iterable[int]] = ..., owner: _Optional[_Iterable[int]] = ..., released: _Optional[_Iterable[bool]] = ..., snapshot_epoch: _Optional[_Iterable[int]] = ..., sealed: _Optional[_Iterable[int]] = ...) -> None: ...

class LeaseLeft(_message.Message):
    __slots__ = ("incarnation", "left_ns")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LEFT_NS_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    left_ns: int
    def __init__(self, incarnation: _Optional[int] = ..., left_ns: _Optional[int] = ...) -> None: ...

class RaiseRequest(_message.Message):
    __slots__ = ("header", "incarnation", "entries")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    incarnation: int
    entries: _containers.RepeatedCompositeFieldContainer[RaiseEntry]
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., incarnation: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[RaiseEntry, _Mapping]]] = ...) -> None: ...

class RaiseEntry(_message.Message):
    __slots__ = ("section", "epoch", "max_seq")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQ_FIELD_NUMBER: _ClassVar[int]
    section: int
    epoch: int
    max_seq: int
    def __init__(self, section: _Optional[int] = ..., epoch: _Optional[int] = ..., max_seq: _Optional[int] = ...) -> None: ...

class RaiseResponse(_message.Message):
    __slots__ = ("store_id", "refused")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    refused: _containers.RepeatedCompositeFieldContainer[EpochRange]
    def __init__(self, store_id: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[EpochRange, _Mapping]]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("header", "incarnation", "entries")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    incarnation: int
    entries: _containers.RepeatedCompositeFieldContainer[ReleaseEntry]
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., incarnation: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[ReleaseEntry, _Mapping]]] = ...) -> None: ...

class ReleaseEntry(_message.Message):
    __slots__ = ("section", "epoch", "snapshot")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    section: int
    epoch: int
    snapshot: bytes
    def __init__(self, section: _Optional[int] = ..., epoch: _Optional[int] = ..., snapshot: _Optional[bytes] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("store_id", "refused")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    refused: _containers.RepeatedCompositeFieldContainer[EpochRange]
    def __init__(self, store_id: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[EpochRange, _Mapping]]] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("header", "incarnation", "ttl_ns", "since", "since_store_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TTL_NS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SINCE_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    incarnation: int
    ttl_ns: int
    since: int
    since_store_id: int
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., incarnation: _Optional[int] = ..., ttl_ns: _Optional[int] = ..., since: _Optional[int] = ..., since_store_id: _Optional[int] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("store_id", "fence_version", "promises")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FENCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROMISES_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    fence_version: int
    promises: _containers.RepeatedCompositeFieldContainer[EpochRange]
    def __init__(self, store_id: _Optional[int] = ..., fence_version: _Optional[int] = ..., promises: _Optional[_Iterable[_Union[EpochRange, _Mapping]]] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("header", "first", "last", "limit", "with_snapshots")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WITH_SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    first: int
    last: int
    limit: int
    with_snapshots: bool
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., limit: _Optional[int] = ..., with_snapshots: _Optional[bool] = ...) -> None: ...

class ScanResponse(_message.Message):
    __slots__ = ("store_id", "records", "next")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    records: _containers.RepeatedCompositeFieldContainer[StoredRecord]
    next: int
    def __init__(self, store_id: _Optional[int] = ..., records: _Optional[_Iterable[_Union[StoredRecord, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class StoredRecord(_message.Message):
    __slots__ = ("section", "promised", "max_seq", "owner_epoch", "owner", "released", "snapshot_epoch", "snapshot", "sealed")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQ_FIELD_NUMBER: _ClassVar[int]
    OWNER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    section: int
    promised: int
    max_seq: int
    owner_epoch: int
    owner: int
    released: bool
    snapshot_epoch: int
    snapshot: bytes
    sealed: int
    def __init__(self, section: _Optional[int] = ..., promised: _Optional[int] = ..., max_seq: _Optional[int] = ..., owner_epoch: _Optional[int] = ..., owner: _Optional[int] = ..., released: _Optional[bool] = ..., snapshot_epoch: _Optional[int] = ..., snapshot: _Optional[bytes] = ..., sealed: _Optional[int] = ...) -> None: ...

class DigestRequest(_message.Message):
    __slots__ = ("header", "first", "last", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    first: int
    last: int
    chunk: int
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., chunk: _Optional[int] = ...) -> None: ...

class DigestResponse(_message.Message):
    __slots__ = ("store_id", "chunks")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkDigest]
    def __init__(self, store_id: _Optional[int] = ..., chunks: _Optional[_Iterable[_Union[ChunkDigest, _Mapping]]] = ...) -> None: ...

class ChunkDigest(_message.Message):
    __slots__ = ("first", "records", "digest")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    first: int
    records: int
    digest: bytes
    def __init__(self, first: _Optional[int] = ..., records: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class SealRequest(_message.Message):
    __slots__ = ("header", "entries")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    entries: _containers.RepeatedCompositeFieldContainer[SealEntry]
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[SealEntry, _Mapping]]] = ...) -> None: ...

class SealEntry(_message.Message):
    __slots__ = ("section", "epoch")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    section: int
    epoch: int
    def __init__(self, section: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class SealResponse(_message.Message):
    __slots__ = ("store_id", "refused")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    refused: _containers.RepeatedCompositeFieldContainer[EpochRange]
    def __init__(self, store_id: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[EpochRange, _Mapping]]] = ...) -> None: ...

class PutAtLeastRequest(_message.Message):
    __slots__ = ("header", "records", "with_promises")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    WITH_PROMISES_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    records: _containers.RepeatedCompositeFieldContainer[StoredRecord]
    with_promises: bool
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., records: _Optional[_Iterable[_Union[StoredRecord, _Mapping]]] = ..., with_promises: _Optional[bool] = ...) -> None: ...

class PutAtLeastResponse(_message.Message):
    __slots__ = ("store_id", "raised")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RAISED_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    raised: int
    def __init__(self, store_id: _Optional[int] = ..., raised: _Optional[int] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ...) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("store_id", "cluster", "set", "replica", "membership", "section_size", "fence_version", "sections", "boot_grace_ns", "out_of_quorum", "uid_limit", "leases", "learning", "retired")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    SECTION_SIZE_FIELD_NUMBER: _ClassVar[int]
    FENCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    BOOT_GRACE_NS_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_QUORUM_FIELD_NUMBER: _ClassVar[int]
    UID_LIMIT_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    cluster: str
    set: str
    replica: str
    membership: int
    section_size: int
    fence_version: int
    sections: int
    boot_grace_ns: int
    out_of_quorum: str
    uid_limit: int
    leases: _containers.RepeatedCompositeFieldContainer[LeaseLeft]
    learning: bool
    retired: bool
    def __init__(self, store_id: _Optional[int] = ..., cluster: _Optional[str] = ..., set: _Optional[str] = ..., replica: _Optional[str] = ..., membership: _Optional[int] = ..., section_size: _Optional[int] = ..., fence_version: _Optional[int] = ..., sections: _Optional[int] = ..., boot_grace_ns: _Optional[int] = ..., out_of_quorum: _Optional[str] = ..., uid_limit: _Optional[int] = ..., leases: _Optional[_Iterable[_Union[LeaseLeft, _Mapping]]] = ..., learning: _Optional[bool] = ..., retired: _Optional[bool] = ...) -> None: ...

class AdoptRequest(_message.Message):
    __slots__ = ("header", "learning", "retired", "store_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    header: StoreHeader
    learning: bool
    retired: bool
    store_id: int
    def __init__(self, header: _Optional[_Union[StoreHeader, _Mapping]] = ..., learning: _Optional[bool] = ..., retired: _Optional[bool] = ..., store_id: _Optional[int] = ...) -> None: ...

class AdoptResponse(_message.Message):
    __slots__ = ("store_id",)
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    def __init__(self, store_id: _Optional[int] = ...) -> None: ...
