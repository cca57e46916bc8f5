"""The host of one replica: a disk that survives, a process that does not."""

from collections.abc import Callable

from clustermap.errors import ReplicaFailed
from life_of_a_section.messages import Answer, Fence, Kind, Raise, Release, Renew, Request
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Identity
from storesvr.replica import Replica

SECTION = 0
SIZE = 4
TTL = 1_000


class Store:
    """One replica. now: its host's clock; durable: the max_seq that is on disk."""

    def __init__(self, index: int, now: Callable[[], int]) -> None:
        self.index = index
        self.durable = 0
        self._now = now
        self._disk = Disk(Identity("c", "s", f"store-{index}", SIZE, SIZE, 1, index + 1))
        self.boot()

    def boot(self) -> None:
        """Also after a crash: what was staged is gone, and so is every lease."""
        self._disk.opened = False
        self._engine = MemoryEngine(self._disk)
        self.replica = Replica(self._engine, now_ns=self._now(), boot_grace_ns=TTL, max_ttl_ns=TTL)
        self._held_back: list[Answer] = []

    def spoil(self) -> None:
        """A byte of max_seq reads as 0 from now on."""
        value = self._disk.records.get(SECTION)
        if value is not None:
            self._disk.records[SECTION] = value[:47] + b"\0" + value[48:]

    def take(self, request: Request) -> list[Answer]:
        """What leaves at once; what writes is held back until `commit`."""
        try:
            said = self._handled(request.kind)
        except ReplicaFailed as failed:
            said = failed
        answer = Answer(self.index, request.owner, request.id, request.kind, said)
        if isinstance(request.kind, Renew) or isinstance(said, ReplicaFailed):
            return [answer]
        self._held_back.append(answer)
        return []

    def _handled(self, kind: Kind) -> object:
        if isinstance(kind, Fence):
            return self.replica.fence([(SECTION, SECTION, kind.epoch)], self._now())
        if isinstance(kind, Raise):
            return self.replica.raise_max(kind.owner, [(SECTION, kind.epoch, kind.max_seq)])
        if isinstance(kind, Release):
            return self.replica.release(kind.owner, [(SECTION, kind.epoch, kind.snapshot)])
        return self.replica.renew(kind.owner, TTL, *kind.since, self._now())

    def commit(self) -> list[Answer]:
        """What was held back may leave."""
        if self.replica.out_of_quorum:
            return []
        batch = self.replica.take_staged()
        self._engine.commit(batch)
        self.replica.committed()
        for record in batch.records:
            assert record.max_seq >= self.durable, "NRW-1"
            self.durable = record.max_seq
        answers, self._held_back = self._held_back, []
        return answers

    def snapshot(self, epoch: int) -> bytes | None:
        """What the owner of that epoch left here."""
        try:
            found, _ = self.replica.scan(SECTION, SECTION, 1, with_snapshots=True)
        except ReplicaFailed:
            return None
        return found[0][1] if found and found[0][0].snapshot_epoch == epoch else None
