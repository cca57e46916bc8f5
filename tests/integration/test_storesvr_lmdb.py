"""Real LMDB: who may open it, and what happens to it when its bytes do not hold. NRW-2."""

import faulthandler
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import lmdb
import pytest

from storesvr.directory import Directory
from storesvr.engine import LmdbEngine
from storesvr.errors import (
    Blank,
    CannotOpen,
    CorruptRecord,
    DirectoryInUse,
    EngineCorrupt,
    EngineError,
    EngineFailed,
    Foreign,
)
from storesvr.ledger import Witness, encode_witness
from storesvr.port import Batch, Identity
from storesvr.records import RECORD_SIZE, Record, Snapshot, encode
from storesvr.replica import Replica

IDENTITY = Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, 0)
SECTIONS = 600


def opened(path: Path, *, create: bool = False, **other: object) -> LmdbEngine:
    return LmdbEngine(path, IDENTITY._replace(**other), create=create)  # type: ignore[arg-type]


def filled(path: Path) -> Path:
    """A store of SECTIONS sections after three commits; section s has max_seq 30 + s."""
    with closing(opened(path, create=True)) as engine:
        engine.load()
        for step in (10, 20, 30):
            engine.commit(Batch([Record(s, 1, 1, 7, False, step + s, s) for s in range(SECTIONS)]))
    return path


@contextmanager
def raw(path: Path) -> Iterator[tuple[lmdb.Environment, lmdb._Database, lmdb._Database]]:
    with lmdb.open(str(path), lib_version=0, max_dbs=3, map_size=2**30) as env:
        yield env, env.open_db(b"records"), env.open_db(b"snapshots")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return filled(tmp_path / "store")


# Who may open it.


def test_a_blank_directory_is_no_store_unless_one_is_asked_for(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(Blank):
            opened(path)
    assert not (tmp_path / "missing").exists()
    with closing(opened(tmp_path, create=True)) as engine:
        assert engine.identity.store_id != 0


def test_an_interrupted_creation_is_blank_and_can_be_repeated(tmp_path: Path) -> None:
    with closing(Directory(tmp_path, create=True)) as directory:
        directory.begin_creation()
        (tmp_path / "data.mdb").write_bytes(b"half a page")
    with pytest.raises(Blank):
        opened(tmp_path)
    with closing(opened(tmp_path, create=True)) as engine:
        assert engine.load() == []


def test_creating_where_a_store_is_opens_that_store(store: Path) -> None:
    with closing(opened(store)) as engine:
        store_id = engine.identity.store_id
    with closing(opened(store, create=True)) as engine:
        assert engine.identity.store_id == store_id
        assert len(engine.load()) == SECTIONS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cluster", "c2"),
        ("set", "set-1"),
        ("replica", "store-1"),
        ("section_size", 10),
        ("uid_limit", 2**31),
    ],
)
def test_the_store_of_somebody_else_is_refused(store: Path, field: str, value: object) -> None:
    with pytest.raises(Foreign, match=field):
        opened(store, create=True, **{field: value})
    with closing(opened(store)) as engine:
        assert len(engine.load()) == SECTIONS


def test_a_second_opener_is_refused_and_told_who_holds_it(store: Path) -> None:
    with closing(opened(store)), pytest.raises(DirectoryInUse, match=str(os.getpid())):
        opened(store, create=True)


def test_the_data_directory_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = filled(tmp_path / "a" / "store")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for file in path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_directory_of_ours_that_is_open_to_others_is_closed(store: Path) -> None:
    store.chmod(0o755)
    with closing(opened(store)):
        assert stat.S_IMODE(store.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_of_another_user_is_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    store.chmod(mode)
    other = store.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(CannotOpen, match=rf"belongs to user {other - 1}, and we are user {other}"):
        opened(store)
    assert stat.S_IMODE(store.stat().st_mode) == mode


def test_a_directory_that_everybody_may_write_to_is_refused(store: Path) -> None:
    for mode in (0o777, 0o1777, 0o702):
        store.chmod(mode)
        with pytest.raises(CannotOpen, match="can be written by everybody"):
            opened(store)
    store.chmod(0o2770)  # as Kubernetes leaves it, to our own group
    with closing(opened(store)):
        assert stat.S_IMODE(store.stat().st_mode) & 0o777 == 0o700


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    for create in (False, True):
        with pytest.raises(CannotOpen):
            opened(tmp_path / "store", create=create)


def test_a_directory_that_is_no_store_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(65_536))
    for create in (False, True):
        with pytest.raises(EngineCorrupt):
            opened(tmp_path, create=create)


# What its bytes may do.


def test_every_flipped_byte_of_a_stored_record_is_noticed(store: Path) -> None:
    key = (5).to_bytes(8, "big")
    with raw(store) as (env, records, _), env.begin() as txn:
        sound = bytes(txn.get(key, db=records) or b"")
    assert len(sound) == RECORD_SIZE
    for position in range(RECORD_SIZE):
        spoilt = bytearray(sound)
        spoilt[position] ^= 0xFF
        with raw(store) as (env, records, _), env.begin(write=True) as txn:
            txn.put(key, bytes(spoilt), db=records)
        with closing(opened(store)) as engine:
            for call in (engine.load, lambda e=engine: e.read([4, 5])):
                with pytest.raises(CorruptRecord) as caught:
                    call()
                assert caught.value.section == 5
            assert engine.read([4, 6]) != [None, None]


