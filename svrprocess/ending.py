"""How a server ends a call itself.

gRPC raises what it calls an internal error where the caller has gone before it could be told. That
is no fault of anybody's, and no incident: whoever resets a thousand calls a second would fill the
log with tracebacks. It counts as what it is, a call that its caller has cancelled.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status


async def abort(
    context: Any,
    code: grpc.StatusCode,
    text: str,
    details: Sequence[tuple[str, str | bytes]] = (),
) -> NoReturn:
    """Raises AbortError, which is to reach gRPC; CancelledError where the caller has gone.

    details: trailing metadata.
    """
    try:
        await context.abort(code, text, tuple(details))
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None
    raise AssertionError("abort raises")


async def abort_with(context: Any, status: Any) -> NoReturn:
    """The same with a google.rpc.Status."""
    whole = rpc_status.to_status(status)
    await abort(context, whole.code, whole.details, whole.trailing_metadata)
