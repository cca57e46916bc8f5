"""Connections of gRPC's server, which it closes itself for reasons of its own only."""

import os
import socket
from collections.abc import Collection
from urllib.parse import unquote

FOLDER = "/proc/self/fd"
_MAPPED = "::ffff:"  # before an IPv4 address, as sockets for both kinds have it


def hang_up(peers: Collection[str]) -> int:
    """Close the connections to whom gRPC calls so, such as ipv4:10.0.0.1:4711; how many there were.

    Takes some milliseconds where there are thousands of connections, however many of them are
    meant: not for an event loop.
    """
    wanted = {address for peer in peers if (address := _address(peer)) is not None}
    found = 0
    for name in os.listdir(FOLDER) if wanted else ():
        try:
            if not os.readlink(f"{FOLDER}/{name}").startswith("socket:"):
                continue
            # A copy is the same connection, and no longer lives than this look at it.
            with socket.socket(fileno=os.dup(int(name))) as one:
                host, port = one.getpeername()[:2]
                if (host.removeprefix(_MAPPED), port) in wanted:
                    one.shutdown(socket.SHUT_RDWR)
                    found += 1
        except (OSError, ValueError):
            continue  # of another kind, or gone meanwhile, or connected to nobody
    return found


def _address(peer: str) -> tuple[str, int] | None:
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return host.strip("[]").removeprefix(_MAPPED), int(port)
