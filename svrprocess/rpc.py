"""One outgoing gRPC call, and every way in which it can end without an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from seqsvr import tracing
from seqsvr.wire import membership_of, reason_of

T = TypeVar("T")

# A peer that was cut off without a word shows by its keepalive, not by its silence; the keepalive's
# timeout is also TCP's, after which unacknowledged bytes end the connection. `min_reconnect` is, in
# spite of its name, how long one attempt to connect may take: 20 s by default, and TCP asks again
# after 1, 2, 4 ... s only. With these a peer is met again within half a second of its return.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 400),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_http_proxy", 0),
]


class RpcFailed(Exception):
    """No answer.

    reason: what the peer said (ErrorInfo), None if it was not a peer of ours; timed_out: it said
    nothing, and the call's deadline has passed; membership: see ReplicaFailed.
    """

    def __init__(
        self, reason: str | None, text: str, *, timed_out: bool = False, membership: int = 0
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.timed_out = timed_out
        self.membership = membership


async def call(method: Callable[..., Awaitable[T | None]], request: object, where: str) -> T:
    """The answer of a unary call to `where`; raises RpcFailed, and CancelledError only for us."""
    try:
        more = {"metadata": tracing.headers()} if tracing.is_on() else {}
        answer = await method(request, **more)
    except grpc.aio.AioRpcError as error:
        reason, _ = reason_of(error)
        text = f"{where}: {error.code().name}: {error.details()}"
        timed_out = reason is None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        membership = membership_of(error) if reason == "MEMBERSHIP" else 0
        raise RpcFailed(reason, text, timed_out=timed_out, membership=membership) from None
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
