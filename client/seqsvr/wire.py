"""Routing tables and error details to and from the wire, for both of its ends."""

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from seqsvr.errors import DOMAIN, TABLE
from seqsvr.routing import Route, RoutingTable
from seqsvr.sections import Layout
from seqsvr.v1 import alloc_pb2

_U64_MAX = 2**64 - 1
_MAX_DIGITS = 20


def table_to_wire(table: RoutingTable) -> alloc_pb2.RoutingTable:
    addresses = table.addresses()
    index = {address: i for i, address in enumerate(addresses)}
    return alloc_pb2.RoutingTable(
        cluster=table.cluster,
        version=table.version,
        section_size=table.layout.section_size,
        uid_limit=table.layout.uid_limit,
        addresses=addresses,
        routes=[
            alloc_pb2.Route(
                first_section=r.first,
                last_section=r.last,
                address=index[r.address],
                epoch=r.epoch,
            )
            for r in table.routes
        ],
    )


def table_from_wire(message: alloc_pb2.RoutingTable) -> RoutingTable:
    """Raises ValueError where the message is no table."""
    addresses = list(message.addresses)
    if any(r.address >= len(addresses) for r in message.routes):
        raise ValueError("a route points to an address that is not in its table")
    if not all(one.isprintable() and " " not in one for one in addresses):
        raise ValueError("a table has an address that can be none")  # gRPC would log it as it is
    routes = tuple(
        Route(r.first_section, r.last_section, addresses[r.address], r.epoch)
        for r in message.routes
    )
    layout = Layout(message.section_size, message.uid_limit)
    return RoutingTable(message.cluster, message.version, layout, routes)


def refusal(
    reason: str,
    text: str,
    *,
    retry_after_ms: int = 0,
    field: str = "",
    bound: int = 0,
    table: alloc_pb2.RoutingTable | None = None,
    metadata: Mapping[str, str] | None = None,
) -> status_pb2.Status:
    """The rich status of a refused unary call: ErrorInfo and what else helps the caller.

    metadata: of the ErrorInfo, besides the field and its bound.
    """
    named = {"field": field, "bound": str(bound)} if field else {}
    more = {**named, **(metadata or {})}
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=more)
    details: list[object] = [info]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if retry_after_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if table is not None:
        details.append(table)
    status = status_pb2.Status(code=status_code(TABLE[reason].status), message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)  # type: ignore[arg-type]
        status.details.append(packed)
    return status


def status_code(status: grpc.StatusCode) -> int:
    return int(code_pb2.Code.Value(status.name))


def membership_of(error: grpc.RpcError) -> int:
    """The version of its membership that a StoreSvr replica names in a refusal; 0: none."""
    for detail in _details(error):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            named = detail.metadata.get("membership", "")
            known = named.isascii() and named.isdecimal() and len(named) <= _MAX_DIGITS
            return min(int(named), _U64_MAX) if known else 0
    return 0


def reason_of(error: grpc.RpcError) -> tuple[str | None, alloc_pb2.RoutingTable | None]:
    """ErrorInfo reason and attached table of a failed unary call; (None, None) if not ours."""
    reason, table = None, None
    for detail in _details(error):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            reason = detail.reason
        else:
            table = detail
    return reason, table


def _details(
    error: grpc.RpcError,
) -> list[error_details_pb2.ErrorInfo | alloc_pb2.RoutingTable]:
    """What a failed call says in words of ours, if it is a rich status at all."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        found = []
        for packed in status.details if status is not None else ():
            for kind in (error_details_pb2.ErrorInfo, alloc_pb2.RoutingTable):
                if packed.Is(kind.DESCRIPTOR):
                    found.append(kind.FromString(packed.value))
    except (ValueError, DecodeError):
        return []
    return [one for one in found if getattr(one, "domain", DOMAIN) == DOMAIN]
