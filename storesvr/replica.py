"""One replica of a Set: Fence, Raise, Release, Renew.  Keeps NRW-1, NRW-2, FENCE-1, LEASE-1.

docs/PROTOCOL.md, "StoreSvr". Every method runs to completion without suspending. Writing ones
only *stage*: the shell takes what several of them have staged, commits it, calls `committed`, and
only then lets their answers go. One batch is staged and committed at a time, and nothing is staged
while a commit runs; Renew and the reading methods may be called at any time.

Why each rule is as it is:

* Fence makes the promise visible to Renew first and reads the lease times after that; both in one
  step here. So a grant that came before the promise is in the fence's answer, and one that comes
  after it carries the notice. A lease is never alive and unaware.
* A promise that Renew has told of may still be lost in a crash before its commit, and its version
  would then be given to another promise. So Renew *tells* all, but *says* only the fence_version
  that is durable: what was told early is told again, and none is skipped after a crash.
* The durable counter is the greatest fence_version of all records: the last promise made is always
  in some record, and nothing else rewrites that field.
* Raise takes the greater max_seq, never the new one (NRW-1), and refuses epochs below the promise
  (FENCE-1).
* An epoch belongs to the first incarnation that raised with it: a raise of that same epoch by
  another is refused, so that a map that hands one epoch out twice cannot make two owners.
* A raise that arrives after the release of its own epoch (a late duplicate) still counts for
  max_seq, but does not bring the owner back. That is safe because an incarnation that has sent
  Release never serves again at that epoch; and the snapshot stays right because it is absolute:
  its distances count from the max_seq that it states itself, not from the record's.
* The first raise of a higher epoch drops the snapshot in the same commit: from then on the counters
  in it are behind what may have been handed out.
* A section is *sealed* where it has gone to another Set: at an epoch that is not below that of its
  owner. Then Fence and Raise refuse every epoch, however high, but for a Fence that says that it
  goes through seals: only who moves sections asks so, and it never raises. So nobody of this Set
  can win the section, whatever a map says, until whole records of a later epoch are put here (it
  has come back). Seal is refused below the promise, and below the owner's epoch, where it would not
  be one. Merging takes the greater seal and the greater owner_epoch: late or repeated copies of old
  records neither break a seal nor bring one back.
* A version of the membership is in force for what is asked as soon as it is staged, but it is said
  only once it is durable, and with it all that was staged before it: whoever hears of it may count
  on this replica never again answering to an older one, nor acknowledging what was asked under it.
* Anything corrupt takes the whole replica out of the quorum, for good: what else is wrong is
  unknown. It says so to whoever asks (NRW-2); Info, and reading what is sound, go on.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import NamedTuple, NoReturn

from clustermap.errors import ReplicaFailed
from seqsvr.invariants import require
from seqsvr.sections import Layout
from storesvr.adoption import adopted
from storesvr.bounds import MAX_SECTIONS, Bounds, Range, check_count, check_incarnation, malformed
from storesvr.errors import CorruptRecord, EngineCorrupt
from storesvr.leases import Leases
from storesvr.notices import Notices
from storesvr.port import Batch, Engine
from storesvr.records import Record, Snapshot
from storesvr.repair import ChunkDigest, digests, merge

MAX_TTL_NS = 60 * 10**9
SCAN_BYTES = 2 * 2**20  # of snapshots in one answer; its last record may go beyond


class FenceAnswer(NamedTuple):
    """entries: (record after the request, granted), one per section asked for, in order."""

    entries: list[tuple[Record, bool]]
    boot_grace_ns: int
    leases: list[tuple[int, int]]  # incarnation, nanoseconds left


class Replica:
    """The rules over an engine.

    engine: loaded here; now_ns: boot instant; boot_grace_ns: 0 only where an exclusive lock proves
    that every earlier holder is dead, else at least max_ttl_ns; max_ttl_ns: longest lease granted.
    identity: with the membership in force; durable_identity: with the one that may be told.
    """

    def __init__(
        self, engine: Engine, *, now_ns: int, boot_grace_ns: int = 0, max_ttl_ns: int = MAX_TTL_NS
    ) -> None:
        require(boot_grace_ns == 0 or boot_grace_ns >= max_ttl_ns, "boot grace covers every lease")
        self.identity = self.durable_identity = engine.identity
        self.bounds = Bounds(Layout(self.identity.section_size, self.identity.uid_limit))
        self.out_of_quorum = ""
        self._engine = engine
        self._adopting = False
        self._max_ttl_ns = max_ttl_ns
        self._grace_ns = max(boot_grace_ns, max_ttl_ns)
        self._leases = Leases(boot_now_ns=now_ns, boot_grace_ns=boot_grace_ns)
        self._notices = Notices()
        self._records: dict[int, Record] = {}  # staged, not committed
        self._snapshots: dict[int, Snapshot | None] = {}  # likewise; None: dropped
        self._known: set[int] = set()
        self._committing = False
        self._version = self._durable_version = 0
        try:
            self._recall(engine.load())
        except EngineCorrupt as error:
            self.out_of_quorum = str(error)

    @property
    def sections(self) -> int:
        """How many have a record."""
        return len(self._known)

    @property
    def fence_version(self) -> int:
        """The durable one."""
        return self._durable_version

    # Writing: these stage.

    def fence(
        self, ranges: Sequence[Range], now_ns: int, *, through_seal: bool = False
    ) -> FenceAnswer:
        """Promise an epoch for each section of the ranges; one that is not higher is refused.

        Sealed sections are, at any epoch, unless through_seal.

        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        asked = self.bounds.expand(ranges)
        records = self._read([section for section, _ in asked])
        entries = [
            self._fence_one(read, epoch, through_seal)
            for read, (_, epoch) in zip(records, asked, strict=True)
        ]
        leases = self._leases.left(now_ns)
        return FenceAnswer(entries, self._leases.grace_left_ns(now_ns), leases)

    def raise_max(self, incarnation: int, entries: Sequence[Range]) -> dict[int, int]:
        """Raise max_seq; entries: (section, epoch, max_seq). Returns refused section -> promise.

        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        self.bounds.raises(incarnation, entries)
        records = self._read([section for section, _, _ in entries])
        staged = self._records
        refused: dict[int, int] = {}
        for read, (section, epoch, max_seq) in zip(records, entries, strict=True):
            record = staged.get(section, read)
            _, promised, owner_epoch, owner, _, before, _, _, sealed = record
            if (
                promised == epoch == owner_epoch > sealed
                and owner == incarnation
                and max_seq > before
            ):
                staged[section] = record.at(max_seq)  # nearly always: its owner goes on
            elif not self._raise_one(record, incarnation, epoch, max_seq):
                refused[section] = promised
        return refused

    def release(
        self, incarnation: int, entries: Sequence[tuple[int, int, bytes]]
    ) -> dict[int, int]:
        """Mark sections released; entries: (section, epoch, snapshot). Returns as raise_max.

        Repeating it is no refusal, and does not replace the first snapshot.
        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        self.bounds.entries(incarnation, entries)
        for section, _, payload in entries:
            self.bounds.snapshot(section, payload)
        records = self._read([section for section, _, _ in entries])
        refused: dict[int, int] = {}
        for read, (section, epoch, payload) in zip(records, entries, strict=True):
            record = self._records.get(section, read)
            if not self._release_one(record, incarnation, epoch, payload):
                refused[section] = record.promised
        return refused

    def seal(self, entries: Sequence[tuple[int, int]]) -> dict[int, int]:
        """Seal sections; entries: (section, epoch). Returns refused section -> what to be above.

        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        self.bounds.seals(entries)
        records = self._read([section for section, _ in entries])
        refused: dict[int, int] = {}
        for read, (section, epoch) in zip(records, entries, strict=True):
            record = self._records.get(section, read)
            if epoch < max(record.promised, record.owner_epoch):
                refused[section] = max(record.promised, record.owner_epoch)
                continue
            new = self._promised(record._replace(sealed=max(record.sealed, epoch)), epoch)
            if new != record:  # the seal may have come before, by a copy, and the promise not
                self._stage(record, new)
        return refused

    def put_at_least(
        self, entries: Sequence[tuple[Record, bytes]], *, with_promises: bool = False
    ) -> int:
        """Merge records of another replica; returns how many rose.

        with_promises: they are whole, for a copy between Sets or memberships; else their `promised`
        is ignored. has_snapshot says that the bytes are a snapshot of the record's owner_epoch.
        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        check_count(len(entries))
        for theirs, payload in entries:
            self.bounds.theirs(theirs, payload)
        records = self._read([theirs.section for theirs, _ in entries])
        raised = 0
        for read, (theirs, payload) in zip(records, entries, strict=True):
            ours = self._records.get(theirs.section, read)
            new = merge(ours, theirs if with_promises else theirs._replace(promised=0))
            if new == ours:
                continue
            raised += 1
            if new.promised > ours.promised:
                new = self._promised(new._replace(promised=ours.promised), new.promised)
            if new.has_snapshot and not (ours.has_snapshot and ours.owner_epoch == new.owner_epoch):
                self._snapshots[new.section] = Snapshot(new.section, new.owner_epoch, payload)
            self._stage(ours, new)
        return raised

    def adopt(
        self, membership: int, store_id: int, now_ns: int, *, learning: bool, retired: bool
    ) -> None:
        """Take over a version of the membership (adoption.py); in force at once, for all that is
        staged or granted from now on. Raises ReplicaFailed FOREIGN, MALFORMED, MEMBERSHIP, CORRUPT.
        """
        self._check_in_quorum()
        self._staging()
        wanted = self.identity._replace(
            membership=membership, store_id=store_id, learning=learning, retired=retired
        )
        new = adopted(self.identity, wanted, blank=not (self._known or self._records))
        if new != self.identity:
            self.identity = new
            self._adopting = True
            self._leases.grace_anew(now_ns + self._grace_ns)

    def take_staged(self) -> Batch:
        """Everything staged. Until `committed` nothing more may be staged."""
        self._staging()
        self._committing = True
        snapshots = self._snapshots.items()
        return Batch(
            list(self._records.values()),
            [snapshot for _, snapshot in snapshots if snapshot is not None],
            [section for section, snapshot in snapshots if snapshot is None],
            self.identity if self._adopting else None,
        )

    def committed(self) -> None:
        """What `take_staged` gave is durable."""
        require(self._committing, "a commit was taken before it ended")
        self._committing = self._adopting = False
        self.durable_identity = self.identity
        self._known.update(self._records)
        self._records.clear()
        self._snapshots.clear()
        self._durable_version = self._version

    # Renewing: in memory only.

    def renew(
        self, incarnation: int, ttl_ns: int, since: int, since_store_id: int, now_ns: int
    ) -> tuple[int, list[Range]]:
        """Grant a lease and tell every promise made after `since`: (fence_version, promises).

        Raises ReplicaFailed MALFORMED, CORRUPT, OVERLOADED.
        """
        self._check_in_quorum()
        check_incarnation(incarnation)
        if not 1 <= ttl_ns <= self._max_ttl_ns:
            malformed(f"ttl_ns {ttl_ns} is not in 1..{self._max_ttl_ns}")
        # A version above ours was said by a store that this one is an older copy of.
        known = since_store_id == self.identity.store_id and since <= self._durable_version
        if not self._leases.grant(incarnation, ttl_ns, now_ns):
            raise ReplicaFailed("OVERLOADED", "too many lease holders")
        return self._durable_version, self._notices.since(since if known else 0)

    # Reading: what is committed.

    def scan(
        self, first: int, last: int, limit: int, *, with_snapshots: bool
    ) -> tuple[list[tuple[Record, bytes]], int]:
        """Records of first..last by rising section with their snapshots, and where to go on (0:
        nothing more). limit: 0 is taken for the most, 4096.

        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        last = self.bounds.span(first, last)
        limit = min(limit or MAX_SECTIONS, MAX_SECTIONS)
        try:
            records = self._engine.scan(first, last, limit)
            found = self._with_snapshots(records) if with_snapshots else [(r, b"") for r in records]
        except EngineCorrupt as error:
            self._leave_quorum(error)
        reached = found[-1][0].section if found else last
        more = (len(found) == limit or len(found) < len(records)) and reached < last
        return found, reached + 1 if more else 0

    def digest(self, first: int, last: int, chunk: int) -> list[ChunkDigest]:
        """Digests of the chunks of first..last that hold a record.

        Raises ReplicaFailed MALFORMED, CORRUPT.
        """
        last = self.bounds.span(first, last)
        if chunk < 1:
            malformed("chunk must be at least 1")
        try:
            return digests(self._engine.scan(first, last, last - first + 1), first, chunk)
        except EngineCorrupt as error:
            self._leave_quorum(error)

    def live_leases(self, now_ns: int) -> int:
        """How many incarnations hold a lease; any thread may ask."""
        return self._leases.live(now_ns)

    def leases_left(self, now_ns: int) -> list[tuple[int, int]]:
        """(incarnation, nanoseconds left) of each live lease."""
        return self._leases.left(now_ns)

    def boot_grace_left_ns(self, now_ns: int) -> int:
        """For how long leases of before the start may be alive."""
        return self._leases.grace_left_ns(now_ns)

    # One section.

    def _fence_one(self, read: Record, epoch: int, through_seal: bool) -> tuple[Record, bool]:
        record = self._records.get(read.section, read)
        if epoch <= record.promised:
            return record, False
        if record.is_sealed and not through_seal:
            return record, False
        new = self._promised(record, epoch)
        self._stage(record, new)
        return new, True

    def _raise_one(self, record: Record, incarnation: int, epoch: int, max_seq: int) -> bool:
        if epoch < record.promised:
            return False
        if record.is_sealed:
            return False
        if epoch == record.owner_epoch and incarnation != record.owner:
            return False
        version = record.fence_version
        if epoch > record.promised:
            version = self._promise(record.section, epoch)
        max_seq = max(record.max_seq, max_seq)
        if epoch > record.owner_epoch:
            rest = False, max_seq, version, False, record.sealed
            new = Record(record.section, epoch, epoch, incarnation, *rest)
        else:
            new = record._replace(promised=epoch, max_seq=max_seq, fence_version=version)
        if new != record:
            self._stage(record, new)
        return True

    def _release_one(self, record: Record, incarnation: int, epoch: int, payload: bytes) -> bool:
        if (record.owner_epoch, record.owner) != (epoch, incarnation):
            return False
        if record.released:
            return True
        if record.promised > epoch:
            return False
        if payload:
            self._snapshots[record.section] = Snapshot(record.section, epoch, payload)
        self._stage(record, record._replace(released=True, has_snapshot=bool(payload)))
        return True

    def _promised(self, record: Record, epoch: int) -> Record:
        """With this promise, if that is a rise."""
        if epoch <= record.promised:
            return record
        section, _, owner_epoch, owner, released, max_seq, _, has_snapshot, sealed = record
        version = self._promise(section, epoch)
        return Record(
            section, epoch, owner_epoch, owner, released, max_seq, version, has_snapshot, sealed
        )

    def _promise(self, section: int, epoch: int) -> int:
        self._version += 1
        self._notices.add(section, epoch, self._version)
        return self._version

    def _stage(self, old: Record, new: Record) -> None:
        if new.max_seq < old.max_seq or new.promised < old.promised:
            require(False, "NRW-1, FENCE-1: neither max_seq nor a promise ever falls")
        require(new.sealed >= old.sealed, "a seal is never taken off")
        if new.owner_epoch != old.owner_epoch:
            require(new.owner_epoch > old.owner_epoch, "the owner's epoch never falls")
            if old.has_snapshot and not new.has_snapshot:
                self._snapshots[new.section] = None
        self._records[new.section] = new

    # What is stored.

    def _recall(self, records: list[Record]) -> None:
        for record in sorted(records, key=lambda r: r.fence_version):
            if record.fence_version:
                self._notices.add(record.section, record.promised, record.fence_version)
                self._version = record.fence_version
        self._durable_version = self._version
        self._known = {record.section for record in records}

    def _read(self, sections: Iterable[int]) -> list[Record]:
        """As committed, a record of zeros for what was never written; staged ones lie over it."""
        self._check_in_quorum()
        self._staging()
        wanted = list(sections)
        try:
            stored = self._engine.read(wanted)
        except EngineCorrupt as error:
            self._leave_quorum(error)
        return [record or Record(section) for section, record in zip(wanted, stored, strict=True)]

    def _with_snapshots(self, records: Sequence[Record]) -> list[tuple[Record, bytes]]:
        """As many of the records as SCAN_BYTES allow."""
        found, size = [], 0
        sections = [record.section for record in records if record.snapshot_epoch]
        with closing(self._engine.read_snapshots(sections)) as snapshots:
            for record in records:
                payload = b""
                if epoch := record.snapshot_epoch:
                    snapshot = next(snapshots)
                    if snapshot is None or snapshot.epoch != epoch:
                        text = "its snapshot is missing or of another epoch"
                        raise CorruptRecord(record.section, text)
                    payload = snapshot.payload
                found.append((record, payload))
                size += len(payload)
                if size >= SCAN_BYTES:
                    break
        return found

    def _staging(self) -> None:
        require(not self._committing, "nothing is staged while a commit runs")

    def _leave_quorum(self, error: EngineCorrupt) -> NoReturn:
        self.out_of_quorum = self.out_of_quorum or str(error)
        raise ReplicaFailed("CORRUPT", str(error)) from error

    def _check_in_quorum(self) -> None:
        if self.out_of_quorum:
            raise ReplicaFailed("CORRUPT", f"out of the quorum: {self.out_of_quorum}")
