from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_NOT_OWNER: _ClassVar[Reason]
    REASON_ACQUIRING: _ClassVar[Reason]
    REASON_LEASE_EXPIRED: _ClassVar[Reason]
    REASON_STORE_UNAVAILABLE: _ClassVar[Reason]
    REASON_DRAINING: _ClassVar[Reason]
    REASON_STALE_EPOCH: _ClassVar[Reason]
    REASON_OVERLOADED: _ClassVar[Reason]
    REASON_UID_OUT_OF_RANGE: _ClassVar[Reason]
    REASON_COUNT_OUT_OF_RANGE: _ClassVar[Reason]
    REASON_BATCH_TOO_LARGE: _ClassVar[Reason]
    REASON_SEQUENCE_EXHAUSTED: _ClassVar[Reason]
    REASON_CORRUPT: _ClassVar[Reason]
    REASON_MALFORMED: _ClassVar[Reason]
    REASON_INTERNAL: _ClassVar[Reason]
    REASON_JUMP_TOO_LARGE: _ClassVar[Reason]
    REASON_UNAUTHENTICATED: _ClassVar[Reason]
    REASON_PERMISSION_DENIED: _ClassVar[Reason]
REASON_UNSPECIFIED: Reason
REASON_NOT_OWNER: Reason
REASON_ACQUIRING: Reason
REASON_LEASE_EXPIRED: Reason
REASON_STORE_UNAVAILABLE: Reason
REASON_DRAINING: Reason
REASON_STALE_EPOCH: Reason
REASON_OVERLOADED: Reason
REASON_UID_OUT_OF_RANGE: Reason
REASON_COUNT_OUT_OF_RANGE: Reason
REASON_BATCH_TOO_LARGE: Reason
REASON_SEQUENCE_EXHAUSTED: Reason
REASON_CORRUPT: Reason
REASON_MALFORMED: Reason
REASON_INTERNAL: Reason
REASON_JUMP_TOO_LARGE: Reason
REASON_UNAUTHENTICATED: Reason
REASON_PERMISSION_DENIED: Reason

class GetSeqRequest(_message.Message):
    __slots__ = ("uid", "count", "route_version", "forwarded")
    UID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ROUTE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    uid: int
    count: int
    route_version: int
    forwarded: bool
    def __init__(self, uid: _Optional[int] = ..., count: _Optional[int] = ..., route_version: _Optional[int] = ..., forwarded: _Optional[bool] = ...) -> None: ...

class GetSeqResponse(_message.Message):
    __slots__ = ("seq", "epoch", "table")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    epoch: int
    table: RoutingTable
    def __init__(self, seq: _Optional[int] = ..., epoch: _Optional[int] = ..., table: _Optional[_Union[RoutingTable, _Mapping]] = ...) -> None: ...

class GetCurSeqRequest(_message.Message):
    __slots__ = ("uid", "route_version", "forwarded")
    UID_FIELD_NUMBER: _ClassVar[int]
    ROUTE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    uid: int
    route_version: int
    forwarded: bool
    def __init__(self, uid: _Optional[int] = ..., route_version: _Optional[int] = ..., forwarded: _Optional[bool] = ...) -> None: ...

class GetCurSeqResponse(_message.Message):
    __slots__ = ("seq", "exact", "epoch", "table")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    exact: bool
    epoch: int
    table: RoutingTable
    def __init__(self, seq: _Optional[int] = ..., exact: _Optional[bool] = ..., epoch: _Optional[int] = ..., table: _Optional[_Union[RoutingTable, _Mapping]] = ...) -> None: ...

class BatchGetSeqRequest(_message.Message):
    __slots__ = ("uids", "counts", "route_version", "forwarded")
    UIDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    uids: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    route_version: int
    forwarded: bool
    def __init__(self, uids: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ..., route_version: _Optional[int] = ..., forwarded: _Optional[bool] = ...) -> None: ...

class BatchGetSeqResponse(_message.Message):
    __slots__ = ("seqs", "errors", "epochs", "table")
    SEQS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    seqs: _containers.RepeatedScalarFieldContainer[int]
    errors: _containers.RepeatedCompositeFieldContainer[EntryError]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    table: RoutingTable
    def __init__(self, seqs: _Optional[_Iterable[int]] = ..., errors: _Optional[_Iterable[_Union[EntryError, _Mapping]]] = ..., epochs: _Optional[_Iterable[int]] = ..., table: _Optional[_Union[RoutingTable, _Mapping]] = ...) -> None: ...

class BatchGetCurSeqRequest(_message.Message):
    __slots__ = ("uids", "route_version", "forwarded")
    UIDS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    uids: _containers.RepeatedScalarFieldContainer[int]
    route_version: int
    forwarded: bool
    def __init__(self, uids: _Optional[_Iterable[int]] = ..., route_version: _Optional[int] = ..., forwarded: _Optional[bool] = ...) -> None: ...

