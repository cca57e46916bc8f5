"""Which nodes of a Set are given up. Pure: pictures, probe results and time in, verdicts out.

A node is given up only on one of two grounds (docs/PROTOCOL.md, section 5):

* Its registration is gone **and** a direct probe that was begun after that failed. One failure is
  enough where something at the address says that it is not there (GONE); silence counts only twice
  in a row, since the node, the network or we may have been stopped for a moment. As long as a probe
  finds it alive it stays, and is probed again every round.
* It says itself, for longer than two lease times, that it cannot hold its lease, while another node
  of the Set can. Counted on our clock, from the instant at which both were first seen.

So etcd that loses everybody's registration moves nothing, and neither does an arbiter that is new:
nothing that it has not seen and probed itself counts. A verdict ends when the node registers again,
says that it is leased, or answers. A wrong verdict costs a hand-over, never a promise (LEASE-1 is
kept by the replicas).

An absence is told apart from later ones of the same node by its spell: what a probe of an earlier
one says no longer counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from clustermap.nodes import Node

SILENCES = 2
"""Probes in a row that must end in silence."""


class Outcome(Enum):
    """What a probe found at a node's address."""

    ALIVE = "alive"
    GONE = "gone"
    """Nobody listens there, or it is another incarnation."""
    SILENT = "silent"
    """No answer in time, or none that means anything."""


class Probe(NamedTuple):
    """To be sent: does this incarnation live at this address?"""

    incarnation: int
    address: str
    spell: int


@dataclass(slots=True)
class _Absence:
    """A node that has sections, or is to get some, and is not registered."""

    address: str
    spell: int
    next_ns: int
    in_flight: bool = False
    silences: int = 0
    given_up: bool = False


class Detection:
    """Of one Set, from an election to its loss.

    lease_ttl_ns: of the nodes; round_ns: between two probes of a node.
    """

    def __init__(self, lease_ttl_ns: int, round_ns: int) -> None:
        self._patience_ns = 2 * lease_ttl_ns
        self._round_ns = round_ns
        self._absent: dict[int, _Absence] = {}
        self._unleased: dict[int, int] = {}
        self._lapsed: set[int] = set()
        self._spells = 0

    @property
    def given_up(self) -> frozenset[int]:
        """Incarnations; what is decided by this must expect that it still holds in the map."""
        absent = (key for key, absence in self._absent.items() if absence.given_up)
        return frozenset(self._lapsed.union(absent))

    @property
    def absent(self) -> frozenset[int]:
        """Incarnations that are not registered although the assignments name them."""
        return frozenset(self._absent)

    def see(
        self,
        named: Mapping[int, str],
        registered: Mapping[int, Node | None],
        now_ns: int,
    ) -> None:
        """A picture that was read from the map just now; one that is merely remembered never.

        named: incarnation -> address, of those that the assignments name; registered: who has a
        registration, None where it cannot be read (which is no absence).
        """
        gone = named.keys() - registered.keys()
        self._absent = {key: absence for key, absence in self._absent.items() if key in gone}
        for key in gone - self._absent.keys():
            self._spells += 1
            self._absent[key] = _Absence(named[key], self._spells, now_ns)
        readable = [node for node in registered.values() if node is not None]
        leased = any(node.leased for node in readable)
        unleased = [node.incarnation for node in readable if not node.leased and leased]
        self._unleased = {key: self._unleased.get(key, now_ns) for key in unleased}
        self._lapsed &= self._unleased.keys()

    def pass_time(self, now_ns: int) -> None:
        """Give up those that have been without a lease for too long."""
        for key, since_ns in self._unleased.items():
            if now_ns - since_ns > self._patience_ns:
                self._lapsed.add(key)

    def due(self, now_ns: int) -> list[Probe]:
        """Probes to begin now; each must come back by `probed`."""
        probes = []
        for key, absence in sorted(self._absent.items()):
            if not absence.in_flight and absence.next_ns <= now_ns:
                absence.in_flight = True
                absence.next_ns = now_ns + self._round_ns
                probes.append(Probe(key, absence.address, absence.spell))
        return probes

    def probed(self, probe: Probe, outcome: Outcome) -> None:
        """A probe has come to its end."""
        absence = self._absent.get(probe.incarnation)
        if absence is None or absence.spell != probe.spell:
            return
        absence.in_flight = False
        absence.silences = absence.silences + 1 if outcome is Outcome.SILENT else 0
        if outcome is Outcome.ALIVE:
            absence.given_up = False
        elif outcome is Outcome.GONE or absence.silences >= SILENCES:
            absence.given_up = True

    def next_ns(self) -> int | None:
        """When there is something to do although nothing has happened; None: never."""
        times = [absence.next_ns for absence in self._absent.values() if not absence.in_flight]
        times += [
            since_ns + self._patience_ns + 1
            for key, since_ns in self._unleased.items()
            if key not in self._lapsed
        ]
        return min(times, default=None)
