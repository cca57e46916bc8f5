"""One outgoing gRPC call, and every way in which it can end without an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from seqsvr.wire import reason_of

T = TypeVar("T")

# A peer that was cut off without a word shows by its keepalive, not by its silence.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_http_proxy", 0),
]


class RpcFailed(Exception):
    """No answer. reason: what the peer said (ErrorInfo), None if it was not a peer of ours."""

    def __init__(self, reason: str | None, text: str) -> None:
        super().__init__(text)
        self.reason = reason


async def call(method: Callable[..., Awaitable[T | None]], request: object, where: str) -> T:
    """The answer of a unary call to `where`; raises RpcFailed, and CancelledError only for us."""
    try:
        answer = await method(request)
    except grpc.aio.AioRpcError as error:
        reason, _ = reason_of(error)
        raise RpcFailed(reason, f"{where}: {error.code().name}: {error.details()}") from None
    except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise RpcFailed(None, f"{where}: {error}") from None
    except asyncio.CancelledError:
        # grpc says so too where the channel was closed under the call.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RpcFailed(None, f"{where}: the channel was closed") from None
    if answer is None:  # what grpc makes of bytes that it cannot decode
        raise RpcFailed(None, f"{where}: the answer is no message")
    return answer
