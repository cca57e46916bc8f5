"""The disk of a store: what is on it outlives every crash, unless a fault says otherwise.

The product's own MemoryEngine works on it, so records are encoded, checksummed and decoded as they
are in LMDB. What is being written takes time (`SimLoop.run_in_executor`), and a crash in that time
leaves all of it or nothing, as LMDB's pages do.
"""

import random
from collections.abc import Callable

from storesvr.errors import EngineFailed
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Batch, Identity


class SimDisk(Disk):
    """One store's disk. told: called after each commit, in the instant in which it is durable;
    label: what checkers call it, which no other disk has.

    least_ns, excess_ns: what a commit takes; stalled_until_ns: none gets through before.
    """

    def __init__(
        self, identity: Identity, label: str, told: Callable[["SimDisk", Batch], None]
    ) -> None:
        super().__init__(identity)
        self.label = label
        self.told = told
        self.least_ns = 200_000
        self.excess_ns = 1_000_000
        self.stalled_until_ns = 0

    def commit_ns(self, now_ns: int, rng: random.Random) -> int:
        """How long a commit that begins now will take."""
        stall_ns = max(0, self.stalled_until_ns - now_ns)
        return stall_ns + self.least_ns + int(rng.expovariate(1.0) * self.excess_ns)

    def flip(self, section: int, rng: random.Random) -> str:
        """Turn one bit of a record over; says which."""
        value = bytearray(self.records[section])
        bit = rng.randrange(8 * len(value))
        value[bit // 8] ^= 1 << bit % 8
        self.records[section] = bytes(value)
        return f"bit {bit} of section {section} flipped"

    def tear(self, section: int) -> str:
        """Only the first half of a record is there."""
        value = self.records[section]
        self.records[section] = value[: len(value) // 2]
        return f"half of section {section} torn off"


class SimEngine(MemoryEngine):
    """storesvr.port.Engine over a SimDisk; says what it has made durable."""

    def __init__(self, disk: SimDisk) -> None:
        disk.opened = False  # a crash has let go of it
        super().__init__(disk)
        self._sim_disk = disk
        self._dead = False

    def commit(self, batch: Batch) -> None:
        if self._dead:
            raise EngineFailed("the process is dead")
        super().commit(batch)
        self._sim_disk.told(self._sim_disk, batch)
