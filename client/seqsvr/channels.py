"""How a connection to a node is opened: in one place, so that all of them behave alike."""

from typing import Any

import grpc
import grpc.aio

from seqsvr.credentials import Credentials
from seqsvr.v1 import alloc_pb2, alloc_pb2_grpc

WHY_S = 0.5
_HUNG_UP = ("Socket closed", "reset by peer")
"""How the other end of a handshake leaves it: whoever it refuses is not told why."""

_OPTIONS: list[tuple[str, int]] = [
    # A node that restarts on its address should be found again at once: the pause between two
    # attempts comes on top of the outage, and both must fit the default timeout of a call. The
    # minimum is no pause, but how long one attempt may take.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 250),
    # A peer that is frozen or gone without a word is given up after 13 s. The second time-out is
    # for grpc's own pings: one that is under way keeps the keepalive from being sent.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # A routing table of 100,000 routes does not fit the default of 4 MB.
    ("grpc.max_receive_message_length", 64 * 2**20),
    # Nodes are named by address; a proxy set up for web traffic is not meant for them.
    ("grpc.enable_http_proxy", 0),
]


def open_channel(address: str, credentials: Credentials) -> grpc.aio.Channel:
    """A channel to `address` (host:port). Connects when first used.

    Channels to one address share a connection inside grpc, and its back-off, as long as they are of
    one generation of their credentials.
    """
    return credentials.channel(address, _OPTIONS)


async def is_ready(channel: grpc.aio.Channel) -> bool:
    """Connect; whether that went well, once it is known."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state in (
            grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            grpc.ChannelConnectivity.SHUTDOWN,
        ):
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


async def why_not_ready(channel: grpc.aio.Channel, credentials: Credentials) -> str:
    """What grpc says of a connection that failed: only calls are told."""
    if credentials.tls is None:
        return "cannot connect"
    try:
        request = alloc_pb2.GetRouteRequest(known_version=2**64 - 1)
        metadata = credentials.metadata()
        await alloc_stub(channel).GetRoute(request, timeout=WHY_S, metadata=metadata)
    except grpc.RpcError as error:
        return explained(details_of(error), credentials) or "cannot connect"
    return "cannot connect"


def explained(text: str, credentials: Credentials) -> str:
    """The text of a failed call, and what may be behind it where grpc knows only half of it."""
    if not text.startswith("failed to connect") or not any(end in text for end in _HUNG_UP):
        return text
    asked = "does it serve TLS" if credentials.tls is None else "does it accept our certificate"
    return f"{text} ({asked}?)"


def details_of(error: grpc.RpcError) -> str:
    """The text of a failed call."""
    return (error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)) or ""


def alloc_stub(channel: grpc.aio.Channel) -> Any:
    """The Alloc service at the other end of a channel; generated stubs have no types."""
    return alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]


def parse_seeds(seeds: object) -> tuple[str, ...]:
    """Addresses from "host:port", "host:port,host:port" or a sequence of such strings.

    Raises ValueError (or TypeError) where there is none or one is not host:port.
    """
    parts = [seeds] if isinstance(seeds, str) else seeds
    if not isinstance(parts, list | tuple | set | frozenset):
        raise TypeError(f"seeds must be a string or a sequence of strings, not {seeds!r}")
    found: dict[str, None] = {}
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(f"a seed must be a string, not {part!r}")
        for address in filter(None, (piece.strip() for piece in part.split(","))):
            found[_checked(address)] = None
    if not found:
        raise ValueError("at least one seed address host:port is needed")
    return tuple(found)


def _checked(address: str) -> str:
    host, colon, port = address.rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    digits = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if not (host and colon and digits) or bare_ipv6:
        raise ValueError(f"seed {address!r} is not host:port")
    return address
