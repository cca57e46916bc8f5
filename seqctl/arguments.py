"""What the arguments of commands mean: each function parses one, for argparse."""

import math
from argparse import ArgumentTypeError

from seqsvr.sections import MAX_COUNT, SEQ_LIMIT

UID_CEILING = 2**63  # no cluster has a uid_limit above it
DEFAULT_ADDRESS = "127.0.0.1:7420"


def uid(text: str) -> int:
    """A decimal uid. The cluster's own uid_limit may be lower; the cluster says so."""
    return integer(text, "uid", 0, UID_CEILING - 1)


def seq(text: str) -> int:
    """A number that a uid can stand at, or a distance between two."""
    return integer(text, "number", 0, SEQ_LIMIT)


def count(text: str) -> int:
    return integer(text, "count", 1, MAX_COUNT)


def positive(text: str) -> int:
    return integer(text, "value", 1, UID_CEILING - 1)


def clients(text: str) -> int:
    """Concurrent calls; bounded, since each is a task."""
    return integer(text, "clients", 1, 100_000)


def seconds(text: str) -> float:
    """A positive, finite time in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return value


def addresses(text: str) -> list[str]:
    """HOST:PORT[,HOST:PORT...], at least one; an IPv6 host stands in brackets."""
    found = [part.strip() for part in text.split(",")]
    for address in found:
        host, _, port = address.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not bare or (":" in host and bare == host) or not _is_port(port):
            raise ArgumentTypeError(f"must be HOST:PORT[,HOST:PORT...], not {text!r}")
    return found


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535


def integer(text: str, name: str, least: int, most: int) -> int:
    """A decimal `name` in least..most."""
    digits = text.isascii() and text.isdigit() and len(text) <= 30
    if not digits or not least <= int(text) <= most:
        raise ArgumentTypeError(f"{name} must be an integer in {least}..{most}, not {text!r}")
    return int(text)
