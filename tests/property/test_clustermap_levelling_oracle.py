"""Repair of three replicas with any histories: level, as high as the highest, never lower. NRW-1.

The replicas are real ones over memory. Owners are one per epoch, as in a sane map; what reaches
which replica, and in which order, is left to chance.
"""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from clustermap.levelling import differing, goals, is_behind, windows
from seqsvr.v1 import store_pb2 as pb
from storesvr.memory import Disk, MemoryEngine
from storesvr.messages import stored_record, to_stored
from storesvr.port import Identity
from storesvr.replica import Replica

SECTIONS = 4
REPLICAS = 3


@dataclass(frozen=True)
class Step:
    """One thing an owner does, and which replicas hear of it."""

    kind: str
    section: int
    epoch: int
    max_seq: int
    reaches: frozenset[int]


STEPS = st.builds(
    Step,
    st.sampled_from(["fence", "raise", "raise", "release"]),
    st.integers(0, SECTIONS - 1),
    st.integers(1, 4),
    st.integers(1, 50),
    st.frozensets(st.integers(0, REPLICAS - 1)),
)


def replica(index: int) -> Replica:
    identity = Identity("c", "s", f"r{index}", 10, 40, 1, index + 1)
    return Replica(MemoryEngine(Disk(identity)), now_ns=0)


def commit(store: Replica) -> None:
    engine = store._engine
    engine.commit(store.take_staged())
    store.committed()


def act(store: Replica, step: Step) -> None:
    if step.kind == "fence":
        store.fence([(step.section, step.section, step.epoch)], 0)
    elif step.kind == "raise":
        store.raise_max(step.epoch, [(step.section, step.epoch, step.max_seq)])
    else:
        payload = b"left at %d" % step.epoch if step.max_seq % 2 else b""
        store.release(step.epoch, [(step.section, step.epoch, payload)])
    commit(store)


def records(store: Replica) -> dict[int, pb.StoredRecord]:
    found, following = store.scan(0, SECTIONS - 1, 0, with_snapshots=True)
    assert not following
    return {record.section: to_stored(record, payload) for record, payload in found}


def repair(stores: list[Replica]) -> int:
    """One round; returns how many records were raised."""
    found = [records(store) for store in stores]
    wanted = goals(found, range(SECTIONS))
    raised = 0
    for store, known in zip(stores, found, strict=True):
        behind = [record for s, record in wanted.items() if is_behind(known.get(s), record)]
        rose = store.put_at_least([stored_record(record) for record in behind])
        assert rose == len(behind), "behind, and nothing rose: it would be copied for ever"
        raised += rose
        commit(store)
    return raised


@given(st.lists(STEPS, max_size=40))
def test_three_histories_end_level_and_each_max_seq_is_the_greatest(steps: list[Step]) -> None:
    stores = [replica(index) for index in range(REPLICAS)]
    for step in steps:
        for index in step.reaches:
            act(stores[index], step)
    before = [records(store) for store in stores]
    repair(stores)
    after = [records(store) for store in stores]
    for old, new in zip(before, after, strict=True):
        for section, record in new.items():
            was = old.get(section, pb.StoredRecord(section=section))
            everywhere = [r[section] for r in before if section in r]
            assert record.max_seq == max(r.max_seq for r in everywhere)
            assert record.owner_epoch == max(r.owner_epoch for r in everywhere)
            assert record.promised == was.promised, "a promise is nobody's to copy"
            last = [r for r in everywhere if r.owner_epoch == record.owner_epoch]
            assert record.released == any(r.released for r in last)
            if any(r.snapshot_epoch for r in last):
                assert (record.snapshot_epoch, record.snapshot) == (
                    record.owner_epoch,
                    b"left at %d" % record.owner_epoch,
                )
    facts = [
        {s: (r.max_seq, r.owner_epoch, r.released) for s, r in new.items() if r.max_seq}
        for new in after
    ]
    assert facts[0] == facts[1] == facts[2]
    assert repair(stores) == 0


@given(st.lists(STEPS, max_size=30), st.integers(1, SECTIONS))
def test_where_a_record_differs_the_digests_of_its_chunk_do(steps: list[Step], chunk: int) -> None:
    stores = [replica(index) for index in range(2)]
    for step in steps:
        for index in step.reaches & {0, 1}:
            act(stores[index], step)
    answers = [
        [
            pb.ChunkDigest(first=c.first, records=c.records, digest=c.digest)
            for c in store.digest(0, SECTIONS - 1, chunk)
        ]
        for store in stores
    ]
    facts = [
        {s: (r.max_seq, r.owner_epoch, r.owner, r.released) for s, r in records(store).items()}
        for store in stores
    ]
    unequal = {s // chunk * chunk for s in range(SECTIONS) if facts[0].get(s) != facts[1].get(s)}
    assert set(differing(answers)) == unequal


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_windows_are_aligned_and_cover_what_they_are_made_of(held: set[int], span: int) -> None:
    found = list(windows(sorted(held), span))
    assert {s // span for s in held} == {first // span for first, _ in found}
    assert len(found) == len({s // span for s in held})
    for first, last in found:
        assert first // span == last // span
        assert {first, last} <= held
        assert not held & set(range(first // span * span, first))
