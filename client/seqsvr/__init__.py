"""seqsvr: a number for each message of each user that only ever rises.

    async with seqsvr.AsyncClient("10.0.0.1:7420") as seq:
        n = await seq.next(uid)

`AsyncClient` is for asyncio, `Client` its blocking twin; errors are below `SeqError`.
"""

from importlib.metadata import PackageNotFoundError, version

from seqsvr.blocking import Client
from seqsvr.calls import Current
from seqsvr.client import AsyncClient
from seqsvr.errors import (
    DataLoss,
    InvalidArgument,
    LeaseExpired,
    NotAllowed,
    OutcomeUnknown,
    Overloaded,
    SeqError,
    SequenceExhausted,
    StoreUnavailable,
    Unavailable,
)
from seqsvr.tls import Tls

try:
    __version__ = version("seqsvr")
except PackageNotFoundError:  # from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "AsyncClient",
    "Client",
    "Current",
    "DataLoss",
    "InvalidArgument",
    "LeaseExpired",
    "NotAllowed",
    "OutcomeUnknown",
    "Overloaded",
    "SeqError",
    "SequenceExhausted",
    "StoreUnavailable",
    "Tls",
    "Unavailable",
    "__version__",
]
