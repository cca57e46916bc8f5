"""One etcd member behind its generated stubs: channel, token, and the way errors come inward.

`inward` is the one place where what grpc raises becomes MapUnavailable (as EtcdFailed, for those
who must tell one failure from another). Nothing of the etcd3 distribution is used but its generated
stubs: its client bans an endpoint for minutes, and its watches die without a word.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import grpc
from etcd3.etcdrpc import rpc_pb2 as pb
from etcd3.etcdrpc import rpc_pb2_grpc

from clustermap.errors import MapUnavailable
from clustermap.etcd_options import EtcdOptions
from seqsvr.credentials import Credentials
from seqsvr.link import Link

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

# On streams: etcd ends them where its member has lost the leader, instead of serving an old state.
HAS_LEADER: Metadata = (("hasleader", "true"),)
_AUTHENTICATE_ATTEMPTS = 2  # it hashes the password, on purpose slowly
MAX_MESSAGE_BYTES = 256 << 20  # a watch that catches up gets up to 1000 transactions at once

CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also bounds one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 1000),
    # etcd hangs up on who pings more often than every 5 s, or with no call open.
    ("grpc.keepalive_time_ms", 5500),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # whether a request may be sent twice is decided here
    ("grpc.use_local_subchannel_pool", 1),
)

# What says that this member, or the way to it, is no good now, while another one may be.
_ELSEWHERE = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED"}
# A refusal before anything was done; a new token mends it.
_TOKEN_REFUSED = (
    "invalid auth token",
    "user name is empty",
    "revision of auth store is old",
)


class EtcdFailed(MapUnavailable):
    """A member gave no usable answer. code: name of a grpc status."""

    def __init__(self, address: str, code: str, text: str) -> None:
        super().__init__(f"etcd {address}: {code}: {text}")
        self.code = code
        self.text = text

    @property
    def elsewhere(self) -> bool:
        """Whether another member may do better."""
        return self.code in _ELSEWHERE

    @property
    def token_refused(self) -> bool:
        return self.code == "UNAUTHENTICATED" or any(t in self.text for t in _TOKEN_REFUSED)


@asynccontextmanager
async def inward(address: str, timeout_s: float | None = None) -> AsyncIterator[None]:
    """Bound what is done at `address`, and turn every way in which it fails into EtcdFailed."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except grpc.aio.AioRpcError as error:
        raise EtcdFailed(address, error.code().name, error.details() or "") from None
    except TimeoutError:
        raise EtcdFailed(address, "DEADLINE_EXCEEDED", "no answer in time") from None
    except (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError) as error:
        raise EtcdFailed(address, "CANCELLED", str(error)) from None
    except asyncio.CancelledError:
        # grpc says so too where the channel was closed under the call.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise EtcdFailed(address, "CANCELLED", "the channel was closed") from None


class Member:
    """The services of one member, on one channel to it."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.kv = rpc_pb2_grpc.KVStub(channel)
        self.lease = rpc_pb2_grpc.LeaseStub(channel)
        self.watch = rpc_pb2_grpc.WatchStub(channel)
        self.auth = rpc_pb2_grpc.AuthStub(channel)


class Endpoint:
    """One member, through every renewal of `credentials`."""

    def __init__(self, address: str, options: EtcdOptions, credentials: Credentials) -> None:
        self.address = address
        self.heard_s = float("-inf")  # loop time at which it last answered
        self._options = options
        self.link = Link(address, credentials, CHANNEL_OPTIONS, partial(Member, address))
        self._token: str | None = None  # tokens live in one member; "": it asks for none
        self._authenticating = asyncio.Lock()

    async def attempt(self, exchange: "Exchange[T]", timeout_s: float) -> T:
        """What `exchange` brings from this member; raises EtcdFailed.

        It is made again with a new token where the token was refused: nothing was done then.
        """
        metadata = await self.metadata()
        try:
            return await self._exchange(exchange, metadata, timeout_s)
        except EtcdFailed as failed:
            if not failed.token_refused or self._options.user is None:
                raise
        self.forget(metadata)
        return await self._exchange(exchange, await self.metadata(), timeout_s)

    async def metadata(self) -> Metadata:
        """What goes with every call: the token, fetched if need be."""
        if self._options.user is None:
            return ()
        async with self._authenticating:
            if self._token is None:
                self._token = await self._authenticate()
            return (("token", self._token),) if self._token else ()

    def forget(self, metadata: Metadata) -> None:
        """The token that these hold is worth nothing any more."""
        if self._token == "" or metadata == (("token", self._token),):
            self._token = None

    async def aclose(self) -> None:
        await self.link.aclose()

    async def _exchange(self, exchange: "Exchange[T]", metadata: Metadata, timeout_s: float) -> T:
        async with inward(self.address, timeout_s):
            with self.link.lent() as member:
                answer = await exchange(member, metadata, timeout_s)
        if answer is None:  # what grpc makes of bytes that it cannot decode
            raise EtcdFailed(self.address, "INTERNAL", "the answer is no message")
        return answer

    async def _authenticate(self) -> str:
        request = pb.AuthenticateRequest(name=self._options.user, password=self._options.password)
        timeout_s = _AUTHENTICATE_ATTEMPTS * self._options.attempt_s
        try:
            async with inward(self.address, timeout_s):
                with self.link.lent() as member:
                    answer = await member.auth.Authenticate(request, timeout=timeout_s)
        except EtcdFailed as failed:
            if "authentication is not enabled" in failed.text:
                return ""
            raise
        return str(answer.token)


Exchange = Callable[[Member, Metadata, float], Awaitable[T]]