class BatchGetCurSeqResponse(_message.Message):
    __slots__ = ("seqs", "exact", "errors", "epochs", "table")
    SEQS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    seqs: _containers.RepeatedScalarFieldContainer[int]
    exact: _containers.RepeatedScalarFieldContainer[bool]
    errors: _containers.RepeatedCompositeFieldContainer[EntryError]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    table: RoutingTable
    def __init__(self, seqs: _Optional[_Iterable[int]] = ..., exact: _Optional[_Iterable[bool]] = ..., errors: _Optional[_Iterable[_Union[EntryError, _Mapping]]] = ..., epochs: _Optional[_Iterable[int]] = ..., table: _Optional[_Union[RoutingTable, _Mapping]] = ...) -> None: ...

class AdvanceSeqRequest(_message.Message):
    __slots__ = ("uids", "at_least", "max_jump", "route_version", "forwarded")
    UIDS_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    MAX_JUMP_FIELD_NUMBER: _ClassVar[int]
    ROUTE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    uids: _containers.RepeatedScalarFieldContainer[int]
    at_least: _containers.RepeatedScalarFieldContainer[int]
    max_jump: int
    route_version: int
    forwarded: bool
    def __init__(self, uids: _Optional[_Iterable[int]] = ..., at_least: _Optional[_Iterable[int]] = ..., max_jump: _Optional[int] = ..., route_version: _Optional[int] = ..., forwarded: _Optional[bool] = ...) -> None: ...

class AdvanceSeqResponse(_message.Message):
    __slots__ = ("seqs", "errors", "epochs", "table")
    SEQS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    seqs: _containers.RepeatedScalarFieldContainer[int]
    errors: _containers.RepeatedCompositeFieldContainer[EntryError]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    table: RoutingTable
    def __init__(self, seqs: _Optional[_Iterable[int]] = ..., errors: _Optional[_Iterable[_Union[EntryError, _Mapping]]] = ..., epochs: _Optional[_Iterable[int]] = ..., table: _Optional[_Union[RoutingTable, _Mapping]] = ...) -> None: ...

class EntryError(_message.Message):
    __slots__ = ("index", "reason", "text", "retry_after_ms", "field", "bound")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: Reason
    text: str
    retry_after_ms: int
    field: str
    bound: int
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., text: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., field: _Optional[str] = ..., bound: _Optional[int] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("id", "next", "current")
    ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    next: BatchGetSeqRequest
    current: BatchGetCurSeqRequest
    def __init__(self, id: _Optional[int] = ..., next: _Optional[_Union[BatchGetSeqRequest, _Mapping]] = ..., current: _Optional[_Union[BatchGetCurSeqRequest, _Mapping]] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("id", "indexes", "more", "next", "current", "refused")
    ID_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    id: int
    indexes: _containers.RepeatedScalarFieldContainer[int]
    more: bool
    next: BatchGetSeqResponse
    current: BatchGetCurSeqResponse
    refused: EntryError
    def __init__(self, id: _Optional[int] = ..., indexes: _Optional[_Iterable[int]] = ..., more: _Optional[bool] = ..., next: _Optional[_Union[BatchGetSeqResponse, _Mapping]] = ..., current: _Optional[_Union[BatchGetCurSeqResponse, _Mapping]] = ..., refused: _Optional[_Union[EntryError, _Mapping]] = ...) -> None: ...

class GetRouteRequest(_message.Message):
    __slots__ = ("known_version", "admin")
    KNOWN_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    known_version: int
    admin: bool
    def __init__(self, known_version: _Optional[int] = ..., admin: _Optional[bool] = ...) -> None: ...

class GetRouteResponse(_message.Message):
    __slots__ = ("table",)
    TABLE_FIELD_NUMBER: _ClassVar[int]
    table: RoutingTable
    def __init__(self, table: _Optional[_Union[RoutingTable, _Mapping]] = ...) -> None: ...

class RoutingTable(_message.Message):
    __slots__ = ("cluster", "version", "section_size", "uid_limit", "addresses", "routes")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SECTION_SIZE_FIELD_NUMBER: _ClassVar[int]
    UID_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    version: int
    section_size: int
    uid_limit: int
    addresses: _containers.RepeatedScalarFieldContainer[str]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, cluster: _Optional[str] = ..., version: _Optional[int] = ..., section_size: _Optional[int] = ..., uid_limit: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("first_section", "last_section", "address", "epoch")
    FIRST_SECTION_FIELD_NUMBER: _ClassVar[int]
    LAST_SECTION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    first_section: int
    last_section: int
    address: int
    epoch: int
    def __init__(self, first_section: _Optional[int] = ..., last_section: _Optional[int] = ..., address: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...
