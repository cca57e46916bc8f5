"""The engine port: what the replica needs of a disk. Implemented by engine.py and memory.py.

One suite runs on both: tests/integration/test_storesvr_engine_contract.py.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple, Protocol

from storesvr.records import Record, Snapshot


class Identity(NamedTuple):
    """Who a store is; written at its creation, and what follows store_id by Adopt.

    store_id: random, drawn at creation, 0 in what a caller asks for ("whichever it is");
    section_size, uid_limit: the cluster's layout; membership: version of the Set's membership;
    learning, retired: not counted in it yet, or not any more.
    """

    cluster: str
    set: str
    replica: str
    section_size: int
    uid_limit: int
    membership: int = 1
    store_id: int = 0
    learning: bool = False
    retired: bool = False


class Batch(NamedTuple):
    """What one commit writes. A section stands at most once in each of the first three.

    identity: the new one; None: it stays. Only its membership, learning and retired ever change.
    """

    records: Sequence[Record]
    snapshots: Sequence[Snapshot] = ()
    dropped: Sequence[int] = ()  # sections whose snapshot row is deleted, if there is one
    identity: Identity | None = None


class Engine(Protocol):
    """Records and snapshots by section, verified at each read, durable at each commit.

    Reads see the last finished commit. One caller at a time, except that reads may run while a
    commit is in progress in another thread.
    """

    @property
    def identity(self) -> Identity:
        """As stored."""
        ...

    def load(self) -> list[Record]:
        """Every record by rising section; called once, before any commit.

        Raises CorruptRecord, and EngineCorrupt where records are missing.
        """
        ...

    def read(self, sections: Iterable[int]) -> list[Record | None]:
        """One per section, None: never written. Raises EngineCorrupt."""
        ...

    def scan(self, first: int, last: int, limit: int) -> list[Record]:
        """At most `limit` records of first..last by rising section. Raises EngineCorrupt."""
        ...

    def read_snapshots(self, sections: Iterable[int]) -> Generator[Snapshot | None, None, None]:
        """One per section, None: there is none. Each is read when it is asked for; close it where
        it was not run to its end. Raises EngineCorrupt.
        """
        ...

    def commit(self, batch: Batch) -> None:
        """All of `batch` or nothing; on disk when it returns. Blocks.

        Raises EngineFailed, after which the engine must not be used again.
        """
        ...

    def close(self) -> None:
        """Let go of everything held. Idempotent."""
        ...
