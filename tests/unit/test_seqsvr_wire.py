import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from seqsvr.errors import TABLE
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import reason_of, refusal, status_code, table_from_wire


def failed(status: grpc.Status) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), "text"
    )


@pytest.mark.parametrize("reason", TABLE)
def test_a_refusal_carries_its_reason_and_the_status_of_the_table(reason: str) -> None:
    status = rpc_status.to_status(refusal(reason, "text"))
    assert status.code == TABLE[reason].status
    assert reason_of(failed(status)) == (reason, None)


def test_a_refusal_carries_a_table_a_bound_and_a_delay_at_once() -> None:
    table = alloc_pb2.RoutingTable(cluster="c", version=3)
    message = refusal("NOT_OWNER", "text", retry_after_ms=5, field="uid", bound=9, table=table)
    assert reason_of(failed(rpc_status.to_status(message))) == ("NOT_OWNER", table)
    kinds = [detail.type_url.rpartition(".")[2] for detail in message.details]
    assert kinds == ["ErrorInfo", "BadRequest", "RetryInfo", "RoutingTable"]


def test_an_error_that_is_not_ours_has_no_reason() -> None:
    bare = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "refused"
    )
    assert reason_of(bare) == (None, None)


def test_every_status_of_the_table_has_a_code() -> None:
    assert all(status_code(row.status) == row.status.value[0] for row in TABLE.values())


def test_a_route_to_an_address_that_is_not_there_is_refused() -> None:
    message = alloc_pb2.RoutingTable(cluster="c", version=1, section_size=10, uid_limit=100)
    message.routes.add(first_section=0, last_section=1, address=0, epoch=1)
    with pytest.raises(ValueError, match="not in its table"):
        table_from_wire(message)


def test_a_table_without_a_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="section_size"):
        table_from_wire(alloc_pb2.RoutingTable(cluster="c", version=1))
