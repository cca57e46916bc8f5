"""The gRPC face of a StoreService: bytes in, bytes out, and refusals as rich statuses."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from clustermap.errors import ReplicaFailed
from clustermap.logs import cut
from seqsvr import tracing
from seqsvr.errors import DOMAIN
from seqsvr.invariants import BrokenInvariant
from seqsvr.v1 import store_pb2 as pb
from seqsvr.wire import status_code
from svrprocess import ending, incidents

if TYPE_CHECKING:
    from storesvr.service import StoreService

SERVICE = "seqsvr.v1.Store"

# Snapshots of many sections come in one request.
MAX_MESSAGE_BYTES = 32 * 2**20
# What leases rest on waits behind no flood of anything else.
APART = (f"/{SERVICE}/Renew",)
# A port that is taken is not shared.
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # nodes keep alive every 10 s
    ("grpc.keepalive_permit_without_calls", 1),
)

_S = grpc.StatusCode
STATUS: dict[str, grpc.StatusCode] = {
    "FOREIGN": _S.FAILED_PRECONDITION,
    "MEMBERSHIP": _S.FAILED_PRECONDITION,
    "BLANK": _S.FAILED_PRECONDITION,
    "LEARNING": _S.FAILED_PRECONDITION,
    "CORRUPT": _S.DATA_LOSS,
    "OVERLOADED": _S.RESOURCE_EXHAUSTED,
    "MALFORMED": _S.INVALID_ARGUMENT,
    "INTERNAL": _S.INTERNAL,
    "UNREACHABLE": _S.UNAVAILABLE,
    "TIMEOUT": _S.DEADLINE_EXCEEDED,
}

_Method = Callable[[Any], Awaitable[Message]]


def add_to_server(service: "StoreService", server: grpc.aio.Server) -> None:
    """Serve `service` as seqsvr.v1.Store on `server`."""
    rpcs: dict[str, tuple[type[Message], _Method]] = {
        "Fence": (pb.FenceRequest, service.fence),
        "Raise": (pb.RaiseRequest, service.raise_max),
        "Release": (pb.ReleaseRequest, service.release),
        "Renew": (pb.RenewRequest, service.renew),
        "Scan": (pb.ScanRequest, service.scan),
        "Digest": (pb.DigestRequest, service.digest),
        "Seal": (pb.SealRequest, service.seal),
        "PutAtLeast": (pb.PutAtLeastRequest, service.put_at_least),
        "Info": (pb.InfoRequest, service.info),
        "Adopt": (pb.AdoptRequest, service.adopt),
    }
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(_handler(service, name, kind, method))
        for name, (kind, method) in rpcs.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def refusal(failed: ReplicaFailed) -> status_pb2.Status:
    """The rich status of a refused request."""
    metadata = {"membership": str(failed.membership)} if failed.membership else {}
    info = error_details_pb2.ErrorInfo(reason=failed.reason, domain=DOMAIN, metadata=metadata)
    code = STATUS.get(failed.reason, grpc.StatusCode.INTERNAL)
    # Some of it is the caller's own words, and a status travels as a header.
    status = status_pb2.Status(code=status_code(code), message=str(cut(failed.text)))
    status.details.add().Pack(info)
    return status


def _handler(service: "StoreService", name: str, kind: type[Message], method: _Method) -> Any:
    path = f"{SERVICE}/{name}"

    async def handle(raw: bytes, context: Any) -> bytes:
        try:
            with tracing.continued(path, context.invocation_metadata() if tracing.is_on() else ()):
                answer = await method(_parsed(kind, raw))
            return answer.SerializeToString()
        except ReplicaFailed as error:
            await ending.abort_with(context, refusal(error))
        except BrokenInvariant as broken:
            service.broken(broken)
            await incidents.end(context, path, broken)
        except Exception as error:  # noqa: BLE001 - the server outlives any one request
            await incidents.end(context, path, error)

    return handle


def _parsed(kind: type[Message], raw: bytes) -> Message:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise ReplicaFailed("MALFORMED", f"not a {kind.DESCRIPTOR.full_name}") from error
