"""What the value of an option may be: how it is read from text, and which types of TOML it takes.

Every `parse` raises ValueError with what the value must be, to follow the name of its source.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

MAX_PORT = 65_535
_MAX_DIGITS = 30
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Kind:
    """metavar: what help shows in place of a value, empty for a switch; types: of a TOML value."""

    metavar: str
    parse: Callable[[str], object]
    types: tuple[type, ...] = (str,)


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"must have no NUL, as {text!r} has")
    return text


TEXT = Kind("TEXT", _text)
"""Anything but NUL, which no path has either; also nothing."""

PATH = Kind("PATH", _text)


def choice(*known: str) -> Kind:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"must be one of {', '.join(known)}, not {text!r}")
        return text

    return Kind("|".join(known), parse)


def integer(least: int, most: int) -> Kind:
    """A decimal integer in least..most."""

    def parse(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if not digits or not least <= int(text) <= most:
            raise ValueError(f"must be an integer in {least}..{most}, not {text!r}")
        return int(text)

    return Kind("N", parse, (int,))


def number(least: float, most: float, unit: str = "", metavar: str = "X") -> Kind:
    """A finite number in least..most; `unit` is only for the reader."""
    what = f"a number of {unit}" if unit else "a number"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            raise ValueError(f"must be {what} in {least:g}..{most:g}, not {text!r}")
        return value

    return Kind(metavar, parse, (int, float))


def seconds(least: float, most: float) -> Kind:
    """A time in seconds, in least..most."""
    return number(least, most, "seconds", "SECONDS")


def _switch(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"must be true or false, not {text!r}")


SWITCH = Kind("", _switch, (bool,))
"""Off unless given; as a flag it takes no value."""


def split(address: str, least_port: int = 0) -> tuple[str, int]:
    """Host (an IPv6 one still in its brackets) and port of HOST:PORT; raises ValueError."""
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not bare or (":" in bare) != bracketed or not digits:
        raise ValueError(f"must be HOST:PORT, not {address!r}")
    if not least_port <= int(port) <= MAX_PORT:
        raise ValueError(f"must have a port in {least_port}..{MAX_PORT}, not {address!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this host reaches it; an IPv6 one stands in brackets."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listen(text: str) -> str:
    split(text)
    return text


def _listen_or_nothing(text: str) -> str:
    return text and _listen(text)


def _reached(text: str) -> str:
    if text:
        split(text, 1)
    return text


def _addresses(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    for address in found:
        split(address, 1)
    return found


LISTEN = Kind("HOST:PORT", _listen)
"""Where to listen; an IPv6 host stands in brackets, port 0: any free one."""

OPTIONAL_LISTEN = Kind("HOST:PORT", _listen_or_nothing)
"""As LISTEN, or empty."""

REACHED = Kind("HOST:PORT", _reached)
"""Where others reach somebody, so never port 0; or empty."""

ADDRESSES = Kind("HOST:PORT[,...]", _addresses, (str, list))
"""At least one address, as a tuple; in a TOML file also a list of strings."""
