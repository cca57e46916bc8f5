"""Faults of a handler that nobody foresaw: what callers are told of them, and what the log keeps.

A caller gets status INTERNAL, the reason INTERNAL and a random id, which says nothing of what is
inside; the log has the error and its traceback under the same id (`event=incident incident=...`).
Refusals, which are foreseen, do not come by here. Nor is a broken invariant only this: who finds
one has the process end besides.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from prometheus_client import Counter

from clustermap.logs import get_logger
from seqsvr.wire import refusal
from svrprocess import ending

COUNT = Counter(
    "seqsvr_incidents_total",
    "Calls that ended with a fault of this process that nobody foresaw; its log has them.",
    registry=None,
)
"""Of this process; measures.new_registry shows it."""

_log = get_logger(__name__)


def note(rpc: str, error: BaseException) -> str:
    """Log and count an error that was not foreseen; the id that its caller may be told."""
    incident = secrets.token_hex(8)
    COUNT.inc()
    _log.error("incident", incident=incident, rpc=rpc, error=error, exc_info=error)
    return incident


async def end(context: Any, rpc: str, error: BaseException) -> NoReturn:
    """End the call of `context`, having noted the error."""
    incident = note(rpc, error)
    text = f"a fault of the server, whose log has it as incident {incident}"
    status = refusal("INTERNAL", text, metadata={"incident": incident})
    await ending.abort_with(context, status)


@asynccontextmanager
async def none_leaves(context: Any, rpc: str) -> AsyncIterator[None]:
    """End the call with an incident where what is done inside raises anything but an end of it."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None  # its caller has gone: see ending
    except Exception as error:  # noqa: BLE001 - a caller learns nothing of it but its id
        await end(context, rpc, error)
