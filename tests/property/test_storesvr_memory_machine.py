"""The engine in memory against two dictionaries: what the simulator's disks are made of. NRW-2.

Commits, crashes, full disks and spoilt bytes. tests/integration holds it to the same contract as
LMDB by examples; here its whole state is compared after every step.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from seqsvr.invariants import BrokenInvariant
from storesvr.errors import CorruptRecord, DirectoryInUse, EngineCorrupt, EngineFailed
from storesvr.memory import Disk, MemoryEngine
from storesvr.port import Batch, Identity
from storesvr.records import Record, Snapshot

SECTIONS = range(4)
IDENTITY = Identity("c", "s", "r", 10, 40, 1, 7)
RECORDS = st.lists(
    st.tuples(st.sampled_from(SECTIONS), st.integers(0, 9)).map(
        lambda drawn: Record(drawn[0], max_seq=drawn[1])
    ),
    unique_by=lambda record: record.section,
    max_size=3,
)
SNAPSHOTS = st.dictionaries(
    st.sampled_from(SECTIONS), st.one_of(st.none(), st.binary(max_size=2)), max_size=2
)


class EngineAgainstDictionaries(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.disk = Disk(IDENTITY)
        self.records: dict[int, Record] = {}
        self.snapshots: dict[int, Snapshot] = {}
        self.spoilt = False
        self.open()

    def open(self) -> None:
        self.engine = MemoryEngine(self.disk)
        with pytest.raises(BrokenInvariant):
            self.engine.commit(Batch([]))
        if self.spoilt:
            with pytest.raises(EngineCorrupt):
                self.engine.load()
        else:
            assert self.engine.load() == [self.records[s] for s in sorted(self.records)]

    sound = precondition(lambda self: not self.spoilt)

    @sound
    @rule(records=RECORDS, snapshots=SNAPSHOTS, fails=st.sampled_from(["", "", "", "full"]))
    def commit(self, records: list[Record], snapshots: dict[int, bytes | None], fails: str) -> None:
        """All or nothing; None: that snapshot is dropped."""
        kept = [Snapshot(s, 1, raw) for s, raw in snapshots.items() if raw is not None]
        dropped = [s for s, raw in snapshots.items() if raw is None]
        self.disk.fails = fails
        if fails:
            with pytest.raises(EngineFailed, match=fails):
                self.engine.commit(Batch(records, kept, dropped))
            self.disk.fails = ""
            return
        self.engine.commit(Batch(records, kept, dropped))
        self.records.update((record.section, record) for record in records)
        self.snapshots.update((snapshot.section, snapshot) for snapshot in kept)
        for section in dropped:
            self.snapshots.pop(section, None)

    @rule(graceful=st.booleans())
    def restart(self, graceful: bool) -> None:
        with pytest.raises(DirectoryInUse):
            MemoryEngine(self.disk)
        if graceful:
            self.engine.close()
            self.engine.close()
            with pytest.raises((EngineFailed, BrokenInvariant)):
                self.engine.commit(Batch([]))
        self.disk.opened = False
        self.open()

    @precondition(lambda self: self.records and not self.spoilt)
    @rule(data=st.data(), how=st.sampled_from(["flip", "hide", "swap"]))
    def spoil(self, data: st.DataObject, how: str) -> None:
        section = data.draw(st.sampled_from(sorted(self.records)))
        raw = self.disk.records[section]
        if how == "flip":
            at = data.draw(st.integers(0, len(raw) - 1))
            self.disk.records[section] = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        elif how == "swap":
            self.disk.records[section + 1] = raw
        else:
            del self.disk.records[section]
        self.spoilt = True
        if how != "hide":
            with pytest.raises(CorruptRecord):
                self.engine.scan(0, 2**63, 99)

    @sound
    @rule(first=st.integers(0, 4), last=st.integers(0, 4), limit=st.integers(0, 5))
    def scan(self, first: int, last: int, limit: int) -> None:
        expected = [self.records[s] for s in range(first, last + 1) if s in self.records]
        assert self.engine.scan(first, last, limit) == expected[:limit]

    @sound
    @invariant()
    def it_reads_what_was_committed(self) -> None:
        assert self.engine.identity == IDENTITY
        assert self.engine.read(SECTIONS) == [self.records.get(s) for s in SECTIONS]
        assert list(self.engine.read_snapshots(SECTIONS)) == [
            self.snapshots.get(s) for s in SECTIONS
        ]


EngineAgainstDictionaries.TestCase.settings = settings(max_examples=100, stateful_step_count=25)
TestEngine = EngineAgainstDictionaries.TestCase
