"""What an AllocSvr node takes from its callers at most: the options, with their defaults.

Those of connections and of gRPC's server are svrprocess/limits.py's. What was refused or ended for
a limit is counted under the option's name, in seqsvr_limited_total.
"""

import argparse
from dataclasses import dataclass, replace

from svrprocess.limits import port_options
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


# The longest legal request is about 60 KB; what is longer than this never reaches Python.
MAX_MESSAGE_BYTES = 1 << 20
_DEFAULT = Limits()
_PER_S = number(0, 1e12)
_OWN: tuple[Option, ...] = (
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
OPTIONS = (*_OWN, *port_options(MAX_MESSAGE_BYTES, per_connection=100))


def limits(args: argparse.Namespace) -> Limits:
    """What the options say."""
    return Limits(**{option.key: getattr(args, option.key) for option in _OWN})


def for_peers(values: Limits) -> Limits:
    """The same for the port of other nodes, which have no rates: they speak for many."""
    return replace(values, requests_per_s=0.0, numbers_per_s=0.0)
