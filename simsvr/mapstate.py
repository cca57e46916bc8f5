"""What the simulated cluster map holds: keys with their revisions, their history, leases. Pure.

Every transaction that changes something raises the revision by one and is one entry of the history.
Views are never changed, only replaced, so that an old one can still be read from.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from clustermap.coordinator import Change, Listing, Versioned
from clustermap.errors import MapUnavailable

ELECTIONS_PREFIX = "elections/"
_PAST_VIEWS = 32


@dataclass(frozen=True, slots=True)
class Held:
    """A key's value, the revision at which it was last written, and its lease (0: none)."""

    value: bytes
    revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read of one key says: the map's revision, the key's lease (None: there is no such
    key) and the revision at which it was last written (0 likewise).
    """

    revision: int
    lease: int | None
    written_at: int


@dataclass(frozen=True, slots=True)
class View:
    """The whole map at one revision."""

    revision: int
    entries: dict[str, Held]

    def listing(self, prefix: str) -> Listing:
        found = sorted(key for key in self.entries if key.startswith(prefix))
        held = {key: self.entries[key] for key in found}
        return Listing(self.revision, {k: Versioned(h.value, h.revision) for k, h in held.items()})

    def written_at(self, key: str) -> int:
        """0 where it does not exist."""
        held = self.entries.get(key)
        return 0 if held is None else held.revision

    def lease_of(self, key: str) -> int | None:
        """None where the key does not exist."""
        held = self.entries.get(key)
        return None if held is None else held.lease

    def look(self, key: str) -> Seen:
        return Seen(self.revision, self.lease_of(key), self.written_at(key))


class Compacted(MapUnavailable):
    """Changes that old are no longer known."""


class MapState:
    """A map of revision 1, with nothing in it. leases: id -> seconds to live."""

    def __init__(self) -> None:
        self.view = View(1, {})
        self.past: deque[View] = deque(maxlen=_PAST_VIEWS)
        self.leases: dict[int, int] = {}
        self.compacted = 1
        self._history: list[Change] = []  # those of revisions compacted + 1, ...

    def copy(self) -> "MapState":
        """As a backup has it: everything but the past views."""
        twin = MapState()
        twin.view = self.view
        twin.leases = dict(self.leases)
        twin.compacted = self.compacted
        twin._history = list(self._history)
        return twin

    def transact(self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]) -> int | None:
        """As Coordinator.transact."""
        for key in puts:
            if key.startswith(ELECTIONS_PREFIX) or self.view.lease_of(key):
                raise ValueError(f"{key!r} is bound to its holder, who alone writes it")
        if any(self.view.written_at(key) != revision for key, revision in expected.items()):
            return None
        self._write(puts, 0)
        return self.view.revision

    def bind(self, key: str, value: bytes, lease: int) -> int:
        """Write a key that dies with its lease, whoever's registration it was before."""
        self._require(lease)
        if self.view.lease_of(key) == 0:
            raise ValueError(f"{key!r} is a lasting document, not a registration")
        self._write({key: value}, lease)
        return self.view.revision

    def rebind(self, key: str, value: bytes, lease: int, revision: int) -> int | None:
        """Write it anew if it is what the lease's holder wrote at `revision`, else None."""
        self._require(lease)
        if self.view.lease_of(key) != lease or self.view.written_at(key) != revision:
            return None
        self._write({key: value}, lease)
        return self.view.revision

    def drop(self, lease: int) -> None:
        """End a lease, if there is one, with its keys."""
        self.leases.pop(lease, None)
        held = self.view.entries.items()
        self._write({key: None for key, its in held if its.lease == lease}, 0)

    def compact(self) -> None:
        """Forget all that was before now."""
        self.compacted = self.view.revision
        self._history.clear()

    def after(self, prefix: str, told: int) -> list[Change]:
        """Later changes under a prefix. Raises Compacted."""
        told = max(told, 1)  # there is nothing before the empty map
        if told < self.compacted:
            raise Compacted(f"changes before revision {self.compacted} are no longer known")
        changes = []
        for change in self._history[told - self.compacted :]:
            meant = {key: held for key, held in change.entries.items() if key.startswith(prefix)}
            if meant:
                changes.append(Change(change.revision, meant))
        return changes

    def _require(self, lease: int) -> None:
        if lease not in self.leases:
            raise MapUnavailable("requested lease not found")

    def _write(self, puts: Mapping[str, bytes | None], lease: int) -> None:
        entries = dict(self.view.entries)
        revision = self.view.revision + 1
        changed: dict[str, Versioned | None] = {}
        for key, value in puts.items():
            if value is not None:
                entries[key] = Held(value, revision, lease)
                changed[key] = Versioned(value, revision)
            elif entries.pop(key, None) is not None:
                changed[key] = None
        if changed:
            self.past.append(self.view)
            self.view = View(revision, entries)
            self._history.append(Change(revision, changed))
