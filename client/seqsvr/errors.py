"""What can go wrong, by what the caller should do about it, and how it looks on the wire.

`TABLE` is the one place where a reason, its gRPC status and its exception meet; both ends of the
wire read it.
"""

from dataclasses import dataclass

import grpc
import grpc.aio

from seqsvr.v1 import alloc_pb2

DOMAIN = "seqsvr"


class SeqError(Exception):
    """Base of everything the client raises on its own.

    reason: a name of seqsvr.v1.Reason, or one of CLIENT_REASONS; uid: the uid concerned, or None;
    retryable: whether the same call may succeed later. Retrying never repeats a number.
    """

    def __init__(self, text: str, *, reason: str, uid: int | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.uid = uid

    @property
    def retryable(self) -> bool:
        return isinstance(self, Unavailable | OutcomeUnknown)


class Unavailable(SeqError):
    """Nobody could serve the call in time, and it took no effect. Retry later."""


class StoreUnavailable(Unavailable):
    """Too few StoreSvr replicas answered."""


class LeaseExpired(Unavailable):
    """The owner could not renew its lease."""


class Overloaded(Unavailable):
    """The server, or this client's own queue, is full. Back off."""


class InvalidArgument(SeqError, ValueError):
    """A uid, count, floor or batch is out of bounds. Do not retry."""


class SequenceExhausted(SeqError):
    """The uid has no numbers left. Do not retry."""


class NotAllowed(SeqError):
    """The servers do not know the caller, or it has no role for this call or uid. Do not retry."""


class OutcomeUnknown(SeqError):
    """Time ran out after the call was sent: it may have had an effect; a retry leaves a gap."""


class DataLoss(SeqError):
    """The server, or what it stored, contradicts itself. Do not retry; alert."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row: the status on the wire, the exception, and what a client does of its own accord.

    reroute: ask other nodes too. Whoever is not able to serve may be cut off from all the others,
    and is then the last to hear that somebody else does.
    """

    status: grpc.StatusCode
    error: type[SeqError]
    retry: bool = False
    reroute: bool = False


_S = grpc.StatusCode

TABLE: dict[str, Outcome] = {
    "NOT_OWNER": Outcome(_S.FAILED_PRECONDITION, Unavailable, retry=True, reroute=True),
    "ACQUIRING": Outcome(_S.UNAVAILABLE, Unavailable, retry=True, reroute=True),
    "LEASE_EXPIRED": Outcome(_S.UNAVAILABLE, LeaseExpired, retry=True, reroute=True),
    "STORE_UNAVAILABLE": Outcome(_S.UNAVAILABLE, StoreUnavailable, retry=True, reroute=True),
    "DRAINING": Outcome(_S.UNAVAILABLE, Unavailable, retry=True, reroute=True),
    "STALE_EPOCH": Outcome(_S.ABORTED, Unavailable, retry=True, reroute=True),
    "OVERLOADED": Outcome(_S.RESOURCE_EXHAUSTED, Overloaded, retry=True),
    "UID_OUT_OF_RANGE": Outcome(_S.INVALID_ARGUMENT, InvalidArgument),
    "COUNT_OUT_OF_RANGE": Outcome(_S.INVALID_ARGUMENT, InvalidArgument),
    "BATCH_TOO_LARGE": Outcome(_S.INVALID_ARGUMENT, InvalidArgument),
    "SEQUENCE_EXHAUSTED": Outcome(_S.OUT_OF_RANGE, SequenceExhausted),
    "CORRUPT": Outcome(_S.DATA_LOSS, DataLoss),
    "JUMP_TOO_LARGE": Outcome(_S.INVALID_ARGUMENT, InvalidArgument),
    "MALFORMED": Outcome(_S.INVALID_ARGUMENT, InvalidArgument),
    "INTERNAL": Outcome(_S.INTERNAL, DataLoss),
    "UNAUTHENTICATED": Outcome(_S.UNAUTHENTICATED, NotAllowed),
    "PERMISSION_DENIED": Outcome(_S.PERMISSION_DENIED, NotAllowed),
}

_DENIED = (_S.UNAUTHENTICATED, _S.PERMISSION_DENIED)
DENIALS = frozenset(status.name for status in _DENIED)
"""Reasons that are the caller's own, whichever node it asks."""

# Reasons that never cross the wire: the client's own.
CLIENT_REASONS: dict[str, type[SeqError]] = {
    "UNREACHABLE": Unavailable,  # no connection to any node
    "TIMEOUT": Unavailable,  # time ran out before the call was sent
    "CLOSED": Unavailable,  # the client was closed
    "OUTCOME_UNKNOWN": OutcomeUnknown,  # time ran out after the call was sent
    "FOREIGN_CLUSTER": DataLoss,  # a seed leads to another cluster
}


def reason_name(reason: int) -> str:
    """Wire enum to the name used in ErrorInfo and in `.reason`; unknown ones are INTERNAL."""
    try:
        return alloc_pb2.Reason.Name(reason).removeprefix("REASON_")
    except ValueError:
        return "INTERNAL"


def reason_value(name: str) -> int:
    """Name to wire enum."""
    return alloc_pb2.Reason.Value(f"REASON_{name}")


def denial(error: grpc.RpcError) -> str | None:
    """The reason where a call was refused as the caller's, with ErrorInfo or without; else None."""
    code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
    return code.name if code in _DENIED else None


def error_for(reason: str, text: str, uid: int | None = None) -> SeqError:
    """The exception a caller gets for a reason of either table; unknown ones are DataLoss."""
    row = TABLE.get(reason)
    kind = row.error if row else CLIENT_REASONS.get(reason, DataLoss)
    return kind(text, reason=reason, uid=uid)