def test_a_sound_record_that_is_not_the_one_committed_is_noticed(store: Path) -> None:
    """An inner page that leads to an old copy: each checksum in it is right."""
    with raw(store) as (env, records, _), env.begin(write=True) as txn:
        txn.put((5).to_bytes(8, "big"), encode(Record(5)), db=records)
    with closing(opened(store)) as engine, pytest.raises(EngineCorrupt, match="CRC sum"):
        engine.load()


@pytest.mark.parametrize("harm", ["hidden", "replaced", "made up"])
def test_a_record_that_changes_behind_a_running_store_is_noticed(store: Path, harm: str) -> None:
    section = 5 if harm != "made up" else SECTIONS + 1
    key = section.to_bytes(8, "big")
    with closing(opened(store)) as engine:
        engine.load()
        assert engine._env is not None
        with engine._env.begin(write=True, db=engine._records) as txn:
            if harm == "hidden":
                txn.delete(key)
            else:
                txn.put(key, encode(Record(section)))
        for call in (lambda: engine.read([4, section]), lambda: engine.scan(0, 10**6, 10**6)):
            with pytest.raises(CorruptRecord) as caught:
                call()
            assert caught.value.section == section


def test_a_missing_record_is_noticed_at_the_start(store: Path) -> None:
    with raw(store) as (env, records, _), env.begin(write=True) as txn:
        txn.delete((5).to_bytes(8, "big"), db=records)
    with closing(opened(store)) as engine:
        with pytest.raises(EngineCorrupt, match="599 records"):
            engine.load()
        assert "599 records" in Replica(engine, now_ns=0).out_of_quorum


def test_an_old_copy_of_the_data_file_is_noticed(store: Path) -> None:
    old = (store / "data.mdb").read_bytes()
    with closing(opened(store)) as engine:
        engine.load()
        engine.commit(Batch([Record(1, 1, 1, 7, False, 99, 1)]))
    size = (store / "data.mdb").stat().st_size
    (store / "data.mdb").write_bytes(old.ljust(size, b"\0"))
    for create in (False, True):
        with pytest.raises(EngineCorrupt, match="old copy"):
            opened(store, create=create)


def test_a_missing_or_spoilt_witness_is_noticed_and_one_lost_slot_is_not_fatal(
    store: Path,
) -> None:
    witness = store / "witness"
    sound = witness.read_bytes()
    for slot in (0, 512):
        witness.write_bytes(sound[:slot] + bytes(512) + sound[slot + 512 :])
        opened(store).close()
    for content in (b"", bytes(1024)):
        witness.write_bytes(content)
        with pytest.raises(EngineCorrupt, match="witness"):
            opened(store, create=True)
    witness.unlink()
    with pytest.raises(EngineCorrupt, match="witness"):
        opened(store, create=True)


def test_a_witness_older_than_the_store_proves_nothing(store: Path) -> None:
    before = (store / "witness").read_bytes()
    with closing(opened(store)) as engine:
        engine.load()
        engine.commit(Batch([Record(1, 1, 1, 7, False, 99, 1)]))
    (store / "witness").write_bytes(before)
    with closing(opened(store)) as engine:
        assert engine.load()[1].max_seq == 99


