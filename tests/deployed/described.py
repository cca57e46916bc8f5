"""One process as a description has it. Pure values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ANY, OWN = "0.0.0.0", "127.0.0.1"
STATE = "/var/lib/"
CERTS = "/etc/seqsvr/certs"


@dataclass(frozen=True)
class Probe:
    """A look at the health `service` on `port`; alive: what fails it is killed."""

    port: int
    service: str
    alive: bool


@dataclass(frozen=True)
class Described:
    """A process: a program with its arguments, on a host of its own that others know by `hosts`.

    stop_signal, stop_s: how it is stopped, and when it is killed; notifies: it tells its supervisor
    when it serves; files: path -> content of what it reads.
    """

    program: str
    argv: tuple[str, ...]
    hosts: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    stop_s: float = 0.0
    before_stop_s: float = 0.0
    probes: tuple[Probe, ...] = ()
    notifies: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.hosts[0]


def substituted(text: str, own: str, addresses: Mapping[str, str], folder: str) -> str:
    """The same with loopback addresses for hosts, and `folder` for where state is kept."""
    for host in sorted(addresses, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?=:\d)", addresses[host], text)
    for host in (ANY, OWN):
        text = re.sub(rf"(?<![\w.]){re.escape(host)}(?=:\d)", own, text)
    return text.replace(STATE, f"{folder}/")


def seconds(text: str | int) -> float:
    """Of 15, "15s" or "1m30s"."""
    parts = re.findall(r"([\d.]+)(h|min|m|s|)", str(text))
    unit = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}
    return sum(float(number) * unit[name] for number, name in parts)


def asked(command: Sequence[str], *, alive: bool) -> Probe:
    """By `seqctl health HOST:PORT [--service NAME]`."""
    assert command[:2] == ["seqctl", "health"], command
    service = command[4] if command[3:4] == ["--service"] else ""
    return Probe(int(command[2].rpartition(":")[2]), service, alive)


def of_program(described: Sequence[Described], program: str) -> list[Described]:
    """Those that run it, of which there is one at least."""
    found = [one for one in described if one.program == program]
    assert found, f"nothing runs {program}"
    return found
