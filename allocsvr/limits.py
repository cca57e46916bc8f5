"""What an AllocSvr node takes from its callers at most: the options, with their defaults.

Those of connections and of gRPC's server are svrprocess/limits.py's. What was refused or ended for
a limit is counted under the option's name, in seqsvr_limited_total.
"""

import argparse
from dataclasses import dataclass, fields

from prometheus_client import CollectorRegistry, Gauge

from svrprocess.options import Option
from svrprocess.values import integer, number, seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """Options, by their names, and what is none: late_batches: unfinished ones of a Session, above
    which entries that would have to wait are told OVERLOADED.
    """

    wait_s: float = 1.0
    late_batches: int = 512
    requests_per_s: float = 0.0
    numbers_per_s: float = 0.0
    queue_s: float = 0.1
    max_waiting_calls: int = 1_000
    max_sessions_per_caller: int = 5_000
    session_idle_s: float = 3_600.0
    max_unread_bytes: int = 4 << 20
    unread_s: float = 10.0


_DEFAULT = Limits()
_PER_S = number(0, 1e12)
OPTIONS: tuple[Option, ...] = (
    Option(
        "wait-s",
        _DEFAULT.wait_s,
        seconds(0.001, 600),
        "seconds that an entry waits for a raise or another node at most, also without a deadline",
    ),
    Option(
        "requests-per-s",
        _DEFAULT.requests_per_s,
        _PER_S,
        "requests per second and caller (identity, or host); 0: any number",
    ),
    Option(
        "numbers-per-s",
        _DEFAULT.numbers_per_s,
        _PER_S,
        "numbers per second and caller (identity, or host); 0: any number",
    ),
    Option(
        "queue-s",
        _DEFAULT.queue_s,
        seconds(0.001, 60),
        "seconds that a Session's request waits for its turn at most, or is told OVERLOADED",
    ),
    Option(
        "max-waiting-calls",
        _DEFAULT.max_waiting_calls,
        integer(0, 1_000_000),
        "single calls that wait for a raise or another node, or are told OVERLOADED",
    ),
    Option(
        "max-sessions-per-caller",
        _DEFAULT.max_sessions_per_caller,
        integer(1, 1_000_000),
        "open Sessions per caller (identity, or host)",
    ),
    Option(
        "session-idle-s",
        _DEFAULT.session_idle_s,
        seconds(0.1, 1e6),
        "seconds without a request after which a Session is ended",
    ),
    Option(
        "max-unread-bytes",
        _DEFAULT.max_unread_bytes,
        integer(1, 1 << 30),
        "bytes of a Session's answers that are not ready or not read, or requests are refused",
    ),
    Option(
        "unread-s",
        _DEFAULT.unread_s,
        seconds(0.1, 1e6),
        "seconds without its caller reading an answer after which its connection is closed",
    ),
)
_KEYS = tuple(option.key for option in OPTIONS)


def limits(args: argparse.Namespace) -> Limits:
    """What the options say."""
    return Limits(**{key: getattr(args, key) for key in _KEYS})


def show(values: Limits, registry: CollectorRegistry) -> None:
    """Tell Prometheus where the limits are."""
    gauge = Gauge("seqsvr_limit", "A limit, by its option.", ["limit"], registry=registry)
    for field in fields(values):
        if field.name in _KEYS:
            gauge.labels(field.name.replace("_", "-")).set(getattr(values, field.name))
