"""The network between hosts: every message takes its own time, and may not arrive at all.

Weather is per direction, so a cut one way is one of its settings. A message that was under way
when the weather changed keeps its fate.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simsvr.hosts import Host
from simsvr.loop import SimLoop


@dataclass(slots=True)
class Weather:
    """One direction between two hosts. delay_ns: least and typical excess; shares are 0..1.

    late: share of messages that take up to late_ns more, and so are overtaken by others.
    """

    least_ns: int = 50_000
    excess_ns: int = 200_000
    loss: float = 0.0
    duplicates: float = 0.0
    late: float = 0.0
    late_ns: int = 0
    cut: bool = False

    def told(self) -> str:
        """For the transcript."""
        if self.cut:
            return "cut"
        return (
            f"loss {self.loss} duplicates {self.duplicates} late {self.late} by "
            f"{self.late_ns / 1e9} s excess {self.excess_ns / 1e9} s"
        )


FAIR = Weather()


class Network:
    """Messages between hosts, by name; `hosts` holds the one of each name that lives now."""

    def __init__(self, loop: SimLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.hosts: dict[str, Host] = {}
        self.everywhere = Weather()
        self.sent = 0
        self.dark: set[str] = set()  # names of hosts without power
        self._weather: dict[tuple[str, str], Weather] = {}

    def between(self, source: str, target: str) -> Weather:
        return self._weather.get((source, target), self.everywhere)

    def set_weather(self, source: str, target: str, weather: Weather | None) -> None:
        """None: as everywhere."""
        if weather is None:
            self._weather.pop((source, target), None)
        else:
            self._weather[source, target] = weather

    def clear(self) -> None:
        """Fair weather, everywhere."""
        self._weather.clear()
        self.everywhere = Weather()

    def send(self, source: str, target: str, deliver: Callable[[], None]) -> bool:
        """Deliver, in no host's context, or never. Whether it is under way."""
        self.sent += 1
        delay_ns = self.delay_ns(source, target)
        if delay_ns is None:
            return False
        self.at(delay_ns, deliver)
        return True

    def send_to(self, source: str, host: Host, deliver: Callable[..., None], *args: Any) -> bool:
        """As `send`, to a process: in its context, once it runs, if it still does."""
        self.sent += 1
        delay_ns = self.delay_ns(source, host.name)
        if delay_ns is None:
            return False
        self.loop.at_ns(self.loop.now_ns + delay_ns, deliver, *args, context=host.context)
        return True

    def delay_ns(self, source: str, target: str) -> int | None:
        """How long one message takes now; None: for ever."""
        weather, rng = self.between(source, target), self.rng
        if weather.cut or (weather.loss and rng.random() < weather.loss):
            return None
        delay_ns = weather.least_ns + int(rng.expovariate(1.0) * weather.excess_ns)
        if weather.late and rng.random() < weather.late:
            delay_ns += int(rng.random() * weather.late_ns)
        return delay_ns

    def doubles(self, source: str, target: str) -> bool:
        """Whether a message that may be doubled is."""
        share = self.between(source, target).duplicates
        return bool(share) and self.rng.random() < share

    def at(self, delay_ns: int, deliver: Callable[[], None]) -> None:
        """After that much true time."""
        self.loop.at_ns(self.loop.now_ns + delay_ns, deliver)

    def powered(self, name: str) -> bool:
        """Whether there is at least a kernel."""
        return name not in self.dark

    def alive(self, name: str) -> Host | None:
        host = self.hosts.get(name)
        return None if host is None or host.crashed else host
