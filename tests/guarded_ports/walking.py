"""Every rpc of a port, and how a call of it ends."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from guarded_ports.callers import Metadata
from seqsvr.wire import reason_of

DENIALS = {
    grpc.StatusCode.UNAUTHENTICATED: "nobody",
    grpc.StatusCode.PERMISSION_DENIED: "no",
}


@dataclass(frozen=True)
class Rpc:
    """As a port itself describes it. short: without its package."""

    path: str
    requests: bool
    responses: bool

    @property
    def short(self) -> str:
        service, _, method = self.path.strip("/").partition("/")
        return f"{service.rpartition('.')[2]}.{method}"


@dataclass(frozen=True)
class Answer:
    """word: yes (whatever it was answered with), no, nobody, unknown, or unreachable."""

    word: str
    text: str = ""


async def rpcs_of(channel: grpc.aio.Channel, metadata: Metadata = ()) -> list[Rpc]:
    """What the port says that it serves, by asking its reflection."""
    found: dict[str, Rpc] = {}
    for service in await _services(channel, metadata):
        for rpc in await _described(channel, metadata, service):
            found[rpc.path] = rpc
    return list(found.values())


async def answered(channel: grpc.aio.Channel, rpc: Rpc, metadata: Metadata = ()) -> Answer:
    """What an empty request meets; of a stream, the beginning."""
    try:
        if not rpc.requests and not rpc.responses:
            single: Any = channel.unary_unary(rpc.path)
            await single(b"", metadata=metadata, timeout=20)
        else:
            await _begun(channel, rpc, metadata)
    except grpc.aio.AioRpcError as error:
        return _ended(error)
    return Answer("yes")


def _ended(error: grpc.aio.AioRpcError) -> Answer:
    code, reason = error.code(), reason_of(error)[0]
    text = error.details() or ""
    if code in DENIALS:
        assert reason == code.name, f"{code.name} without the reason: {error}"
        return Answer(DENIALS[code], text)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Answer("unknown", text)
    if code is grpc.StatusCode.UNAVAILABLE and reason is None:
        return Answer("unreachable", text)
    return Answer("yes", text)


async def _begun(channel: grpc.aio.Channel, rpc: Rpc, metadata: Metadata) -> None:
    """The first answer of a stream, or its end, which is raised unless it is OK."""
    call: Any
    if rpc.requests:
        call = channel.stream_stream(rpc.path)(metadata=metadata, timeout=20)
        ending = asyncio.ensure_future(call.done_writing())
        await asyncio.wait((ending,))
        ending.exception()  # that the stream has ended already is told by its status
    else:
        stream: Any = channel.unary_stream(rpc.path)
        call = stream(b"", metadata=metadata, timeout=20)
    try:
        await call.read()
    finally:
        call.cancel()


async def _services(channel: grpc.aio.Channel, metadata: Metadata) -> list[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = await _asked(channel, metadata, request)
    return [service.name for service in answer.list_services_response.service]


async def _described(channel: grpc.aio.Channel, metadata: Metadata, service: str) -> Iterator[Rpc]:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    answer = await _asked(channel, metadata, request)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in answer.file_descriptor_response.file_descriptor_proto
    ]
    return (
        Rpc(f"/{service}/{method.name}", method.client_streaming, method.server_streaming)
        for file in files
        for one in file.service
        if f"{file.package}.{one.name}" == service
        for method in one.method
    )


async def _asked(channel: grpc.aio.Channel, metadata: Metadata, request: Any) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=20)
    async for answer in call:
        return answer
    raise AssertionError("no answer")