def test_a_truncated_data_file_is_refused_at_any_length(store: Path) -> None:
    sound = (store / "data.mdb").read_bytes()
    lengths = {0, 1, 100, 4095, 4096, 8191, 8192, 12_288, len(sound) // 2, len(sound) - 1}
    for length in sorted(lengths | {len(sound) - 4096}):
        (store / "data.mdb").write_bytes(sound[:length])
        for create in (False, True):
            with pytest.raises(EngineCorrupt, match="truncated"):
                opened(store, create=create)
    (store / "data.mdb").unlink()
    with pytest.raises(EngineCorrupt, match="truncated"):
        opened(store, create=True)


def test_a_file_cut_after_a_commit_that_was_not_witnessed_yields_no_wrong_value(
    store: Path,
) -> None:
    sound, witness = (store / "data.mdb").read_bytes(), (store / "witness").read_bytes()
    encoded = encode_witness(Witness(1, 8192)).ljust(512, b"\0")
    for pages in range(2, len(sound) // 4096):
        (store / "data.mdb").write_bytes(sound[: pages * 4096])
        (store / "witness").write_bytes(encoded + encoded)
        assert in_child(lambda: right_or_error(store)) == "ok", pages
    (store / "witness").write_bytes(witness)


def test_flipped_bytes_of_the_data_file_never_give_a_wrong_value(store: Path) -> None:
    seed = 20_240_607
    rng = random.Random(seed)
    sound = (store / "data.mdb").read_bytes()
    # Meta pages and the heads of pages decide most, so they are hit more often than the rest.
    positions = [rng.randrange(len(sound)) for _ in range(80)]
    positions += [rng.randrange(2) * 4096 + 16 + rng.randrange(140) for _ in range(80)]
    positions += [rng.randrange(len(sound) // 4096) * 4096 + rng.randrange(64) for _ in range(80)]
    witness = (store / "witness").read_bytes()
    for position in positions:
        bit = 1 << rng.randrange(8)
        spoilt = bytearray(sound)
        spoilt[position] ^= bit
        (store / "data.mdb").write_bytes(spoilt)
        (store / "witness").write_bytes(witness)
        result = in_child(lambda: right_or_error(store))
        assert result in ("ok", "died"), f"seed {seed}: byte {position}, bit {bit:#x}"


def right_or_error(path: Path) -> None:
    """Whatever is read is right; errors are fine, and so is a process that dies of it."""
    try:
        with closing(opened(path)) as engine:
            records = engine.load()
            assert [(r.section, r.max_seq) for r in records] == [
                (s, 30 + s) for s in range(SECTIONS)
            ]
            for section in range(SECTIONS):
                (record,) = engine.read([section])
                assert record is not None
                assert record.max_seq == 30 + section
            engine.commit(Batch([Record(9, 1, 1, 7, False, 99, 1)]))
            assert [r and r.max_seq for r in engine.read([8, 9, 10])] == [38, 99, 40]
    except EngineError:
        pass


def in_child(work: Callable[[], None]) -> str:
    """`work` in a forked process, since LMDB may fall over a broken page: "ok" unless it finds a
    wrong value (or any other exception), "died" if a signal ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            faulthandler.disable()
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "died"
    return "ok" if os.WEXITSTATUS(status) == 0 else "a wrong value"


def test_a_spoilt_snapshot_is_noticed(store: Path) -> None:
    with closing(opened(store)) as engine:
        engine.load()
        engine.commit(Batch([Record(1)], [Snapshot(1, 3, bytes(50_000))]))
    with raw(store) as (env, _, snapshots), env.begin(write=True) as txn:
        row = bytearray(txn.get((1).to_bytes(8, "big"), db=snapshots) or b"")
        row[25_000] ^= 1
        txn.put((1).to_bytes(8, "big"), bytes(row), db=snapshots)
    with closing(opened(store)) as engine, pytest.raises(CorruptRecord):
        list(engine.read_snapshots([1]))


# What a commit may do.


def test_commits_are_synced_and_the_map_is_never_written_to(store: Path) -> None:
    with closing(opened(store)) as engine:
        assert engine._env is not None
        flags = engine._env.flags()
        assert (flags["sync"], flags["metasync"], flags["writemap"]) == (True, True, False)


def test_a_full_map_fails_the_commit_and_every_later_one_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    engine = LmdbEngine(path, IDENTITY, create=True, map_size=2**20)
    engine.load()
    engine.commit(Batch([Record(1, 1, 1, 7, False, 5, 1)]))
    with pytest.raises(EngineFailed, match="commit 3 failed"):
        engine.commit(Batch([Record(1)], [Snapshot(2, 1, bytes(2**21))]))
    with pytest.raises(EngineFailed):
        engine.commit(Batch([Record(1)]))
    engine.close()
    with closing(LmdbEngine(path, IDENTITY)) as engine:
        assert [record.max_seq for record in engine.load()] == [5]


def test_reading_goes_on_while_another_thread_commits(store: Path) -> None:
    with closing(opened(store)) as engine:
        engine.load()
        done = threading.Event()
        failures: list[Exception] = []

        def commit_on() -> None:
            try:
                for step in range(200):
                    batch = [Record(s, 1, 1, 7, False, 1000 + step, s) for s in range(0, 700, 7)]
                    engine.commit(Batch(batch))
            except Exception as error:  # noqa: BLE001 - reported by the test
                failures.append(error)
            finally:
                done.set()

        thread = threading.Thread(target=commit_on)
        thread.start()
        seen = 0
        while not done.is_set():
            records = engine.scan(0, 10**6, 10**6)
            (at_zero,) = engine.read([0])
            assert at_zero is not None
            assert {r.max_seq for r in records if r.section % 7 == 0 and r.section} <= {
                records[0].max_seq,
                *(30 + r.section for r in records if records[0].max_seq == 30),
            }
            assert at_zero.max_seq >= max(seen, records[0].max_seq)
            seen = at_zero.max_seq
        thread.join()
        assert failures == []


def test_the_files_never_end_before_lmdbs_last_page(store: Path) -> None:
    rng = random.Random(1)
    with closing(opened(store)) as engine:
        engine.load()
        for _ in range(150):
            sections = rng.sample(range(50), 10)
            rows = [Snapshot(s, 1, bytes(rng.choice([9, 5_000, 90_000]))) for s in sections[:5]]
            engine.commit(Batch([Record(s) for s in sections], rows, sections[5:]))
            assert (store / "data.mdb").stat().st_size >= engine._needed()


def test_a_copy_of_a_closed_store_is_the_store(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy")
    with closing(opened(tmp_path / "copy")) as engine:
        assert len(engine.load()) == SECTIONS
