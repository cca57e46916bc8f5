"""The replica against a dictionary that does nothing clever. NRW-1, FENCE-1, LEASE-1.

The model keeps, for each section, what a replica must remember, and for each promise the moment it
was made. A crash throws away what was staged. Every holder renews with what it was last told, and
must have heard of each promise by the time it gets a grant.
"""

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clustermap.errors import ReplicaFailed
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Identity
from storesvr.records import Record
from storesvr.replica import Replica

SECTIONS = st.integers(0, 3)
# Mostly an epoch relative to what stands, so that long lives of a section are reached: see `near`.
STEPS = st.sampled_from([0, 0, 0, 1, 1, 1, -1, 2])
HOLDERS = st.integers(0, 3)  # 0: whoever owns the section
TTL = 100


@dataclass
class Row:
    """One section as the protocol words it."""

    promised: int = 0
    max_seq: int = 0
    owner_epoch: int = 0
    owner: int = 0
    released: bool = False
    snapshot: bytes = b""
    sealed: int = 0

    @property
    def is_sealed(self) -> bool:
        return 0 < self.sealed >= self.owner_epoch


@dataclass
class Holder:
    since: int = 0
    store_id: int = 0
    heard: dict[int, int] = field(default_factory=dict)


class ReplicaAgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk(Identity("c", "set-0", "store-0", 10, 40, 1, 7))
        self.now = 0
        self.rows = {section: Row() for section in range(4)}
        self.durable = {section: Row() for section in range(4)}
        self.holders = {who: Holder() for who in (1, 2, 3)}
        self.leases: dict[int, int] = {}
        self.standing = self.durable_standing = (1, False, False)  # membership, learning, retired
        self.seen_max = dict.fromkeys(range(4), 0)
        self.committing = False
        self.boot()

    def boot(self) -> None:
        # What was heard of a promise that a crash undid says nothing about a promise made later.
        for holder in self.holders.values():
            for section in holder.heard:
                holder.heard[section] = min(holder.heard[section], self.rows[section].promised)
        self.disk.opened = False
        self.engine = MemoryEngine(self.disk)
        self.replica = Replica(self.engine, now_ns=self.now, boot_grace_ns=TTL, max_ttl_ns=TTL)
        self.boot_at = self.now
        self.leases.clear()
        self.committing = False

    staging = precondition(lambda self: not self.committing)

    def near(self, section: int, step: int, who: int) -> tuple[int, int]:
        """An epoch near the owner's or the promise, and who acts (0: the owner)."""
        row = self.rows[section]
        base = row.owner_epoch if who == 0 else row.promised
        return max(1, base + step), who or row.owner or 1

    @staging
    @rule(first=SECTIONS, length=st.integers(0, 2), step=STEPS, through=st.booleans())
    def fence(self, first: int, length: int, step: int, through: bool) -> None:
        epoch, _ = self.near(first, step, 1)
        last = min(first + length, 3)
        answer = self.replica.fence([(first, last, epoch)], self.now, through_seal=through)
        for section, (record, granted) in zip(range(first, last + 1), answer.entries, strict=True):
            row = self.rows[section]
            assert granted == (epoch > row.promised and (through or not row.is_sealed))
            row.promised = epoch if granted else row.promised
            assert record.sealed == row.sealed
            self.check(section, record.promised, row)
            assert record.max_seq == row.max_seq
            snapshot_epoch = row.owner_epoch if row.released and row.snapshot else 0
            assert record.snapshot_epoch == snapshot_epoch
        alive = {who: end - self.now for who, end in self.leases.items() if end > self.now}
        assert dict(answer.leases) == alive
        assert answer.boot_grace_ns == max(0, self.boot_at + TTL - self.now)

    @staging
    @rule(section=SECTIONS, step=STEPS, who=HOLDERS, max_seq=st.integers(0, 50))
    def raise_max(self, section: int, step: int, who: int, max_seq: int) -> None:
        epoch, who = self.near(section, step, who)
        refused = self.replica.raise_max(who, [(section, epoch, max_seq)])
        row = self.rows[section]
        stolen = epoch == row.owner_epoch and who != row.owner
        if epoch < row.promised or stolen or row.is_sealed:
            assert refused == {section: row.promised}
            return
        assert refused == {}
        row.promised = epoch
        row.max_seq = max(row.max_seq, max_seq)
        if epoch > row.owner_epoch:
            row.owner_epoch, row.owner, row.released, row.snapshot = epoch, who, False, b""

    @staging
    @rule(section=SECTIONS, step=STEPS, who=HOLDERS, snapshot=st.binary(max_size=2))
    def release(self, section: int, step: int, who: int, snapshot: bytes) -> None:
        epoch, who = self.near(section, step, who)
        refused = self.replica.release(who, [(section, epoch, snapshot)])
        row = self.rows[section]
        if (epoch, who) != (row.owner_epoch, row.owner):
            assert refused == {section: row.promised}
        elif row.released:
            assert refused == {}
        elif row.promised > epoch:
            assert refused == {section: row.promised}
        else:
            assert refused == {}
            row.released, row.snapshot = True, snapshot

    @staging
    @rule(step=st.integers(-1, 2), learning=st.booleans(), retired=st.booleans())
    def adopt(self, step: int, learning: bool, retired: bool) -> None:
        """In force at once; durable with the next commit, and with whatever else that has."""
        version, was_learning, was_retired = self.standing
        wanted = (version + step, learning, retired)
        blank = all(row == Row() for row in self.rows.values())
        if (learning and retired) or version + step < 1:
            verdict = "MALFORMED"
        elif step < 0:
            verdict = "MEMBERSHIP"
        elif step > 0:
            verdict = "MEMBERSHIP" if was_learning and not (learning or retired) else ""
        elif wanted == self.standing or (learning and (blank or was_retired)):
            verdict = ""
        else:
            verdict = "" if was_learning and not retired else "MEMBERSHIP"
        try:
            self.replica.adopt(version + step, 7, self.now, learning=learning, retired=retired)
        except ReplicaFailed as failed:
            assert failed.reason == verdict
            return
        assert verdict == ""
        if wanted != self.standing:
            self.standing = wanted
            self.boot_at = self.now

    @staging
    @rule(section=SECTIONS, snapshot=st.binary(max_size=2), more=st.integers(0, 50))
    def hand_over(self, section: int, snapshot: bytes, more: int) -> None:
        """What an owner does at its end, and then what the network repeats of it."""
        self.raise_max(section, 0, 0, more)
        self.release(section, 0, 0, snapshot)
        if more % 2:
            self.raise_max(section, 0, 0, more + 1)
        if more % 3:
            self.release(section, 0, 0, snapshot + b"!")

    @staging
    @rule(section=SECTIONS, step=STEPS, who=HOLDERS)
    def seal(self, section: int, step: int, who: int) -> None:
        epoch, _ = self.near(section, step, who)
        refused = self.replica.seal([(section, epoch)])
        row = self.rows[section]
        above = max(row.promised, row.owner_epoch)
        assert refused == ({section: above} if epoch < above else {})
        if epoch >= above:
            row.promised, row.sealed = epoch, max(row.sealed, epoch)
            assert row.is_sealed

    @staging
    @rule(
        section=SECTIONS,
        step=STEPS,
        promises=st.booleans(),
        max_seq=st.integers(0, 50),
        sealed=st.integers(0, 5),
        snapshot=st.binary(max_size=2),
    )
    def put_whole(
        self, section: int, step: int, promises: bool, max_seq: int, sealed: int, snapshot: bytes
    ) -> None:
        """What a job writes of a section that comes from another Set; 9 is the job."""
        epoch, _ = self.near(section, step, 1)
        theirs = Record(section, epoch, epoch, 9, True, max_seq, 0, bool(snapshot), sealed)
        self.replica.put_at_least([(theirs, snapshot)], with_promises=promises)
        row = self.rows[section]
        if promises:
            row.promised = max(row.promised, epoch)
        row.max_seq, row.sealed = max(row.max_seq, max_seq), max(row.sealed, sealed)
        if epoch > row.owner_epoch:
            row.owner_epoch, row.owner = epoch, 9
            row.released, row.snapshot = True, snapshot
        elif (epoch, 9) == (row.owner_epoch, row.owner) and not row.snapshot:
            row.released, row.snapshot = True, snapshot

    @rule(who=st.integers(1, 3), ttl=st.integers(1, TTL))
    def renew(self, who: int, ttl: int) -> None:
        holder = self.holders[who]
        version, told = self.replica.renew(who, ttl, holder.since, holder.store_id, self.now)
        self.leases[who] = max(self.leases.get(who, 0), self.now + ttl)
        for first, last, epoch in told:
            for section in range(first, last + 1):
                assert epoch == self.rows[section].promised
                holder.heard[section] = max(holder.heard.get(section, 0), epoch)
        holder.since, holder.store_id = version, 7
        for section, row in self.rows.items():
            assert holder.heard.get(section, 0) >= row.promised, "a promise was never told"

    @rule()
    def forget(self) -> None:
        """A holder process dies and another one starts under its number, knowing nothing."""
        self.holders[1] = Holder()

    @rule(who=st.integers(1, 3), store_id=st.sampled_from([9, 7]))
    def come_from_another_store(self, who: int, store_id: int) -> None:
        """Or from a later copy of this one (7): how far it heard there says nothing here."""
        self.holders[who] = Holder(since=1_000, store_id=store_id)

    @rule(step=st.integers(1, 60))
    def time_passes(self, step: int) -> None:
        self.now += step

    @staging
    @rule()
    def begin_commit(self) -> None:
        self.batch = self.replica.take_staged()
        self.committing = True

    @precondition(lambda self: self.committing)
    @rule()
    def end_commit(self) -> None:
        self.engine.commit(self.batch)
        self.replica.committed()
        self.durable = {section: replace(row) for section, row in self.rows.items()}
        self.durable_standing = self.standing
        self.committing = False

    @rule(told=st.integers(0, 3))
    def crash(self, told: int) -> None:
        """told: who has just renewed, and heard of promises that nobody will remember."""
        if told:
            self.renew(told, 1)
        self.rows = {section: replace(row) for section, row in self.durable.items()}
        self.standing = self.durable_standing
        self.boot()

    @precondition(lambda self: self.committing)
    @rule()
    def crash_after_the_commit(self) -> None:
        self.engine.commit(self.batch)
        self.durable = {section: replace(row) for section, row in self.rows.items()}
        self.durable_standing = self.standing
        self.boot()

    @invariant()
    def what_was_adopted_is_in_force_and_what_was_committed_is_stored(self) -> None:
        ours, stored = self.replica.identity, self.engine.identity
        assert (ours.membership, ours.learning, ours.retired) == self.standing
        assert (stored.membership, stored.learning, stored.retired) == self.durable_standing

    @invariant()
    def what_is_stored_is_what_was_committed(self) -> None:
        found, _ = self.replica.scan(0, 3, 0, with_snapshots=True)
        stored = {record.section: (record, payload) for record, payload in found}
        for section, row in self.durable.items():
            if section not in stored:
                assert row == Row()
                continue
            record, payload = stored[section]
            self.check(section, record.promised, row)
            assert (record.owner_epoch, record.owner) == (row.owner_epoch, row.owner)
            assert (record.released, payload) == (row.released, row.snapshot)
            assert (record.max_seq, record.sealed) == (row.max_seq, row.sealed)
            assert record.max_seq >= self.seen_max[section], "NRW-1"
            self.seen_max[section] = record.max_seq

    @staticmethod
    def check(section: int, promised: int, row: Row) -> None:
        assert promised == row.promised, f"FENCE-1: section {section}"


TestReplicaAgainstDictionary = ReplicaAgainstDictionary.TestCase
ReplicaAgainstDictionary.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
