"""Single calls whose request may never come.

gRPC calls the handler of a single call once its request is there, and until then nothing can end
the call but its caller: whoever sends many requests by half holds as many of the calls that a
server takes at a time, for ever. To the wire a single call is a stream of one request. So they are
served as such: the handler begins at once, and waits for as long as it wants to.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from svrprocess import ending

REQUEST_S = 10.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Arriving(grpc.aio.ServerInterceptor):
    """Before every rpc of a server. longest_s: for a request to come; on_late: told of each call
    that was ended because it had not.
    """

    def __init__(self, longest_s: float = REQUEST_S) -> None:
        self.on_late: Callable[[], object] = lambda: None
        self._longest_s = longest_s
        self._waiting: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler of a method with the wait before it; as gRPC has it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        method = (
            handler_call_details.method
        )  # of those that there are: no table of strangers' words
        known = self._waiting.get(method)
        if known is None or known[0] is not handler:
            known = self._waiting[method] = (handler, self._with_wait(handler))
        return known[1]

    def _with_wait(self, handler: Any) -> Any:
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary

        async def single(_requests: Any, context: Any) -> Any:
            return await behaviour(await self._request(context), context)

        async def parts(_requests: Any, context: Any) -> AsyncIterator[Any]:
            request = await self._request(context)
            async for part in behaviour(request, context):
                yield part

        decode, encode = handler.request_deserializer, handler.response_serializer
        if not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(single, decode, encode)
        many = parts if inspect.isasyncgenfunction(behaviour) else single
        return grpc.stream_stream_rpc_method_handler(many, decode, encode)

    async def _request(self, context: Any) -> Any:
        try:
            async with asyncio.timeout(self._longest_s):
                request = await context.read()
        except TimeoutError:
            self.on_late()
            text = f"no request within {self._longest_s:g} s"
            await ending.abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, text)
        except DecodeError:
            await ending.abort(context, INVALID, "the request is no message")
        if request is grpc.aio.EOF:
            await ending.abort(context, INVALID, "a call without a request")
        return request
