"""What the cluster map says of all Sets, document by document: nobody's fault spoils another's.

A document that cannot be read, or stands under a key that is not its own, is logged once and keeps
the place of the last good one of its key; so its Set's routes stay as they were, and the version of
the routing table, which is the sum over all Sets (clustermap/model.py), does not fall by it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from clustermap.coordinator import Versioned
from clustermap.errors import MapCorrupt
from clustermap.model import (
    ASSIGNMENTS_PREFIX,
    SETS_PREFIX,
    Assignments,
    Cluster,
    SetSpec,
    routing_table,
)
from seqsvr.routing import RoutingTable

logger = logging.getLogger(__name__)

T = TypeVar("T")


class MapView:
    """The Sets and their assignments as last read."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._specs = _Documents(SETS_PREFIX, SetSpec.from_json, lambda spec: spec.name)
        self._assignments = _Documents(
            ASSIGNMENTS_PREFIX, Assignments.from_json, lambda document: document.set
        )
        self._peers: dict[str, str] | None = None

    def take(self, picture: Mapping[str, Versioned]) -> bool:
        """Read what has changed; whether anything has."""
        specs = self._specs.take(picture)
        assignments = self._assignments.take(picture)
        if assignments:
            self._peers = None
        return assignments or specs

    def spec(self, set_name: str) -> SetSpec | None:
        """What the map says of a Set; None if it says nothing."""
        return self._specs.good.get(set_name)

    def assignments(self, set_name: str) -> Assignments | None:
        """The assignments of a Set; None if the map has none."""
        return self._assignments.good.get(set_name)

    def peers(self) -> dict[str, str]:
        """Address of a node -> its peer address, for those that have one of their own."""
        if self._peers is None:
            # A process that took the port of another one has later epochs.
            entries = [e for document in self._assignments.good.values() for e in document.entries]
            if not any(entry.peer_address for entry in entries):
                entries.clear()
            entries.sort(key=lambda entry: entry.epoch)
            self._peers = {entry.address: entry.owner.reached for entry in entries}
        return self._peers

    def table(self) -> RoutingTable:
        """What clients see of it. A Set whose assignments contradict the others' has no routes."""
        specs, documents = self._specs.good, self._assignments.good
        try:
            return routing_table(self._cluster, specs, documents)
        except MapCorrupt as corrupt:
            logger.error("event=map_corrupt error=%s", corrupt)
        sound: dict[str, Assignments] = {}
        for name in sorted(documents):  # the same ones at every node
            sound[name] = documents[name]
            try:
                routing_table(self._cluster, specs, sound)
            except MapCorrupt:
                sound[name] = replace(documents[name], entries=())
        return routing_table(self._cluster, specs, sound)


class _Documents(Generic[T]):
    """The documents under one prefix by their names, parsed once for each time they are written."""

    def __init__(
        self, prefix: str, parse: Callable[[bytes], T], name_of: Callable[[T], str]
    ) -> None:
        self.good: dict[str, T] = {}
        self._prefix = prefix
        self._parse = parse
        self._name_of = name_of
        self._seen: dict[str, Versioned] = {}

    def take(self, picture: Mapping[str, Versioned]) -> bool:
        """Whether the picture shows anything else than the one before."""
        found = {key: held for key, held in picture.items() if key.startswith(self._prefix)}
        before, self._seen = self._seen, found
        gone = before.keys() - found.keys()
        for key in gone:
            self.good.pop(key.removeprefix(self._prefix), None)
        changed = [key for key, held in found.items() if before.get(key) != held]
        for key in changed:
            self._read(key, found[key].value)
        return bool(gone or changed)

    def _read(self, key: str, raw: bytes) -> None:
        name = key.removeprefix(self._prefix)
        try:
            document = self._parse(raw)
            if self._name_of(document) != name:
                raise MapCorrupt(f"{key!r} holds the document of {self._name_of(document)!r}")
        except MapCorrupt as corrupt:
            logger.error("event=map_corrupt key=%s error=%s", key, corrupt)
        else:
            self.good[name] = document
