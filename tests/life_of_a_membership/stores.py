"""The host of one replica: a disk that survives, a process that does not."""

from collections.abc import Callable

from clustermap.errors import ReplicaFailed
from clustermap.model import Replica as Named
from storesvr.adoption import check_membership
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Identity
from storesvr.records import Record
from storesvr.replica import Replica

SECTION = 0
TTL = 1_000


class Store:
    """now: its host's clock; graceful: False leaves rule 3 out."""

    def __init__(self, number: int, now: Callable[[], int], graceful: bool) -> None:
        self.named = Named(f"store-{number}", f"s{number}:1", number)
        self._now = now
        self._graceful = graceful
        self._disk = Disk(Identity("c", "s", self.named.name, 4, 4, 1, number))
        self.boot()

    @property
    def identity(self) -> Identity:
        return self.replica.identity

    def boot(self) -> None:
        self._disk.opened = False
        self._engine = MemoryEngine(self._disk)
        self.replica = Replica(self._engine, now_ns=self._now(), boot_grace_ns=TTL, max_ttl_ns=TTL)

    def ask(self, version: int, question: Callable[[Replica, int], object]) -> object:
        """What the replica says to a request of this version; a ReplicaFailed where it refuses."""
        try:
            check_membership(self.identity, version, counting=True)
            said = question(self.replica, self._now())
        except ReplicaFailed as failed:
            return failed
        self._commit()
        return said

    def adopt(self, version: int, *, learning: bool = False, retired: bool = False) -> bool:
        """Whether it did."""
        leases = self.replica._leases
        before = leases._grace_end_ns
        try:
            self.replica.adopt(
                version, self.named.store_id, self._now(), learning=learning, retired=retired
            )
        except ReplicaFailed:
            return False
        if not self._graceful:
            leases._grace_end_ns = before
        self._commit()
        return True

    def read(self, version: int | None) -> list[tuple[Record, bytes]] | None:
        """The records, for a copy; None: it is not at this version, which may be any (None)."""
        if version not in (None, self.identity.membership) or self.identity.retired:
            return None
        found, _ = self.replica.scan(SECTION, SECTION, 1, with_snapshots=True)
        return found

    def put(self, version: int, records: list[tuple[Record, bytes]]) -> bool:
        """Whether they were taken."""
        if self.identity.membership != version or self.identity.retired:
            return False
        self.replica.put_at_least(records, with_promises=True)
        self._commit()
        return True

    def _commit(self) -> None:
        self._engine.commit(self.replica.take_staged())
        self.replica.committed()
