"""The limit: a grpc.aio server that speaks our messages and does no work.

    python -m seqbench.bare PORT

It reads a request, fills an answer of the same shape with numbers that it had before, and writes
it. No state, no uid, no lease, no storage, no metrics: no server of ours can be faster.
"""

import asyncio
import gc
import sys
from typing import Any

import grpc

from seqsvr.v1 import alloc_pb2 as pb

HOST = "127.0.0.1"
NUMBER = 5_000
"""Two bytes on the wire, as the numbers of a user's few thousand messages are."""
_SIZES = {size: pb.BatchGetSeqResponse(seqs=[NUMBER] * size).seqs for size in range(4097)}


class Bare:
    """The handlers. table: one route, of everything to this server."""

    def __init__(self, port: int) -> None:
        self._table = pb.RoutingTable(
            cluster="bare",
            version=1,
            section_size=100_000,
            uid_limit=2**32,
            addresses=[f"{HOST}:{port}"],
            routes=[pb.Route(first_section=0, last_section=42_949, address=0, epoch=1)],
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a grpc.aio server."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "GetSeq": unary(
                self._get_seq, pb.GetSeqRequest.FromString, pb.GetSeqResponse.SerializeToString
            ),
            "GetRoute": unary(
                self._route, pb.GetRouteRequest.FromString, pb.GetRouteResponse.SerializeToString
            ),
            "Session": stream(
                self._session, pb.SessionRequest.FromString, pb.SessionResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler("seqsvr.v1.Alloc", methods)

    async def _get_seq(self, request: pb.GetSeqRequest, context: Any) -> pb.GetSeqResponse:
        del request, context
        return pb.GetSeqResponse(seq=NUMBER, epoch=1)

    async def _route(self, request: pb.GetRouteRequest, context: Any) -> pb.GetRouteResponse:
        del context
        known = request.known_version == self._table.version
        return pb.GetRouteResponse(table=None if known else self._table)

    async def _session(self, requests: Any, context: Any) -> None:
        del requests
        read, write = context.read, context.write
        while (request := await read()) is not grpc.aio.EOF:
            response = pb.SessionResponse(id=request.id)
            answer = response.next
            answer.seqs.MergeFrom(_SIZES[len(request.next.uids)])
            answer.epochs.append(1)
            await write(response)


async def serve(port: int) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Bare(port).handler(),))
    server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    gc.collect()
    gc.freeze()
    print(f"ready {HOST}:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
