"""What a port takes at most, whatever is served there: connections, calls, sizes, silence.

gRPC sees to these itself, before anything reaches Python. What is beyond them is refused by a reset
or a bare status, without our details: to say more would cost as much as to answer.
"""

import argparse
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from svrprocess.arriving import REQUEST_S
from svrprocess.options import Option
from svrprocess.values import integer, seconds

GrpcOptions = Sequence[tuple[str, int]]

WINDOW_BYTES = 64 << 10
"""What a stream may send ahead of its reader. gRPC's own choice grows to 4 MiB for each stream of
each connection, of which a node has thousands."""


def port_options(
    max_message_bytes: int, max_calls: int = 10_000, per_connection: int = 1_000
) -> tuple[Option, ...]:
    """The options of a program with a port; what differs between programs is given."""
    return (
        Option(
            "max-connections",
            20_000,
            integer(1, 1_000_000),
            "open connections; those beyond are closed at once",
        ),
        Option(
            "max-calls",
            max_calls,
            integer(1, 1_000_000),
            "calls and streams under way at a time, of all callers",
        ),
        Option(
            "max-calls-per-connection",
            per_connection,
            integer(1, 1_000_000),
            "calls and streams at a time on a connection; clients hold back what is beyond",
        ),
        Option(
            "max-pending-calls",
            4_000,
            integer(1, 1_000_000),
            "calls that have come and were not begun yet; of each rpc that must get through",
        ),
        Option(
            "max-message-bytes",
            max_message_bytes,
            integer(1_024, 1 << 30),
            "of a request",
        ),
        Option(
            "max-metadata-bytes",
            16 << 10,
            integer(1_024, 1 << 20),
            "of a call's metadata, names included",
        ),
        Option(
            "connection-idle-s",
            3_600.0,
            seconds(0.1, 1e6),
            "seconds without a call or stream after which a connection is closed",
        ),
        Option(
            "request-s",
            REQUEST_S,
            seconds(0.1, 1e6),
            "seconds within which the request of a single call has come, or the call is ended",
        ),
        Option(
            "handshake-timeout-s",
            10.0,
            seconds(0.1, 1e6),
            "seconds within which a connection, TLS included, is set up",
        ),
    )


def grpc_options(args: argparse.Namespace, *, strangers: bool = True) -> GrpcOptions:
    """The same as gRPC takes them. strangers: whether others than our own servers call."""
    ahead = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", WINDOW_BYTES))
    return (
        *(ahead if strangers else ()),
        ("grpc.max_allowed_incoming_connections", args.max_connections),
        ("grpc.max_concurrent_streams", args.max_calls_per_connection),
        ("grpc.server.max_pending_requests", args.max_pending_calls),
        ("grpc.server.max_pending_requests_hard_limit", args.max_pending_calls),
        ("grpc.max_receive_message_length", args.max_message_bytes),
        ("grpc.max_metadata_size", args.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", args.max_metadata_bytes),
        ("grpc.max_connection_idle_ms", round(args.connection_idle_s * 1000)),
        ("grpc.server_handshake_timeout_ms", round(args.handshake_timeout_s * 1000)),
    )


def defaults(options: Iterable[Option]) -> argparse.Namespace:
    """What they are where nobody says anything."""
    return argparse.Namespace(**{option.key: option.default for option in options})


def counter(registry: CollectorRegistry) -> Counter:
    """What was refused or ended for a limit."""
    return Counter(
        "seqsvr_limited",
        "Requests refused, and calls and Sessions ended, for a limit; by its option.",
        ["limit"],
        registry=registry,
    )


def show(options: Iterable[Option], args: argparse.Namespace, registry: CollectorRegistry) -> None:
    """Tell Prometheus where the limits are."""
    gauge = Gauge("seqsvr_limit", "A limit, by its option.", ["limit"], registry=registry)
    for option in options:
        gauge.labels(option.name).set(getattr(args, option.key))
