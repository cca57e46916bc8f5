"""Backups and restores of anything, against looking at each section. SEQ-2, NRW-1, ROUTE-1."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustermap.model import (
    Assignment,
    Assignments,
    Cluster,
    Floor,
    Replica,
    SetSpec,
    assignments_key,
    set_key,
)
from clustermap.ranges import Range
from seqctl.backup_file import Backup, Damaged, Kept, Writer, read_backup
from seqctl.failures import NotDone
from seqctl.restore_plan import Held, plan
from seqsvr.v1 import store_pb2 as pb

SECTIONS = 8
CLUSTER = Cluster("c", 10, SECTIONS * 10, 10_000)
OLD = (Replica("a", "h:1", 1), Replica("b", "h:2", 2), Replica("c", "h:3", 3))
NEW = (Replica("a", "h:1", 11), Replica("b", "h:2", 12), Replica("c", "h:3", 13))
EPOCHS = st.integers(0, 2**40)


@st.composite
def records(draw: st.DrawFn, first: int, last: int) -> dict[int, pb.StoredRecord]:
    found = {}
    for section in draw(st.sets(st.integers(first, last))):
        epoch = draw(EPOCHS)
        found[section] = pb.StoredRecord(
            section=section,
            promised=draw(EPOCHS),
            max_seq=draw(st.integers(0, 10_000)),
            owner_epoch=epoch,
            owner=draw(st.integers(1, 2**64 - 1)) if epoch else 0,
            released=bool(epoch) and draw(st.booleans()),
        )
    return found


@st.composite
def backups(draw: st.DrawFn) -> Backup:
    """Two Sets that share the sections."""
    cut = draw(st.integers(0, SECTIONS - 2))
    sets = {}
    for name, first, last in (("one", 0, cut), ("two", cut + 1, SECTIONS - 1)):
        spec = SetSpec(name, (Range(first, last),), OLD, 2, 2)
        version, epoch = draw(st.integers(0, 2**40)), draw(EPOCHS)
        held = dict(sorted(draw(records(0, SECTIONS - 1)).items()))  # of before a move, too
        sets[name] = Kept(spec, 5, version, epoch, draw(st.booleans()), held)
    return Backup(CLUSTER, "then", sets, draw(st.from_regex("[0-9a-f]{64}", fullmatch=True)))


def assigned(spec: SetSpec, epoch: int, version: int) -> Assignments:
    entries = tuple(Assignment(*span, 9, "h:9", epoch) for span in spec.ranges)
    floors = tuple(Floor(*span, epoch + 1) for span in spec.ranges)
    return Assignments(spec.name, version, entries, floors)


@given(backups(), st.integers(1, 10_000), st.none() | st.integers(1, 2**41), st.integers(0, 9))
def test_whatever_is_known_is_below_what_is_restored(
    backup: Backup, advance_by: int, mapped: int | None, version: int
) -> None:
    """mapped: an epoch that the map knows; None: there is no map."""
    spec = backup.sets["two"].spec
    document = assigned(spec, mapped, version) if mapped else None
    held = Held(CLUSTER if mapped else None, spec if mapped else None, document, {})
    restoration = plan(backup, "two", held, NEW, 1, advance_by)
    epochs = [mapped + 1 if mapped else 0]
    for kept in backup.sets.values():
        epochs += [kept.highest_epoch]
        epochs += [max(one.promised, one.owner_epoch) for one in kept.records.values()]
    for section in range(spec.ranges[0].first, SECTIONS):
        record = restoration.record(section)
        before = [k.records[section].max_seq for k in backup.sets.values() if section in k.records]
        assert record.max_seq == min(max(before, default=0) + advance_by, 10_000)
        assert record.promised == record.owner_epoch > max(epochs)
        assert not record.released and not record.snapshot_epoch
        assert restoration.assignments.highest_epoch(section, section) == record.owner_epoch
    after = restoration.assignments
    assert after.version > (version if mapped else backup.sets["two"].version)
    assert not after.entries
    assert restoration.spec.membership > max(1, spec.membership)
    again = plan(backup, "two", held, NEW, 1, advance_by)
    assert again == restoration, "done again it is the same"
    written = SetSpec.from_json(restoration.puts()[set_key("two")])
    assert (written.ranges, written.replicas) == (spec.ranges, NEW)
    assert Assignments.from_json(restoration.puts()[assignments_key("two")]) == after


@given(backups())
def test_sections_that_the_backup_does_not_cover_are_never_restored(backup: Backup) -> None:
    grown = SetSpec("two", (Range(0, SECTIONS - 1),), OLD, 2, 2)
    held = Held(CLUSTER, grown, None, {})
    assert plan(backup, "two", held, NEW, 1, 1).spec.ranges == grown.ranges
    alone = Backup(CLUSTER, "then", {"two": backup.sets["two"]}, backup.sha256)
    with pytest.raises(NotDone, match=r"0\.\."):
        plan(alone, "two", held, NEW, 1, 1)


@given(backups(), st.integers(0, SECTIONS - 1), st.booleans())
def test_a_set_that_the_map_has_no_more_is_not_restored_over_another_one_lease_1(
    backup: Backup, section: int, empty: bool
) -> None:
    """It was retired once its sections had gone there: two Sets would serve them."""
    ranges = () if empty else (Range(section, section),)
    held = Held(CLUSTER, None, None, {}, (SetSpec("three", ranges, NEW, 2, 2),))
    kept = backup.sets["two"].spec
    if empty or section < kept.ranges[0].first:
        assert plan(backup, "two", held, NEW, 1, 1).spec.ranges == kept.ranges
        return
    with pytest.raises(NotDone, match=rf"sections {section}\.\.{section} are of Set three"):
        plan(backup, "two", held, NEW, 1, 1)


def written(backup: Backup, path: Path) -> str:
    with Writer(path) as writer:
        writer.begin(backup.cluster, "me")
        for name, kept in backup.sets.items():
            writer.begin_set(kept)
            writer.records(kept.records.values())
            writer.end_set(name, len(kept.records))
        return writer.finish()


@given(backups(), st.data())
def test_a_backup_is_read_as_it_was_written_or_refused(backup: Backup, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backup"
        digest = written(backup, path)
        read = read_backup(path)
        assert (read.cluster, read.sets, read.sha256) == (CLUSTER, backup.sets, digest)
        assert list(Path(folder).iterdir()) == [path]
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        flipped = bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))])
        for spoilt in (whole[:at], whole[:at] + flipped + whole[at + 1 :]):
            path.write_bytes(spoilt)
            with pytest.raises(Damaged):
                read_backup(path)


def test_a_backup_that_is_not_finished_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotDone), Writer(tmp_path / "backup") as writer:
        writer.begin(CLUSTER, "me")
        raise NotDone("no room")
    assert not list(tmp_path.iterdir())
