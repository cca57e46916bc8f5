"""What goes to and fro between owners and replicas, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fence:
    owner: int
    epoch: int


@dataclass(frozen=True)
class Raise:
    owner: int
    epoch: int
    max_seq: int


@dataclass(frozen=True)
class Release:
    owner: int
    epoch: int
    snapshot: bytes


@dataclass(frozen=True)
class Renew:
    """since: fence_version and the store id that it is of; sent_ns: on the owner's clock."""

    owner: int
    since: tuple[int, int]
    sent_ns: int


Kind = Fence | Raise | Release | Renew


@dataclass(frozen=True)
class Request:
    """One copy of a question, on its way to one replica."""

    store: int
    owner: int
    id: int
    kind: Kind


@dataclass(frozen=True)
class Answer:
    """said: what the replica's method returned, or the ReplicaFailed that it raised."""

    store: int
    owner: int
    id: int
    kind: Kind
    said: object
